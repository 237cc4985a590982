"""Uniform random choices (classical): the baseline that any search must beat.

Choices are drawn uniformly, one usable code a group. Those within the budget are uniform among all feasible choices;
the others are repaired without a look at the energy: groups in random order draw again among their codes that are no
dearer, until the budget is met; where setups still exceed it, the cheapest choice is taken. The best of all is the
answer, as it is: no descent, no fill.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from qubo.magnitude.binary_model import BinaryModel, Read
from qubo.magnitude.hamiltonian import Magnitude
from qubo.search.arrays import Layout, fields
from qubo.search.kernels import Indices, refresh
from qubo.search.watch import Outcome, Watch
from qubo.solvers.solver import Prepared, Solver

CHUNK = 200_000
"""Codes drawn between looks at the clock."""
ROUNDS = 3
"""Rounds of drawing again before groups go to their cheapest code (our choice)."""
STATES = 100
"""States of a magnitude Hamiltonian drawn at a time."""


def search(problem: Prepared, watch: Watch, *, samples: int = 10_000) -> Outcome:
    """The best of many choices.

    Args:
        samples: choices drawn; with a time limit, as many as fit.
    """
    layout = problem.layout
    a = layout.arrays
    rng = np.random.default_rng(problem.seed)
    F, S = fields(a)
    size = max(1, CHUNK // a.codes.size)
    best, best_x, clean, drawn = np.inf, layout.cheapest(), 0, 0
    watch.expect(samples)
    try:
        while not watch.stopped() and (drawn < samples or watch.limit is not None):
            count = size if watch.limit is not None else min(size, samples - drawn)
            x = np.asarray(np.floor(rng.random((count, a.codes.size)) * a.codes), dtype=np.int64)
            within = costs(layout, x) <= layout.limit
            x[~within] = lowered(layout, x[~within], rng)
            for row in x:
                energy = refresh(a, row, F, S)[0]
                if energy < best:
                    best, best_x = energy, row.copy()
            clean += int(within.sum())
            drawn += count
            watch.add(count)
            watch.report(best * layout.scale)
    except KeyboardInterrupt:
        watch.interrupted = True
    return Outcome(layout.decode(best_x), watch.evaluations, clean / drawn if drawn else None)


def costs(layout: Layout, x: Indices) -> NDArray[np.float64]:
    """(N,) total costs of choices (N, G), scaled."""
    cells = layout.arrays.cost[np.arange(x.shape[1]), x].sum(axis=1)
    return np.asarray(cells + layout.begun(x) @ layout.setup if layout.setup.size else cells)


def lowered(layout: Layout, x: Indices, rng: np.random.Generator) -> Indices:
    """Choices (N, G) brought within the budget by chance alone, see the module's docstring."""
    a, limit = layout.arrays, layout.limit
    x, groups = x.copy(), np.arange(a.codes.size)
    order = np.argsort(np.where(np.isfinite(a.loss), a.cost, np.inf), axis=1, kind="stable")
    rank = np.argsort(order, axis=1)  # place of each code by cost, within its group
    for attempt in range(ROUNDS + 1):
        here = rank[groups, x]
        to = np.floor(rng.random(x.shape) * (here + 1)).astype(np.int64) if attempt < ROUNDS else np.zeros_like(here)
        lower = order[groups, to]
        saved = a.cost[groups, x] - a.cost[groups, lower]
        turn = np.argsort(rng.random(x.shape), axis=1)
        # A group draws again only while the groups before it have not yet met the budget.
        over = costs(layout, x)[:, None] - limit - np.cumsum(np.take_along_axis(saved, turn, axis=1), axis=1)
        needed = np.zeros(x.shape, dtype=bool)
        ahead = np.concatenate([costs(layout, x)[:, None] - limit, over[:, :-1]], axis=1)
        np.put_along_axis(needed, turn, ahead > 0, axis=1)
        x = np.where(needed, lower, x)
    if layout.setup.size:
        x[costs(layout, x) > limit] = layout.least
    return x


def reads(problem: Magnitude, seed: int) -> Iterator[Read]:
    """Uniform states of a magnitude Hamiltonian."""
    model = BinaryModel.of(problem)
    shape = (STATES, problem.variables)
    return model.reads(lambda s: (np.random.default_rng(s).integers(0, 2, shape, dtype=np.int8), STATES), seed)


SOLVER = Solver("random", "classical", search, reads=reads, colour="#B0B0B0", dashes=":")
