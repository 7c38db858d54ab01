"""What breaks each model, and how quickly (notebook 06)."""
