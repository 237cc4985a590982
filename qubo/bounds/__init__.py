"""Lower bounds: proofs that no feasible choice of a selection has less energy."""
