"""The Lagrangian heuristic (classical): prices cells, lets every block choose, repairs and polishes.

For a price λ per cell each group in turn takes its best code given its block until nothing changes; λ is bisected
between overspending and leaving cells free. Every visited choice is repaired to the budget; the best is polished.
Setups are begun and ended as a whole, at every price and at the end (`qubo.search.setup_moves`). The deterministic
answer every other solver is measured against.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qubo.bounds.certificate import best_start
from qubo.search.arrays import fields
from qubo.search.kernels import Indices, descend, fill, polish, refresh, repair
from qubo.search.setup_moves import SetupMoves
from qubo.search.watch import Outcome, Watch
from qubo.solvers.solver import Prepared, Solver

FIRST_STRIDE = 0.01
"""First step of λ away from the certificate's, relative (our choice)."""
NARROW = 1e-5
"""Width, relative to λ, at which the bracket of λ is not halved further (our choice)."""


@dataclass(frozen=True)
class LagrangianChoice:
    """A feasible choice among usable codes (G,), its scaled energy, and the scaled λ that just meets the budget."""

    x: Indices
    energy: float
    lam: float


def price(problem: Prepared, watch: Watch, steps: int = 30, within: float = 0.0) -> LagrangianChoice:
    """Bisects λ from the certificate's in at most `steps` steps; each choice is repaired, the best polished.

    Ends early once a choice is `within` this share of the certificate's bound.
    """
    layout, certificate = problem.layout, problem.certificate
    a, limit = layout.arrays, layout.limit
    F, S = fields(a)
    x, lam = best_start(layout, certificate), certificate.multiplier / layout.price
    target = goal(problem, within)
    low, high, stride, everyone = 0.0, np.inf, FIRST_STRIDE, np.arange(x.size)
    best: LagrangianChoice | None = None
    moves = SetupMoves(layout) if layout.setup.size else None
    try:
        for _ in range(steps):
            refresh(a, x, F, S)
            descend(a, x, F, S, everyone, lam, 1000)
            if moves is not None:
                moves.descend(x, lam, watch)
            cost = refresh(a, x, F, S)[1]
            y, Fy, Sy = x.copy(), F.copy(), S.copy()
            repair(a, y, Fy, Sy, limit)
            fill(a, y, Fy, Sy, limit)
            energy = refresh(a, y, Fy, Sy)[0]
            if best is None or energy < best.energy:
                best = LagrangianChoice(y, energy, lam)
            watch.add(a.loss.size)
            watch.report(best.energy * layout.scale)
            low, high = (lam, high) if cost > limit else (low, lam)
            narrow = high < np.inf and high - low <= NARROW * high
            if watch.stopped() or best.energy <= target or narrow:
                break
            # The certificate's λ is near: strides out from it double in the logarithm, then the bracket is halved.
            if high == np.inf:
                lam = lam * (1 + stride) if lam > 0 else 1e-6
            elif low == 0.0:
                lam = lam / (1 + stride) if lam > 1e-9 else 0.0
            else:
                lam = 0.5 * (low + high)
            stride = 2 * stride
    except KeyboardInterrupt:
        watch.interrupted = True
    if best is None:
        raise KeyboardInterrupt  # before there was anything to keep
    energy = polish(a, best.x, F, S, limit, lam, False)[0]
    if moves is not None:
        energy = moves.improve(best.x, lam, watch)
    return LagrangianChoice(best.x, energy, lam)


def goal(problem: Prepared, within: float) -> float:
    """The scaled energy that is within a share of the certificate's bound."""
    bound = problem.certificate.bound / problem.layout.scale
    return bound + within * abs(bound)


def search(problem: Prepared, watch: Watch, *, steps: int = 30) -> Outcome:
    """Prices, then a polish with pairs inside blocks; the seed plays no part.

    Args:
        steps: prices tried, at most.
    """
    layout = problem.layout
    a = layout.arrays
    watch.expect(steps * a.loss.size)
    found = price(problem, watch, steps)
    x, (F, S) = found.x, fields(a)
    polish(a, x, F, S, layout.limit, found.lam, True)
    return Outcome(layout.decode(x), watch.evaluations)


SOLVER = Solver(
    "lagrangian",
    "classical",
    search,
    priced=True,
    colour="#000000",
    reference="Everett 1963, doi 10.1287/opre.11.3.399",
)
