"""A lower bound that no feasible choice can beat: the Lagrangian dual, or a convex relaxation with the budget dualised.

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
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from qubo.arrays import Arrays, Layout, lay_out
from qubo.convexity import Shifted, Tightening, convexify
from qubo.narrow import exact_dual, tractable
from qubo.relaxation import Relaxed, pair_slopes
from qubo.selection import Selection

Vector = NDArray[np.float64]
EPS = float(np.finfo(np.float64).eps)
ROUNDS = 12
"""At most this many rounds of tightening M (our choice: later ones gain little)."""
SWEEP_WORK = 2e8
"""Multiply-adds of the relaxation at one λ: some tenths of a second (our choice)."""
WORK = 8e9
"""Σ n³ over blocks and rounds of tightening: about a second (our choice)."""


@dataclass(frozen=True, eq=False)
class Certificate:
    """A proof that no feasible choice of a selection has less energy than `bound`.

    Attributes:
        bound: the lower bound, in the loss's unit.
        multiplier: λ at the bound: the loss one more cell of budget is worth.
        point: (G, K) the relaxed solution, rows summing to one; a start for rounding.
        method: "lagrangian dual" (blocks minimised exactly) or "convex relaxation".
        seconds: wall-clock time it took.
        selection: the problem it is about.
    """

    bound: float
    multiplier: float
    point: Vector
    method: str
    seconds: float
    selection: Selection


def lower_bound(selection: Selection, *, effort: float = 1.0) -> Certificate:
    """A valid lower bound on the energy of every feasible choice.

    Where every block can be minimised exactly (none, small ones, narrow bands) it is the exact Lagrangian dual. Else
    the convex relaxation above; the shift M starts as the groups' own Gram blocks and is tightened by a barrier method
    within `effort`.

    Args:
        selection: the problem.
        effort: multiplies the arithmetic spent on tightening M (1 is about a second on 250 groups × 20 codes in
            layers of up to 64 groups); 0 keeps the plain shift. The result depends on nothing but the arguments.

    Raises:
        ValueError: an effort below 0.

    >>> selection = Selection(loss=[[4.0, 1.0], [3.0, 2.0]], cost=[[0.0, 2.0], [0.0, 2.0]], budget=2.0)
    >>> round(lower_bound(selection).bound, 9)
    4.0
    """
    if not effort >= 0:
        raise ValueError(f"effort must be at least 0, got {effort}: pass 1 for the usual, 0 for the plain shift")
    started = time.perf_counter()
    layout = lay_out(selection)
    bands = tractable(layout.arrays)
    if bands is not None:
        bound, lam, x = exact_dual(layout.arrays, bands, layout.limit)
        share, method = np.eye(layout.arrays.loss.shape[1])[x], "lagrangian dual"
    else:
        # One thread of BLAS: on a busy machine its threads wait for one another for seconds, and sums then always
        # run in one order, so that the bound does not depend on the machine's load.
        with threadpool_limits(limits=1, user_api="blas"):
            bound, lam, share = _relaxed(selection, layout, effort)
        method = "convex relaxation"
    point = np.zeros(selection.loss.shape)
    np.put_along_axis(point, layout.code, np.where(layout.kept(), share, 0.0), axis=1)
    return Certificate(
        bound=bound * layout.scale,
        multiplier=lam * layout.price,
        point=point,
        method=method,
        seconds=time.perf_counter() - started,
        selection=selection,
    )


def _relaxed(selection: Selection, layout: Layout, effort: float) -> tuple[float, float, Vector]:
    """Bound, λ and relaxed solution (G, C) of the convex relaxation, scaled."""
    y = layout.kept() / layout.arrays.codes[:, None]
    shifted = convexify(selection, layout)
    search = Relaxed(shifted.arrays, layout.limit, y)
    search.run(rounds=30, sweeps=_sweeps(layout.arrays), precision=1e-4)
    if effort > 0:
        shifted, search = _tightened(shifted, search, effort)
    assert search.best_y is not None
    return _rigorous(shifted.arrays, search.best_y, search.lam, layout.limit), search.lam, search.best_y


def _sweeps(a: Arrays) -> int:
    """Sweeps per λ: 200, or what `SWEEP_WORK` multiply-adds allow, at least 10."""
    members = np.diff(a.start)
    row = np.where(a.width > 0, a.width, members)
    visit = 4.0 * a.loss.shape[1] * float((members * row).sum())
    return int(np.clip(SWEEP_WORK / max(visit, 1.0), 10, 200))


def _tightened(shifted: Shifted, search: Relaxed, effort: float) -> tuple[Shifted, Relaxed]:
    """The best form met while M is tightened; a number of rounds that depends on the sizes alone."""
    best = (shifted, search)
    x, slack = search.slack()
    tightening = Tightening(shifted, x, slack)
    if not tightening.mu > 0:
        return best  # the plain shift costs nothing here
    rounds = int(effort * min(ROUNDS, WORK / max(tightening.work, 1.0)))
    for _ in range(rounds):
        try:
            proposed = tightening.propose()
        except np.linalg.LinAlgError:
            break
        for step in (1.0, 0.25):
            form = tightening.form(proposed, step)
            trial = Relaxed(form.arrays, search.limit, best[1].y.copy(), lam=best[1].lam)
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
    entries, the groups and a few scalar steps. Rows of y sum to one up to eps an entry, which leaves the subspace on
    which the form is convex by that much.
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
    quadratic = 0.5 * float((y * pairs).sum())
    doubt = (terms + a.codes.size) * EPS * float((y * size).sum())
    doubt += (a.codes.size + 16) * EPS * (float(np.abs(low).sum()) + lam * limit + abs(quadratic))
    doubt += 4 * EPS * float(pair_slopes(absolute, kept.astype(np.float64)).max(axis=1).sum())
    return float(low.sum() - lam * limit - quadratic - doubt)


def best_start(layout: Layout, certificate: Certificate) -> NDArray[np.int64]:
    """The relaxed solution rounded: each group's code of largest share, among usable codes (G,)."""
    share = np.take_along_axis(certificate.point, layout.code, axis=1)
    return np.asarray(np.where(layout.kept(), share, -1.0).argmax(axis=1))
