"""Setups shared out among groups: a selection without setups whose every choice takes no more cells.

Give group g the share s_gk ≥ 0 of the setup of code k in its set, Σ_g s_gk ≤ 1, and let cost'_gk be cost_gk plus s_gk
times the setup. Whatever groups use k, their shares add up to at most the whole, so a choice takes no more cells than
it truly does: every lower bound of that selection is one of the original. At the price λ the best shares are the dual
of the linear relaxation x_gk ≤ y_k (facility location; Erlenkotter 1978, doi 10.1287/opre.26.6.992): groups pay what
the code is worth to them. They are approached by exponentiated gradients (Kivinen and Warmuth 1997, doi
10.1006/inco.1996.2612): groups that choose a code at the present shares pay more of it, the others less.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qubo.bounds.banded import exact_dual, minima, tractable
from qubo.bounds.convex import Relaxed, gradient, relax
from qubo.bounds.convexify import convexify
from qubo.search.arrays import Layout, lay_out, usable
from qubo.selection import Selection

Vector = NDArray[np.float64]
Indices = NDArray[np.int64]
EPS = float(np.finfo(np.float64).eps)

STEPS = 10
"""Steps of the shares at each price (our choice, measured)."""
EXACT_ROUNDS, CONVEX_ROUNDS, FEW_ROUNDS = 24, 8, 4
"""Prices, where blocks are minimised exactly, where they are relaxed, and there at effort 0 (our choice, measured)."""
FIRST, LAST = 1.0, 0.05
"""Sizes of the steps: factors e^size on the share of a group that chooses a code (our choice, measured)."""
SWEEPS = 20
"""Sweeps of the convex relaxation at a new price, and less than a tenth as many after a step (our choice)."""


@dataclass(frozen=True)
class _Setups:
    """Setups over the groups and the codes of a layout.

    Attributes:
        slot: (G, C) number of the set and code, or −1 where nothing is set up.
        cells: (G, C) of the setup, in the layout's unit.
        users: (N,) groups of each slot.
    """

    slot: Indices
    cells: Vector
    users: Indices

    @classmethod
    def of(cls, selection: Selection, layout: Layout) -> _Setups:
        """The setups that are not free."""
        slot, cells = np.full(selection.loss.shape, -1), np.zeros(selection.loss.shape)
        for s, setup in enumerate(selection.setup):
            paid = np.isfinite(selection.loss[setup.groups]) & (setup.cost > 0)
            slot[setup.groups] = np.where(paid, s * selection.codes + np.arange(selection.codes), -1)
            cells[setup.groups] = np.where(paid, setup.cost, 0.0)
        slot, cells = (np.take_along_axis(part, layout.code, axis=1) for part in (slot, cells))
        slot[~layout.kept()] = -1
        users = np.bincount(slot[slot >= 0], minlength=len(selection.setup) * selection.codes)
        return cls(slot, np.where(slot >= 0, cells, 0.0) / layout.cells, users)

    def normalised(self, weights: Vector) -> Vector:
        """Shares (G, C) in proportion to weights; each slot's sum to at most one, whatever the rounding."""
        on = self.slot >= 0
        total = np.bincount(self.slot[on], weights=weights[on], minlength=self.users.size)
        share = np.zeros_like(weights)
        safe = 1 - (self.users + 4) * EPS
        share[on] = weights[on] * (safe / np.where(total > 0, total, 1.0))[self.slot[on]]
        return share


class _Exact:
    """What groups choose where every block can be minimised exactly."""

    def __init__(self, layout: Layout, bands: Indices) -> None:
        self.a, self.bands, self.limit = layout.arrays, bands, layout.limit

    def price(self, cost: Vector) -> tuple[float, float]:
        """The Lagrangian dual's maximum at these costs, roughly, and its λ."""
        return exact_dual(self.a._replace(cost=cost), self.bands, self.limit, 1e-4)[:2]

    def chosen(self, cost: Vector, lam: float) -> Vector:
        """(G, C) ones at the choice of least energy + λ·cost."""
        return np.eye(self.a.loss.shape[1])[minima(self.a._replace(cost=cost), self.bands, lam).x]


class _Convex:
    """What groups choose in the convex relaxation."""

    def __init__(self, plain: Selection, layout: Layout) -> None:
        self.a, self.limit = convexify(plain, layout).arrays, layout.limit
        self.y = layout.kept() / layout.arrays.codes[:, None]
        self.H, self.S = np.zeros_like(self.a.loss), np.zeros(int(self.a.sums[-1]))

    def price(self, cost: Vector) -> tuple[float, float]:
        """The relaxation's bound at these costs, roughly, and its λ."""
        search = Relaxed(self.a._replace(cost=cost), self.limit, self.y)
        search.run(SWEEPS, 2e-3)
        self.y = search.y.copy()
        gradient(self.a, self.y, self.H, self.S)
        return search.bound, search.lam

    def chosen(self, cost: Vector, lam: float) -> Vector:
        """(G, C) the relaxed solution at λ, nearly."""
        relax(self.a._replace(cost=cost), self.y, self.H, self.S, lam, 1 + SWEEPS // 10, 0.0)
        return self.y


def _improved(groups: _Exact | _Convex, setups: _Setups, rounds: int) -> Vector:
    """Shares (G, C): equal ones, moved to those who choose; the best of all rounds."""
    share = best = setups.normalised((setups.slot >= 0).astype(np.float64))
    top = -np.inf
    for number in range(rounds + 1):
        bound, lam = groups.price(groups.a.cost + share * setups.cells)
        if bound > top:
            top, best = bound, share
        if number == rounds or lam == 0.0:
            break
        mean = np.zeros_like(share)
        for step in range(STEPS):
            size = FIRST * (LAST / FIRST) ** (step / (STEPS - 1))
            chosen = groups.chosen(groups.a.cost + share * setups.cells, lam)
            share = setups.normalised(share * np.exp(size * chosen))
            if step >= STEPS // 2:
                mean += share
        share = setups.normalised(mean)
    return best


def without_setups(selection: Selection, effort: float = 1.0) -> Selection:
    """A selection without setups whose every choice takes at most the cells it takes here, and nearly as many.

    Codes that no feasible choice uses are no longer offered.

    >>> from qubo.setups import Setup
    >>> books = Setup([0, 1], [0.0, 4.0])
    >>> selection = Selection(loss=[[3.0, 1.0]] * 2, cost=[[0.0, 1.0]] * 2, budget=7.0, setup=(books,))
    >>> without_setups(selection).cost.round(9).tolist()
    [[0.0, 3.0], [0.0, 3.0]]
    """
    offered = np.where(usable(selection), selection.loss, np.inf)
    plain = Selection(offered, selection.cost, selection.budget, selection.blocks)
    layout = lay_out(plain)
    bands = tractable(layout.arrays)
    setups = _Setups.of(selection, layout)
    if (bands >= 0).all():
        inner = _improved(_Exact(layout, bands), setups, EXACT_ROUNDS)
    else:
        inner = _improved(_Convex(plain, layout), setups, CONVEX_ROUNDS if effort > 0 else FEW_ROUNDS)
    share, cells = np.zeros(plain.loss.shape), np.zeros(plain.loss.shape)
    np.put_along_axis(share, layout.code, inner, axis=1)
    for setup in selection.setup:
        cells[setup.groups] = np.where(np.isfinite(setup.cost), setup.cost, 0.0)
    # Rounded down twice: no choice may take more than it truly does.
    cost = np.nextafter(selection.cost + np.nextafter(share * cells, 0.0), 0.0)
    cost = np.maximum(selection.cost, cost)
    least = float(np.where(plain.offered, cost, np.inf).min(axis=1).sum())
    return replace(plain, cost=cost, budget=max(selection.budget, least))
