"""How the loss reacts to errors of weights: gradients of each image, inside groups and between them."""
