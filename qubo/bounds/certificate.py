"""The lower bound of a selection, by the cheapest method that is tight for it.

- Blocks that are narrow bands, or none: the Lagrangian dual, every block minimised exactly (`qubo.bounds.banded`).
- Dense blocks at effort 0: a convex relaxation with the budget dualised. On one-hot vectors any symmetric M_g inside a
  group can be traded against linear terms, x_gᵀM_g x_g = diag(M_g)·x_g. With M making the pair form convex
  (`qubo.bounds.convexify`), f(x) = Σ (loss − ½ diag M)·x + ½ xᵀ(P + M)x equals the energy on every choice and is convex
  on the product of simplices. For any point y and any λ ≥ 0, by convexity,

      bound = f(y) − ∇f(y)·y + Σ_g min_k (∇f(y) + λ cost)_gk − λ budget

  holds for every feasible choice however inexact y is.
- Dense blocks with effort: at the best price λ (`qubo.bounds.cutting_planes`) every block's minimum is bounded on its
  own, by a semidefinite relaxation, dropping codes and branch and bound (`qubo.bounds.dense`).
- Setups are shared out among the groups that may use them (`qubo.bounds.setup_shares`): what is then bounded is a
  selection without setups whose choices take no more cells.

Every bound is evaluated with all rounding errors subtracted.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from qubo.bounds.banded import exact_dual, tractable
from qubo.bounds.convex import Relaxed, gradient, pair_slopes, relax
from qubo.bounds.convexify import convexify
from qubo.bounds.cutting_planes import best_price
from qubo.bounds.dense import LARGEST, prove
from qubo.bounds.setup_shares import without_setups
from qubo.checks import check_time_limit, is_number, shown
from qubo.search.arrays import Arrays, Layout, lay_out
from qubo.selection import Selection, check_selection

Vector = NDArray[np.float64]
Indices = NDArray[np.int64]
EPS = float(np.finfo(np.float64).eps)
SWEEP_WORK = 2e8
"""Multiply-adds of the relaxation at one λ: some tenths of a second (our choice)."""


@dataclass(frozen=True, eq=False)
class Certificate:
    """A proof that no feasible choice of a selection has less energy than `bound`.

    Attributes:
        bound: the lower bound, in the loss's unit.
        multiplier: λ at the bound: the loss that one more cell of budget would save.
        point: (G, K) the relaxed solution, rows summing to one; a start for rounding.
        method: "lagrangian dual" (every block minimised exactly), "convex relaxation" or "block by block"; with setups
            ", setups shared" follows.
        seconds: wall-clock time it took.
        selection: the problem it is about.
    """

    bound: float
    multiplier: float
    point: Vector
    method: str
    seconds: float
    selection: Selection


def lower_bound(selection: Selection, *, effort: float = 1.0, time_limit_s: float | None = None) -> Certificate:
    """Prove a lower bound on the energy of every feasible choice.

    Args:
        selection: the problem.
        effort: multiplies the arithmetic spent on dense blocks. 0 is the plain convex relaxation: 0.2 s on 250 groups
            × 16 codes in layers of up to 64 groups, to be called often. 1 takes some seconds there, 5 leaves 2 to 6 %
            open; blocks of 16 groups × 6 codes are closed at 1. Without a time limit the result depends on nothing but
            the arguments.
        time_limit_s: end the work on dense blocks after this time, looked at between rounds; so does an interrupt
            from the keyboard. What was proven until then holds.

    Raises:
        ValueError: no selection, an effort below 0, a time limit that is not positive.

    >>> selection = Selection(loss=[[4.0, 1.0], [3.0, 2.0]], cost=[[0.0, 2.0], [0.0, 2.0]], budget=2.0)
    >>> round(lower_bound(selection).bound, 9)
    4.0
    """
    check_selection(selection)
    if not is_number(effort) or not effort >= 0:
        raise ValueError(f"effort must be at least 0, got {shown(effort)}: pass 1 for the usual, 0 for the plain shift")
    if time_limit_s is not None:
        check_time_limit(time_limit_s)
    started = time.perf_counter()
    plain = selection
    if selection.setup:
        with threadpool_limits(limits=1, user_api="blas"):
            plain = without_setups(selection, effort)
    layout = lay_out(plain)
    deadline = None if time_limit_s is None else started + time_limit_s
    bands = tractable(layout.arrays)
    if (bands >= 0).all():
        bound, lam, x = exact_dual(layout.arrays, bands, layout.limit, 2e-6 if effort == 0 else 1e-9)
        share, method = np.eye(layout.arrays.loss.shape[1])[x], "lagrangian dual"
    else:
        # One thread of BLAS: on a busy machine several threads wait for each other for seconds. It also fixes the
        # order of sums, so that the bound does not depend on the load of the machine.
        with threadpool_limits(limits=1, user_api="blas"):
            bound, lam, share = _relaxed(plain, layout, bands, effort, deadline)
        method = "convex relaxation" if effort == 0 else "block by block"
    point = np.zeros(selection.loss.shape)
    np.put_along_axis(point, layout.code, np.where(layout.kept(), share, 0.0), axis=1)
    return Certificate(
        bound=bound * layout.scale,
        multiplier=lam * layout.price,
        point=point,
        method=f"{method}, setups shared" if selection.setup else method,
        seconds=time.perf_counter() - started,
        selection=selection,
    )


def _relaxed(
    selection: Selection, layout: Layout, bands: Indices, effort: float, deadline: float | None
) -> tuple[float, float, Vector]:
    """Bound, λ and relaxed solution (G, C), scaled: the convex relaxation's, then what is proven block by block."""
    plain = layout.arrays
    shifted = convexify(selection, layout).arrays
    search = Relaxed(shifted, layout.limit, layout.kept() / plain.codes[:, None])
    search.run(sweeps=_sweeps(plain), precision=2e-3)
    assert search.best_y is not None
    y, lam = search.best_y, search.lam
    bound = float(_rigorous(shifted, y, lam).sum()) - lam * layout.limit
    bound -= _rounding(plain.codes.size, abs(bound) + 2 * lam * layout.limit)
    if effort == 0:
        return bound, lam, y
    priced = best_price(layout, bands, lam, y.argmax(axis=1), effort)
    H, S = np.zeros_like(plain.loss), np.zeros(int(plain.sums[-1]))
    gradient(shifted, y, H, S)
    relax(shifted, y, H, S, priced.lam, _sweeps(plain), 1e-4 * abs(bound))
    lower = _rigorous(shifted, y, priced.lam)[: bands.size]
    rows = np.diff(plain.start) * plain.loss.shape[1]
    numbers = np.flatnonzero((bands < 0) & (rows <= LARGEST))
    lower[numbers] = prove(plain, numbers, priced.lam, priced.x, lower, effort, deadline)
    total = float(lower[bands < 0].sum()) + priced.lower - priced.lam * layout.limit
    total -= _rounding(plain.codes.size, abs(total) + 2 * priced.lam * layout.limit)
    if total <= bound:
        return bound, lam, y
    return total, priced.lam, np.eye(plain.loss.shape[1])[priced.x]


def _rounding(terms: int, size: float) -> float:
    """An upper bound on the rounding error of a sum of `terms` terms whose magnitudes add up to `size`."""
    return 4 * (terms + 16) * EPS * size


def _sweeps(a: Arrays) -> int:
    """Sweeps per λ: 40, or what `SWEEP_WORK` multiply-adds allow, at least 4."""
    members = np.diff(a.start)
    row = np.where(a.width > 0, a.width, members)
    visit = 4.0 * a.loss.shape[1] * float((members * row).sum())
    return int(np.clip(SWEEP_WORK / max(visit, 1.0), 4, 40))


def _rigorous(a: Arrays, y: Vector, lam: float) -> Vector:
    """Lower bounds (B + 1,) at (y, λ) of the minima of energy + λ·cost of each block and, last, of all groups alone.

    Every float64 rounding error is subtracted, entry by entry: a sum of n products errs by at most n·eps·Σ|terms|
    (Higham, Accuracy and Stability, §3.1); n counts the block's entries and a few scalar steps. Rows of y sum to one
    up to eps an entry, which leaves the subspace on which the form is convex by that much.
    """
    kept = np.isfinite(a.loss)
    loss = np.where(kept, a.loss, 0.0)
    y = y / y.sum(axis=1, keepdims=True)
    pairs = pair_slopes(a, y)
    absolute = a._replace(data=np.abs(a.data))
    size = pair_slopes(absolute, y)
    terms = int(np.diff(a.start).max(initial=0)) * a.loss.shape[1] + int(a.width.max(initial=0)) + 16
    error = terms * EPS * (np.abs(loss) + lam * a.cost + size)
    low = np.where(kept, loss + pairs + lam * a.cost - error, np.inf).min(axis=1)
    share = low - 0.5 * (y * pairs).sum(axis=1)
    share -= terms * EPS * ((y * size).sum(axis=1) + np.abs(low) + 0.5 * np.abs(y * pairs).sum(axis=1))
    share -= 4 * EPS * pair_slopes(absolute, kept.astype(np.float64)).max(axis=1)
    blocks = np.where(a.block < 0, a.width.size, a.block)
    total = np.bincount(blocks, weights=share, minlength=a.width.size + 1)
    sizes = np.bincount(blocks, weights=np.abs(share), minlength=a.width.size + 1)
    return np.asarray(total - (a.codes.size + 16) * EPS * sizes)


def best_start(layout: Layout, certificate: Certificate) -> NDArray[np.int64]:
    """The relaxed solution rounded: each group's code of largest share, among usable codes (G,)."""
    share = np.take_along_axis(certificate.point, layout.code, axis=1)
    return np.asarray(np.where(layout.kept(), share, -1.0).argmax(axis=1))
