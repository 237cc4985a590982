"""The annealing study: solvers compared by energy over time and time to target."""
