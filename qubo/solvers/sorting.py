"""The exact optimum of a magnitude Hamiltonian by sorting (classical): `qubo.Magnitude.optimum`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from qubo.magnitude.binary_model import Read
from qubo.magnitude.hamiltonian import Magnitude
from qubo.solvers.solver import Solver


def reads(problem: Magnitude, seed: int) -> Iterator[Read]:
    """The optimum as one read; the seed plays no part."""
    best = problem.optimum()
    parts = []
    for pruned, bits in zip(best.pruned, best.bits, strict=True):
        removed = 8 - bits
        parts.append(np.concatenate([pruned, [(removed >> k) & 1 for k in range(3)]]))
    state = np.concatenate(parts).astype(np.int8)
    yield Read(state[None], np.array([problem.decode(state).energy]), problem.variables)


SOLVER = Solver("sorting", "classical", reads=reads, colour="#000000")
