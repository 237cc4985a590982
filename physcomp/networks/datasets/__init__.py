"""Data sets of any usual form as samples: array files, IDX, CIFAR batches, folders of images, functions of the user."""
