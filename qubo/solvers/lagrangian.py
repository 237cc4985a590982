"""The Lagrangian heuristic (classical): prices cells, lets every block choose, repairs and polishes.

For a price λ per cell each group in turn takes its best code given its block until nothing changes; λ is bisected
between overspending and leaving cells free. Every visited choice is repaired to the budget and polished; the best
stays. The deterministic answer every other solver is measured against.
"""

from __future__ import annotations

import numpy as np

from qubo.certificate import Certificate, best_start
from qubo.selection import Selection
from qubo.arrays import Layout
from qubo.solvers.moves import descend, fill, polish, refresh, repair
from qubo.solvers.search import Outcome, Watch


def search(
    selection: Selection,
    layout: Layout,
    certificate: Certificate,
    *,
    seed: int,
    watch: Watch,
    steps: int = 30,
) -> Outcome:
    """Bisects λ from the certificate's in `steps` steps; the seed plays no part."""
    a, limit = layout.arrays, layout.limit
    F, S = np.zeros_like(a.loss), np.zeros(int(a.sums[-1]))
    x = best_start(layout, certificate)
    lam = certificate.multiplier / layout.scale
    low, high = 0.0, np.inf
    best, best_x = np.inf, x
    watch.expect(steps * a.loss.size)
    for step in range(steps):
        try:
            refresh(a, x, F, S)
            descend(a, x, F, S, lam, 1000)
            cost = refresh(a, x, F, S)[1]
            y, Fy, Sy = x.copy(), F.copy(), S.copy()
            repair(a, y, Fy, Sy, limit)
            fill(a, y, Fy, Sy, limit)
            energy = polish(a, y, Fy, Sy, limit, lam, False)[0]
            if energy < best:
                best, best_x = energy, y
            watch.add(a.loss.size)
            watch.report(best * layout.scale)
        except KeyboardInterrupt:
            watch.interrupted = True
        if watch.stopped() or (lam == 0 and cost <= limit):
            break
        if cost > limit:
            low = lam
        else:
            high = lam
        lam = max(2 * low, 1e-12) if np.isinf(high) else 0.5 * (low + high)
        if high - low <= 1e-9 * high:
            break
    polish(a, best_x, F, S, limit, lam, True)
    return Outcome(layout.decode(best_x), watch.evaluations)
