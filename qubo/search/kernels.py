"""Kernels on a choice of codes: local fields, moves, annealing, descent, repair, polish; numba, GIL released.

A state is x (G,), with two helpers kept current by `apply`: F (G, C), the pair energy of each code of a group given
its block (Gram blocks), and S, the running sums Σ a (factor blocks) and behind them the number of users of each setup
(`qubo.search.arrays.fields`). Reading a move costs O(1) or O(D), making it O(block · C) or O(D).

They share one file because numba's cache looks only at the file of the function called: a change to `delta` in another
file would leave stale machine code behind.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numba.extending import overload
from numpy.typing import NDArray

from qubo.search.arrays import Arrays

Vector = NDArray[np.float64]
Indices = NDArray[np.int64]

TABLE = -np.log((np.arange(4096) + 0.5) / 4096)
"""Quantiles of −ln u: the Metropolis test without a logarithm; cut at probability 1.2e-4."""
TINY = 1e-13
"""A move must gain this share of its group's loss: below it is rounding."""


@njit(cache=True, nogil=True)
def dot(a: Arrays, b: int, i: int, j: int) -> float:
    """Product of rows i and j (place · C + code) of block b."""
    C = a.loss.shape[1]
    D = a.width[b]
    if D == 0:
        return float(a.data[a.offset[b] + i * (a.start[b + 1] - a.start[b]) * C + j])
    p, q = a.offset[b] + i * D, a.offset[b] + j * D
    total = 0.0
    for d in range(D):
        total += a.data[p + d] * a.data[q + d]
    return total


@njit(cache=True, nogil=True)
def delta(a: Arrays, x: Indices, F: Vector, S: Vector, g: int, k: int) -> float:
    """Change of energy when group g takes code k."""
    old = x[g]
    change = float(a.loss[g, k] - a.loss[g, old])
    b = a.block[g]
    if b < 0:
        return change
    D = a.width[b]
    if D == 0:
        return float(change + F[g, k] - F[g, old])
    C = a.loss.shape[1]
    row = a.offset[b] + a.place[g] * C * D
    s = a.sums[b]
    for d in range(D):
        own = a.data[row + old * D + d]
        change += (a.data[row + k * D + d] - own) * (S[s + d] - own)
    return change


@njit(cache=True, nogil=True)
def cross(a: Arrays, x: Indices, g: int, k: int, h: int, q: int) -> float:
    """What taking k in g and q in h together adds to the sum of both changes."""
    b = a.block[g]
    if b < 0 or b != a.block[h]:
        return 0.0
    C = a.loss.shape[1]
    up, down = a.place[g] * C + k, a.place[g] * C + x[g]
    there, here = a.place[h] * C + q, a.place[h] * C + x[h]
    return dot(a, b, up, there) - dot(a, b, up, here) - dot(a, b, down, there) + dot(a, b, down, here)


def opened(a: Any, x: Indices, S: Vector, g: int, k: int, h: int, q: int) -> float:
    """Cells of setups begun, less those of setups ended, when g takes k and, unless h < 0, h takes q as well."""
    total = 0.0
    slots = (a.slot[g, x[g]], a.slot[g, k], a.slot[h, x[h]] if h >= 0 else -1, a.slot[h, q] if h >= 0 else -1)
    for i in range(4):
        more, first = 0, slots[i] >= 0
        for j in range(4):
            if slots[j] == slots[i]:
                more += 2 * (j % 2) - 1
                first = first and j >= i
        if first:
            users = S[a.sums[-1] + slots[i]]
            total += a.setup[slots[i]] * (np.sign(users + more) - np.sign(users))
    return total


def count(a: Any, S: Vector, g: int, k: int, more: int) -> None:
    """Counts `more` users of the setup that code k of group g needs."""
    if a.slot[g, k] >= 0:
        S[a.sums[-1] + a.slot[g, k]] += more


def begun(a: Any, S: Vector) -> float:
    """Cells of all setups that have users."""
    return float((a.setup * np.sign(S[a.sums[-1] :])).sum())


def to_fewest(a: Any, x: Indices, F: Vector, S: Vector, limit: float) -> None:
    """Group after group on to the choice of fewest cells until the budget is met: each move alone begins a setup."""
    cost = spent(a, x, S)
    for g in range(x.size):
        if cost > limit:
            cost += a.cost[g, a.least[g]] - a.cost[g, x[g]] + opened(a, x, S, g, a.least[g], -1, 0)
            apply(a, x, F, S, g, a.least[g])


# Without setups kernels are compiled without a trace of them: a branch in their inmost loops makes them slower.
def _compiled(function: Any, without: Any) -> None:
    overload(function, strict=False)(lambda a, *rest: function if "slot" in a.fields else without)


_compiled(opened, lambda a, x, S, g, k, h, q: 0.0)
_compiled(count, lambda a, S, g, k, more: None)
_compiled(begun, lambda a, S: 0.0)
_compiled(to_fewest, lambda a, x, F, S, limit: None)


@njit(cache=True, nogil=True)
def spent(a: Arrays, x: Indices, S: Vector) -> float:
    """Cells taken by x, setups included; the numbers of their users must be current."""
    cost = 0.0
    for g in range(x.size):
        cost += a.cost[g, x[g]]
    return cost + begun(a, S)


@njit(cache=True, nogil=True)
def _first(a: Arrays, b: int) -> int:
    """The first group of block b if its members are consecutive groups in order, else −1: then fields are one run."""
    first = a.members[a.start[b]]
    for j in range(a.start[b + 1] - a.start[b]):
        if a.members[a.start[b] + j] != first + j:
            return -1
    return int(first)


@njit(cache=True, nogil=True)
def apply(a: Arrays, x: Indices, F: Vector, S: Vector, g: int, k: int) -> None:
    """Group g takes code k."""
    old = x[g]
    x[g] = k
    count(a, S, g, old, -1)
    count(a, S, g, k, 1)
    b = a.block[g]
    if b < 0:
        return
    C = a.loss.shape[1]
    D = a.width[b]
    if D == 0:
        n = (a.start[b + 1] - a.start[b]) * C
        up = a.offset[b] + (a.place[g] * C + k) * n
        down = a.offset[b] + (a.place[g] * C + old) * n
        first = _first(a, b)
        if first >= 0:
            flat = F.reshape(-1)[first * C : first * C + n]
            gained, lost = a.data[up : up + n], a.data[down : down + n]
            for i in range(n):
                flat[i] += gained[i] - lost[i]
            return
        for j in range(a.start[b], a.start[b + 1]):
            h = a.members[j]
            for c in range(C):
                F[h, c] += a.data[up] - a.data[down]
                up += 1
                down += 1
    else:
        up = a.offset[b] + (a.place[g] * C + k) * D
        down = a.offset[b] + (a.place[g] * C + old) * D
        for d in range(D):
            S[a.sums[b] + d] += a.data[up + d] - a.data[down + d]


@njit(cache=True, nogil=True)
def refresh(a: Arrays, x: Indices, F: Vector, S: Vector) -> tuple[float, float]:
    """Fields and sums anew from x, against drift; returns (energy, cost)."""
    C = a.loss.shape[1]
    F[:] = 0.0
    S[:] = 0.0
    energy = 0.0
    for g in range(x.size):
        energy += a.loss[g, x[g]]
        count(a, S, g, x[g], 1)
    for b in range(a.width.size):
        D = a.width[b]
        n = (a.start[b + 1] - a.start[b]) * C
        own = 0.0
        for j in range(a.start[b], a.start[b + 1]):
            g = a.members[j]
            row = (j - a.start[b]) * C + x[g]
            if D == 0:
                p = a.offset[b] + row * n
                for i in range(a.start[b], a.start[b + 1]):
                    for c in range(C):
                        F[a.members[i], c] += a.data[p]
                        p += 1
            else:
                for d in range(D):
                    v = a.data[a.offset[b] + row * D + d]
                    S[a.sums[b] + d] += v
                    own += v * v
        if D == 0:
            for j in range(a.start[b], a.start[b + 1]):
                energy += 0.5 * F[a.members[j], x[a.members[j]]]
        else:
            for d in range(D):
                own -= S[a.sums[b] + d] ** 2
            energy -= 0.5 * own
    return energy, spent(a, x, S)


@njit(cache=True, nogil=True)
def _next(state: NDArray[np.uint64]) -> Any:
    """xorshift128+ (Vigna 2017, doi 10.1016/j.cam.2016.11.006): a draw of 64 bits."""
    s1, s0 = state[0], state[1]
    out = s0 + s1
    s1 ^= s1 << np.uint64(23)
    state[0] = s0
    state[1] = s1 ^ s0 ^ (s1 >> np.uint64(18)) ^ (s0 >> np.uint64(5))
    return out


@njit(cache=True, nogil=True)
def _below(bits: Any, n: int) -> Any:
    """A whole number in 0..n − 1 from the 32 low bits of a draw (multiply and shift; bias below n / 2³²)."""
    return np.int64(((bits & np.uint64(0xFFFFFFFF)) * np.uint64(n)) >> np.uint64(32))


@njit(cache=True, nogil=True)
def anneal(
    a: Arrays, x: Indices, best_x: Indices, F: Vector, S: Vector, random: NDArray[np.uint64], table: Vector,
    temperatures: Vector, left: Vector, lam: float, aim: float, limit: float, best: float, pairs: float,
) -> tuple[float, float]:  # fmt: skip
    """One sweep of G proposals per temperature, in place; returns the least energy met, kept in best_x, and λ.

    λ is steered so that `aim` × (share of the schedule left) cells stay free: a λ too low jams the state at the
    budget, one too high leaves cells unused.
    """
    G = x.size
    energy, cost = refresh(a, x, F, S)
    high = np.uint64(32)
    paired = np.int64(pairs * 65536)
    for t in range(temperatures.size):
        T = temperatures[t]
        for _ in range(G):
            r = _next(random)
            g = _below(r, G)
            n = a.codes[g]
            if n < 2:
                continue
            k = _below(r >> high, n - 1)
            if k >= x[g]:
                k += 1
            w = a.cost[g, k] - a.cost[g, x[g]]
            r = _next(random)
            threshold = T * table[np.int64(r & np.uint64(4095))]
            kind = np.int64((r >> np.uint64(12)) & np.uint64(65535))
            h, q = -1, 0
            if kind >= paired:
                w += opened(a, x, S, g, k, -1, 0)
                if cost + w > limit:
                    continue
                d = delta(a, x, F, S, g, k)
            else:
                b = a.block[g]
                if b < 0:
                    h = _below(r >> np.uint64(28), G)
                else:
                    h = a.members[a.start[b] + _below(r >> np.uint64(28), a.start[b + 1] - a.start[b])]
                if h == g or a.codes[h] < 2:
                    continue
                q = _below(_next(random), a.codes[h] - 1)
                if q >= x[h]:
                    q += 1
                w += a.cost[h, q] - a.cost[h, x[h]] + opened(a, x, S, g, k, h, q)
                if cost + w > limit:
                    continue
                d = delta(a, x, F, S, g, k) + delta(a, x, F, S, h, q) + cross(a, x, g, k, h, q)
            if d + lam * w <= threshold:
                apply(a, x, F, S, g, k)
                if h >= 0:
                    apply(a, x, F, S, h, q)
                cost += w
                energy += d
        if t % 16 == 15:
            energy, cost = refresh(a, x, F, S)
        if energy < best and cost <= limit:
            best = energy
            best_x[:] = x
        if aim > 0.0:
            free = (limit - cost) / aim
            lam *= np.exp(0.02 * left[t] * max(-1.0, min(1.0, 20.0 * (left[t] + 0.01 - free))))
    return best, lam


@njit(cache=True, nogil=True)
def descend(a: Arrays, x: Indices, F: Vector, S: Vector, groups: Indices, lam: float, sweeps: int) -> int:
    """Each of `groups` in turn takes its best code under energy + λ·cost, until nothing changes; returns moves made."""
    made = 0
    for _ in range(sweeps):
        changed = 0
        for g in groups:
            best, to = 0.0, -1
            here = a.cost[g, x[g]]
            for k in range(a.codes[g]):
                if k != x[g]:
                    d = delta(a, x, F, S, g, k) + lam * (a.cost[g, k] - here + opened(a, x, S, g, k, -1, 0))
                    if d < best:
                        best, to = d, k
            if to >= 0 and best < -1e-14 * abs(a.loss[g, x[g]]):
                apply(a, x, F, S, g, to)
                changed += 1
        made += changed
        if changed == 0:
            break
    return made


@njit(cache=True, nogil=True)
def _cheapest_relief(a: Arrays, x: Indices, F: Vector, S: Vector, g: int) -> tuple[float, int]:
    """Least energy per cell freed among the codes of g cheaper than its own, and that code."""
    best, to = np.inf, -1
    here = a.cost[g, x[g]]
    for k in range(a.codes[g]):
        freed = here - a.cost[g, k] - opened(a, x, S, g, k, -1, 0)
        if freed > 0:
            r = delta(a, x, F, S, g, k) / freed
            if r < best:
                best, to = r, k
    return best, to


@njit(cache=True, nogil=True)
def repair(a: Arrays, x: Indices, F: Vector, S: Vector, limit: float) -> None:
    """Frees cells at the least energy per cell until the budget is met; it is met whenever it can be."""
    G = x.size
    rate = np.empty(G)
    cost = spent(a, x, S)
    while cost > limit:
        for g in range(G):
            rate[g] = _cheapest_relief(a, x, F, S, g)[0]
        order = np.argsort(rate)
        moved = False
        for i in range(G):
            if cost <= limit:
                break
            g = order[i]
            r, k = _cheapest_relief(a, x, F, S, g)
            if k < 0:
                break
            # Fields have moved since the sort: a group that became dear waits for the next round.
            if moved and i + 1 < G and r > rate[order[i + 1]] + 0.1 * abs(rate[order[i + 1]]):
                continue
            cost += a.cost[g, k] - a.cost[g, x[g]] + opened(a, x, S, g, k, -1, 0)
            apply(a, x, F, S, g, k)
            moved = True
        if not moved:
            to_fewest(a, x, F, S, limit)
            break
        cost = spent(a, x, S)
        # Rates rise as cells are freed; one group may be relieved twice, hence the outer loop.


@njit(cache=True, nogil=True)
def fill(a: Arrays, x: Indices, F: Vector, S: Vector, limit: float) -> int:
    """Single moves that lower the energy and fit, best first within a group, until none is left; returns moves."""
    cost = spent(a, x, S)
    made, changed = 0, True
    while changed:
        changed = False
        for g in range(x.size):
            here = a.cost[g, x[g]]
            best, to = -TINY * (abs(a.loss[g, x[g]]) + TINY), -1
            for k in range(a.codes[g]):
                if k != x[g] and cost + a.cost[g, k] - here + opened(a, x, S, g, k, -1, 0) <= limit:
                    d = delta(a, x, F, S, g, k)
                    if d < best:
                        best, to = d, k
            if to >= 0:
                cost += a.cost[g, to] - here + opened(a, x, S, g, to, -1, 0)
                apply(a, x, F, S, g, to)
                made += 1
                changed = True
    return made


@njit(cache=True, nogil=True)
def _reach(a: Arrays, out: Vector) -> None:
    """At least the largest |coupling| of each code (G, C): what a pair of moves can gain beyond the sum of both."""
    C = a.loss.shape[1]
    for b in range(a.width.size):
        n, D = (a.start[b + 1] - a.start[b]) * C, a.width[b]
        if D > 0:  # by the lengths of the factors: all products would take longer than the moves they save
            lengths = np.zeros(n)
            for i in range(n):
                for d in range(D):
                    lengths[i] += a.data[a.offset[b] + i * D + d] ** 2
            for i in range(n):
                out[a.members[a.start[b] + i // C], i % C] = np.sqrt(lengths[i] * lengths.max())
            continue
        for i in range(n):
            top = 0.0
            for j in range(n):
                if i // C != j // C:
                    top = max(top, abs(dot(a, b, i, j)))
            out[a.members[a.start[b] + i // C], i % C] = top


@njit(cache=True, nogil=True)
def pair_inside(a: Arrays, x: Indices, F: Vector, S: Vector, limit: float) -> int:
    """Pairs of moves inside a block that lower the energy and fit; returns moves made."""
    reach = np.zeros(a.loss.shape)
    _reach(a, reach)
    cost = spent(a, x, S)
    made = 0
    for b in range(a.width.size):
        for i in range(a.start[b], a.start[b + 1]):
            g = a.members[i]
            for k in range(a.codes[g]):
                if k == x[g]:
                    continue
                dg = delta(a, x, F, S, g, k)
                wg = a.cost[g, k] - a.cost[g, x[g]]
                most = 2 * (reach[g, k] + reach[g, x[g]])
                best, bh, bl = -TINY * (abs(a.loss[g, x[g]]) + TINY), -1, -1
                for j in range(i + 1, a.start[b + 1]):
                    h = a.members[j]
                    for q in range(a.codes[h]):
                        if q == x[h] or cost + wg + a.cost[h, q] - a.cost[h, x[h]] > limit:
                            continue
                        d = dg + delta(a, x, F, S, h, q)
                        if d - min(most, 2 * (reach[h, q] + reach[h, x[h]])) < best:
                            d += cross(a, x, g, k, h, q)
                            more = opened(a, x, S, g, k, h, q)
                            if d < best and cost + wg + a.cost[h, q] - a.cost[h, x[h]] + more <= limit:
                                best, bh, bl = d, h, q
                if bh >= 0:
                    cost += wg + a.cost[bh, bl] - a.cost[bh, x[bh]] + opened(a, x, S, g, k, bh, bl)
                    apply(a, x, F, S, g, k)
                    apply(a, x, F, S, bh, bl)
                    made += 1
    return made


@njit(cache=True, nogil=True)
def pair_across(a: Arrays, x: Indices, F: Vector, S: Vector, limit: float, lam: float, most: int) -> int:
    """Pairs of moves in different blocks that lower the energy and fit; returns moves made.

    With r = Δenergy + λ·Δcost, a pair that helps has r1 + r2 < λ·slack, so candidates are sorted by r and only
    pairs below that line are looked at, at most `most` moves in the list.
    """
    G, C = a.loss.shape
    cost = spent(a, x, S)
    line = lam * (limit - cost)
    reduced, lowest = np.empty((G, C)), 0.0
    for g in range(G):
        for k in range(a.codes[g]):
            reduced[g, k] = np.inf
            if k != x[g]:
                r = delta(a, x, F, S, g, k) + lam * (a.cost[g, k] - a.cost[g, x[g]])
                reduced[g, k] = r
                lowest = min(lowest, r)
    rs, gs, ks = np.empty(G * C), np.empty(G * C, np.int64), np.empty(G * C, np.int64)
    n = 0
    for g in range(G):
        for k in range(a.codes[g]):
            if reduced[g, k] < line - lowest:
                rs[n], gs[n], ks[n] = reduced[g, k], g, k
                n += 1
    order = np.argsort(rs[:n])[:most]
    touched = np.zeros(G + a.width.size, np.bool_)
    made = 0
    for i in range(order.size):
        g, k, r = gs[order[i]], ks[order[i]], rs[order[i]]
        tag = g if a.block[g] < 0 else G + a.block[g]
        if touched[tag]:
            continue
        wg = a.cost[g, k] - a.cost[g, x[g]]
        best, bj = -TINY * (abs(a.loss[g, x[g]]) + TINY), -1
        for j in range(order.size):
            if r + rs[order[j]] >= lam * (limit - cost):
                break
            h, q = gs[order[j]], ks[order[j]]
            other = h if a.block[h] < 0 else G + a.block[h]
            wh = a.cost[h, q] - a.cost[h, x[h]]
            if other == tag or touched[other] or cost + wg + wh > limit:
                continue
            d = r + rs[order[j]] - lam * (wg + wh)
            if d < best and cost + wg + wh + opened(a, x, S, g, k, h, q) <= limit:
                best, bj = d, order[j]
        if bj >= 0:
            h, q = gs[bj], ks[bj]
            cost += wg + a.cost[h, q] - a.cost[h, x[h]] + opened(a, x, S, g, k, h, q)
            apply(a, x, F, S, g, k)
            apply(a, x, F, S, h, q)
            touched[tag] = True
            touched[h if a.block[h] < 0 else G + a.block[h]] = True
            made += 1
    return made


@njit(cache=True, nogil=True)
def polish(a: Arrays, x: Indices, F: Vector, S: Vector, limit: float, lam: float, inside: bool) -> tuple[float, float]:
    """From a feasible x to a local optimum of single moves and pairs (inside blocks if asked); (energy, cost)."""
    refresh(a, x, F, S)
    # With very many groups the last moves gain next to nothing and take most of the time.
    for _ in range(max(4, min(200, 2_000_000 // a.loss.size))):
        made = fill(a, x, F, S, limit)
        made += pair_across(a, x, F, S, limit, lam, 4000)
        if made == 0 and inside:
            made = pair_inside(a, x, F, S, limit)
        if made == 0:
            break
    return refresh(a, x, F, S)
