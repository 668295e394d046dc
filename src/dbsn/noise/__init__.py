"""Noise: families and mixtures of it, the noise of a folder as it is learned, and what images say of theirs."""
