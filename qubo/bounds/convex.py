"""The convex relaxation of a selection: kernels that minimise it over simplices, and the search over λ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from qubo.search.arrays import Arrays

Vector = NDArray[np.float64]

ROUNDS = 40
"""The most prices in the search over λ (our choice; a few are usual)."""
MET = 0.003
"""How closely the relaxed cost has to meet the budget (our choice)."""


@njit(cache=True, nogil=True)
def line_dual(h: Vector, cost: Vector, count: NDArray[np.int64], budget: float) -> tuple[float, float]:
    """The maximum over λ ≥ 0 of Σ_g min_k (h + λ cost) − λ budget, and its λ, by bisection on the sign of the slope."""

    def at(lam: float) -> tuple[float, float]:
        value, taken = -lam * budget, -budget
        for g in range(count.size):
            best, w = np.inf, 0.0
            for k in range(count[g]):
                v = h[g, k] + lam * cost[g, k]
                if v < best or (v == best and cost[g, k] < w):
                    best, w = v, cost[g, k]
            value += best
            taken += w
        return value, taken

    value, slope = at(0.0)
    best, lam = value, 0.0
    if slope <= 0:
        return best, lam
    spread, total = 0.0, 0.0
    for g in range(count.size):
        spread = max(spread, h[g, : count[g]].max() - h[g, : count[g]].min())
        total = max(total, cost[g, : count[g]].max())
    low, high = 0.0, spread / total if spread > 0 else 1.0 / total
    for _ in range(200):
        value, slope = at(high)
        if value > best:
            best, lam = value, high
        if slope <= 0:
            break
        low, high = high, 4 * high
    for _ in range(64):
        middle = 0.5 * (low + high)
        value, slope = at(middle)
        if value > best:
            best, lam = value, middle
        if slope > 0:
            low = middle
        else:
            high = middle
    return best, lam


@njit(cache=True, nogil=True)
def _first(a: Arrays, b: int) -> int:
    """The first group of block b if its members are consecutive groups in order, else −1: then slopes are one run."""
    first = a.members[a.start[b]]
    for j in range(a.start[b + 1] - a.start[b]):
        if a.members[a.start[b] + j] != first + j:
            return -1
    return int(first)


@njit(cache=True, nogil=True)
def _shift_mass(a: Arrays, H: Vector, S: Vector, g: int, up: int, down: int, mass: float) -> None:
    """Gradients (Gram blocks) or sums (factor blocks) after `mass` moved from code `down` to code `up` of g."""
    b = a.block[g]
    C = a.loss.shape[1]
    D = a.width[b]
    if D == 0:
        n = (a.start[b + 1] - a.start[b]) * C
        p = a.offset[b] + (a.place[g] * C + up) * n
        q = a.offset[b] + (a.place[g] * C + down) * n
        first = _first(a, b)
        if first >= 0:
            flat = H.reshape(-1)[first * C : first * C + n]
            gained, lost = a.data[p : p + n], a.data[q : q + n]
            for i in range(n):
                flat[i] += mass * (gained[i] - lost[i])
            return
        for j in range(a.start[b], a.start[b + 1]):
            h = a.members[j]
            for c in range(C):
                H[h, c] += mass * (a.data[p] - a.data[q])
                p += 1
                q += 1
    else:
        p = a.offset[b] + (a.place[g] * C + up) * D
        q = a.offset[b] + (a.place[g] * C + down) * D
        for d in range(D):
            S[a.sums[b] + d] += mass * (a.data[p + d] - a.data[q + d])


@njit(cache=True, nogil=True)
def _curvature(a: Arrays, g: int, up: int, down: int) -> float:
    """Second derivative of f when mass moves from code `down` to code `up` of group g."""
    b = a.block[g]
    C = a.loss.shape[1]
    D = a.width[b]
    if D == 0:
        n = (a.start[b + 1] - a.start[b]) * C
        p = a.offset[b] + a.place[g] * C * n + a.place[g] * C
        return float(a.data[p + up * n + up] + a.data[p + down * n + down] - 2 * a.data[p + up * n + down])
    total = 0.0
    p = a.offset[b] + a.place[g] * C * D
    for d in range(D):
        total += (a.data[p + up * D + d] - a.data[p + down * D + d]) ** 2
    return total


@njit(cache=True, nogil=True)
def gradient(a: Arrays, y: Vector, H: Vector, S: Vector) -> None:
    """Fresh A·y of Gram blocks in H, and running sums of factor blocks in S."""
    H[:] = 0.0
    S[:] = 0.0
    for b in range(a.width.size):
        for j in range(a.start[b], a.start[b + 1]):
            g = a.members[j]
            for k in range(a.codes[g]):
                if y[g, k] != 0.0:
                    _add_row(a, H, S, g, k, y[g, k])


@njit(cache=True, nogil=True)
def _add_row(a: Arrays, H: Vector, S: Vector, g: int, k: int, mass: float) -> None:
    b = a.block[g]
    C = a.loss.shape[1]
    D = a.width[b]
    if D == 0:
        p = a.offset[b] + (a.place[g] * C + k) * (a.start[b + 1] - a.start[b]) * C
        for j in range(a.start[b], a.start[b + 1]):
            h = a.members[j]
            for c in range(C):
                H[h, c] += mass * a.data[p]
                p += 1
    else:
        p = a.offset[b] + (a.place[g] * C + k) * D
        for d in range(D):
            S[a.sums[b] + d] += mass * a.data[p + d]


@njit(cache=True, nogil=True)
def _slope(a: Arrays, H: Vector, S: Vector, g: int, k: int) -> float:
    """(A·y)_gk, the gradient of the pair form."""
    b = a.block[g]
    if b < 0:
        return 0.0
    D = a.width[b]
    if D == 0:
        return float(H[g, k])
    p = a.offset[b] + (a.place[g] * a.loss.shape[1] + k) * D
    total = 0.0
    for d in range(D):
        total += a.data[p + d] * S[a.sums[b] + d]
    return total


@njit(cache=True, nogil=True)
def relax(a: Arrays, y: Vector, H: Vector, S: Vector, lam: float, sweeps: int, tolerance: float) -> float:
    """Minimises f + λ·cost over the simplices by exact steps between pairs of codes; returns the cost of y.

    Each group moves mass from its worst code in use to its best (pairwise Frank–Wolfe by coordinates, Lacoste-Julien
    and Jaggi 2015, arXiv 1511.05932) until the Frank–Wolfe gap is below `tolerance`.
    """
    h = np.empty(a.loss.shape[1])
    for _ in range(sweeps):
        gap, taken = 0.0, 0.0
        for g in range(a.codes.size):
            coupled = a.block[g] >= 0
            for turn in range(4):
                best, worst = 0, -1
                mean = 0.0
                for k in range(a.codes[g]):
                    h[k] = a.loss[g, k] + lam * a.cost[g, k] + _slope(a, H, S, g, k)
                    if h[k] < h[best]:
                        best = k
                    if y[g, k] > 0.0:
                        mean += y[g, k] * h[k]
                        if worst < 0 or h[k] > h[worst]:
                            worst = k
                if turn == 0:
                    gap += mean - h[best]
                if h[worst] <= h[best]:
                    break
                mass = y[g, worst]
                if coupled:
                    bend = _curvature(a, g, best, worst)
                    if bend * mass > h[worst] - h[best]:
                        mass = (h[worst] - h[best]) / bend
                y[g, worst] -= mass
                y[g, best] += mass
                if coupled:
                    _shift_mass(a, H, S, g, best, worst, mass)
            for k in range(a.codes[g]):
                taken += y[g, k] * a.cost[g, k]
        if gap <= tolerance:
            break
    return taken


@njit(cache=True, nogil=True)
def slopes(a: Arrays, H: Vector, S: Vector, out: Vector) -> None:
    """∇f(y) into out (G, C)."""
    for g in range(a.codes.size):
        for k in range(a.codes[g]):
            out[g, k] = a.loss[g, k] + _slope(a, H, S, g, k)


def pair_slopes(a: Arrays, y: Vector) -> Vector:
    """(P + M)·y, (G, C), zero in unused places."""
    H, S, out = np.zeros_like(a.loss), np.zeros(int(a.sums[-1])), np.zeros_like(a.loss)
    gradient(a, y, H, S)
    slopes(a._replace(loss=np.zeros_like(a.loss)), H, S, out)
    return out


@dataclass
class Relaxed:
    """Relaxed solution of one convex form, sharpened over λ."""

    a: Arrays
    limit: float
    y: Vector
    lam: float = 0.0
    bound: float = -np.inf
    best_y: Vector | None = None

    def evaluate(self, H: Vector, S: Vector) -> float:
        """The bound of the present y at its best λ (rounding not yet subtracted); keeps the best pair."""
        h = np.full_like(self.a.loss, np.inf)
        slopes(self.a, H, S, h)
        kept = np.isfinite(self.a.loss)
        quadratic = float(np.sum(self.y[kept] * (h[kept] - self.a.loss[kept])))
        value, lam = line_dual(h, self.a.cost, self.a.codes, self.limit)
        if value - 0.5 * quadratic > self.bound or self.best_y is None:
            self.bound, self.lam, self.best_y = value - 0.5 * quadratic, lam, self.y.copy()
        return lam

    def run(self, sweeps: int, precision: float) -> None:
        """Brackets λ with points roughly minimised, then interpolates to where the relaxed cost meets the budget."""
        H, S = np.zeros_like(self.a.loss), np.zeros(int(self.a.sums[-1]))
        gradient(self.a, self.y, H, S)
        lam = self.evaluate(H, S) or 1e-6
        low, high, above, below = 0.0, np.inf, 0.0, 0.0
        for _ in range(ROUNDS):
            rough = not high <= 2 * low
            tolerance = precision * abs(self.bound)
            over = relax(self.a, self.y, H, S, lam, max(2, sweeps // 8) if rough else sweeps, tolerance) - self.limit
            self.evaluate(H, S)
            if over > 0:
                low, above = lam, over
            else:
                high, below = lam, -over
            if high == np.inf:
                lam *= 2
            elif low == 0.0:
                lam *= 0.5
            elif abs(over) <= MET * self.limit or high - low <= MET * high:
                if not rough:
                    break
                low, high = 0.8 * lam, 1.25 * lam  # the bracket was found with little precision: refine its ends
            else:
                lam = low + (high - low) * min(max(above / (above + below + 1e-300), 0.1), 0.9)
        # A budget that does not bind: the dual is largest at λ = 0.
        if low == 0.0:
            relax(self.a, self.y, H, S, 0.0, sweeps, precision * abs(self.bound))
            self.evaluate(H, S)
        assert self.best_y is not None
        self.y = self.best_y
