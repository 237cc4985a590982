"""Default values of options, without importing the heavy modules that define them.

A test checks that they equal those of `Search`, `build_model`, `Schedule` and `AnnealingStudy`.
"""

# Of the choice and of training.
SOLVER = "annealer"
MEMORY = "1GB"
EPOCHS = 30
ROUNDS = 1

# Of annealing studies.
COMPARED_SOLVERS = ("annealer", "lagrangian", "exact", "ocean-sa", "genetic", "reinforce", "random")
BUDGET = 0.5
SHRINKAGE = 0.7
CARD = "pcm-zarcone:one-device"
