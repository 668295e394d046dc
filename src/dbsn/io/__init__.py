"""Image files to pictures and back, and folders of them. Nothing here imports torch."""
