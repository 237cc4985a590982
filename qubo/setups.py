"""Setups: cells that a code takes once in a set of groups, however many of these groups use it.

A codebook or a probability table is stored once a layer. Which codes are then cheapest in a set is the uncapacitated
facility-location problem (codes are facilities, groups customers), solved exactly: by all subsets of the codes that can
matter where they are few, else by HiGHS.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qubo.checks import frozen, indices, real

Vector = NDArray[np.float64]

SUBSETS = 2**12
"""At most this many subsets of a set's codes are tried, beyond HiGHS decides (our choice)."""
ENTRIES = 2**21
"""At most this many subsets × groups are laid out at once (16 MB, our choice)."""


@dataclass(frozen=True, eq=False)
class Setup:
    """Cells that each code takes once in a set of groups (such as a layer) if at least one of them uses it.

    Attributes:
        groups: (n,) int64, the groups of the set, each once.
        cost: (K,) float64, cells of each code, at least 0; inf only for codes offered to none of the groups.

    Raises:
        ValueError: wrong shapes, repeated groups, cells that are negative or not numbers.

    >>> import qubo
    >>> books = Setup(groups=[0, 1], cost=[0.0, 5.0])  # code 1 needs a codebook of 5 cells
    >>> selection = qubo.Selection(loss=[[4.0, 1.0]] * 2, cost=[[0.0, 2.0]] * 2, budget=9.0, setup=(books,))
    >>> [selection.total_cost(choice) for choice in ([0, 0], [0, 1], [1, 1])]
    [0.0, 7.0, 9.0]
    """

    groups: NDArray[np.int64]
    cost: Vector

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", frozen(indices("setup.groups", self.groups)))
        cost = real("setup.cost", self.cost)
        if cost.ndim != 1 or cost.size == 0:
            raise ValueError(f"setup.cost must be one row of cells, got shape {cost.shape}: pass one number per code")
        wrong = np.flatnonzero(np.isnan(cost) | (cost < 0))
        if wrong.size:
            raise ValueError(f"setup.cost[{wrong[0]}] is {cost[wrong[0]]}: pass cells, at least 0")
        object.__setattr__(self, "cost", frozen(cost))

    def taken(self, codes: NDArray[np.int64]) -> float:
        """Cells that the set takes where its groups choose `codes` (n,)."""
        return float(self.cost[np.unique(codes)].sum())


@dataclass(frozen=True)
class _Subsets:
    """Every subset of the codes that can matter, all free codes in each.

    Attributes:
        codes: (p,) codes of the set that take cells and that no other code beats; bit i of a row's number is codes[i].
        price: (2^p,) cells of the codes in each subset.
        least: (2^p, n) cells of each group's cheapest code in it; inf where it has none.
    """

    codes: NDArray[np.int64]
    price: Vector
    least: Vector

    @classmethod
    def of(cls, cost: Vector, setup: Vector, codes: NDArray[np.int64]) -> _Subsets | None:
        """The table, or None where it would be too large."""
        if 2.0**codes.size > SUBSETS or 2.0**codes.size * cost.shape[0] > ENTRIES:
            return None
        price, least = np.zeros(1), np.where(setup == 0, cost, np.inf).min(axis=1, keepdims=True).T
        for k in codes:
            price = np.concatenate([price, price + setup[k]])
            least = np.concatenate([least, np.minimum(least, cost[:, k])])
        return cls(codes, price, least)

    def contains(self, k: int) -> NDArray[np.bool_]:
        """(2^p,) whether code k is in each subset."""
        bit = int(((self.codes == k) << np.arange(self.codes.size)).sum())
        return np.asarray(np.arange(self.price.size) & bit != 0)


def _worthwhile(cost: Vector, setup: Vector) -> NDArray[np.int64]:
    """Codes that take cells once, and that no other code beats both there and in every group."""
    offered = np.asarray(np.isfinite(cost).any(axis=0))
    kept: list[int] = []
    for k in np.lexsort((np.where(offered, cost.min(axis=0), np.inf), setup)):
        if not offered[k]:
            continue
        before = [*kept, *np.flatnonzero(offered & (setup == 0))]
        if setup[k] > 0 and not any((cost[:, j] <= cost[:, k]).all() for j in before):
            kept.append(int(k))
    return np.sort(np.array(kept, dtype=np.int64))


def least_choice(cost: Vector, setup: Vector) -> NDArray[np.int64]:
    """(n,) codes that together take the fewest cells, setups included.

    Args:
        cost: (n, K) cells of each group's codes, inf where not offered; each group is offered one.
        setup: (K,) cells of each code, once.
    """
    codes = _worthwhile(cost, setup)
    table = _Subsets.of(cost, setup, codes)
    if table is None:
        opened = _least_opened(cost, setup, codes)
    else:
        best = int((table.price + table.least.sum(axis=1)).argmin())
        opened = codes[(best >> np.arange(codes.size)) & 1 == 1]
    usable = setup == 0
    usable[opened] = True
    return np.asarray(np.where(usable, cost, np.inf).argmin(axis=1))


def _least_opened(cost: Vector, setup: Vector, codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The subset of `codes` by HiGHS: x_gk in 0..1 at most y_k, which is 0 or 1; x is whole wherever y is."""
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_array

    n, p = cost.shape[0], codes.size
    table = np.concatenate([cost[:, codes], np.where(setup == 0, cost, np.inf).min(axis=1)[:, None]], axis=1)
    x, on = np.arange(n * (p + 1)).reshape(n, p + 1), np.isfinite(table)
    sums = coo_array((np.ones(x.size), (np.repeat(np.arange(n), p + 1), x.ravel())), shape=(n, x.size + p))
    link = np.arange(n * p).reshape(n, p)
    below = coo_array(
        (
            np.repeat([1.0, -1.0], n * p),
            (np.tile(link.ravel(), 2), np.concatenate([x[:, :p].ravel(), np.tile(x.size + np.arange(p), n)])),
        ),
        shape=(n * p, x.size + p),
    )
    unit = float(table[on].max()) or 1.0
    found = milp(
        np.concatenate([np.where(on, table, 0.0).ravel(), setup[codes]]) / unit,
        integrality=np.repeat([0, 1], [x.size, p]),
        bounds=Bounds(0.0, np.concatenate([on.ravel().astype(np.float64), np.ones(p)])),
        constraints=[LinearConstraint(sums, 1.0, 1.0), LinearConstraint(below, -np.inf, 0.0)],
        options={"mip_rel_gap": 0.0},
    )
    return np.asarray(codes[found.x[x.size :] > 0.5])


def least_with(cost: Vector, setup: Vector) -> Vector:
    """(n, K) at most the fewest cells the set can take where a group uses a code, inf where not offered.

    It is exact where `least_choice` looks at all subsets.
    """
    out = np.full(cost.shape, np.inf)
    table = _Subsets.of(cost, setup, _worthwhile(cost, setup))
    if table is None:
        chosen = least_choice(cost, setup)
        cells = float(cost[np.arange(chosen.size), chosen].sum() + setup[np.unique(chosen)].sum())
        rest = cost.min(axis=1).sum() - cost.min(axis=1)[:, None]
        on = np.isfinite(cost)
        out[on] = np.maximum(cells, (cost + np.where(on.any(axis=0), setup, 0.0) + rest)[on])
        return out
    for k in np.flatnonzero(np.isfinite(cost).any(axis=0)):
        opened = table.price + np.where(table.contains(int(k)), 0.0, setup[k])
        least = np.minimum(table.least, cost[:, k])
        total = opened + least.sum(axis=1)
        complete = np.isfinite(total)
        others = (total[complete, None] - least[complete]).min(axis=0)
        out[:, k] = cost[:, k] + others
    return out
