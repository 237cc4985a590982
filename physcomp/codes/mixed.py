"""`mixed(large,small,share)`: the largest weights of a group stored one way, the others another way.

Which weights are large is a mask with a fixed number of ones, stored digitally at its least length
(`physcomp.codes.masks`). Three codes come of it:
- `mixed(digital(4),analog(1),25%)`: two codes by magnitude, each class with a scale of its own;
- `analog(1,split=25%)`: the same code twice, so that small weights fill the range of levels too (adaptive mapping,
  Isik et al. 2023, doi 10.1145/3588436);
- `analog(1,clip=1%)`: the outliers digitally as bfloat16 numbers, so that the scale need not reach them (as sparse
  outliers beside dense low-bit weights: Kim et al., "SqueezeLLM", arXiv 2306.07629).
"""

from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from physcomp.codes.base import (
    SCALE_BITS,
    Code,
    Encoded,
    Medium,
    Rows,
    bfloat16_to_bits,
    bits_to_bfloat16,
    to_bfloat16,
)
from physcomp.codes.masks import decode_mask, encode_mask, mask_bits
from physcomp.codes.syntax import Parse, Syntax, share

Number = TypeVar("Number", bound=np.generic)

SPLIT = 0.25
CLIP = 0.01  # shares of weights in the class of large ones, where the name states none; our choice


@dataclass(frozen=True)
class BFloat16(Code):
    """Weights as 16-bit floats in error-free storage: what outliers are kept as."""

    scale_bits = 0

    @property
    def name(self) -> str:
        """`bfloat16`."""
        return "bfloat16"

    def digital_bits(self, weights: int) -> int:
        """16 bits a weight."""
        return SCALE_BITS * weights

    def analog_cells(self, weights: int) -> int:
        """None."""
        return 0

    def error(self, rows: Rows, scales: Rows, medium: Medium) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The rounding error, without spread."""
        return to_bfloat16(rows).astype(np.float64) - rows, np.zeros(rows.shape)

    def encode(self, rows: Rows, scales: Rows, medium: Medium) -> Encoded:
        """The bits, most significant first."""
        return Encoded(bfloat16_to_bits(rows).reshape(len(rows), -1), np.zeros((len(rows), 0), np.float32))

    def decode(self, encoded: Encoded, scales: Rows, weights: int, medium: Medium) -> Rows:
        """The rounded weights."""
        return bits_to_bfloat16(encoded.bits.reshape(len(scales), weights, SCALE_BITS))


@dataclass(frozen=True, eq=False)
class _Class:
    """The weights of one class: their code, places (groups, weights of the class), ascending, and scales (groups,)."""

    code: Code
    places: NDArray[np.int64]
    scales: Rows

    def of(self, array: NDArray[Number]) -> NDArray[Number]:
        """These weights' entries of an array (groups, all weights)."""
        return np.take_along_axis(array, self.places, axis=1)


@dataclass(frozen=True)
class Mixed(Code):
    """Two classes of weights by magnitude.

    Args:
        large: code of the largest weights. Its scale is the group's.
        small: code of the others. Its scale is their largest magnitude, stored beside the mask; the group's where
            `large` has none.
        share: of a group's weights that are large, above 0 and below 1; at least one weight of each class.
        allocation: as `Code.allocate` gives it, for the rows to be written.
    """

    large: Code
    small: Code
    share: float
    allocation: NDArray[np.uint8] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"{self.name}: the share must lie between 0 and 100 %, got {100 * self.share:g} %")

    @property
    def name(self) -> str:
        """`mixed(large,small,share)`, or the small weights' code with `split` or `clip`; without the usual share."""
        percent = f"{100 * self.share:.6g}%"
        return self._as_option or f"mixed({self.large.name},{self.small.name},{percent})"

    @property
    def _as_option(self) -> str | None:
        """The name as the small weights' code with an option; None where it is none."""
        percent = f"{100 * self.share:.6g}%"
        if isinstance(self.large, BFloat16):
            return self.small.name_with("clip" if self.share == CLIP else f"clip={percent}")
        if self.large == self.small and not isinstance(self.small, Mixed):
            return self.small.name_with("split" if self.share == SPLIT else f"split={percent}")
        return None

    def name_with(self, option: str) -> str | None:
        """With a further option, where it has one already."""
        return f"{self._as_option[:-1]},{option})" if self._as_option else None

    @property
    def kinds(self) -> tuple[str, ...]:  # type: ignore[override]
        """Those of the code whose option it is."""
        return self.small.kinds if self._as_option else ()

    def in_mask(self) -> Code | None:
        """Itself, unless it allocates cells."""
        return None if self.allocates else self

    @property
    def scale_bits(self) -> int:  # type: ignore[override]
        """Those of the group's scale, if either code has one; the scale of small weights is in `digital_bits`."""
        return self.large.scale_bits or self.small.scale_bits

    @property
    def allocates(self) -> bool:  # type: ignore[override]
        """Whether either code does."""
        return self.large.allocates or self.small.allocates

    @property
    def _own_bits(self) -> int:
        """Bits of the scale that the small weights have of their own."""
        return self.small.scale_bits if self.large.scale_bits else 0

    def kept(self, weights: int) -> int:
        """Number of large weights in a group; inside another code a group may have none at all."""
        return min(weights, max(1, int(self.share * weights + 0.5)), max(1, weights - 1))

    def digital_bits(self, weights: int) -> int:
        """The mask, the small weights' scale, and what the two codes store."""
        kept = self.kept(weights)
        inner = self.large.digital_bits(kept) + self.small.digital_bits(weights - kept)
        return mask_bits(weights, kept) + self._own_bits + inner

    def mask_bits(self, weights: int) -> int:
        """Its own mask, and those of the two codes."""
        kept = self.kept(weights)
        return mask_bits(weights, kept) + self.large.mask_bits(kept) + self.small.mask_bits(weights - kept)

    def sign_bits(self, weights: int) -> int:
        """Those of the two codes."""
        kept = self.kept(weights)
        return self.large.sign_bits(kept) + self.small.sign_bits(weights - kept)

    def analog_cells(self, weights: int) -> int:
        """Those of the two codes."""
        kept = self.kept(weights)
        return self.large.analog_cells(kept) + self.small.analog_cells(weights - kept)

    def reach(self, rows: Rows) -> Rows:
        """The largest magnitude; of the small weights where only these have a scale."""
        magnitudes = np.abs(rows)
        if self.large.scale_bits:
            return np.asarray(magnitudes.max(axis=1), np.float32)
        last = rows.shape[1] - self.kept(rows.shape[1]) - 1
        return np.asarray(np.partition(magnitudes, last, axis=1)[:, last], np.float32)

    def _classes(self, rows: Rows, scales: Rows) -> tuple[_Class, _Class]:
        """Large and small weights of rows to be written."""
        kept = self.kept(rows.shape[1])
        mask = np.zeros(rows.shape, bool)
        if kept:
            np.put_along_axis(mask, np.argpartition(-np.abs(rows), kept - 1, axis=1)[:, :kept], True, axis=1)
        large, small = (np.nonzero(part)[1].reshape(len(rows), -1) for part in (mask, ~mask))
        if self._own_bits:
            most = np.abs(np.take_along_axis(rows, small, axis=1)).max(axis=1, initial=0)
            return _Class(self.large, large, scales), _Class(self.small, small, to_bfloat16(most))
        return _Class(self.large, large, scales), _Class(self.small, small, scales)

    def allocate(
        self, rows: Rows, importance: NDArray[np.floating] | None, scales: Rows, medium: Medium
    ) -> NDArray[np.uint8] | None:
        """That of each class by its code; 1 where the code has none."""
        found = None
        for part in self._classes(rows, scales):
            costs = None if importance is None else part.of(np.asarray(importance))
            cells = part.code.allocate(part.of(rows), costs, part.scales, medium)
            if cells is not None:
                found = np.ones(rows.shape, np.uint8) if found is None else found
                np.put_along_axis(found, part.places, cells, axis=1)
        return found

    def given(self, allocation: NDArray[np.uint8] | None, learned: Rows | None = None) -> "Mixed":
        """The code with its allocation."""
        return self if allocation is None else replace(self, allocation=allocation)

    def _writer(self, part: _Class) -> Code:
        return part.code.given(None if self.allocation is None else part.of(self.allocation))

    def error(self, rows: Rows, scales: Rows, medium: Medium) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Those of the two codes."""
        mean, variance = np.empty(rows.shape), np.empty(rows.shape)
        for part in self._classes(rows, scales):
            found = self._writer(part).error(part.of(rows), part.scales, medium)
            np.put_along_axis(mean, part.places, found[0], axis=1)
            np.put_along_axis(variance, part.places, found[1], axis=1)
        return mean, variance

    def encode(self, rows: Rows, scales: Rows, medium: Medium) -> Encoded:
        """The mask, the small weights' scale, the bits of the large weights and those of the small; levels alike."""
        large, small = self._classes(rows, scales)
        mask = np.zeros(rows.shape, bool)
        np.put_along_axis(mask, large.places, True, axis=1)
        own = bfloat16_to_bits(small.scales)[:, : self._own_bits]
        stored = [self._writer(part).encode(part.of(rows), part.scales, medium) for part in (large, small)]
        bits = np.concatenate([encode_mask(mask), own, *(part.bits for part in stored)], axis=1)
        return Encoded(bits, np.concatenate([part.levels for part in stored], axis=1))

    def decode(self, encoded: Encoded, scales: Rows, weights: int, medium: Medium) -> Rows:
        """Each class by its code, put back in place."""
        kept = self.kept(weights)
        own = mask_bits(weights, kept)
        large, small = own + self._own_bits, own + self._own_bits + self.large.digital_bits(kept)
        mask = decode_mask(encoded.bits[:, :own], weights, kept)
        small_scales = bits_to_bfloat16(encoded.bits[:, own:large]) if self._own_bits else scales
        cells = self.large.analog_cells(kept)
        stored = Encoded(encoded.bits[:, large:small], encoded.levels[:, :cells])
        rows = np.empty((len(scales), weights), np.float32)
        rows[mask] = self.large.decode(stored, scales, kept, medium).ravel()
        stored = Encoded(encoded.bits[:, small:], encoded.levels[:, cells:])
        rows[~mask] = self.small.decode(stored, small_scales, weights - kept, medium).ravel()
        return rows


def _read(arguments: list[str], parse: Parse) -> Code | None:
    if len(arguments) != 3:
        return None
    large, small = (parse(name).inside() for name in arguments[:2])
    return Mixed(large, small, share(arguments[2]))


SYNTAX = (Syntax("mixed", ("mixed(large,small,share)",), _read),)
