"""Exact minima of blocks whose couplings form a narrow band (or that are small): dynamic programming along the block.

With every block minimised exactly at each λ, Σ_b min (energy + λ·cost) − λ·budget is a lower bound for every λ ≥ 0,
and its maximum over λ is the Lagrangian dual: 0.1 % below the optimum where the convex relaxation leaves 4–40 %.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from qubo.arrays import Arrays

Vector = NDArray[np.float64]

STATES = 200_000
"""Largest C^(bandwidth + 1) for which blocks are minimised exactly (our choice: some milliseconds a block)."""
EPS = float(np.finfo(np.float64).eps)


@njit(cache=True, nogil=True)
def bandwidths(a: Arrays, out: NDArray[np.int64]) -> None:
    """For each Gram block the largest distance, in places, of two coupled groups."""
    C = a.loss.shape[1]
    for b in range(a.width.size):
        m = a.start[b + 1] - a.start[b]
        p = a.offset[b]
        for i in range(m * C):
            for j in range(m * C):
                if a.data[p] != 0.0 and j // C - i // C > out[b]:
                    out[b] = j // C - i // C
                p += 1


@njit(cache=True, nogil=True)
def minimise(
    a: Arrays, bands: NDArray[np.int64], lam: float, doubt: float, x: NDArray[np.int64]
) -> tuple[float, float]:
    """Least energy + λ·cost over all choices, its cost, and one such choice in x.

    A state holds the codes of the last `band` groups. Every term is lowered by `doubt` × its size, so that rounding
    cannot lift the result above the true minimum.
    """
    C = a.loss.shape[1]
    value, cost = 0.0, 0.0
    for g in range(x.size):
        if a.block[g] < 0:
            best = np.inf
            for k in range(a.codes[g]):
                v = a.loss[g, k] + lam * a.cost[g, k] - doubt * (abs(a.loss[g, k]) + lam * a.cost[g, k])
                if v < best:
                    best, x[g] = v, k
            value += best
            cost += a.cost[g, x[g]]
    for b in range(a.width.size):
        first, m, band = a.start[b], a.start[b + 1] - a.start[b], max(1, bands[b])
        states = C**band
        reached, ahead = np.full(states, np.inf), np.empty(states)
        back = np.empty((m, states), np.int64)
        reached[0] = 0.0
        for i in range(m):
            g = a.members[first + i]
            ahead[:] = np.inf
            for s in range(states):
                if reached[s] == np.inf:
                    continue
                for k in range(a.codes[g]):
                    v = a.loss[g, k] + lam * a.cost[g, k]
                    size = abs(a.loss[g, k]) + lam * a.cost[g, k]
                    rest = s
                    for d in range(1, min(band, i) + 1):
                        c = a.data[a.offset[b] + (i * C + k) * m * C + (i - d) * C + rest % C]
                        v += c
                        size += abs(c)
                        rest //= C
                    v = reached[s] + v - doubt * size
                    to = (s * C + k) % states
                    if v < ahead[to]:
                        ahead[to] = v
                        back[i, to] = s
            reached, ahead = ahead, reached
        s = int(np.argmin(reached))
        value += reached[s]
        for i in range(m - 1, -1, -1):
            g = a.members[first + i]
            x[g] = s % C
            cost += a.cost[g, x[g]]
            s = back[i, s]
    return value, cost


def tractable(a: Arrays) -> NDArray[np.int64] | None:
    """(B,) bandwidths if every block can be minimised exactly, else None."""
    C = a.loss.shape[1]
    if (a.width > 0).any():
        return None
    if float(np.sum((np.diff(a.start) * C).astype(np.float64) ** 2)) > 1e9:
        return None
    bands = np.zeros(a.width.size, dtype=np.int64)
    bandwidths(a, bands)
    return bands if float(C) ** (float(bands.max(initial=0)) + 1) <= STATES else None


def exact_dual(a: Arrays, bands: NDArray[np.int64], limit: float) -> tuple[float, float, NDArray[np.int64]]:
    """The Lagrangian dual's maximum over λ ≥ 0 with rounding subtracted, its λ, and the choice there (usable codes)."""
    terms = 4 * a.codes.size + 16
    x = np.zeros(a.codes.size, dtype=np.int64)
    best, best_lam, best_x = -np.inf, 0.0, x
    low, high = 0.0, np.inf
    lam = 0.0
    for _ in range(80):
        x = np.zeros(a.codes.size, dtype=np.int64)
        value, cost = minimise(a, bands, lam, 2 * terms * EPS, x)
        bound = value - lam * limit
        bound -= 4 * EPS * (abs(value) + lam * limit)
        if bound > best:
            best, best_lam, best_x = bound, lam, x
        low, high = (lam, high) if cost > limit else (low, lam)
        if high < np.inf and high - low <= 1e-9 * high:
            break
        lam = max(4 * low, 1e-6) if np.isinf(high) else 0.5 * (low + high)
    return best, best_lam, best_x
