"""A model against the truth."""
