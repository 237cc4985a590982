"""`analog(cells)`: the weight itself is a cell's level, written to r cells and averaged on reading.

Three ways with the sign: `protected` keeps it digitally, one bit a weight (Isik et al. 2023, doi 10.1145/3588436);
`plain` maps the signed value to the one level range, which doubles the noise; `pair` writes positive and negative
parts to two cells each and subtracts (differential pair).

Two ways of writing for comparison: `levels=m` writes only m values, evenly spaced, and decides each cell read for one
of them (quantized analog); `raw` does not undo the cell's mean response.
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
    """Levels proportional to weights.

    Args:
        cells: cells that hold the same value, at least 1; a pair has so many on each side.
        sign: how the sign is kept, see this file's docstring.
        levels: so many values are written, 2 to 64; 0: any.
        raw: values are written as they are, without undoing the cell's mean response.
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
        """`analog(cells)`, with the way of the sign unless it is protected, the levels if limited, and `raw`."""
        return self.written(str(self.cells))

    def written(self, cells: str, *options: str) -> str:
        """The name with another number of cells, and options behind its own."""
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
        """One bit a weight when the sign is protected."""
        return weights if self.sign == "protected" else 0

    def sign_bits(self, weights: int) -> int:
        """All digital bits are signs."""
        return self.digital_bits(weights)

    def analog_cells(self, weights: int) -> int:
        """Cells a weight, twice that for a pair, times weights."""
        return self.cells * weights * (2 if self.sign == "pair" else 1)

    def error(self, rows: Rows, scales: Rows, medium: Medium) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Clipping and what the medium's mean leaves; the cells' spread over the root of cells."""
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
        """The values written, in [0, 1]: the signed value moved there, or the positive and negative parts."""
        share = share_of(rows, scales)
        if self.sign == "plain":
            return (1 + share) / 2, np.zeros((len(rows), 0))
        return np.maximum(share, 0), np.maximum(-share, 0)

    def encode(self, rows: Rows, scales: Rows, medium: Medium) -> Encoded:
        """Levels, a weight's cells side by side; for a pair all positive parts, then all negative ones."""
        medium = medium.seen(raw=self.raw, steps=self.levels)
        if self.sign == "protected":
            return self._protected.encode(rows, scales, medium)
        values = np.concatenate(self._parts(rows, scales), axis=1)
        return Encoded(np.zeros((len(rows), 0), np.uint8), np.repeat(medium.levels(values), self.cells, axis=1))

    def decode(self, encoded: Encoded, scales: Rows, weights: int, medium: Medium) -> Rows:
        """Mean over a weight's cells, mapped back."""
        medium = medium.seen(raw=self.raw, steps=self.levels)
        if self.sign == "protected":
            return self._protected.decode(encoded, scales, weights, medium)
        values = medium.values(encoded.levels).reshape(len(scales), -1, self.cells).mean(axis=2)
        share = 2 * values - 1 if self.sign == "plain" else values[:, :weights] - values[:, weights:]
        share = share * (scales > 0)[:, None]
        return np.asarray(share * scales[:, None], np.float32)
