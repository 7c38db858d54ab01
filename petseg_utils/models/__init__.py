"""The networks, and the weights that ship."""
