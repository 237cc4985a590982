"""Searches for the ground state of a magnitude Hamiltonian, whose exact optimum is known for comparison.

Samplers read again with new seeds until the time is over; "sorting" is `qubo.Magnitude.optimum`: exact.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qubo.checks import check_seed, check_time_limit, shown
from qubo.magnitude.hamiltonian import Magnitude
from qubo.solvers.registry import SAMPLERS


@dataclass(frozen=True)
class Ground:
    """The best state found.

    Attributes:
        state: (variables,) zeros and ones, in the numbering of `Magnitude.to_bqm`.
        energy: its H.
        evaluations: variables visited, or states evaluated.
        seconds: wall-clock time.
    """

    state: NDArray[np.int8]
    energy: float
    evaluations: int
    seconds: float


def ground_state(
    problem: Magnitude,
    sampler: str,
    *,
    seed: int = 0,
    time_limit_s: float = 1.0,
    report: Callable[[float], None] | None = None,
) -> Ground:
    """The best state a sampler finds within a time; at least one read or generation is always done.

    Args:
        problem: the Hamiltonian.
        sampler: a name in `SAMPLERS`.
        seed: seed of everything random.
        time_limit_s: no new read or generation begins after this time.
        report: called with each energy that is the least so far.

    Raises:
        ValueError: an unknown sampler, or a time limit that is not positive.

    >>> problem = Magnitude((np.array([0.5, 0.1, 0.3]),), (np.full(3, 9.0),), beta=1.0, gamma=0.5)
    >>> found = ground_state(problem, "ocean-sa", time_limit_s=0.1)
    >>> abs(found.energy - problem.optimum().energy) < 1e-12
    True
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler {shown(sampler)} is unknown: pass one of {', '.join(SAMPLERS)}")
    check_seed(seed)
    check_time_limit(time_limit_s)
    reads = SAMPLERS[sampler].reads
    if reads is None:
        raise ValueError(f"sampler {sampler!r} takes selections only: pass one of {', '.join(SAMPLERS)}")
    started = time.perf_counter()
    best, energy, evaluations = np.zeros(problem.variables, dtype=np.int8), np.inf, 0
    for read in reads(problem, seed):
        least = int(read.energies.argmin())
        evaluations += read.evaluations
        if read.energies[least] < energy:
            best, energy = np.asarray(read.states[least], dtype=np.int8).copy(), float(read.energies[least])
            if report:
                report(energy)
        if time.perf_counter() - started >= time_limit_s:
            break
    return Ground(best, problem.decode(best).energy, evaluations, time.perf_counter() - started)
