"""Simulated memory cells: programming, ageing and reading them, and the mean and variance of a read in closed form."""
