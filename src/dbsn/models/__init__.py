"""The models: blind-spot model, student, and calibration on the image itself."""
