"""The pictures: where they lie, what their masks mean, and how they become squares for a model."""
