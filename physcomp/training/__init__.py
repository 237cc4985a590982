"""Training with the cells in the loop."""
