"""Simulated cells: programme, age and read them, with the moments of what is read."""
