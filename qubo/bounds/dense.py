"""Lower bounds on the minima of densely coupled blocks at a fixed price: relax, drop codes, branch.

Rounds alternate between steps of the doubly nonnegative relaxation (`qubo.bounds.semidefinite`), whose proposal is made
provably convex, and dropping codes that no minimiser uses. Blocks that are small enough are finished by branch and
bound.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from qubo.bounds.branch_and_bound import branch, dominated, settle, unary_parts
from qubo.bounds.convexify import safe_raise, tangent_form
from qubo.bounds.semidefinite import Lifted
from qubo.search.arrays import Arrays

Vector = NDArray[np.float64]
Indices = NDArray[np.int64]
EPS = float(np.finfo(np.float64).eps)

WORK = 1.5e11
"""Multiply-adds of the relaxation at effort 1: some seconds (our choice)."""
STEPS = 50
"""Steps of the relaxation between attempts to drop codes (our choice)."""
CLOSE = 1e-6
"""A block is done once this close to its best known value, relative to it (our choice)."""
NODE_WORK = 400.0
"""What a node of branch and bound takes, per code and group, in multiply-adds of the relaxation (measured)."""
SPELL, FEWEST = 4, 2
"""Rounds a block gets in one go, and the fewest worth starting with: the first seldom beats the plain bound."""
MOST_ROUNDS = 60
"""Rounds after which a block is left as it is (our choice)."""
BRANCHED = 250
"""Branch and bound is tried on blocks of at most this many codes in all (our choice)."""
LARGEST = 3000
"""Blocks of more codes in all keep their plain bound: a dense form would take too much memory and time."""


class DenseBlock:
    """One block at price λ: what is known about its minimum.

    Attributes:
        upper: value of the best choice known.
        lower: no choice of the block is below this.
    """

    def __init__(self, a: Arrays, number: int, lam: float, x: Indices, lower: float) -> None:
        members = a.members[a.start[number] : a.start[number + 1]]
        C, D = a.loss.shape[1], int(a.width[number])
        n = members.size * C
        if D == 0:
            pairs = a.data[a.offset[number] : a.offset[number] + n * n].reshape(n, n)
        else:
            rows = a.data[a.offset[number] : a.offset[number] + n * D].reshape(n, D)
            pairs = rows @ rows.T
        usable = np.isfinite(a.loss[members]).reshape(-1)
        linear = (a.loss[members] + lam * a.cost[members]).reshape(-1)
        self._take(linear[usable], pairs[np.ix_(usable, usable)], a.codes[members])
        self.best = self.starts[:-1] + x[members]
        size = self._size(np.zeros_like(self.pairs))
        self.margin = 4 * (usable.size + 64) * EPS * size
        self.upper = self._value(self.best)
        self.lower = min(lower, self.upper)
        self.rounds = 0
        self.lifted: Lifted | None = None
        self.form: tuple[Vector, Vector, Vector] | None = None
        alive = np.ones(self.linear.size, dtype=np.bool_)
        dominated(self.linear, self.pairs, self.starts, alive, self.margin)
        self._restrict(alive)

    def _take(self, linear: Vector, pairs: Vector, counts: Indices) -> None:
        self.linear, self.pairs, self.counts = linear, np.ascontiguousarray(pairs), counts.astype(np.int64)
        self.starts = np.concatenate([[0], np.cumsum(self.counts)]).astype(np.int64)
        group = np.repeat(np.arange(counts.size), counts)
        self.pairs[group[:, None] == group[None, :]] = 0.0

    def _size(self, form: Vector) -> float:
        """No sum of terms met in evaluating a bound is larger than this."""
        rows = np.abs(self.linear) + np.abs(self.pairs).sum(axis=1) + np.abs(form).sum(axis=1)
        return float(np.maximum.reduceat(rows, self.starts[:-1]).sum())

    def _value(self, codes: Indices) -> float:
        return float(self.linear[codes].sum() + 0.5 * self.pairs[np.ix_(codes, codes)].sum())

    @property
    def gap(self) -> float:
        """How far the bound is below the best value known."""
        return max(0.0, self.upper - self.lower)

    @property
    def closed(self) -> bool:
        """Whether the bound is as close to the best value as it has to be."""
        return self.gap <= 4 * max(CLOSE * abs(self.upper), self.margin)

    @property
    def work(self) -> float:
        """Multiply-adds of a round; the square is what small matrices take in calls (measured)."""
        n = float(self.linear.size)
        return STEPS * (n**3 + 500 * n**2)

    @property
    def small(self) -> bool:
        """Whether branch and bound is worth a try."""
        return self.form is not None and self.rounds >= 3 and self.linear.size <= BRANCHED

    def _restrict(self, alive: NDArray[np.bool_]) -> None:
        """Keep only the codes that are alive; those of the best choice always are."""
        alive[self.best] = True
        if alive.all():
            return
        group = np.repeat(np.arange(self.counts.size), self.counts)
        new = np.cumsum(alive) - 1
        self.best = new[self.best]
        self._take(
            self.linear[alive],
            self.pairs[np.ix_(alive, alive)],
            np.bincount(group[alive], minlength=self.counts.size),
        )
        if self.lifted is not None:
            self.lifted.keep(alive)
        if self.form is not None:
            form, parts, y = self.form
            self.form = (np.ascontiguousarray(form[np.ix_(alive, alive)]), parts[alive], y[alive])

    def round(self) -> None:
        """Do one round: steps of the relaxation, a bound from them, and dropping codes by the bound."""
        self.rounds += 1
        if self.linear.size == self.counts.size:
            self.lower = max(self.lower, self.upper - self.margin)  # every group is decided
            return
        if self.lifted is None:
            self.lifted = Lifted.of(self.linear, self.pairs, self.counts)
        form, y = self.lifted.run(STEPS)
        inner = tangent_form(form, self.starts[:-1], self.counts)
        form[np.diag_indices_from(form)] += safe_raise(inner, float(np.abs(np.diag(form)).sum()))
        margin = self.margin + 4 * (form.shape[0] + 64) * EPS * self._size(form)
        parts = np.zeros((self.linear.size, self.counts.size))
        unary_parts(self.pairs, form, self.starts, parts)
        lin, h = self.linear - 0.5 * np.diag(form) + parts.sum(axis=1), np.empty_like(self.linear)
        value = settle(lin, form, self.starts, y, h, 500, self.upper) - margin
        self.lower = min(self.upper, max(self.lower, value))
        least = np.minimum.reduceat(h, self.starts[:-1])
        alive = value + h - np.repeat(least, self.counts) <= self.upper + margin
        dominated(self.linear, self.pairs, self.starts, alive, self.margin)
        self.form = (form, parts, y)
        self._restrict(alive)

    def branch(self, nodes: int) -> None:
        """Branch and bound over at most `nodes` nodes, with the last convex form."""
        if self.form is None:
            return
        form, parts, y = self.form
        margin = self.margin + 4 * (form.shape[0] + 64) * EPS * self._size(form)
        best = self.best.copy()
        lower, upper, _ = branch(
            self.linear, self.pairs, form, parts, self.starts, y, best, margin, CLOSE * abs(self.upper), nodes
        )
        self.best, self.upper = best, min(self.upper, upper)
        self.lower = min(self.upper, max(self.lower, lower - margin))


def prove(
    a: Arrays, numbers: Indices, lam: float, x: Indices, plain: Vector, effort: float, deadline: float | None = None
) -> Vector:
    """Tighten the lower bounds `plain` on the minima of blocks at price λ, until they are closed or work is used up.

    Blocks with the largest gap per work come first. Work is counted, not timed, so that the result depends on nothing
    but the arguments, unless a `deadline` (time.perf_counter) or an interrupt from the keyboard cuts it short.
    """
    stopped = False

    def late() -> bool:
        return stopped or (deadline is not None and time.perf_counter() >= deadline)

    def spell(task: tuple[DenseBlock, int]) -> float:
        block, rounds = task
        spent = 0.0
        for _ in range(rounds):
            if block.closed or late():
                break
            spent += block.work
            block.round()
            if not block.closed and block.small:
                block.branch(int(block.work / (NODE_WORK * block.linear.size * block.counts.size)) + 1)
        return spent

    left = effort * WORK
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        blocks = list(pool.map(lambda number: DenseBlock(a, int(number), lam, x, float(plain[number])), numbers))
        try:
            while not late() and (tasks := _tasks(blocks, left)):
                left -= sum(pool.map(spell, tasks))
        except KeyboardInterrupt:
            stopped = True  # this makes the threads end
    return np.array([block.lower for block in blocks])


def _tasks(blocks: list[DenseBlock], left: float) -> list[tuple[DenseBlock, int]]:
    """Open blocks, largest gap per work first, with the rounds that the work left affords each."""
    tasks = []
    waiting = [block for block in blocks if not block.closed and block.rounds < MOST_ROUNDS]
    for block in sorted(waiting, key=lambda block: block.gap / block.work, reverse=True):
        rounds = min(SPELL, int(left / block.work))
        if rounds >= (1 if block.rounds else FEWEST):
            left -= rounds * block.work
            tasks.append((block, rounds))
    return tasks
