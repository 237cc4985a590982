"""Lower bounds: no feasible choice of a selection has less energy."""
