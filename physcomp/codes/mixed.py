"""`mixed(large,small,share)`: the largest weights of a group stored one way, the others another way.

A mask says which weights are large. It has a fixed number of ones and is stored digitally in the fewest bits
(`physcomp.codes.masks`). There are three forms:
- `mixed(digital(4),analog(1),25%)`: two different codes, each class with a scale of its own;
- `analog(1,split=25%)`: the same code for both classes, so that small weights also fill the range of levels (adaptive
  mapping, Isik et al. 2023, doi 10.1145/3588436);
- `analog(1,clip=1%)`: outliers as bfloat16 numbers, so that the scale of the others can be smaller (as the sparse
  outliers beside dense low-bit weights in Kim et al., "SqueezeLLM", arXiv 2306.07629).
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
CLIP = 0.01  # shares of large weights if the name states none; our choice


@dataclass(frozen=True)
class BFloat16(Code):
    """The code for outliers: weights as 16-bit floats in error-free bits."""

    scale_bits = 0

    @property
    def name(self) -> str:
        """`bfloat16`."""
        return "bfloat16"

    def digital_bits(self, weights: int) -> int:
        """16 bits per weight."""
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
    """One class of weights: its code, the ascending places (groups, weights of the class), and scales (groups,)."""

    code: Code
    places: NDArray[np.int64]
    scales: Rows

    def of(self, array: NDArray[Number]) -> NDArray[Number]:
        """The entries of an array (groups, all weights) at the places of this class."""
        return np.take_along_axis(array, self.places, axis=1)


@dataclass(frozen=True)
class Mixed(Code):
    """The code that stores large and small weights of a group by two codes.

    Args:
        large: code of the largest weights; it uses the scale of the group.
        small: code of the others. Its scale is their largest magnitude, stored beside the mask; or the group's scale if
            `large` has none.
        share: share of a group's weights that are large, above 0 and below 1; each class has at least one weight.
        allocation: what `Code.allocate` returned for the rows to be written.
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
        """`mixed(large,small,share)`, or the small weights' code with `split` or `clip`, without a default share."""
        percent = f"{100 * self.share:.6g}%"
        return self._as_option or f"mixed({self.large.name},{self.small.name},{percent})"

    @property
    def _as_option(self) -> str | None:
        """The name as the code of small weights with an option; None if it is not of this form."""
        percent = f"{100 * self.share:.6g}%"
        if isinstance(self.large, BFloat16):
            return self.small.name_with("clip" if self.share == CLIP else f"clip={percent}")
        if self.large == self.small and not isinstance(self.small, Mixed):
            return self.small.name_with("split" if self.share == SPLIT else f"split={percent}")
        return None

    def name_with(self, option: str) -> str | None:
        """The name with one more option, for the forms with `split` or `clip`."""
        return f"{self._as_option[:-1]},{option})" if self._as_option else None

    @property
    def kinds(self) -> tuple[str, ...]:  # type: ignore[override]
        """Those of the code that `split` or `clip` is an option of."""
        return self.small.kinds if self._as_option else ()

    def in_mask(self) -> Code | None:
        """The same code, unless it allocates cells."""
        return None if self.allocates else self

    @property
    def scale_bits(self) -> int:  # type: ignore[override]
        """The bits of the group's scale, if either code has one; `digital_bits` counts the scale of small weights."""
        return self.large.scale_bits or self.small.scale_bits

    @property
    def allocates(self) -> bool:  # type: ignore[override]
        """Whether either code does."""
        return self.large.allocates or self.small.allocates

    @property
    def _own_bits(self) -> int:
        """Bits of the own scale of the small weights."""
        return self.small.scale_bits if self.large.scale_bits else 0

    def kept(self, weights: int) -> int:
        """Number of large weights in a group; 0 for an empty group, which occurs inside another code."""
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
        """The largest magnitude of all weights; of the small ones if only these have a scale."""
        magnitudes = np.abs(rows)
        if self.large.scale_bits:
            return np.asarray(magnitudes.max(axis=1), np.float32)
        last = rows.shape[1] - self.kept(rows.shape[1]) - 1
        return np.asarray(np.partition(magnitudes, last, axis=1)[:, last], np.float32)

    def _classes(self, rows: Rows, scales: Rows) -> tuple[_Class, _Class]:
        """The large and the small weights of rows to be written."""
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
        """The allocation of each class by its code; 1 if the code does not allocate."""
        found = None
        for part in self._classes(rows, scales):
            costs = None if importance is None else part.of(np.asarray(importance))
            cells = part.code.allocate(part.of(rows), costs, part.scales, medium)
            if cells is not None:
                found = np.ones(rows.shape, np.uint8) if found is None else found
                np.put_along_axis(found, part.places, cells, axis=1)
        return found

    def given(self, allocation: NDArray[np.uint8] | None, learned: Rows | None = None) -> "Mixed":
        """The same code with its allocation, for writing."""
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
        """Bits: mask, scale of small weights, large weights, small weights. Levels: large weights, small weights."""
        large, small = self._classes(rows, scales)
        mask = np.zeros(rows.shape, bool)
        np.put_along_axis(mask, large.places, True, axis=1)
        own = bfloat16_to_bits(small.scales)[:, : self._own_bits]
        stored = [self._writer(part).encode(part.of(rows), part.scales, medium) for part in (large, small)]
        bits = np.concatenate([encode_mask(mask), own, *(part.bits for part in stored)], axis=1)
        return Encoded(bits, np.concatenate([part.levels for part in stored], axis=1))

    def decode(self, encoded: Encoded, scales: Rows, weights: int, medium: Medium) -> Rows:
        """The weights of each class, decoded by its code and put back in place."""
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
