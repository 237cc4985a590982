"""A selection as arrays for kernels: only usable codes, couplings in one flat array, energies scaled to order 1."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qubo.selection import GRAM_ENTRIES, Block, Selection
from qubo.setups import least_with


class Arrays(NamedTuple):
    """What the kernels read. C is the largest number of usable codes of a group.

    A block's couplings are a dense Gram matrix (width 0), rows g·C + k, or factors of that width.
    """

    loss: NDArray[np.float64]  # (G, C), scaled; unused places +inf
    cost: NDArray[np.float64]  # (G, C), unused places 0
    codes: NDArray[np.int64]  # (G,) usable codes
    block: NDArray[np.int64]  # (G,) block of the group, or -1
    place: NDArray[np.int64]  # (G,) place of the group in its block
    members: NDArray[np.int64]  # groups, block after block
    start: NDArray[np.int64]  # (B + 1,) where a block's members begin
    width: NDArray[np.int64]  # (B,) 0 for a Gram matrix, else D
    offset: NDArray[np.int64]  # (B,) where a block's couplings begin in data
    sums: NDArray[np.int64]  # (B + 1,) where a factor block's running sum begins
    data: NDArray[np.float64]  # couplings, flat


_tuple: Any = namedtuple  # mypy would have its fields spelt out
SetupArrays = _tuple("SetupArrays", (*Arrays._fields, "slot", "setup", "least"))
"""`Arrays`, and where there are setups `slot`, `setup` and `least` of `Layout`, in the unit of the costs. Kernels are
compiled for either."""


def fields(a: Arrays) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Allocate what the kernels keep current: F (G, C), and S for running sums of factor blocks and users of setups."""
    return np.zeros_like(a.loss), np.zeros(int(a.sums[-1]) + len(getattr(a, "setup", ())))


@dataclass(frozen=True)
class Layout:
    """The arrays of a selection, and the conversion of choices between both.

    Attributes:
        arrays: the kernels' view.
        code: (G, C) the menu's index of each usable code.
        scale: energies in `arrays` are the selection's divided by this power of two.
        cells: costs in `arrays` are the selection's divided by this power of two.
        limit: the largest feasible total cost, divided by `cells`.
        slot: (G, C) number of the setup that a code needs, or −1.
        setup: (N,) what each setup that is not free takes, divided by `cells`.
        least: (G,) the usable codes that together take the fewest cells.
    """

    arrays: Arrays
    code: NDArray[np.int64]
    scale: float
    cells: float
    limit: float
    slot: NDArray[np.int64]
    setup: NDArray[np.float64]
    least: NDArray[np.int64]

    @property
    def price(self) -> float:
        """The selection's λ per unit of λ in `arrays`."""
        return self.scale / self.cells

    def decode(self, inner: NDArray[np.int64]) -> NDArray[np.int64]:
        """Menu indices (G,) of a choice among usable codes (G,)."""
        return np.asarray(self.code[np.arange(inner.size), inner])

    def encode(self, choice: NDArray[np.int64]) -> NDArray[np.int64]:
        """Usable-code indices (G,) of a choice of menu indices; an unusable code becomes that of `cheapest`."""
        match = (self.code == choice[:, None]) & self.kept()
        return np.where(match.any(axis=1), match.argmax(axis=1), self.cheapest())

    def begun(self, x: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(..., N), True where a setup is used by choices (..., G) among usable codes."""
        slots = self.slot[np.arange(x.shape[-1]), x]
        return np.asarray((slots[..., None] == np.arange(self.setup.size)).any(axis=-2))

    def beginning(self, x: NDArray[np.int64]) -> NDArray[np.float64]:
        """(G, C) cells of the setup that a group begins by taking a code, if no other group uses it in x."""
        users = np.bincount(self.slot[np.arange(x.size), x] + 1, minlength=self.setup.size + 1)
        own = np.arange(self.slot.shape[1]) == x[:, None]
        return np.where(users[self.slot + 1] == own, np.append(self.setup, 0.0)[self.slot], 0.0)

    def kept(self) -> NDArray[np.bool_]:
        """(G, C), True where a place holds a usable code."""
        return np.isfinite(self.arrays.loss)

    def cheapest(self) -> NDArray[np.int64]:
        """(G,) the usable codes that together take the fewest cells; without setups each group's cheapest."""
        return self.least.copy()


def usable(selection: Selection) -> NDArray[np.bool_]:
    """(G, K) codes that some feasible choice uses: offered, and within the budget if all else takes the fewest cells.

    >>> usable(Selection(loss=[[2.0, 1.0, 0.0]], cost=[[0.0, 1.0, 5.0]], budget=2.0)).tolist()
    [[True, True, False]]
    """
    cost = np.where(selection.offered, selection.cost, np.inf)
    least = cost.min(axis=1, keepdims=True)
    more = cost - least
    for setup in selection.setup:
        inside = setup.groups
        cells, chosen = cost[inside], selection.least_choice[inside]
        more[inside] = least_with(cells, setup.cost) - cells[np.arange(inside.size), chosen].sum() - setup.taken(chosen)
    # Both sides are sums of up to G rounded terms: keep what is within their rounding of the limit.
    slack = max(selection.limit - selection.smallest_cost, 0.0) + 1e-12 * selection.smallest_cost
    return np.asarray(more <= slack)


def lay_out(selection: Selection) -> Layout:
    """The kernels' view of a selection; O(size of the couplings), nothing over all variables squared."""
    mask = usable(selection)
    count = mask.sum(axis=1)
    width = int(count.max())
    # A stable sort on "not usable" puts usable codes first, in menu order.
    code = np.argsort(~mask, axis=1, kind="stable")[:, :width]
    rows = np.arange(selection.groups)[:, None]
    kept = np.arange(width)[None, :] < count[:, None]
    loss = np.where(kept, selection.loss[rows, code], np.inf)
    cost = np.where(kept, selection.cost[rows, code], 0.0)
    scale, cells = _scale(loss), _scale(cost)
    slot, setup = _slots(selection, mask)
    slot, setup = np.where(kept, slot[rows, code], -1), setup / cells
    least = (code == selection.least_choice[:, None]).argmax(axis=1)
    arrays = Arrays(
        loss=np.ascontiguousarray(loss / scale),
        cost=np.ascontiguousarray(cost / cells),
        codes=count.astype(np.int64),
        **_couplings(selection.blocks, kept, code, scale),
    )
    if setup.size:
        arrays = SetupArrays(*arrays, slot, setup, least)
    return Layout(arrays, code, scale, cells, selection.limit / cells, slot, setup, least)


def _slots(selection: Selection, mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(G, K) the setup each usable code needs, or −1, and the cells of each (N,)."""
    slot, found = np.full(mask.shape, -1), list[float]()
    for setup in selection.setup:
        inside = mask[setup.groups]
        for k in np.flatnonzero((setup.cost > 0) & inside.any(axis=0)):
            slot[setup.groups[inside[:, k]], k] = len(found)
            found.append(float(setup.cost[k]))
    return slot, np.array(found, dtype=np.float64)


def _scale(values: NDArray[np.float64]) -> float:
    """A power of two near the largest finite size, so that scaling is exact."""
    largest = float(np.abs(values[np.isfinite(values)]).max())
    return float(2.0 ** np.round(np.log2(largest))) if largest > 0 else 1.0


def _couplings(
    blocks: tuple[Block, ...], kept_codes: NDArray[np.bool_], code: NDArray[np.int64], scale: float
) -> dict[str, Any]:
    """The arrays of the blocks."""
    groups, width = code.shape
    block_of, place = np.full(groups, -1, dtype=np.int64), np.zeros(groups, dtype=np.int64)
    start, widths, offsets, sums = [0], [], [0], [0]
    data: list[NDArray[np.float64]] = []
    dense_total = sum((b.groups.size * width) ** 2 for b in blocks)
    for number, block in enumerate(blocks):
        m = block.groups.size
        block_of[block.groups], place[block.groups] = number, np.arange(m)
        start.append(start[-1] + m)
        part, inner = _block_data(block, code[block.groups], dense_total)
        kept = kept_codes[block.groups].reshape(-1)
        if inner:
            part = np.where(kept[:, None], part / np.sqrt(scale), 0.0)
        else:
            part = np.where(kept[:, None] & kept[None, :], part / scale, 0.0)
            for i in range(m):  # a group's own block is part of its loss
                part[i * width : (i + 1) * width, i * width : (i + 1) * width] = 0.0
        widths.append(inner)
        data.append(part.reshape(-1))
        offsets.append(offsets[-1] + part.size)
        sums.append(sums[-1] + inner)
    return {
        "block": block_of,
        "place": place,
        "members": np.concatenate([b.groups for b in blocks]) if blocks else np.zeros(0, dtype=np.int64),
        "start": np.array(start, dtype=np.int64),
        "width": np.array(widths, dtype=np.int64),
        "offset": np.array(offsets[:-1], dtype=np.int64),
        "sums": np.array(sums, dtype=np.int64),
        "data": np.concatenate(data) if data else np.zeros(0),
    }


def _block_data(block: Block, code: NDArray[np.int64], dense_total: int) -> tuple[NDArray[np.float64], int]:
    """Couplings of a block over its usable codes (m, C), and 0 for a Gram matrix or D for factors."""
    m, width = code.shape
    place = np.arange(m)[:, None]
    if block.gram is not None:
        index = (place * block.codes + code).reshape(-1)
        flat = block.gram.reshape(m * block.codes, -1)
        return flat[np.ix_(index, index)].astype(np.float64), 0
    assert block.factors is not None
    factors = block.factors[place, code].reshape(m * width, -1).astype(np.float64)
    inner = factors.shape[1]
    if inner == 0 or m * width <= inner or dense_total <= GRAM_ENTRIES:
        return factors @ factors.T, 0
    return factors, inner
