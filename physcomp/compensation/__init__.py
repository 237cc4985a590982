"""Rounding and pruning in which the weights that remain free compensate for the errors, by the curvature."""
