"""`analog(mean,sensitive)`, `analog(cells,sensitive=share)`: more cells for the weights whose noise costs more.

Let h be the curvature of a weight, s² the variance of one cell, and r the number of its cells. The loss ½ Σ h s² / r
with R cells in total is least for r ∝ s √h. With whole cells, at least one each, it is optimal to give every further
cell to the weight that gains most, since the gains of one weight fall. (Sensitivity-driven protection as in Isik et al.
2023, doi 10.1145/3588436. That each group gets exactly R cells is our choice: its cost is then known beforehand.)

The numbers of cells are stored digitally, as a mask that marks the first cell of each of the W weights. The very first
cell is known, so the mask has W - 1 ones in R - 1 places and takes ⌈log2 C(R - 1, W - 1)⌉ bits. That may cost more
cells than it saves. With a share, therefore, this share of the weights has `cells` cells each, all others have one, and
a cheaper mask says which.
"""

from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from physcomp.codes.analog import Analog
from physcomp.codes.base import Bits, Code, Encoded, Medium, Rows
from physcomp.codes.masks import decode_mask, encode_mask, mask_bits

Number = TypeVar("Number", bound=np.generic)

MOST_CELLS = 16  # the most cells of one weight; our choice
GAINS_AT_ONCE = 1 << 21  # gains of further cells computed together, which limits memory to 32 MB; our choice


@dataclass(frozen=True)
class Sensitive(Code):
    """The analog code that gives more cells to weights whose noise costs more.

    Args:
        single: the code with one cell per weight (two for a pair).
        cells: mean cells per weight of a group, above 1; the group's total is rounded to whole cells. With a share: the
            cells of each weight that has more than one.
        share: share of the weights that have more than one cell, below 1, at least one weight. 0: any weight may.
        allocation: uint8 (groups, weights), the cells of each weight in the rows to be written. None: computed from the
            rows alone, with equal importance for all weights.
    """

    single: Analog
    cells: float
    share: float = 0.0
    allocation: NDArray[np.uint8] | None = field(default=None, compare=False, repr=False)

    allocates = True
    kinds = ("analog",)

    def __post_init__(self) -> None:
        if self.single.cells != 1 or not 1 < self.cells <= MOST_CELLS or not 0 <= self.share < 1:
            raise ValueError(
                f"{self.name}: sensitive needs more than 1 cell, up to {MOST_CELLS}, and a share below 100 %; "
                "write for example analog(1.5,sensitive)"
            )
        if self.share and self.cells != int(self.cells):
            raise ValueError(f"{self.name}: with a share cells are whole; write for example analog(3,sensitive=5%)")

    @property
    def name(self) -> str:
        """`analog(cells,…,sensitive)`, with the other options of the code between; with the share, if any."""
        return self.single.written(f"{self.cells:g}", self._option)

    @property
    def _option(self) -> str:
        return f"sensitive={100 * self.share:.6g}%" if self.share else "sensitive"

    def name_with(self, option: str) -> str:
        """The name with one more option."""
        return self.single.written(f"{self.cells:g}", self._option, option)

    def _many(self, weights: int) -> int:
        """With a share: number of weights in a group that have more than one cell."""
        return min(weights, max(1, int(self.share * weights + 0.5)))

    def _total(self, weights: int) -> int:
        """Cells of a group; of a pair, for one of the two parts."""
        if self.share:
            return weights + self._many(weights) * (int(self.cells) - 1)
        return max(weights, int(self.cells * weights + 0.5))

    def digital_bits(self, weights: int) -> int:
        """Which weight has how many cells, and the signs."""
        return self.mask_bits(weights) + self.single.digital_bits(weights)

    def mask_bits(self, weights: int) -> int:
        """Which weight has how many cells."""
        if self.share:
            return mask_bits(weights, self._many(weights))
        return mask_bits(self._total(weights) - 1, weights - 1) if weights else 0

    def sign_bits(self, weights: int) -> int:
        """The signs, as the code with one cell stores them."""
        return self.single.sign_bits(weights)

    def analog_cells(self, weights: int) -> int:
        """Cells of a group, which do not depend on the allocation; twice as many for a pair."""
        return self._total(weights) * self.single.analog_cells(1)

    def allocate(
        self, rows: Rows, importance: NDArray[np.floating] | None, scales: Rows, medium: Medium
    ) -> NDArray[np.uint8]:
        """The cells of each weight for which noise costs the least loss."""
        variance = self.single.error(rows, scales, medium)[1]
        costs = variance if importance is None else variance * importance
        if not self.share:
            return allocate_cells(costs, self._total(rows.shape[1]))
        # A weight of cost c saves c (1 - 1/r) with r cells in place of one: give them to the greatest costs.
        many = np.argsort(-costs, axis=1, kind="stable")[:, : self._many(rows.shape[1])]
        cells = np.ones(rows.shape, np.uint8)
        np.put_along_axis(cells, many, np.uint8(self.cells), axis=1)
        return cells

    def given(self, allocation: NDArray[np.uint8] | None, learned: Rows | None = None) -> "Sensitive":
        """The same code with its allocation, for writing."""
        return self if allocation is None else replace(self, allocation=allocation)

    def _cells(self, rows: Rows, scales: Rows, medium: Medium) -> NDArray[np.uint8]:
        return self.allocate(rows, None, scales, medium) if self.allocation is None else self.allocation

    def error(self, rows: Rows, scales: Rows, medium: Medium) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean: that of one cell. Variance: that of one cell over the weight's number of cells."""
        mean, variance = self.single.error(rows, scales, medium)
        return mean, variance / self._cells(rows, scales, medium)

    def encode(self, rows: Rows, scales: Rows, medium: Medium) -> Encoded:
        """Bits: the mask, then signs. Levels: a weight's cells side by side; for a pair one part after the other."""
        cells = self._cells(rows, scales, medium)
        one = self.single.encode(rows, scales, medium)
        sides = [_spread(side, cells) for side in np.split(one.levels, self.single.analog_cells(1), axis=1)]
        mask = encode_mask(cells > 1) if self.share else _encode_cells(cells)
        return Encoded(np.concatenate([mask, one.bits], axis=1), np.concatenate(sides, axis=1))

    def decode(self, encoded: Encoded, scales: Rows, weights: int, medium: Medium) -> Rows:
        """The mean over the cells of each weight, each cell decoded as a weight of its own."""
        split = self.mask_bits(weights)
        stored = encoded.bits[:, :split]
        if self.share:
            many = decode_mask(stored, weights, self._many(weights))
            cells = np.where(many, np.uint8(self.cells), np.uint8(1))
        else:
            cells = _decode_cells(stored, weights, self._total(weights))
        signs = encoded.bits[:, split:]
        every = self.single.decode(
            Encoded(_spread(signs, cells) if signs.shape[1] else signs, encoded.levels),
            scales,
            self._total(weights),
            medium,
        )
        if not every.size:
            return np.zeros(cells.shape, np.float32)
        counts = cells.ravel().astype(np.int64)
        sums = np.add.reduceat(every.ravel().astype(np.float64), np.cumsum(counts) - counts)
        return (sums / counts).reshape(cells.shape).astype(np.float32)


def allocate_cells(costs: NDArray[np.floating], total: int) -> NDArray[np.uint8]:
    """Share out cells: whole numbers r, 1 to `MOST_CELLS`, with the given total in each row and the least Σ costs / r.

    A weight of cost c gains c / (r (r + 1)) from cell number r + 1, which falls with r. Giving the cells to the
    greatest gains of all weights is the greedy solution, which is exact for separable convex costs.

    Args:
        costs: (groups, weights), at least 0: loss by the noise of each weight with one cell.
        total: cells of each row, at least one per weight.

    Returns:
        uint8 (groups, weights).

    Raises:
        ValueError: fewer cells than weights, or more than `MOST_CELLS` per weight.

    Example:
        >>> allocate_cells(np.array([[9.0, 1.0, 4.0]]), 6)
        array([[3, 1, 2]], dtype=uint8)
    """
    groups, weights = costs.shape
    if not weights <= total <= MOST_CELLS * weights:
        raise ValueError(f"cells: {total} for {weights} weights; give each 1 to {MOST_CELLS}")
    further = total - weights
    if further == 0 or groups == 0:
        return np.ones((groups, weights), np.uint8)
    steps = np.arange(1, MOST_CELLS)
    cells = np.empty((groups, weights), np.uint8)
    at_once = max(1, GAINS_AT_ONCE // (weights * len(steps)))
    for start in range(0, groups, at_once):
        part = costs[start : start + at_once]
        gains = (part[:, :, None] / (steps * (steps + 1))).reshape(len(part), -1)
        best = np.argpartition(-gains, further - 1, axis=1)[:, :further] // len(steps)
        place = (best + weights * np.arange(len(part))[:, None]).ravel()
        counts = np.bincount(place, minlength=part.size)
        cells[start : start + at_once] = 1 + counts.reshape(part.shape)
    return cells


def _spread(values: NDArray[Number], cells: NDArray[np.uint8]) -> NDArray[Number]:
    """Repeat the value of each weight for each of its cells: (groups, weights) to (groups, cells)."""
    return np.repeat(values.ravel(), cells.ravel()).reshape(len(cells), -1)


def _encode_cells(cells: NDArray[np.uint8]) -> Bits:
    """The encoded mask of cells that are the first of a weight, without the very first cell."""
    first = np.cumsum(cells.astype(np.int64), axis=1)
    total = int(first[0, -1]) if first.size else 1
    mask = np.zeros((len(cells), total - 1), bool)
    np.put_along_axis(mask, first[:, :-1] - 1, True, axis=1)
    return encode_mask(mask)


def _decode_cells(bits: Bits, weights: int, total: int) -> NDArray[np.uint8]:
    """Inverse of `_encode_cells`: the number of cells of each weight, uint8 (groups, weights)."""
    groups = len(bits)
    if weights == 0:
        return np.zeros((groups, 0), np.uint8)
    places = np.nonzero(decode_mask(bits, total - 1, weights - 1))[1].reshape(groups, weights - 1) + 1
    edges = np.concatenate([np.zeros((groups, 1), np.int64), places, np.full((groups, 1), total)], axis=1)
    return np.diff(edges, axis=1).astype(np.uint8)
