"""Model files and the built-in models."""
