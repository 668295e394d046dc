"""The networks: blind-spot networks, students, noise estimator and uncertainty.

A blind-spot network never looks at the pixel that it predicts.
"""
