"""Rounding and pruning that compensate their own errors by the curvature."""
