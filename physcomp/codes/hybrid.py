"""`hybrid(bits, cells)`: digital bits hold the coarse value, analog cells hold the remainder.

One bit is the sign, and b-1 bits are the bin of the magnitude. The remainder within the bin, growing away from zero,
is written to r cells and averaged when read. Noise falls by the number of bins, whereas r copies only divide it by √r.
With one bit the code is `analog(cells)` with a protected sign.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from physcomp.codes.base import Code, Encoded, Medium, Rows, share_of


@dataclass(frozen=True)
class Hybrid(Code):
    """The code with sign and coarse magnitude in digital bits and the remainder in analog cells.

    Args:
        bits: digital bits per weight, 1 to 8, sign included.
        cells: analog cells per weight, at least 1.
    """

    bits: int
    cells: int

    def __post_init__(self) -> None:
        if not (1 <= self.bits <= 8 and self.cells >= 1):
            raise ValueError(f"{self.name}: needs 1 to 8 bits and at least one cell; correct the menu")

    @property
    def name(self) -> str:
        """`hybrid(bits,cells)`."""
        return f"hybrid({self.bits},{self.cells})"

    def name_with(self, option: str) -> str:
        """The name with one more option."""
        return f"{self.name[:-1]},{option})"

    def in_mask(self) -> Code:
        """Itself."""
        return self

    def digital_bits(self, weights: int) -> int:
        """Bits per weight times weights."""
        return self.bits * weights

    def sign_bits(self, weights: int) -> int:
        """One per weight."""
        return weights

    def analog_cells(self, weights: int) -> int:
        """Cells per weight times weights."""
        return self.cells * weights

    @property
    def _bins(self) -> int:
        return 1 << (self.bits - 1)

    def _split(self, rows: Rows, scales: Rows) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.float64]]:
        """Sign (negative is true), bin and remainder in [0, 1] of each weight."""
        share = share_of(rows, scales)
        place = np.abs(share) * self._bins
        bin_ = np.minimum(place.astype(np.int64), self._bins - 1)
        return share < 0, bin_, place - bin_

    def error(self, rows: Rows, scales: Rows, medium: Medium) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean: clipping, and the cells' mean error over bins. Variance: that of one cell over bins² and cells."""
        negative, bin_, remainder = self._split(rows, scales)
        width = scales.astype(np.float64)[:, None] / self._bins
        magnitude = (bin_ + medium.mean(remainder)) * width
        mean = np.where(negative, -magnitude, magnitude) - rows.astype(np.float64)
        return mean, medium.variance(remainder) * width**2 / self.cells

    def encode(self, rows: Rows, scales: Rows, medium: Medium) -> Encoded:
        """Signs, then each weight's bin from its highest bit; levels of a weight's cells side by side."""
        negative, bin_, remainder = self._split(rows, scales)
        shifts = np.arange(self.bits - 2, -1, -1)
        coarse = ((bin_[:, :, None] >> shifts) & 1).astype(np.uint8).reshape(len(rows), -1)
        bits = np.concatenate([negative.astype(np.uint8), coarse], axis=1)
        return Encoded(bits, np.repeat(medium.levels(remainder), self.cells, axis=1))

    def decode(self, encoded: Encoded, scales: Rows, weights: int, medium: Medium) -> Rows:
        """The sum of bin and mean remainder, with its sign."""
        groups = len(scales)
        negative = encoded.bits[:, :weights].astype(bool)
        coarse = encoded.bits[:, weights:].reshape(groups, weights, self.bits - 1).astype(np.int64)
        bin_ = coarse @ (1 << np.arange(self.bits - 2, -1, -1, dtype=np.int64))
        remainder = medium.values(encoded.levels).reshape(groups, weights, self.cells).mean(axis=2)
        magnitude = (bin_ + remainder) * (scales.astype(np.float64)[:, None] / self._bins)
        return np.asarray(np.where(negative, -magnitude, magnitude), np.float32)
