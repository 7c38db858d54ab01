"""The embedded data set: cats and dogs that are drawn, with exact masks."""
