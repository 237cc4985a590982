"""The selection problem: one code per group, least expected loss, within a budget of cells.

    minimise  Σ_g loss[g, k_g]  +  Σ_blocks Σ_{g<h} a_{g,k_g}·a_{h,k_h}
    subject to   Σ_g cost[g, k_g]  +  Σ_setups Σ_{k used by one of its groups} setup[k]   ≤ budget

A multiple-choice knapsack with couplings inside blocks of groups. The own term ½‖a_gk‖² of a group is part of
`loss`, so the couplings can be shrunk without changing the loss of each group alone. A setup is what a code takes
once in a set of groups, whatever the number of them that use it; the sets need not be the blocks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qubo.checks import as_array, frozen, indices, is_number, real, shown
from qubo.setups import Setup, least_choice

GRAM_ENTRIES = 2**25
"""Gram blocks are laid out dense up to this many entries in all (256 MB), as moves are then read faster; beyond, each
block keeps its factors where they are smaller (our choice)."""
BUDGET_TOLERANCE = 1e-12
"""A budget counts as met to one part in 1e12: costs are sums of floats (our choice)."""
SYMMETRY_TOLERANCE = 1e-4
"""Largest accepted asymmetry of a Gram matrix, relative to its largest entry: float32 sums (our choice)."""


@dataclass(frozen=True, eq=False)
class Block:
    """Couplings among a few groups, as factors or as their Gram matrix (exactly one of the two).

    The pair energy of a choice is Σ_{g<h} a_{g,k_g}·a_{h,k_h} = ½(‖Σ_g a_{g,k_g}‖² − Σ_g ‖a_{g,k_g}‖²).

    Attributes:
        groups: (m,) int64, the groups coupled, each once.
        factors: (m, K, D) float32 or float64, the row vectors a_gk, in the square root of the loss's unit.
        gram: (m, K, m, K) float32 or float64, symmetric, positive semidefinite up to rounding.

    Raises:
        ValueError: wrong shapes, repeated groups, entries not finite, a Gram matrix that is not symmetric.

    >>> block = Block.from_factors([0, 1], [[[1.0], [2.0]], [[-1.0], [0.5]]])
    >>> block.pair_energy([1, 0])
    -2.0
    >>> block.scaled(0.25).pair_energy([1, 0])
    -0.5
    """

    groups: NDArray[np.int64]
    factors: NDArray[Any] | None = None
    gram: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        groups = indices("block.groups", self.groups)
        if (self.factors is None) == (self.gram is None):
            raise ValueError("a block holds either factors or gram, got both or none: pass exactly one")
        object.__setattr__(self, "groups", frozen(groups))
        if self.factors is not None:
            object.__setattr__(self, "factors", frozen(self._checked_factors(self.factors)))
        else:
            assert self.gram is not None
            object.__setattr__(self, "gram", frozen(self._checked_gram(self.gram)))

    def _checked_factors(self, factors: ArrayLike) -> NDArray[Any]:
        array = real("block.factors", factors, like_float32=True)
        if array.ndim != 3 or array.shape[0] != self.groups.size or array.shape[1] == 0:
            raise ValueError(
                f"block.factors must have shape (m, K, D) with m = {self.groups.size} groups, "
                f"got {array.shape}: stack one (K, D) matrix per group"
            )
        if not np.isfinite(array).all():
            raise ValueError("block.factors must be finite, got NaN or infinity: check the columns' source")
        return array

    def _checked_gram(self, gram: ArrayLike) -> NDArray[Any]:
        array = real("block.gram", gram, like_float32=True)
        m = self.groups.size
        if array.ndim != 4 or array.shape[0] != m or array.shape[2:] != array.shape[:2] or array.shape[1] == 0:
            raise ValueError(
                f"block.gram must have shape (m, K, m, K) with m = {m} groups, got {array.shape}: "
                "pass gram[g, k, h, l] = a_gk·a_hl"
            )
        flat = array.reshape(m * array.shape[1], -1)
        largest = float(np.abs(flat).max())
        if not np.isfinite(largest):
            raise ValueError("block.gram must be finite, got NaN or infinity: check the columns' source")
        skew = float(np.abs(flat - flat.T).max())
        if skew > SYMMETRY_TOLERANCE * largest:
            raise ValueError(
                f"block.gram must be symmetric, got entries that differ by {skew:.3g}: "
                "pass gram[g, k, h, l] == gram[h, l, g, k]"
            )
        if skew > 0:
            # One value per pair: the energy must not depend on which triangle a solver reads.
            array = ((flat + flat.T) * flat.dtype.type(0.5)).reshape(array.shape)
        return array

    @classmethod
    def from_factors(cls, groups: ArrayLike, factors: ArrayLike) -> Block:
        """A block from row vectors a_gk, factors (m, K, D)."""
        return cls(groups=as_array("block.groups", groups), factors=as_array("block.factors", factors))

    @classmethod
    def from_gram(cls, groups: ArrayLike, gram: ArrayLike) -> Block:
        """A block from inner products, gram (m, K, m, K)."""
        return cls(groups=as_array("block.groups", groups), gram=as_array("block.gram", gram))

    @property
    def codes(self) -> int:
        """Number of codes K."""
        held = self.gram if self.factors is None else self.factors
        assert held is not None
        return int(held.shape[1])

    def matrix(self) -> NDArray[np.float64]:
        """The Gram matrix as (m·K, m·K) float64; row g·K + k is code k of the block's g-th group."""
        size = self.groups.size * self.codes
        if self.gram is not None:
            return np.asarray(self.gram.reshape(size, size), dtype=np.float64)
        assert self.factors is not None
        flat = self.factors.reshape(size, -1).astype(np.float64)
        return np.asarray(flat @ flat.T)

    def pair_energy(self, codes: ArrayLike) -> float:
        """Pair energy of the block's own groups choosing `codes` (m,)."""
        chosen = np.asarray(codes, dtype=np.int64)
        place = np.arange(self.groups.size)
        if self.factors is not None:
            rows = self.factors[place, chosen].astype(np.float64)
            total = rows.sum(axis=0)
            return float(0.5 * (total @ total - np.einsum("gd,gd->", rows, rows)))
        assert self.gram is not None
        part = self.gram[place, chosen][:, place, chosen].astype(np.float64)
        return float(0.5 * (part.sum() - np.trace(part)))

    def scaled(self, rho: float) -> Block:
        """The block with its pair energy multiplied by rho >= 0."""
        if not is_number(rho) or not 0 <= rho < np.inf:
            raise ValueError(f"rho must be at least 0, got {shown(rho)}: pass a shrinkage between 0 and 1")
        if self.factors is not None:
            return Block(groups=self.groups, factors=self.factors * self.factors.dtype.type(np.sqrt(rho)))
        assert self.gram is not None
        return Block(groups=self.groups, gram=self.gram * self.gram.dtype.type(rho))


@dataclass(frozen=True, eq=False)
class Selection:
    """A selection problem: one code per group, with the least energy within a budget.

    Attributes:
        loss: (G, K) float64, loss of group g with code k alone, with its own term ½‖a_gk‖²;
            +inf marks a code not offered to that group.
        cost: (G, K) float64, cells taken, at least 0.
        budget: cells that may be taken in all; met to one part in 1e12 (`BUDGET_TOLERANCE`).
        blocks: couplings; a group is in at most one block.
        setup: cells that codes take once in a set of groups; a group is in at most one set.

    Raises:
        ValueError: with one line naming what is wrong; an infeasible budget names the smallest feasible one.

    >>> selection = Selection(loss=[[4.0, 1.0], [3.0, 2.0]], cost=[[0.0, 2.0], [0.0, 2.0]], budget=2.0)
    >>> selection.energy([1, 0]), selection.total_cost([1, 0]), selection.feasible([1, 1])
    (4.0, 2.0, False)
    """

    loss: NDArray[np.float64]
    cost: NDArray[np.float64]
    budget: float
    blocks: tuple[Block, ...] = ()
    setup: tuple[Setup, ...] = ()

    def __post_init__(self) -> None:
        loss, cost = real("loss", self.loss), real("cost", self.cost)
        if loss.ndim != 2 or 0 in loss.shape:
            raise ValueError(f"loss must be a table of groups × codes, got shape {loss.shape}: pass (G, K)")
        if cost.shape != loss.shape:
            raise ValueError(f"cost must have the shape of loss {loss.shape}, got {cost.shape}: pass (G, K)")
        wrong = np.argwhere(np.isnan(loss) | np.isneginf(loss))
        if wrong.size:
            g, k = wrong[0]
            raise ValueError(f"loss[{g}, {k}] is {loss[g, k]}: pass a number, or +inf for a code not offered")
        wrong = np.argwhere(~np.isfinite(cost) | (cost < 0))
        if wrong.size:
            g, k = wrong[0]
            raise ValueError(f"cost[{g}, {k}] is {cost[g, k]}: pass cells, finite and at least 0")
        empty = np.flatnonzero(np.isinf(loss).all(axis=1))
        if empty.size:
            raise ValueError(f"group {empty[0]} has no code with a finite loss: offer it at least one")
        object.__setattr__(self, "loss", frozen(loss))
        object.__setattr__(self, "cost", frozen(cost))
        object.__setattr__(self, "setup", _parts("setup", self.setup, Setup))
        self._check_setups()
        self._check_budget()
        object.__setattr__(self, "blocks", _parts("blocks", self.blocks, Block))
        self._check_blocks()

    def _check_budget(self) -> None:
        given: Any = self.budget
        if isinstance(given, np.ndarray) and given.ndim == 0:
            given = given.item()
        if not is_number(given):
            raise ValueError(f"budget must be a number, got {shown(given)}: pass the cells that may be taken")
        budget = float(given)
        if np.isnan(budget):
            raise ValueError("budget is nan: pass the number of cells that may be taken")
        object.__setattr__(self, "budget", budget)
        if self.smallest_cost > self.limit:
            least = "the cheapest choice with its setups" if self.setup else "the cheapest code of every group"
            raise ValueError(
                f"budget {budget:g} cells is infeasible: {least} takes "
                f"{self.smallest_cost!r} cells; raise the budget to at least that"
            )

    def _check_setups(self) -> None:
        seen = np.zeros(self.groups, dtype=bool)
        for number, setup in enumerate(self.setup):
            if setup.cost.size != self.codes:
                raise ValueError(
                    f"setup {number} has {setup.cost.size} codes where the selection has {self.codes}: "
                    "pass the cells of each code of the menu"
                )
            self._check_members(f"setup {number}", "setup", setup.groups, seen)
            wrong = np.argwhere(np.isinf(setup.cost) & np.isfinite(self.loss[setup.groups]))
            if wrong.size:
                g, k = int(setup.groups[wrong[0, 0]]), wrong[0, 1]
                raise ValueError(
                    f"setup {number} takes inf cells for code {k}, which group {g} is offered: "
                    "pass finite cells, or a loss of +inf"
                )

    def _check_members(self, name: str, kind: str, groups: NDArray[np.int64], seen: NDArray[np.bool_]) -> None:
        """Groups must exist and be in no block, or setup, `seen` before."""
        if groups.min() < 0 or groups.max() >= self.groups:
            raise ValueError(
                f"{name} names groups {groups.min()}..{groups.max()}, "
                f"the selection has 0..{self.groups - 1}: renumber the {kind}'s groups"
            )
        if seen[groups].any():
            raise ValueError(f"group {groups[seen[groups]][0]} is in two {kind}s: merge the {kind}s into one")
        seen[groups] = True

    def _check_blocks(self) -> None:
        seen = np.zeros(self.groups, dtype=bool)
        for number, block in enumerate(self.blocks):
            if block.codes != self.codes:
                raise ValueError(
                    f"block {number} has {block.codes} codes where the selection has {self.codes}: "
                    "build the block over the same menu"
                )
            self._check_members(f"block {number}", "block", block.groups, seen)

    @property
    def groups(self) -> int:
        """Number of groups G."""
        return int(self.loss.shape[0])

    @property
    def codes(self) -> int:
        """Number of codes K on the menu."""
        return int(self.loss.shape[1])

    @property
    def offered(self) -> NDArray[np.bool_]:
        """(G, K), True where a code is offered to a group."""
        return np.isfinite(self.loss)

    @property
    def smallest_cost(self) -> float:
        """The smallest feasible budget, in cells: that of `least_choice`."""
        if self.setup:
            return self.total_cost(self.least_choice)
        return float(np.where(np.isfinite(self.loss), self.cost, np.inf).min(axis=1).sum())

    @cached_property
    def least_choice(self) -> NDArray[np.int64]:
        """(G,) the choice that takes the fewest cells: every group's cheapest offered code, but for setups."""
        cost = np.where(self.offered, self.cost, np.inf)
        choice = cost.argmin(axis=1)
        for setup in self.setup:
            choice[setup.groups] = least_choice(cost[setup.groups], setup.cost)
        return frozen(choice)

    @property
    def limit(self) -> float:
        """The budget with its tolerance: the largest total cost that counts as feasible."""
        return self.budget * (1 + BUDGET_TOLERANCE)

    def _picked(self, choice: ArrayLike) -> NDArray[np.int64]:
        chosen = as_array("choice", choice)
        if chosen.shape != (self.groups,) or not np.issubdtype(chosen.dtype, np.integer):
            raise ValueError(
                f"choice must be {self.groups} integers, got shape {chosen.shape} dtype {chosen.dtype}: "
                "pass one code index per group"
            )
        if chosen.min() < 0 or chosen.max() >= self.codes:
            raise ValueError(
                f"choice must lie in 0..{self.codes - 1}, got {chosen.min()}..{chosen.max()}: "
                "pass indices into the menu"
            )
        return chosen.astype(np.int64, copy=False)

    def energy(self, choice: ArrayLike) -> float:
        """Energy of `choice` (G,): losses and pair energies; inf if a code is not offered."""
        chosen = self._picked(choice)
        linear = float(self.loss[np.arange(self.groups), chosen].sum())
        return linear + float(sum(block.pair_energy(chosen[block.groups]) for block in self.blocks))

    def total_cost(self, choice: ArrayLike) -> float:
        """Cells taken by `choice` (G,), setups included."""
        chosen = self._picked(choice)
        cells = float(self.cost[np.arange(self.groups), chosen].sum())
        return cells + sum(setup.taken(chosen[setup.groups]) for setup in self.setup)

    def feasible(self, choice: ArrayLike) -> bool:
        """Whether `choice` (G,) uses offered codes only and meets the budget."""
        chosen = self._picked(choice)
        offered = np.isfinite(self.loss[np.arange(self.groups), chosen]).all()
        return bool(offered and self.total_cost(chosen) <= self.limit)

    def with_budget(self, budget: float) -> Selection:
        """The same problem with another budget, in cells."""
        return replace(self, budget=budget)

    def with_couplings(self, rho: float) -> Selection:
        """The same problem with every pair energy multiplied by rho in [0, 1]; 0 drops the blocks."""
        if not is_number(rho) or not 0 <= rho <= 1:
            raise ValueError(f"rho must lie in 0..1, got {shown(rho)}: pass the share of the couplings to keep")
        blocks = tuple(block.scaled(rho) for block in self.blocks) if rho > 0 else ()
        return replace(self, blocks=blocks)

    def restrict(self, allowed: ArrayLike) -> Selection:
        """The same problem with only the `allowed` codes offered, bool (K,) or (G, K)."""
        mask = as_array("allowed", allowed)
        if mask.dtype != np.bool_ or mask.shape not in ((self.codes,), self.loss.shape):
            raise ValueError(
                f"allowed must be bool of shape ({self.codes},) or {self.loss.shape}, "
                f"got {mask.dtype} of {mask.shape}: pass one flag per code"
            )
        return replace(self, loss=np.where(mask, self.loss, np.inf))


def check_selection(value: Any) -> None:
    """Check that `value` is a selection.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(value, Selection):
        raise ValueError(f"selection must be a qubo.Selection, got {shown(value)}: make one of losses and costs")


def _parts(name: str, given: Any, kind: type[Any]) -> tuple[Any, ...]:
    """Check that `given` is a row of Blocks, or of Setups; returns it as a tuple.

    Raises:
        ValueError: it is not.
    """
    parts = tuple(given) if isinstance(given, Iterable) else (given,)
    wrong = [part for part in parts if not isinstance(part, kind)]
    if wrong or not isinstance(given, Iterable):
        told = shown(wrong[0] if wrong else given)
        raise ValueError(f"{name} must be a row of qubo.{kind.__name__}, got {told}: pass a tuple of them")
    return parts
