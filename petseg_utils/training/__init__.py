"""How models learn: one loop, a recipe for each model, checkpoints."""
