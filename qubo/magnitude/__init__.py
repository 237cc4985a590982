"""The magnitude Hamiltonian of Wang et al. (arXiv 2505.16332) and samplers for it."""
