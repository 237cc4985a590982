"""Branch and bound on one block at a fixed price per cell: kernels; numba, GIL released.

A block is min linear·x + ½ xᵀP x over one code per group. A convex form replaces P by Q, positive semidefinite on the
simplices, in-group blocks of Q traded against linear terms, and what is left between groups, R = P − Q, bounded by
unary terms a[i, h] + a[j, g] ≤ R[i, j] for code i of group g and j of h. Every point y of the simplices then gives

    bound = Σ_g min_k (lin + Q y)_gk − ½ yᵀQ y.

Codes whose own bound exceeds a known value are dropped; groups fixed by branching couple exactly. They share one file
because numba's cache looks only at the file of the function called.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Indices = NDArray[np.int64]


@njit(cache=True, nogil=True)
def unary_parts(P: Vector, Q: Vector, starts: Indices, out: Vector) -> None:
    """Unary terms (n, m) below R = P − Q between groups; none can be raised alone (one pass each way)."""
    m = starts.size - 1
    for g in range(m):
        for h in range(g + 1, m):
            for i in range(starts[g], starts[g + 1]):
                least = np.inf
                for j in range(starts[h], starts[h + 1]):
                    least = min(least, P[i, j] - Q[i, j])
                out[i, h] = 0.5 * least
            for j in range(starts[h], starts[h + 1]):
                least = np.inf
                for i in range(starts[g], starts[g + 1]):
                    least = min(least, P[i, j] - Q[i, j] - out[i, h])
                out[j, g] = least
            for i in range(starts[g], starts[g + 1]):
                least = np.inf
                for j in range(starts[h], starts[h + 1]):
                    least = min(least, P[i, j] - Q[i, j] - out[j, g])
                out[i, h] = least


@njit(cache=True, nogil=True)
def settle(lin: Vector, Q: Vector, starts: Indices, y: Vector, h: Vector, sweeps: int, stop: float) -> float:
    """Minimise lin·y + ½ yᵀQ y over the simplices, y in place; returns the bound there and h = lin + Q y.

    Each group moves mass from its worst code in use to its best (pairwise Frank–Wolfe by coordinates, Lacoste-Julien
    and Jaggi 2015, arXiv 1511.05932), until the bound passes `stop` or is within 2 % of where it can get to.
    """
    n = y.size
    h[:] = lin + Q @ y
    for _ in range(sweeps):
        gap, curved, low = 0.0, 0.0, 0.0
        for g in range(starts.size - 1):
            for turn in range(3):
                best, worst, mean = starts[g], -1, 0.0
                for k in range(starts[g], starts[g + 1]):
                    if h[k] < h[best]:
                        best = k
                    if y[k] > 0.0:
                        mean += y[k] * h[k]
                        if worst < 0 or h[k] > h[worst]:
                            worst = k
                if turn == 0:
                    gap += mean - h[best]
                    low += h[best]
                if h[worst] <= h[best]:
                    break
                bend = Q[best, best] + Q[worst, worst] - 2 * Q[best, worst]
                mass = y[worst]
                if bend * mass > h[worst] - h[best]:
                    mass = (h[worst] - h[best]) / bend
                y[worst] -= mass
                y[best] += mass
                up, down = Q[best], Q[worst]
                for j in range(n):
                    h[j] += mass * (up[j] - down[j])
        for j in range(n):
            curved += y[j] * (h[j] - lin[j])
        low -= 0.5 * curved
        if low >= stop or gap <= 0.02 * (stop - low):
            break
    h[:] = lin + Q @ y
    value = 0.0
    for g in range(starts.size - 1):
        value += h[starts[g] : starts[g + 1]].min()
    for j in range(n):
        value -= 0.5 * y[j] * (h[j] - lin[j])
    return value


@njit(cache=True, nogil=True)
def dominated(c: Vector, P: Vector, starts: Indices, alive: NDArray[np.bool_], margin: float) -> int:
    """Drop codes that are worse than another code of their group whatever the others choose; returns how many.

    The criterion of Goldstein (1994, doi 10.1016/S0006-3495(94)80923-3), with `margin` against rounding errors.
    """
    m, dropped = starts.size - 1, 0
    changed = True
    while changed:
        changed = False
        for g in range(m):
            for k in range(starts[g], starts[g + 1]):
                if not alive[k]:
                    continue
                for q in range(starts[g], starts[g + 1]):
                    if q == k or not alive[q]:
                        continue
                    better = c[k] - c[q]
                    for h in range(m):
                        if h == g:
                            continue
                        least = np.inf
                        for j in range(starts[h], starts[h + 1]):
                            if alive[j]:
                                least = min(least, P[k, j] - P[q, j])
                        better += least
                    if better > margin:
                        alive[k] = False
                        dropped += 1
                        changed = True
                        break
    return dropped


@njit(cache=True, nogil=True)
def _push(heap: Indices, size: int, key: Vector, item: int) -> int:
    at = size
    while at > 0 and key[heap[(at - 1) // 2]] > key[item]:
        heap[at] = heap[(at - 1) // 2]
        at = (at - 1) // 2
    heap[at] = item
    return size + 1


@njit(cache=True, nogil=True)
def _pop(heap: Indices, size: int, key: Vector) -> tuple[int, int]:
    top, size = heap[0], size - 1
    item, at = heap[size], 0
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and key[heap[child + 1]] < key[heap[child]]:
            child += 1
        if key[heap[child]] >= key[item]:
            break
        heap[at] = heap[child]
        at = child
    heap[at] = item
    return top, size


@njit(cache=True, nogil=True)
def _value(c: Vector, P: Vector, codes: Indices) -> float:
    """Energy of a choice given as rows of P; negative entries are groups left out."""
    total = 0.0
    for g in range(codes.size):
        if codes[g] >= 0:
            total += c[codes[g]]
            for h in range(g):
                if codes[h] >= 0:
                    total += P[codes[g], codes[h]]
    return total


@njit(cache=True, nogil=True)
def _compact(
    c: Vector, P: Vector, Q: Vector, parts: Vector, starts: Indices, codes: Indices, alive: NDArray[np.bool_]
) -> tuple[Indices, Indices, Indices, Vector, Vector]:
    """The problem left by the fixed `codes`: its groups, rows, starts, lin and Q."""
    m = starts.size - 1
    free = np.array([g for g in range(m) if codes[g] < 0])
    rows = np.array([k for g in free for k in range(starts[g], starts[g + 1]) if alive[k]])
    edges = np.zeros(free.size + 1, np.int64)
    lin = np.empty(rows.size)
    at = 0
    for i in range(free.size):
        g = free[i]
        for k in range(starts[g], starts[g + 1]):
            if alive[k]:
                v = c[k] - 0.5 * Q[k, k]
                for h in range(m):
                    if codes[h] >= 0:
                        v += P[k, codes[h]]
                    elif h != g:
                        v += parts[k, h]
                lin[at] = v
                at += 1
        edges[i + 1] = at
    form = np.empty((rows.size, rows.size))
    for i in range(rows.size):
        for j in range(rows.size):
            form[i, j] = Q[rows[i], rows[j]]
    return free, rows, edges, lin, form


@njit(cache=True, nogil=True)
def branch(
    c: Vector,
    P: Vector,
    Q: Vector,
    parts: Vector,
    starts: Indices,
    y0: Vector,
    incumbent: Indices,
    margin: float,
    tolerance: float,
    most: int,
) -> tuple[float, float, int]:
    """Best-first search over the choices of one block: (lower bound, best value, nodes); `incumbent` (m,) in place.

    Ends when the bound is within `tolerance` of the best value or after `most` nodes: the lower bound then is the
    least of the open nodes'. Bounds are lowered by `margin` against rounding.
    """
    m = starts.size - 1
    widest = 0
    for g in range(m):
        widest = max(widest, starts[g + 1] - starts[g])
    room = most * widest + 1
    key, state = np.empty(room), np.empty((room, m), np.int16)
    heap, spare = np.empty(room, np.int64), np.arange(room)
    best = _value(c, P, incumbent)
    key[0], state[0, :], size, used, nodes = -np.inf, -1, _push(heap, 0, key, 0), 1, 0
    codes, low = np.empty(m, np.int64), -np.inf
    while size > 0:
        low = max(low, key[heap[0]])
        if low >= best - tolerance or nodes >= most:
            break
        node, size = _pop(heap, size, key)
        used -= 1
        nodes += 1
        spare[used] = node
        for g in range(m):
            codes[g] = state[node, g]
        floor = key[node]
        alive = np.ones(c.size, np.bool_)
        value, pick = floor, -1
        h = np.empty(0)
        free, rows, edges = np.empty(0, np.int64), np.empty(0, np.int64), np.zeros(1, np.int64)
        for _ in range(6):
            base = _value(c, P, codes)
            free, rows, edges, lin, form = _compact(c, P, Q, parts, starts, codes, alive)
            if free.size == 0:
                value = base
                break
            y, h = y0[rows].copy(), np.empty(rows.size)
            for i in range(free.size):
                part = y[edges[i] : edges[i + 1]]
                part += 1e-9
                part /= part.sum()
            value = base + settle(lin, form, edges, y, h, 40, best - tolerance + margin - base) - margin
            if value >= best - tolerance:
                break
            # Codes that cannot beat the best are dropped; a group left with one is fixed, and couples exactly.
            dropped, worst, pick = 0, -1.0, -1
            for i in range(free.size):
                least, kept, last = h[edges[i] : edges[i + 1]].min(), 0, -1
                for j in range(edges[i], edges[i + 1]):
                    if value + h[j] - least >= best - tolerance:
                        alive[rows[j]] = False
                        dropped += 1
                    else:
                        kept, last = kept + 1, rows[j]
                if kept == 1:
                    codes[free[i]] = last
                    dropped += 1
                loose = 0.0
                for j in range(edges[i], edges[i + 1]):
                    loose += 0.5 * y[j] * form[j, j]
                    for q in range(edges[i], edges[i + 1]):
                        loose -= 0.5 * y[j] * form[j, q] * y[q]
                if kept > 1 and loose > worst:
                    worst, pick = loose, i
            if dropped == 0:
                break
        if free.size == 0 or (pick < 0 and value < best - tolerance):  # every group is fixed
            value = _value(c, P, codes)
            if value < best:
                best = value
                incumbent[:] = codes
            continue
        if value >= best - tolerance:
            continue
        least = h[edges[pick] : edges[pick + 1]].min()
        for j in range(edges[pick], edges[pick + 1]):
            bound = max(floor, value + h[j] - least)
            if not alive[rows[j]] or bound >= best - tolerance:
                continue
            child = spare[used]
            used += 1
            key[child] = bound
            for g in range(m):
                state[child, g] = codes[g]
            state[child, free[pick]] = rows[j]
            size = _push(heap, size, key, child)
    if size == 0:
        low = best - tolerance
    return min(low, best), best, nodes
