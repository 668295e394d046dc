"""Evaluation: comparison of a model's results with the truth."""
