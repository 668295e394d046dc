"""The models: the blind-spot model, the student, and the calibration of an image's own pixels."""
