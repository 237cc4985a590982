"""Default values of options, without importing the heavy modules that define them.

A test checks that they equal those of `Search`, `Schedule`, `AnnealingStudy` and `qubo.SOLVERS`.
"""

# Of the choice and of training.
SOLVER = "annealer"
EPOCHS = 30
ROUNDS = 1
ALL_SOLVERS = (
    "annealer", "exact", "genetic", "lagrangian", "ocean-sa", "ocean-tabu", "ocean-greedy", "ocean-path-integral",
    "ocean-decompose", "random", "reinforce", "qpu", "leap-cqm", "leap-nl",
)  # fmt: skip

# Of annealing studies.
COMPARED_SOLVERS = ("annealer", "lagrangian", "exact", "ocean-sa", "genetic", "reinforce", "random")
BUDGET = 0.5
SHRINKAGE = 0.7
CARD = "pcm-zarcone:one-device"
TEST_IMAGES = 2000
