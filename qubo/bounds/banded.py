"""Exact minima of blocks that are small or have couplings in a narrow band, by dynamic programming along the block.

With every block minimised exactly at each λ, Σ_b min (energy + λ·cost) − λ·budget is a lower bound for every λ ≥ 0,
and its maximum over λ is the Lagrangian dual: 0.1 % below the optimum where the convex relaxation leaves 4–40 %.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numba import njit
from numpy.typing import NDArray

from qubo.bounds.convex import line_dual
from qubo.search.arrays import Arrays

Vector = NDArray[np.float64]

STATES = 200_000
"""Largest C^(bandwidth + 1) for which blocks are minimised exactly (our choice: some milliseconds a block)."""
PARTS, THREADED = 8, 5000
"""Parts into which blocks are split between threads, and the groups from which it pays (our choice)."""
EPS = float(np.finfo(np.float64).eps)


@njit(cache=True, nogil=True)
def bandwidths(a: Arrays, out: NDArray[np.int64]) -> None:
    """For each block the largest distance, in places, of two coupled groups (of factors: that share a column)."""
    C = a.loss.shape[1]
    for b in range(a.width.size):
        m, D = a.start[b + 1] - a.start[b], a.width[b]
        if D == 0:
            for i in range(m):
                for k in range(C):
                    row = a.offset[b] + (i * C + k) * m * C
                    for j in range(m * C - 1, (i + out[b] + 1) * C - 1, -1):
                        if a.data[row + j] != 0.0:
                            out[b] = j // C - i
                            break
            continue
        used = np.zeros((m, D), np.bool_)
        for i in range(m * C):
            for d in range(D):
                if a.data[a.offset[b] + i * D + d] != 0.0:
                    used[i // C, d] = True
        for i in range(m):
            for j in range(m - 1, i + out[b], -1):
                if np.any(used[i] & used[j]):
                    out[b] = j - i
                    break


@njit(cache=True, nogil=True)
def _coupling(a: Arrays, b: int, i: int, j: int, out: Vector) -> float:
    """out[l, k]: coupling of code k of place i and code l of place j, in block b; returns a bound on their size."""
    C, m, D = a.loss.shape[1], a.start[b + 1] - a.start[b], a.width[b]
    top = 0.0
    if D == 0:
        for k in range(C):
            row = a.offset[b] + (i * C + k) * m * C + j * C
            for q in range(C):
                out[q, k] = a.data[row + q]
                top = max(top, abs(out[q, k]))
        return top
    longest, farthest = 0.0, 0.0
    for k in range(C):
        p, length = a.offset[b] + (i * C + k) * D, 0.0
        for q in range(C):
            r, total, other = a.offset[b] + (j * C + q) * D, 0.0, 0.0
            for d in range(D):
                total += a.data[p + d] * a.data[r + d]
                other += a.data[r + d] ** 2
            out[q, k] = total
            farthest = max(farthest, other)
        for d in range(D):
            length += a.data[p + d] ** 2
        longest = max(longest, length)
    return float(D * np.sqrt(longest * farthest))


@njit(cache=True, nogil=True)
def minimise(
    a: Arrays, bands: NDArray[np.int64], lam: float, x: NDArray[np.int64], first: int, last: int
) -> tuple[float, float, float]:
    """Minimise energy + λ·cost over all choices of blocks first … last − 1; returns it, its cost and its largest error.

    A minimiser is written to x. A state of the dynamic programme holds the codes of the last `band` groups, the newest
    in the lowest digit. Blocks with band < 0 are left out; `last` = B + 1 includes the groups without a block.
    """
    C = a.loss.shape[1]
    value, cost, error = 0.0, 0.0, 0.0
    for g in range(x.size if last > a.width.size else 0):
        if a.block[g] < 0:
            best = np.inf
            for k in range(a.codes[g]):
                v = a.loss[g, k] + lam * a.cost[g, k]
                if v < best:
                    best, x[g] = v, k
            value += best
            cost += a.cost[g, x[g]]
            error += (abs(a.loss[g, x[g]]) + lam * a.cost[g, x[g]]) * EPS * 4
    for b in range(first, min(last, a.width.size)):
        if bands[b] < 0:
            continue
        start, m, band = a.start[b], a.start[b + 1] - a.start[b], max(1, bands[b])
        states = C**band
        reached, ahead = np.full(states, np.inf), np.empty(states)
        back = np.empty((m, states), np.int32)
        tables, own = np.empty((band, C, C)), np.empty(C)
        reached[0] = 0.0
        size = 0.0
        for i in range(m):
            g = a.members[start + i]
            n, top = a.codes[g], 0.0
            for k in range(n):
                own[k] = a.loss[g, k] + lam * a.cost[g, k]
                top = max(top, abs(a.loss[g, k]) + lam * a.cost[g, k])
            size += top
            for d in range(min(band, i)):
                size += _coupling(a, b, i, i - 1 - d, tables[d])
            ahead[:] = np.inf
            for s in range(states):
                if reached[s] == np.inf:
                    continue
                to, base, rest = (s * C) % states, reached[s], s
                here, origin = ahead[to : to + n], back[i, to : to + n]
                if min(band, i) == 0:
                    for k in range(n):
                        if base + own[k] < here[k]:
                            here[k] = base + own[k]
                            origin[k] = s
                elif min(band, i) == 1:
                    one = tables[0, s % C]
                    for k in range(n):
                        v = base + own[k] + one[k]
                        if v < here[k]:
                            here[k] = v
                            origin[k] = s
                elif band == 2:
                    one, two = tables[0, s % C], tables[1, s // C]
                    for k in range(n):
                        v = base + own[k] + one[k] + two[k]
                        if v < here[k]:
                            here[k] = v
                            origin[k] = s
                else:
                    for k in range(n):
                        v, rest = base + own[k], s
                        for d in range(min(band, i)):
                            v += tables[d, rest % C, k]
                            rest //= C
                        if v < here[k]:
                            here[k] = v
                            origin[k] = s
            reached, ahead = ahead, reached
        s = int(np.argmin(reached))
        value += reached[s]
        error += (m * (band + 3) + 16) * EPS * size
        for i in range(m - 1, -1, -1):
            g = a.members[start + i]
            x[g] = s % C
            cost += a.cost[g, x[g]]
            s = back[i, s]
    return value, cost, error


def tractable(a: Arrays) -> NDArray[np.int64]:
    """(B,) bandwidths of the blocks that can be minimised exactly, −1 for the others."""
    bands = np.zeros(a.width.size, dtype=np.int64)
    bandwidths(a, bands)
    wide = float(a.loss.shape[1]) ** (bands + 1.0) > STATES
    return np.where(wide, -1, bands)


@dataclass(frozen=True)
class PricedBands:
    """Exact minima at one λ: their sum with rounding subtracted, its cost and choice (G,) (blocks left out: zeros)."""

    value: float
    cost: float
    x: NDArray[np.int64]


def minima(a: Arrays, bands: NDArray[np.int64], lam: float) -> PricedBands:
    """Minimise groups without a block and narrow blocks exactly at λ; in threads if there are many."""
    x, blocks = np.zeros(a.codes.size, dtype=np.int64), a.width.size + 1
    # A fixed number of parts makes sums independent of the number of threads.
    edges = np.linspace(0, blocks, PARTS + 1).astype(np.int64) if a.codes.size > THREADED else np.array([0, blocks])
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        found = list(pool.map(lambda e: minimise(a, bands, lam, x, *e), pairwise(edges.tolist())))
    value, cost, error = (float(sum(column)) for column in zip(*found, strict=True))
    error += 4 * (blocks + 16) * EPS * sum(abs(v) for v, _, _ in found)
    error += 4 * a.codes.size * EPS * abs(value)
    return PricedBands(value - error, cost, x)


def exact_dual(
    a: Arrays, bands: NDArray[np.int64], limit: float, precision: float
) -> tuple[float, float, NDArray[np.int64]]:
    """Maximise the Lagrangian dual over λ ≥ 0: its maximum less rounding, λ, and the choice there (usable codes).

    Each λ gives a tangent above the concave dual. Where the best rising and the best falling tangent meet is an upper
    bound on the maximum: the search ends once the bound is within `precision` of it, relative.
    """
    best, best_lam, best_x = -np.inf, 0.0, np.zeros(0, dtype=np.int64)
    lam = line_dual(a.loss, a.cost, a.codes, limit)[1]
    low: tuple[float, float, float] | None = None  # λ, dual, slope of the nearest rising tangent
    high: tuple[float, float, float] | None = None
    for number in range(80):
        at = minima(a, bands, lam)
        dual = at.value - lam * limit - 4 * EPS * (abs(at.value) + lam * limit)
        if dual > best:
            best, best_lam, best_x = dual, lam, at.x
        slope = at.cost - limit
        if slope > 0:
            low = (lam, dual, slope)
        else:
            high = (lam, dual, slope)
        if high is not None and high[0] == 0.0:
            break
        if low is None or high is None:
            lam = max(2 * lam, 1e-6) if high is None else (0.5 * lam if lam > 1e-9 else 0.0)
            continue
        meet = (high[1] - low[1] + low[0] * low[2] - high[0] * high[2]) / (low[2] - high[2])
        top = low[1] + (meet - low[0]) * low[2]
        if top - best <= precision * abs(best) or high[0] - low[0] <= 1e-12 * high[0]:
            break
        # Every third step halves the bracket, in case one of its ends does not move.
        inside = low[0] < meet < high[0] and number % 3 < 2
        lam = meet if inside else 0.5 * (low[0] + high[0])
    return best, best_lam, best_x
