"""The interface of codes: cost in cells, mean and variance of the error, encoding and decoding of groups of weights.

Codes work on *rows*: a float32 array (groups, weights), one row per group, all groups with the same code. Most codes
store a *scale* for each row, by which its weights are divided. It is a bfloat16 number stored digitally, so that the
scale used is exactly the scale stored.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from physcomp.codes.medium import Ecc as Ecc
from physcomp.codes.medium import Medium as Medium
from physcomp.codes.medium import Over as Over
from physcomp.codes.medium import Rows as Rows

Bits = NDArray[np.uint8]

SCALE_BITS = 16
# Scales that are tried, as shares of a row's largest magnitude; a share below 1 clips weights (adaptive mapping). Our
# choice: each a tenth above the last, down to the best one-bit scale of a row with heavy tails.
SCALE_SHARES = np.geomspace(0.1, 1.0, 25)


@dataclass(frozen=True, eq=False)
class Encoded:
    """What a code stores for some rows: digital bits and analog levels.

    Args:
        bits: uint8 (groups, bits) of zeros and ones, in error-free storage; a single row if the groups share a stream.
        levels: float32 (groups, cells), the levels to programme, in [0, 1]; for decoding the levels that were read.
    """

    bits: Bits
    levels: Rows


@dataclass(frozen=True)
class Alphabet:
    """The values that a weight may be rounded to: levels spaced evenly, either from minus to plus the scale or by it.

    Args:
        count: number of levels, at least 2; odd with a `step`.
        zero: False leaves out the level at zero: of `count` + 1 evenly spaced levels, an even `count` remain.
        step: above 0: the scale is the spacing of levels, and this number times the root mean square of the weights.
            0: the scale is the largest level, and is picked by the error.
    """

    count: int
    zero: bool = True
    step: float = 0.0


class Code(ABC):
    """A way of storing a group of weights. Every code is a frozen dataclass with a `name` for plans and menus."""

    scale_bits: int = SCALE_BITS
    scale_shares: NDArray[np.float64] = SCALE_SHARES
    """Shares of a row's largest magnitude among which its scale is picked."""
    kinds: tuple[str, ...] = ()
    """The parts of the menu that it belongs to besides `all`: `digital`, `analog`, `strategy` (every strategy)."""
    keeps_rows: bool = False
    """Whether plans hold the rows that are written, because rounding or pruning has changed them."""
    drops: bool = False
    """Whether some weights of a group are dropped (the zeros in the plan's rows); in training these fade out."""
    allocates: bool = False
    """Whether weights of one group may have different numbers of cells (see `allocate`)."""
    streams: bool = False
    """Whether the groups of a layer share one stream of bits, so that `Encoded.bits` has a single row."""
    span: float = 1.0
    """The largest magnitude that is stored, in scales; larger weights are clipped."""
    setup_bits: int = 0
    """The most bits that a layer stores once if any of its groups uses the code, beside the `bits_of` its groups."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name in plans, menus and tables; `physcomp.codes.parse` reads it."""

    @property
    def alphabet(self) -> Alphabet | None:
        """The levels to which rows are rounded, with compensation, before they are written; None if they are not."""
        return None

    @property
    def width(self) -> float | None:
        """Bits per weight, for codes with evenly spaced levels and the same bits for each weight; None for others."""
        return None

    @abstractmethod
    def digital_bits(self, weights: int) -> int:
        """Bits stored digitally for a group with this number of weights, without its scale."""

    @abstractmethod
    def analog_cells(self, weights: int) -> int:
        """Analog cells for a group with this number of weights."""

    def sign_bits(self, weights: int) -> int:
        """The part of `digital_bits` that holds signs."""
        return 0

    def mask_bits(self, weights: int) -> int:
        """The part of `digital_bits` that holds masks: which weights are stored in which way."""
        return 0

    def bits_of(self, rows: Rows, scales: Rows) -> NDArray[np.float64]:
        """Bits that each group takes, without its scale: float64 (groups,)."""
        return np.full(len(rows), float(self.digital_bits(rows.shape[1])))

    def written_bits(self, rows: Rows, scales: Rows) -> int:
        """Bits stored for all these groups of one layer together, without their scales."""
        return len(rows) * self.digital_bits(rows.shape[1])

    def written_once(self, rows: Rows, scales: Rows) -> int:
        """The part of `written_bits` that the layer stores once, whatever the number of groups."""
        return 0

    def stored_bits(self, bits: Bits, groups: int, weights: int) -> int:
        """How many of the bits given, from the first on, belong to this number of groups."""
        return groups * self.digital_bits(weights)

    def cost(self, weights: int, medium: Medium) -> float:
        """Cells for a group with this number of weights, scale included, where costs do not depend on values."""
        return (self.digital_bits(weights) + self.scale_bits) / medium.bits_per_cell + self.analog_cells(weights)

    def costs(self, rows: Rows, scales: Rows, medium: Medium) -> NDArray[np.float64]:
        """Cells that each of these groups takes, its scale included: float64 (groups,)."""
        digital = (self.bits_of(rows, scales) + self.scale_bits) / medium.bits_per_cell
        return np.asarray(digital + self.analog_cells(rows.shape[1]))

    def reach(self, rows: Rows) -> Rows:
        """The magnitude of each row that a scale without clipping has to reach: float32 (groups,)."""
        return np.asarray(np.abs(rows).max(axis=1), np.float32)

    def allocate(
        self, rows: Rows, importance: NDArray[np.floating] | None, scales: Rows, medium: Medium
    ) -> NDArray[np.uint8] | None:
        """The number of cells of each weight, (groups, weights), for codes in which it differs; None for others.

        Args:
            rows: (groups, weights).
            importance: of the same shape, the loss per squared error of each weight; None: the same for all.
            scales: (groups,).
            medium: the cells.
        """
        return None

    def learn(self, rows: Rows, importance: NDArray[np.floating] | None, scales: Rows, medium: Medium) -> Rows | None:
        """Numbers that the groups of a layer share and store once, such as a codebook; None for codes without them.

        The arguments are those of `allocate`, for all groups of a layer.
        """
        return None

    def given(self, allocation: NDArray[np.uint8] | None, learned: Rows | None = None) -> "Code":
        """The code with results of `allocate` and `learn`, for writing; reading finds both in what is stored."""
        return self

    def writer(self, rows: Rows, importance: NDArray[np.floating] | None, scales: Rows, medium: Medium) -> "Code":
        """The same code with the `allocate` and `learn` results that suit these rows best."""
        return self.given(self.allocate(rows, importance, scales, medium), self.learn(rows, importance, scales, medium))

    def fit(self, rows: Rows, importance: NDArray[np.floating], medium: Medium) -> Rows:
        """The scale of least error for each row; see `fit_scales`."""
        return fit_scales(self, rows, importance, medium)

    def inside(self) -> "Code":
        """The code to use inside another code, for some of a group's weights.

        Raises:
            ValueError: the code can only store whole groups.
        """
        return self

    def in_mask(self) -> "Code | None":
        """The code to use for the weights that a mask keeps, which needs no level at zero; None if there is none."""
        return None

    def name_with(self, option: str) -> str | None:
        """The name with one more option; None for codes without options."""
        return None

    def stores(self, weights: int) -> bool:
        """Whether anything is stored for a group with this number of weights; if not, it reads back as zero."""
        return self.digital_bits(weights) + self.analog_cells(weights) > 0

    def mask_of(self, weights: int) -> tuple[int, int] | None:
        """Weights per run and number of runs kept (a run is kept or dropped as a whole); None if none is dropped."""
        return None

    def mask(self, rows: Rows, dropped: float = 1.0) -> NDArray[np.bool_]:
        """The weights kept, bool (groups, weights), after a share `dropped` (above 0) of those to drop is dropped."""
        return np.ones(rows.shape, bool)

    @abstractmethod
    def error(self, rows: Rows, scales: Rows, medium: Medium) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and variance of the error (read back - `rows`), each of the shape of `rows`; `scales` is (groups,)."""

    @abstractmethod
    def encode(self, rows: Rows, scales: Rows, medium: Medium) -> Encoded:
        """The bits and levels to store for these rows."""

    @abstractmethod
    def decode(self, encoded: Encoded, scales: Rows, weights: int, medium: Medium) -> Rows:
        """The rows (groups, weights) that stored bits and read levels stand for."""


def fit_scales(code: Code, rows: Rows, importance: NDArray[np.floating], medium: Medium) -> Rows:
    """Pick the scale of each row, among `Code.scale_shares`, with the least importance-weighted squared error.

    Args:
        rows: (groups, weights).
        importance: of the same shape, at least 0: the loss per squared error of each weight.

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
