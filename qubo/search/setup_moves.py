"""Moves that begin or end a setup: all groups that should use the code, or have to leave it, at once.

A first user pays the whole setup and a last one gets it back, so that single moves seldom cross the barrier between.
Beginning lays the setup out as free and lets every group of its set that gains by it take the code; ending makes the
code dear and lets its users go to the best they have without: add and drop of facility location (Kuehn and Hamburger
1963, doi 10.1287/mnsc.9.4.643), at the price λ of a cell.
"""

from __future__ import annotations

import itertools
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from qubo.search.arrays import Layout, fields
from qubo.search.kernels import descend, fill, refresh, repair
from qubo.search.watch import Watch

Vector = NDArray[np.float64]
Indices = NDArray[np.int64]

DEAR = 1e6
"""Loss of a code whose setup ends, scaled: no other loss is near (energies are scaled to order 1; our choice)."""
ROUNDING = 1e-13
"""Less than this share of the energy is no gain."""
WORK = 5e6
"""Moves are tried until so many codes have been looked at (our choice: some seconds)."""


class SetupMoves:
    """The setups of a layout, as moves.

    Attributes:
        members: for each setup the groups that may use it.
        places: and their usable code that needs it.
        neighbours: pairs of setups that a group may exchange.
    """

    def __init__(self, layout: Layout) -> None:
        self.a, self.limit, self.setup = layout.arrays, layout.limit, layout.setup
        found = [np.nonzero(layout.slot == s) for s in range(layout.setup.size)]
        self.members, self.places = [g for g, _ in found], [k for _, k in found]
        self.neighbours = [
            (s, t)
            for s, t in itertools.permutations(range(layout.setup.size), 2)
            if np.isin(self.members[s], self.members[t]).any()
        ]
        self.most = int(WORK / layout.arrays.loss.size)
        self.F, self.S = fields(layout.arrays)

    def flip(self, x: Indices, s: int, lam: float) -> bool:
        """Begins setup s in x, or ends it, at the price λ; whether that could be done."""
        a, F, S = self.a, self.F, self.S
        refresh(a, x, F, S)
        if S[int(a.sums[-1]) + s] == 0:
            free = self.setup.copy()
            free[s] = 0.0
            descend(cast(Any, a)._replace(setup=free), x, F, S, self.members[s], lam, 2)
            return bool(S[int(a.sums[-1]) + s] > 0)
        loss = a.loss.copy()
        loss[self.members[s], self.places[s]] += DEAR
        users = self.members[s][x[self.members[s]] == self.places[s]]
        descend(a._replace(loss=loss), x, F, S, users, lam, 1)
        return bool(S[int(a.sums[-1]) + s] == 0)

    def descend(self, x: Indices, lam: float, watch: Watch) -> None:
        """Flips setups of x as long as that lowers energy + λ·cost, all groups at their best in between."""
        energy, cost = refresh(self.a, x, self.F, self.S)
        value, everyone = energy + lam * cost, np.arange(x.size)
        failed = 0
        for s in itertools.islice(itertools.cycle(range(self.setup.size)), self.most):
            y = x.copy()
            failed += 1
            if self.flip(y, s, lam):
                descend(self.a, y, self.F, self.S, everyone, lam, 1000)
                energy, cost = refresh(self.a, y, self.F, self.S)
                if energy + lam * cost < value - ROUNDING * abs(value):
                    x[:], value, failed = y, energy + lam * cost, 0
            if failed == self.setup.size or watch.stopped():
                break

    def anneal(self, x: Indices, lam: float, temperature: float, random: np.random.Generator) -> None:
        """Flips a setup drawn at random in a feasible x, repaired; kept by Metropolis' rule on energy + λ·cost."""
        a, F, S = self.a, self.F, self.S
        energy, cost = refresh(a, x, F, S)
        y = x.copy()
        if not self.flip(y, int(random.integers(self.setup.size)), lam):
            return
        repair(a, y, F, S, self.limit)
        now, taken = refresh(a, y, F, S)
        if now - energy + lam * (taken - cost) <= temperature * random.exponential() and taken <= self.limit:
            x[:] = y

    def improve(self, x: Indices, lam: float, watch: Watch) -> float:
        """Flips setups of a feasible x, one or one for another, as long as that lowers its energy; returns the energy.

        Every choice tried is repaired and filled.
        """
        energy = refresh(self.a, x, self.F, self.S)[0]
        moves = [*((s,) for s in range(self.setup.size)), *self.neighbours]
        failed = 0
        for setups in itertools.islice(itertools.cycle(moves), self.most):
            if failed == len(moves) or watch.stopped():
                break
            now = self._tried(x, energy, lam, setups)
            energy, failed = (now, 0) if now < energy else (energy, failed + 1)
        return float(energy)

    def _tried(self, x: Indices, energy: float, lam: float, setups: tuple[int, ...]) -> float:
        """Keeps in x what these flips lead to if that has less energy."""
        a, F, S = self.a, self.F, self.S
        y = x.copy()
        if not all([self.flip(y, s, lam) for s in setups]):
            return energy
        descend(a, y, F, S, np.arange(x.size), lam, 10)
        repair(a, y, F, S, self.limit)
        fill(a, y, F, S, self.limit)
        now, cost = refresh(a, y, F, S)
        if now < energy - ROUNDING * abs(energy) and cost <= self.limit:
            x[:], energy = y, now
        return float(energy)
