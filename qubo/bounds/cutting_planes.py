"""Estimates the price per cell at which the Lagrangian dual is largest, from good choices of every block.

For any price λ, Σ_b min_x (energy + λ cost) − λ budget is a lower bound, but exact minima take long. Choices found by
annealing bound each minimum from above. The λ that maximises this upper model is the one at which minima are then
bounded (Kelley's cutting planes in one dimension: every new λ adds one choice per block).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qubo.bounds.banded import minima
from qubo.bounds.convex import line_dual
from qubo.search.arrays import Arrays, Layout, fields
from qubo.search.block_totals import block_totals
from qubo.search.kernels import TABLE, anneal, descend, refresh

Vector = NDArray[np.float64]
Indices = NDArray[np.int64]

PRICES = 10
"""At most this many prices are tried (our choice: later ones move λ by less than the duality gap)."""
RESTARTS = 2
"""Annealing runs per price (our choice)."""
MOVES = 4e6
"""Moves proposed in all at effort 1 (our choice: about a second)."""
HOTTEST, COLDEST = 3.0, 0.02
"""Temperatures, in median gaps between a group's best and second code (our choice)."""


@dataclass(frozen=True)
class BestPrice:
    """The best price, and for each block the best choice known there.

    Attributes:
        lam: λ, scaled.
        x: (G,) choices among usable codes; for groups alone and narrow blocks exact minimisers.
        lower: Σ of the exact minima of groups alone and narrow blocks, with rounding subtracted.
    """

    lam: float
    x: Indices
    lower: float


def best_price(layout: Layout, bands: Indices, lam: float, start: Indices, effort: float) -> BestPrice:
    """Cutting planes from price `lam` and choice `start` (G,) of usable codes."""
    a = layout.arrays
    columns = _Columns(a)
    exactly = (a.block < 0) | (np.append(bands, 0)[a.block] >= 0)
    columns.add(start)
    x = start
    sweeps = int(np.clip(effort * MOVES / (PRICES * RESTARTS * a.codes.size), 10, 200))
    for number in range(PRICES):
        exact = minima(a, bands, lam).x
        for restart in range(RESTARTS):
            x = _annealed(a, lam, columns.best(lam) if restart else x, sweeps, 1 + RESTARTS * number + restart)
            columns.add(np.where(exactly, exact, x))
        proposed = columns.price(layout.limit)
        if number > 1 and abs(proposed - lam) <= 1e-3 * lam:
            break
        lam = proposed
    # The last proposal is the model's best price: everything is proven there.
    last = minima(a, bands, lam)
    return BestPrice(lam, np.where(exactly, last.x, columns.best(lam)), last.value)


class _Columns:
    """Choices found so far: energy and cost of each block in each."""

    def __init__(self, a: Arrays) -> None:
        self.a = a
        self.alone = np.flatnonzero(a.block < 0)
        self.energy: list[Vector] = []
        self.cost: list[Vector] = []
        self.choices: list[Indices] = []

    def add(self, x: Indices) -> None:
        """Add a choice (G,) of usable codes."""
        F, S = fields(self.a)
        energy, cost = np.zeros(self.a.width.size), np.zeros(self.a.width.size)
        refresh(self.a, x, F, S)
        block_totals(self.a, x, F, S, energy, cost)
        self.energy.append(energy)
        self.cost.append(cost)
        self.choices.append(x.copy())

    def best(self, lam: float) -> Indices:
        """Each block's best choice at λ."""
        pick = (np.array(self.energy) + lam * np.array(self.cost)).argmin(axis=0)
        x = self.choices[0].copy()
        inside = self.a.block >= 0
        groups = np.flatnonzero(inside)
        x[groups] = np.array(self.choices)[pick[self.a.block[groups]], groups]
        return x

    def price(self, limit: float) -> float:
        """The λ that maximises the model."""
        blocks, C = self.a.width.size, self.a.loss.shape[1]
        width = max(len(self.energy), C)
        energy, cost = np.full((blocks + self.alone.size, width), np.inf), np.zeros((blocks + self.alone.size, width))
        energy[:blocks, : len(self.energy)] = np.array(self.energy).T
        cost[:blocks, : len(self.energy)] = np.array(self.cost).T
        energy[blocks:, :C], cost[blocks:, :C] = self.a.loss[self.alone], self.a.cost[self.alone]
        count = np.concatenate([np.full(blocks, len(self.energy)), self.a.codes[self.alone]])
        return float(line_dual(energy, cost, count, limit)[1])


def _annealed(a: Arrays, lam: float, start: Indices, sweeps: int, seed: int) -> Indices:
    """A low choice under energy + λ·cost, without a budget."""
    priced = a._replace(loss=a.loss + lam * a.cost, cost=np.zeros_like(a.cost))
    unit = 1.0
    if a.loss.shape[1] > 1:
        least = np.partition(priced.loss, 1, axis=1)[:, :2]
        gaps = (least[:, 1] - least[:, 0])[np.isfinite(least[:, 1])]
        unit = float(np.median(gaps[gaps > 0])) if (gaps > 0).any() else 1.0
    at = np.arange(sweeps) / max(1, sweeps - 1)
    x, best_x = start.copy(), start.copy()
    F, S = fields(a)
    random = np.random.SeedSequence(seed).generate_state(2, np.uint64) | np.uint64(1)
    best = refresh(priced, x, F, S)[0]
    temperatures = unit * HOTTEST * (COLDEST / HOTTEST) ** at
    anneal(priced, x, best_x, F, S, random, TABLE, temperatures, 1 - at, 0.0, 0.0, 1.0, best, 0.4)
    refresh(priced, best_x, F, S)
    descend(priced, best_x, F, S, np.arange(best_x.size), 0.0, 100)
    return best_x
