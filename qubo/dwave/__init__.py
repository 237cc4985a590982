"""Solvers that run at D-Wave: the QPU and the Leap hybrid solvers."""
