"""The notebooks as pages, and the index that leads to them."""
