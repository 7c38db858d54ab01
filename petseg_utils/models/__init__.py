"""The networks and the weights that ship with the package."""
