"""One page about a run, and its figures."""
