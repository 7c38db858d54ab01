"""The embedded data set: drawn cats and dogs, with exact masks."""
