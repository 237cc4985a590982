"""Energy and cells of each block of a choice; a kernel that stands alone (numba, GIL released)."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from qubo.search.arrays import Arrays

Vector = NDArray[np.float64]


@njit(cache=True, nogil=True)
def block_totals(a: Arrays, x: NDArray[np.int64], F: Vector, S: Vector, energy: Vector, cost: Vector) -> None:
    """Energy and cost, but for setups, of each block into (B,) arrays; fields must be current."""
    for b in range(a.width.size):
        e, w, own = 0.0, 0.0, 0.0
        D = a.width[b]
        for j in range(a.start[b], a.start[b + 1]):
            g = a.members[j]
            e += a.loss[g, x[g]]
            w += a.cost[g, x[g]]
            if D == 0:
                e += 0.5 * F[g, x[g]]
            else:
                p = a.offset[b] + (a.place[g] * a.loss.shape[1] + x[g]) * D
                for d in range(D):
                    own += a.data[p + d] ** 2
        if D > 0:
            for d in range(D):
                own -= S[a.sums[b] + d] ** 2
            e -= 0.5 * own
        energy[b], cost[b] = e, w
