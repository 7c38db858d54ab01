"""Chores of this repository; they are not installed."""
