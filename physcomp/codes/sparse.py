"""`sparse(percent, code)`: so many per cent of a group's weights are zero, a mask says which, a code holds the others.

The number of weights kept follows from the group's size alone, so that the cost does not depend on the data; the mask
takes ⌈log2 C(W, k)⌉ bits (`physcomp.codes.masks`). Since it says where the zeros are, a digital code inside has none
among its levels: `sparse(75,digital(1))` has three values at about 1.06 bits a weight, of which 0.81 are the mask.
Which weights are kept, and what makes up for the others, is decided before (`physcomp.pruning`); a row with more
non-zero weights than are kept loses its smallest.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from physcomp.codes.analog import Analog
from physcomp.codes.base import Code, Encoded, Medium, Rows, share_of
from physcomp.codes.digital import Digital
from physcomp.codes.hybrid import Hybrid
from physcomp.codes.masks import decode_mask, encode_mask, mask_bits


@dataclass(frozen=True)
class ZeroFree(Digital):
    """An even number of levels: those of evenly spaced ones around zero that are not zero themselves.

    With a scale s and n magnitudes they are ±s/n, ±2s/n, …, ±s. Whole bits are 2^b levels; a fraction is log2 of an
    even number of them.
    """

    @property
    def count(self) -> int:
        """Number of levels."""
        return 2 * round(2 ** (self.bits - 1))

    @property
    def _base(self) -> int:
        return self.count

    def _digits(self, rows: Rows, scales: Rows) -> NDArray[np.int64]:
        """0 to n-1 are the negative levels, from -s; n to 2n-1 the positive ones, to s."""
        half = self.count // 2
        share = share_of(rows, scales)
        magnitude = np.floor(np.abs(share) * half + 0.5).clip(1, half).astype(np.int64)
        return np.where(share < 0, half - magnitude, half - 1 + magnitude)

    def _weights(self, digits: NDArray[np.int64], scales: Rows) -> NDArray[np.float64]:
        half = self.count // 2
        return (digits - half + (digits >= half)) / half * scales.astype(np.float64)[:, None]


@dataclass(frozen=True)
class Sparse(Code):
    """A mask, and a code for the weights kept.

    Args:
        percent: of the weights that are zero, more than 0 and less than 100.
        inner: `ZeroFree`, `Analog` or `Hybrid`, for the others.
    """

    percent: float
    inner: Code

    def __post_init__(self) -> None:
        if not 0 < self.percent < 100:
            raise ValueError(f"sparse: the percentage of zeros is more than 0 and less than 100, got {self.percent:g}")
        if not isinstance(self.inner, ZeroFree | Analog | Hybrid):
            raise ValueError(f"sparse: holds digital(bits), analog(cells) or hybrid(bits,cells), not {self.inner.name}")

    @property
    def name(self) -> str:
        """`sparse(percent,code)`."""
        return f"sparse({self.percent:g},{self.inner.name})"

    def kept(self, weights: int) -> int:
        """How many of so many weights are kept: the rest to the nearest whole number, at least one."""
        return max(1, round((1 - self.percent / 100) * weights))

    def mask_bits(self, weights: int) -> int:
        """The part of `digital_bits` that is the mask."""
        return mask_bits(weights, self.kept(weights))

    def digital_bits(self, weights: int) -> int:
        """The mask, and what the inner code takes for the weights kept."""
        return self.mask_bits(weights) + self.inner.digital_bits(self.kept(weights))

    def sign_bits(self, weights: int) -> int:
        """Those of the inner code."""
        return self.inner.sign_bits(self.kept(weights))

    def analog_cells(self, weights: int) -> int:
        """Those of the inner code."""
        return self.inner.analog_cells(self.kept(weights))

    def mask(self, rows: Rows) -> NDArray[np.bool_]:
        """The weights of each row that are kept: those of largest magnitude, the first of equal ones."""
        places = np.argsort(-np.abs(rows), axis=1, kind="stable")[:, : self.kept(rows.shape[1])]
        mask = np.zeros(rows.shape, bool)
        np.put_along_axis(mask, places, True, axis=1)
        return mask

    def survivors(self, rows: Rows) -> Rows:
        """The weights kept, in their order: (groups, kept)."""
        return self._among(rows, self.mask(rows))

    def _among(self, rows: Rows, mask: NDArray[np.bool_]) -> Rows:
        return rows[mask].reshape(len(rows), self.kept(rows.shape[1]))

    def error(self, rows: Rows, scales: Rows, medium: Medium) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """That of the inner code where a weight is kept, minus the weight elsewhere."""
        mask = self.mask(rows)
        inner_mean, inner_variance = self.inner.error(self._among(rows, mask), scales, medium)
        mean, variance = -rows.astype(np.float64), np.zeros(rows.shape)
        mean[mask], variance[mask] = inner_mean.reshape(-1), inner_variance.reshape(-1)
        return mean, variance

    def encode(self, rows: Rows, scales: Rows, medium: Medium) -> Encoded:
        """The masks' bits, then what the inner code stores."""
        mask = self.mask(rows)
        inner = self.inner.encode(self._among(rows, mask), scales, medium)
        return Encoded(np.concatenate([encode_mask(mask), inner.bits], axis=1), inner.levels)

    def decode(self, encoded: Encoded, scales: Rows, weights: int, medium: Medium) -> Rows:
        """The inner code's weights at their places."""
        split, kept = self.mask_bits(weights), self.kept(weights)
        mask = decode_mask(encoded.bits[:, :split], weights, kept)
        inner = Encoded(encoded.bits[:, split:], encoded.levels)
        rows = np.zeros(mask.shape, np.float32)
        rows[mask] = self.inner.decode(inner, scales, kept, medium).reshape(-1)
        return rows
