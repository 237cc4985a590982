"""Training that takes the cells into account: the network learns with its weights as a plan would store them."""
