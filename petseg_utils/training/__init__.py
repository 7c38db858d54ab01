"""Training: one loop for all models, a recipe for each, and checkpoints."""
