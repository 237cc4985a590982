"""Capacity: the bits that a memory cell holds, at Shannon's bound and with a BCH code."""
