"""One interface to every solver: `solve(selection, "annealer")`. One file a solver, or a family of samplers."""

from __future__ import annotations

from typing import Any

import numpy as np

from qubo.bounds.certificate import Certificate
from qubo.checks import check_callable, check_seed, check_time_limit, shown
from qubo.search.watch import Report, Watch
from qubo.selection import Selection
from qubo.solution import Solution
from qubo.solvers.registry import SOLVERS
from qubo.solvers.solver import Prepared
from qubo.solvers.token import require_token

__all__ = ["SOLVERS", "solve"]


def solve(
    selection: Selection,
    solver: str = "annealer",
    *,
    seed: int = 0,
    time_limit_s: float | None = None,
    progress: Report | None = None,
    certificate: Certificate | None = None,
    **options: Any,
) -> Solution:
    """Solve a selection problem: the best choice that a solver finds, and a lower bound.

    Args:
        selection: the problem.
        solver: a name in `SOLVERS`, such as "annealer", "ocean-sa" or "qpu".
        seed: seed of everything random, a whole number from 0 to 2^63 - 1.
        time_limit_s: stop the search after this time; without it the work is fixed and the same seed gives the
            same answer bit for bit.
        progress: called now and then with (share done, best energy so far).
        certificate: `qubo.lower_bound(selection)` where it is known already.
        options: options of the solver, see `SOLVERS[solver].options`.

    Returns:
        The solution; a KeyboardInterrupt ends the search and returns the best so far.

    Raises:
        ValueError: an argument of the wrong type, an unknown solver or option, a time limit that is not positive, a
            foreign certificate, a solver of D-Wave's without a token.

    >>> from qubo import generate
    >>> solution = solve(generate("S", groups=40), seed=1)
    >>> solution.feasible, solution.gap < 0.01, solution.kind
    (True, True, 'classical')
    """
    if solver not in SOLVERS:
        raise ValueError(f"solver {shown(solver)} is unknown: pass one of {', '.join(sorted(SOLVERS))}")
    check_seed(seed)
    if time_limit_s is not None:
        check_time_limit(time_limit_s)
    if progress is not None:
        check_callable("progress", progress)
    entry = SOLVERS[solver]
    if entry.search is None:
        raise ValueError(f"solver {solver!r} takes magnitude Hamiltonians only: pass another for a selection")
    entry.check(options)
    Prepared.check(selection, certificate)
    require_token(entry)
    problem = Prepared.of(selection, seed=seed, certificate=certificate)
    watch = Watch(time_limit_s, progress)
    outcome = entry.search(problem, watch, **options)
    energy = selection.energy(outcome.choice)
    watch.finish(energy)
    return Solution(
        choice=outcome.choice,
        energy=energy,
        cost=selection.total_cost(outcome.choice),
        feasible=selection.feasible(outcome.choice),
        lower_bound=max(problem.certificate.bound, -np.inf if outcome.lower_bound is None else outcome.lower_bound),
        multiplier=problem.certificate.multiplier,
        seconds=watch.seconds,
        solver=solver,
        kind=outcome.kind or entry.kind,
        evaluations=outcome.evaluations,
        seed=seed,
        feasible_before_repair=outcome.feasible_before_repair,
        interrupted=watch.interrupted,
        details=outcome.details,
    )
