"""`analog(cells)`: each weight is the level of a cell, written to several cells and averaged when read.

The sign is stored in one of three ways. `protected` stores it digitally, one bit per weight (Isik et al. 2023, doi
10.1145/3588436). `plain` maps the signed weight to the one range of levels, which doubles the noise. `pair` writes the
positive and the negative part to cells of their own and subtracts what is read (differential pair).

Two variants are for comparison. `levels=m` writes only m evenly spaced values, and decides for each cell read which of
them it holds (quantized analog). `raw` does not correct for the cell's mean response.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from physcomp.codes.base import Code, Encoded, Medium, Rows, share_of
from physcomp.codes.hybrid import Hybrid

Sign = Literal["protected", "plain", "pair"]
MOST_LEVELS = 64  # our choice: twice what any card tells apart


@dataclass(frozen=True)
class Analog(Code):
    """The code that writes weights as analog levels in proportion to them.

    Args:
        cells: cells that hold the same value, at least 1; a pair has this many for each part.
        sign: how the sign is stored, see the docstring of this file.
        levels: number of values that may be written, 2 to 64; 0 means any value.
        raw: values are written as levels of the same number, without correcting for the cell's mean response.
    """

    cells: int
    sign: Sign = "protected"
    levels: int = 0
    raw: bool = False

    kinds = ("analog",)

    def __post_init__(self) -> None:
        if self.cells < 1 or self.sign not in get_args(Sign):
            raise ValueError(f"{self.name}: needs at least one cell and a sign of {', '.join(get_args(Sign))}")
        if self.levels and not 2 <= self.levels <= MOST_LEVELS:
            raise ValueError(f"{self.name}: needs 2 to {MOST_LEVELS} levels, got {self.levels}; correct the menu")

    @property
    def name(self) -> str:
        """`analog(cells)`, and its options: the sign unless it is protected, the levels if limited, `raw`."""
        return self.written(str(self.cells))

    def written(self, cells: str, *options: str) -> str:
        """The name with another number of cells and further options at its end."""
        parts = [] if self.sign == "protected" else [str(self.sign)]
        parts += [f"levels={self.levels}"] if self.levels else []
        parts += ["raw"] if self.raw else []
        return f"analog({','.join([cells, *parts, *options])})"

    def name_with(self, option: str) -> str:
        """With a further option."""
        return self.written(str(self.cells), option)

    def in_mask(self) -> Code:
        """Itself."""
        return self

    @property
    def _protected(self) -> Hybrid:
        return Hybrid(bits=1, cells=self.cells)

    def digital_bits(self, weights: int) -> int:
        """One bit per weight if the sign is protected, else none."""
        return weights if self.sign == "protected" else 0

    def sign_bits(self, weights: int) -> int:
        """All digital bits are signs."""
        return self.digital_bits(weights)

    def analog_cells(self, weights: int) -> int:
        """Cells per weight (twice that for a pair) times weights."""
        return self.cells * weights * (2 if self.sign == "pair" else 1)

    def error(self, rows: Rows, scales: Rows, medium: Medium) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean: clipping, and the mean error of the cells. Variance: that of one cell over the number of cells."""
        medium = medium.seen(raw=self.raw, steps=self.levels)
        if self.sign == "protected":
            return self._protected.error(rows, scales, medium)
        scale = scales.astype(np.float64)[:, None]
        up, down = self._parts(rows, scales)
        if self.sign == "plain":
            mean = 2 * medium.mean(up) - 1
            variance = 4 * medium.variance(up)
        else:
            mean = medium.mean(up) - medium.mean(down)
            variance = medium.variance(up) + medium.variance(down)
        return mean * scale - rows, variance * scale**2 / self.cells

    def _parts(self, rows: Rows, scales: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The values written, in [0, 1]: the shifted signed weights, or the positive and negative parts."""
        share = share_of(rows, scales)
        if self.sign == "plain":
            return (1 + share) / 2, np.zeros((len(rows), 0))
        return np.maximum(share, 0), np.maximum(-share, 0)

    def encode(self, rows: Rows, scales: Rows, medium: Medium) -> Encoded:
        """The levels, the cells of a weight side by side; for a pair all positive parts, then all negative ones."""
        medium = medium.seen(raw=self.raw, steps=self.levels)
        if self.sign == "protected":
            return self._protected.encode(rows, scales, medium)
        values = np.concatenate(self._parts(rows, scales), axis=1)
        return Encoded(np.zeros((len(rows), 0), np.uint8), np.repeat(medium.levels(values), self.cells, axis=1))

    def decode(self, encoded: Encoded, scales: Rows, weights: int, medium: Medium) -> Rows:
        """The mean over the cells of each weight, mapped back to weights."""
        medium = medium.seen(raw=self.raw, steps=self.levels)
        if self.sign == "protected":
            return self._protected.decode(encoded, scales, weights, medium)
        values = medium.values(encoded.levels).reshape(len(scales), -1, self.cells).mean(axis=2)
        share = 2 * values - 1 if self.sign == "plain" else values[:, :weights] - values[:, weights:]
        share = share * (scales > 0)[:, None]
        return np.asarray(share * scales[:, None], np.float32)
