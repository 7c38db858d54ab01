"""What breaks each model, and how fast (notebook 06)."""
