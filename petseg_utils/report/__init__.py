"""The notebooks as pages, and the index in front of them."""
