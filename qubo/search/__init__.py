"""Common parts of solvers: a selection as arrays, compiled moves, and the clock of a search."""
