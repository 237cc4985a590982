"""A lower bound that no feasible choice can beat: convex relaxation, budget dualised.

On one-hot vectors any symmetric M_g inside a group can be traded against linear terms, x_gᵀM_g x_g = diag(M_g)·x_g.
With M making the pair form convex (`qubo.convexity`), f(x) = Σ (loss − ½ diag M)·x + ½ xᵀ(P + M)x equals the energy on
every choice and is convex on the product of simplices. For any point y and any λ ≥ 0, by convexity,

    bound = f(y) − ∇f(y)·y + Σ_g min_k (∇f(y) + λ cost)_gk − λ budget

holds for every feasible choice however inexact y is; it is evaluated with every rounding error subtracted.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from qubo.convexity import Shifted, Tightening, convexify
from qubo.selection import Selection
from qubo.arrays import Arrays, Layout, lay_out

Vector = NDArray[np.float64]
EPS = float(np.finfo(np.float64).eps)
ROUNDS = 12
"""At most this many rounds of tightening M (our choice: later ones gain little)."""
WORK = 8e9
"""Σ n³ over blocks and rounds of tightening: about a second (our choice)."""


@dataclass(frozen=True, eq=False)
class Certificate:
    """A proof that no feasible choice of a selection has less energy than `bound`.

    Attributes:
        bound: the lower bound, in the loss's unit.
        multiplier: λ at the bound: the loss one more cell of budget is worth.
        point: (G, K) the relaxed solution, rows summing to one; a start for rounding.
        method: "lagrangian dual" (no couplings; exact dual) or "convex relaxation".
        seconds: wall-clock time it took.
        selection: the problem it is about.
    """

    bound: float
    multiplier: float
    point: Vector
    method: str
    seconds: float
    selection: Selection


@njit(cache=True, nogil=True)
def line_dual(h: Vector, cost: Vector, count: NDArray[np.int64], budget: float) -> tuple[float, float]:
    """Maximum over λ ≥ 0 of Σ_g min_k (h + λ cost) − λ budget, and its λ: bisection on the sign of the slope."""

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
def _shift_mass(a: Arrays, H: Vector, S: Vector, g: int, up: int, down: int, mass: float) -> None:
    """Gradients (Gram blocks) or sums (factor blocks) after `mass` moved from code `down` to code `up` of g."""
    b = a.block[g]
    C = a.loss.shape[1]
    D = a.width[b]
    if D == 0:
        n = (a.start[b + 1] - a.start[b]) * C
        p = a.offset[b] + (a.place[g] * C + up) * n
        q = a.offset[b] + (a.place[g] * C + down) * n
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
def _curvature(a: Arrays, g: int, k: int, l: int) -> float:
    """Second derivative of f when mass moves from code l to code k of group g."""
    b = a.block[g]
    C = a.loss.shape[1]
    D = a.width[b]
    if D == 0:
        n = (a.start[b + 1] - a.start[b]) * C
        p = a.offset[b] + a.place[g] * C * n + a.place[g] * C
        return a.data[p + k * n + k] + a.data[p + l * n + l] - 2 * a.data[p + k * n + l]
    total = 0.0
    p = a.offset[b] + a.place[g] * C * D
    for d in range(D):
        total += (a.data[p + k * D + d] - a.data[p + l * D + d]) ** 2
    return total


@njit(cache=True, nogil=True)
def gradient(a: Arrays, y: Vector, H: Vector, S: Vector) -> None:
    """Fresh A·y of Gram blocks in H, and running sums of factor blocks in S."""
    H[:] = 0.0
    S[:] = 0.0
    for b in range(a.width.size):
        for j in range(a.start[b], a.start[b + 1]):
            g = a.members[j]
            for k in range(a.count[g]):
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
        return H[g, k]
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
        for g in range(a.count.size):
            coupled = a.block[g] >= 0
            for turn in range(4):
                best, worst = 0, -1
                mean = 0.0
                for k in range(a.count[g]):
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
            for k in range(a.count[g]):
                taken += y[g, k] * a.cost[g, k]
        if gap <= tolerance:
            break
    return taken


@njit(cache=True, nogil=True)
def slopes(a: Arrays, H: Vector, S: Vector, out: Vector) -> None:
    """∇f(y) into out (G, C)."""
    for g in range(a.count.size):
        for k in range(a.count[g]):
            out[g, k] = a.loss[g, k] + _slope(a, H, S, g, k)


@dataclass
class _Search:
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
        value, lam = line_dual(h, self.a.cost, self.a.count, self.limit)
        if value - 0.5 * quadratic > self.bound or self.best_y is None:
            self.bound, self.lam, self.best_y = value - 0.5 * quadratic, lam, self.y.copy()
        return lam

    def slack(self) -> tuple[Vector, Vector]:
        """The best point and, per code, how far its reduced slope is above its group's least; inf where unused."""
        assert self.best_y is not None
        H, S = np.zeros_like(self.a.loss), np.zeros(int(self.a.sums[-1]))
        gradient(self.a, self.best_y, H, S)
        h = np.full_like(self.a.loss, np.inf)
        slopes(self.a, H, S, h)
        kept = np.isfinite(self.a.loss)
        h[kept] += self.lam * self.a.cost[kept]
        spread = np.where(kept, h - h.min(axis=1, keepdims=True), np.inf)
        return self.best_y, np.maximum(spread, np.finfo(np.float64).tiny)

    def run(self, rounds: int, sweeps: int, precision: float) -> None:
        """Bisection on λ between a point that overspends and one that does not, each warm from the last."""
        H, S = np.zeros_like(self.a.loss), np.zeros(int(self.a.sums[-1]))
        gradient(self.a, self.y, H, S)
        lam = self.evaluate(H, S)
        low, high = 0.0, np.inf
        for _ in range(rounds):
            tolerance = precision * max(abs(self.bound), 1e-300)
            taken = relax(self.a, self.y, H, S, lam, sweeps, tolerance)
            before = self.bound
            proposed = self.evaluate(H, S)
            if taken > self.limit:
                low = max(low, lam)
            else:
                high = min(high, lam)
            if (lam == 0 and taken <= self.limit) or (
                high - low <= 1e-3 * high and self.bound - before <= tolerance
            ):
                break
            # The dual's own λ where it lies inside the bracket, else the middle.
            inside = low < proposed < high and abs(proposed - lam) > 1e-6 * lam
            lam = proposed if inside else (2 * low + 1e-300 if np.isinf(high) else 0.5 * (low + high))
        assert self.best_y is not None
        self.y = self.best_y


def lower_bound(selection: Selection, *, effort: float = 1.0) -> Certificate:
    """A valid lower bound on the energy of every feasible choice.

    Without couplings it is the exact Lagrangian dual. With them, the convex relaxation above; the shift M starts as
    the groups' own Gram blocks and is tightened by a barrier method within `effort`.

    Args:
        selection: the problem.
        effort: multiplies the arithmetic spent on tightening M (1 is about a second on 250 groups × 20 codes in
            layers of up to 64 groups); 0 keeps the plain shift. The result depends on nothing but the arguments.

    >>> selection = Selection(loss=[[4.0, 1.0], [3.0, 2.0]], cost=[[0.0, 2.0], [0.0, 2.0]], budget=2.0)
    >>> round(lower_bound(selection).bound, 9)
    4.0
    """
    started = time.perf_counter()
    layout = lay_out(selection)
    kept = np.isfinite(layout.arrays.loss)
    y = np.where(kept, 1.0, 0.0)
    y /= y.sum(axis=1, keepdims=True)
    shifted = convexify(selection, layout)
    search = _Search(shifted.arrays, layout.limit, y)
    if selection.blocks:
        search.run(rounds=40, sweeps=200, precision=1e-4)
        if effort > 0:
            shifted, search = _tightened(shifted, search, effort)
    else:
        search.evaluate(np.zeros_like(y), np.zeros(0))
    assert search.best_y is not None
    bound = _rigorous(shifted.arrays, search.best_y, search.lam, layout.limit)
    point = np.zeros(selection.loss.shape)
    np.put_along_axis(point, layout.code, np.where(kept, search.best_y, 0.0), axis=1)
    return Certificate(
        bound=bound * layout.scale,
        multiplier=search.lam * layout.scale,
        point=point,
        method="convex relaxation" if selection.blocks else "lagrangian dual",
        seconds=time.perf_counter() - started,
        selection=selection,
    )


def _tightened(shifted: Shifted, search: _Search, effort: float) -> tuple[Shifted, _Search]:
    """The best form met while M is tightened; a number of rounds that depends on the sizes alone."""
    best = (shifted, search)
    x, slack = search.slack()
    tightening = Tightening(shifted, x, slack)
    rounds = int(effort * min(ROUNDS, WORK / max(tightening.work, 1.0)))
    for _ in range(rounds):
        try:
            proposed = tightening.propose()
        except np.linalg.LinAlgError:
            break
        for step in (1.0, 0.25):
            form = tightening.form(proposed, step)
            trial = _Search(form.arrays, search.limit, best[1].y.copy(), lam=best[1].lam)
            trial.run(rounds=3, sweeps=25, precision=3e-4)
            if trial.bound > best[1].bound:
                best = (form, trial)
                tightening.accept(proposed, step)
                break
        tightening.observe(*trial.slack())
    if best[1] is not search:
        best[1].run(rounds=8, sweeps=100, precision=3e-5)
    return best


def _rigorous(a: Arrays, y: Vector, lam: float, limit: float) -> float:
    """The bound at (y, λ) with every float64 rounding error subtracted, entry by entry.

    A sum of n products errs by at most n·eps·Σ|terms| (Higham, Accuracy and Stability, §3.1); n counts the block's
    entries, the groups and a few scalar steps.
    """
    H, S = np.zeros_like(a.loss), np.zeros(int(a.sums[-1]))
    gradient(a, y, H, S)
    h = np.full_like(a.loss, np.inf)
    slopes(a, H, S, h)
    size = np.zeros_like(a.loss)
    magnitude = a._replace(data=np.abs(a.data), loss=np.where(np.isfinite(a.loss), 0.0, np.inf))
    gradient(magnitude, y, H, S)
    slopes(magnitude, H, S, size)
    kept = np.isfinite(a.loss)
    largest = int(np.diff(a.start).max(initial=0)) * a.loss.shape[1] + int(a.width.max(initial=0))
    error = (largest + 16) * EPS * (np.abs(a.loss) + lam * a.cost + size)
    low = np.where(kept, h + lam * a.cost - error, np.inf).min(axis=1)
    weighted = y[kept]
    quadratic = 0.5 * float(weighted @ (h[kept] - a.loss[kept]))
    doubt = (largest + a.count.size + 16) * EPS * float(weighted @ (size[kept] + np.abs(a.loss[kept])))
    sums = (a.count.size + 16) * EPS * (float(np.abs(low).sum()) + lam * limit + abs(quadratic))
    return float(low.sum()) - lam * limit - quadratic - doubt - sums


def best_start(layout: Layout, certificate: Certificate) -> NDArray[np.int64]:
    """The relaxed solution rounded: each group's code of largest share, among usable codes (G,)."""
    share = np.take_along_axis(certificate.point, layout.code, axis=1)
    return np.where(np.isfinite(layout.arrays.loss), share, -1.0).argmax(axis=1)
