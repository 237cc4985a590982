"""How the loss reacts to errors of weights: per-image gradients, curvature inside groups, couplings between groups."""
