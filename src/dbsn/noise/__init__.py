"""Noise: families, mixtures, the learned noise of a folder, and inspection."""
