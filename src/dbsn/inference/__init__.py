"""A whole image through a model: tiles, orientations, strides, and ranges of intensities."""
