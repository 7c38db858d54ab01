"""The values of a label: classes, border, padding and species; and the colours in which they are shown."""

CLASSES = ("background", "cat", "dog")
SPECIES = {1: "cat", 2: "dog"}
PADDING = 254  # added around a picture to make it square (letterbox)
BORDER = 255  # the trimap's band of uncertain pixels between pet and background
CLASS_COLOURS = {"background": "#8C8C8C", "cat": "#E69F00", "dog": "#0072B2", "pet": "#CC79A7", "border": "#FFFFFF"}
