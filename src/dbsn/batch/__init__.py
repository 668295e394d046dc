"""Many files: what is to be done, with which model, and what became of each."""
