"""Inference on whole images: tiles, orientations, strides, intensity ranges."""
