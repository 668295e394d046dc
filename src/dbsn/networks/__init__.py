"""The networks: each maps an image (b, c, h, w) to features, and promises never to look at the pixel it predicts."""
