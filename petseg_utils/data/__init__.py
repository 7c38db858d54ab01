"""The pictures: where they lie, what their masks mean, how they become squares for a model."""
