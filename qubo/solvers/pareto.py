"""The frontier between energy and cells, drawn in one multi-objective run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qubo.checks import check_callable, check_seed, check_time_limit, check_whole
from qubo.search.watch import Report, Watch
from qubo.selection import Selection, check_selection


@dataclass(frozen=True, eq=False)
class Frontier:
    """Choices of which none is better than another in both energy and cells.

    Attributes:
        choices: (N, G) int64, by rising cost.
        energies: (N,) in the loss's unit, falling.
        costs: (N,) cells, rising.
        evaluations: choices evaluated.
        seconds: wall-clock time.
        interrupted: it was stopped from the keyboard and this is what there was.
    """

    choices: NDArray[np.int64]
    energies: NDArray[np.float64]
    costs: NDArray[np.float64]
    evaluations: int
    seconds: float
    interrupted: bool


def frontier(
    selection: Selection,
    *,
    population: int = 100,
    generations: int = 400,
    seed: int = 0,
    time_limit_s: float | None = None,
    progress: Report | None = None,
) -> Frontier:
    """The frontier between energy and cells by NSGA-II (classical), whatever the selection's budget.

    A baseline that draws all budgets in one run; `solve` at one budget gets lower, and says how far from the optimum.

    Args:
        selection: the problem; its budget plays no part.
        population: choices kept, at least 2; so many points has the frontier at most.
        generations: generations; with a time limit, as many as fit.
        seed: seed of everything random.
        time_limit_s: stop after this time.
        progress: called after each generation with (share done, least energy so far).

    Raises:
        ValueError: an argument of the wrong type, a population below 2, no generation, a time limit that is not
            positive.

    >>> from qubo import generate
    >>> found = frontier(generate("S", groups=10), population=20, generations=10)
    >>> bool((found.energies[1:] < found.energies[:-1]).all() and (found.costs[1:] > found.costs[:-1]).all())
    True
    """
    check_selection(selection)
    check_whole("population", population, least=2)
    check_whole("generations", generations, least=1)
    check_seed(seed)
    if time_limit_s is not None:
        check_time_limit(time_limit_s)
    if progress is not None:
        check_callable("progress", progress)
    from qubo.solvers.genetic import trade_off  # pymoo takes a second to import

    watch = Watch(time_limit_s, progress)
    found = trade_off(selection, seed=seed, watch=watch, population=population, generations=generations)
    watch.finish(float(found[1].min()))
    return Frontier(*found, evaluations=watch.evaluations, seconds=watch.seconds, interrupted=watch.interrupted)
