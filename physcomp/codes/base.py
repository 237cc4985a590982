"""What every code says of itself: its cost in cells, the mean and variance of its error, and how to encode and decode.

Codes work on *rows*: a float32 array (groups, weights), one group a row, all groups with the same code. The scale
of a row is a bfloat16 number, stored digitally, so that the scale used is exactly the scale stored.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from physcomp.codes.medium import Medium as Medium
from physcomp.codes.medium import Over as Over
from physcomp.codes.medium import Rows as Rows
from physcomp.codes.medium import Storage as Storage

Bits = NDArray[np.uint8]

SCALE_BITS = 16
# A scale is picked among these shares of a row's largest magnitude; below 1 it clips (adaptive mapping). Our choice:
# steps of a tenth, down to where the best one-bit scale of a heavy-tailed row lies.
SCALE_SHARES = np.geomspace(0.1, 1.0, 25)


@dataclass(frozen=True, eq=False)
class Encoded:
    """What a code stores for some rows.

    Args:
        bits: uint8 array (groups, bits) of zeros and ones, kept in error-free storage; a single row where the groups
            share a stream.
        levels: float32 array (groups, cells) in [0, 1], to be programmed; or the levels read, when decoding.
    """

    bits: Bits
    levels: Rows


@dataclass(frozen=True)
class Alphabet:
    """Levels spaced evenly between minus and plus the scale.

    Args:
        count: their number, at least 2.
        zero: with False an even number of levels, those of count + 1 evenly spaced ones that are not zero.
    """

    count: int
    zero: bool = True


class Code(ABC):
    """How a group is stored. Codes are frozen dataclasses; `name` is how plans and menus call one."""

    scale_bits: int = SCALE_BITS
    scale_shares: NDArray[np.float64] = SCALE_SHARES
    """Shares of a row's largest magnitude among which its scale is picked."""
    kinds: tuple[str, ...] = ()
    """The parts of the menu it belongs to beside `all`: `digital`, `analog`; `strategy` for every strategy."""
    keeps_rows: bool = False
    """Whether a plan keeps the rows that are written, since rounding or pruning changed them."""
    drops: bool = False
    """Whether some weights of a group are not stored. Which ones the plan's rows say; in training they fade out."""
    allocates: bool = False
    """Whether weights of one group have different numbers of cells (`allocate`)."""
    streams: bool = False
    """Whether groups of one layer share a stream of bits, so that `Encoded.bits` is a single row."""
    setup_bits: int = 0
    """Bits that a layer takes once if any of its groups uses the code: at most so many beside their `bits_of`."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The word used in plans, menus and tables."""

    @property
    def alphabet(self) -> Alphabet | None:
        """The levels to which rows are rounded before they are written, errors compensated; None: they are not."""
        return None

    @property
    def width(self) -> float | None:
        """Bits a weight of codes that round to evenly spaced levels and give each weight the same; None of others."""
        return None

    @abstractmethod
    def digital_bits(self, weights: int) -> int:
        """Bits stored digitally for a group of so many weights, without its scale."""

    @abstractmethod
    def analog_cells(self, weights: int) -> int:
        """Analog cells of a group of so many weights."""

    def sign_bits(self, weights: int) -> int:
        """The part of `digital_bits` that keeps signs."""
        return 0

    def mask_bits(self, weights: int) -> int:
        """The part of `digital_bits` that says which weights are stored in which way."""
        return 0

    def bits_of(self, rows: Rows, scales: Rows) -> NDArray[np.float64]:
        """Bits that each group's share of what is stored takes, without its scale: (groups,)."""
        return np.full(len(rows), float(self.digital_bits(rows.shape[1])))

    def written_bits(self, rows: Rows, scales: Rows) -> int:
        """Bits stored for groups of one layer together, without their scales."""
        return len(rows) * self.digital_bits(rows.shape[1])

    def written_once(self, rows: Rows, scales: Rows) -> int:
        """The part of `written_bits` that the layer takes once."""
        return 0

    def stored_bits(self, bits: Bits, groups: int, weights: int) -> int:
        """How many of these bits are those stored for so many groups."""
        return groups * self.digital_bits(weights)

    def cost(self, weights: int, medium: Medium) -> float:
        """Cells a group of so many weights takes, its scale included; for codes that `bits_of` does not shorten."""
        return (self.digital_bits(weights) + self.scale_bits) / medium.bits_per_cell + self.analog_cells(weights)

    def costs(self, rows: Rows, scales: Rows, medium: Medium) -> NDArray[np.float64]:
        """Cells that each of these groups takes, its scale included: (groups,)."""
        digital = (self.bits_of(rows, scales) + self.scale_bits) / medium.bits_per_cell
        return np.asarray(digital + self.analog_cells(rows.shape[1]))

    def reach(self, rows: Rows) -> Rows:
        """The largest magnitude of each row that its scale has to do with: (groups,)."""
        return np.asarray(np.abs(rows).max(axis=1), np.float32)

    def allocate(
        self, rows: Rows, importance: NDArray[np.floating] | None, scales: Rows, medium: Medium
    ) -> NDArray[np.uint8] | None:
        """Cells of each weight, for codes that let them differ, (groups, weights); None for all others.

        Args:
            rows: (groups, weights).
            importance: of the same shape: what a squared error of each weight costs; None: the same for all.
            scales: (groups,).
            medium: the cells.
        """
        return None

    def learn(self, rows: Rows, importance: NDArray[np.floating] | None, scales: Rows, medium: Medium) -> Rows | None:
        """Numbers that all groups of a layer share, stored once, for codes that have some; None for all others.

        Arguments as `allocate` has them, for all groups of a layer.
        """
        return None

    def given(self, allocation: NDArray[np.uint8] | None, learned: Rows | None = None) -> "Code":
        """The code that writes with what `allocate` and `learn` gave. Reading needs neither: they are stored."""
        return self

    def writer(self, rows: Rows, importance: NDArray[np.floating] | None, scales: Rows, medium: Medium) -> "Code":
        """The code that writes rows as is best for them."""
        return self.given(self.allocate(rows, importance, scales, medium), self.learn(rows, importance, scales, medium))

    def fit(self, rows: Rows, importance: NDArray[np.floating], medium: Medium) -> Rows:
        """The scale of each row to be written, see `fit_scales`."""
        return fit_scales(self, rows, importance, medium)

    def inside(self) -> "Code":
        """The code as it stands inside others, for some weights of a group.

        Raises:
            ValueError: it stands for whole groups alone.
        """
        return self

    def in_mask(self) -> "Code | None":
        """The code for weights that a mask keeps, which has no need of a zero; None where it cannot be one."""
        return None

    def name_with(self, option: str) -> str | None:
        """The name with a further option; None for codes without options."""
        return None

    def stores(self, weights: int) -> bool:
        """Whether anything is stored for groups of so many weights; where not, they read back as zero for good."""
        return self.digital_bits(weights) + self.analog_cells(weights) > 0

    def mask_of(self, weights: int) -> tuple[int, int] | None:
        """Weights of a run, which is kept or dropped as a whole, and runs that are kept; None where none is dropped."""
        return None

    def mask(self, rows: Rows, dropped: float = 1.0) -> NDArray[np.bool_]:
        """The weights that are kept, (groups, weights), when a share of those to be dropped, above 0, is dropped."""
        return np.ones(rows.shape, bool)

    @abstractmethod
    def error(self, rows: Rows, scales: Rows, medium: Medium) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and variance of (read back - trained), each of the shape of `rows`; `scales` is (groups,)."""

    @abstractmethod
    def encode(self, rows: Rows, scales: Rows, medium: Medium) -> Encoded:
        """What is stored for the rows."""

    @abstractmethod
    def decode(self, encoded: Encoded, scales: Rows, weights: int, medium: Medium) -> Rows:
        """The rows (groups, weights) read back."""


def fit_scales(code: Code, rows: Rows, importance: NDArray[np.floating], medium: Medium) -> Rows:
    """Pick each row's scale, among shares of its largest magnitude, by least importance-weighted squared error.

    Args:
        rows: (groups, weights).
        importance: of the same shape, at least 0: what a squared error of each weight costs.

    Returns:
        float32 (groups,), each exactly a bfloat16 number; 0 where the whole row is 0 or the code has no scale.
    """
    largest = code.reach(rows)
    if code.scale_bits == 0:
        return np.zeros_like(largest)
    weighting = np.asarray(importance, np.float64) + 1e-12 * (np.mean(importance) + 1e-300)
    best = np.full(len(rows), np.inf)
    scales = np.zeros_like(largest)
    for share in code.scale_shares:
        candidate = to_bfloat16(largest * np.float32(share))
        writer = code.writer(rows, weighting, candidate, medium)
        errors = [writer.error(rows, candidate, read) for read in medium.reads]
        loss = medium.counted([np.einsum("gw,gw->g", weighting, mean**2 + var) for mean, var in errors])
        better = loss < best
        best[better], scales[better] = loss[better], candidate[better]
    return scales


def to_bfloat16(values: NDArray[np.floating]) -> Rows:
    """Round to the nearest bfloat16 number (ties to even), returned as float32.

    Example:
        >>> float(to_bfloat16(np.array([1.001953125]))[0])
        1.0
    """
    raw = np.asarray(values, np.float32).view(np.uint32)
    rounded = raw + np.uint32(0x7FFF) + ((raw >> np.uint32(16)) & np.uint32(1))
    return np.asarray((rounded & np.uint32(0xFFFF0000)).view(np.float32))


def bfloat16_to_bits(values: NDArray[np.floating]) -> Bits:
    """The 16 bits, most significant first, of bfloat16 numbers: uint8 (..., 16)."""
    halves = (to_bfloat16(values).view(np.uint32) >> np.uint32(16)).astype(">u2")
    return np.unpackbits(halves[..., None].view(np.uint8), axis=-1)


def bits_to_bfloat16(bits: Bits) -> Rows:
    """Inverse of `bfloat16_to_bits`: (..., 16) bits to float32 (...)."""
    halves = np.packbits(bits, axis=-1).view(">u2")[..., 0].astype(np.uint32)
    return np.asarray((halves << np.uint32(16)).view(np.float32))


def share_of(rows: Rows, scales: Rows) -> NDArray[np.float64]:
    """Rows divided by their scales, clipped to [-1, 1]; 0 where the scale is 0."""
    safe = np.where(scales > 0, scales, 1).astype(np.float64)
    return np.clip(rows / safe[:, None], -1, 1) * (scales > 0)[:, None]
