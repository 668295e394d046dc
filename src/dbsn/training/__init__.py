"""Training: the loop, both stages, and the folder of a run."""
