"""Reading and writing of image files and folders. Nothing here imports torch."""
