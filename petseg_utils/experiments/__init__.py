"""The questions of the notebooks, a file each, with its charts."""
