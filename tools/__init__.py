"""Scripts for maintaining this repository; they are not installed."""
