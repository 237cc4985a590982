"""What every code answers: its cost in cells, the mean and variance of its error, and how to encode and decode.

Codes work on *rows*: a float32 array (groups, weights), one group a row, all groups with the same code. The scale
of a row is a bfloat16 number, stored digitally, so that the scale used is exactly the scale stored.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

import devices

Rows = NDArray[np.float32]
Bits = NDArray[np.uint8]

SCALE_BITS = 16
# A scale is picked among these shares of a row's largest magnitude; below 1 it clips (adaptive mapping). Our choice:
# steps of a tenth, down to where the best one-bit scale of a heavy-tailed row lies.
SCALE_SHARES = np.geomspace(0.1, 1.0, 25)


@dataclass(frozen=True)
class Medium:
    """Cells of a card as the codes see them: written for one time, read at another.

    Args:
        card: the device.
        written_for_s: the time, in seconds since programming, for which levels are chosen when they are written.
        read_time_s: the time at which they are read; None: the time they were written for.

    A value v in [0, 1] is written as the level whose mean at `written_for_s` lies v of the way between the means
    of levels 0 and 1 (inverse mapping), and decoded as the place of the read level between these two means at
    `read_time_s`: exactly unbiased when the two times agree.
    """

    card: devices.Card
    written_for_s: float
    read_time_s: float | None = None

    @cached_property
    def bits_per_cell(self) -> float:
        """Bits a cell holds reliably at the time it was written for (see `devices.capacity`)."""
        return devices.reliable_bits(self.card, self.written_for_s)

    @cached_property
    def _writing(self) -> devices.Response:
        return devices.response(self.card, self.written_for_s)

    @cached_property
    def _reading(self) -> devices.Response:
        time_s = self.written_for_s if self.read_time_s is None else self.read_time_s
        return devices.response(self.card, time_s)

    def levels(self, values: NDArray[np.floating]) -> Rows:
        """Levels to write for values in [0, 1]; float32 of the same shape."""
        low, high = self._writing.low, self._writing.high
        return np.asarray(self._writing.inverse(low + values * (high - low)), np.float32)

    def values(self, levels: NDArray[np.floating]) -> NDArray[np.float64]:
        """Values decoded from read levels; float64 of the same shape, noise may carry them outside [0, 1]."""
        low, high = self._reading.low, self._reading.high
        return (np.asarray(levels, np.float64) - low) / (high - low)

    @cached_property
    def _moments(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Mean and variance of the decoded value on a fine grid of stored values (spaced evenly in the root)."""
        stored = np.linspace(0, 1, 4097) ** 2
        levels = self.levels(stored)
        span = self._reading.high - self._reading.low
        return stored, self.values(self._reading.mean(levels)), self._reading.variance(levels) / span**2

    def mean(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Mean of the decoded value of one cell that stores each value in [0, 1]."""
        if self.read_time_s is None or self.read_time_s == self.written_for_s:
            return np.asarray(values, np.float64)
        return np.asarray(np.interp(values, self._moments[0], self._moments[1]))

    def variance(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Variance of the decoded value of one cell that stores each value in [0, 1]."""
        return np.asarray(np.interp(values, self._moments[0], self._moments[2]))


@dataclass(frozen=True, eq=False)
class Encoded:
    """What a code stores for some rows.

    Args:
        bits: uint8 array (groups, bits) of zeros and ones, kept in error-free storage.
        levels: float32 array (groups, cells) in [0, 1], to be programmed; or the levels read, when decoding.
    """

    bits: Bits
    levels: Rows


class Code(ABC):
    """How a group is stored. Codes are frozen dataclasses; `name` is how plans and menus call one."""

    scale_bits: int = SCALE_BITS

    @property
    @abstractmethod
    def name(self) -> str:
        """The word used in plans, menus and tables."""

    @abstractmethod
    def digital_bits(self, weights: int) -> int:
        """Bits stored digitally for a group of so many weights, without its scale."""

    @abstractmethod
    def analog_cells(self, weights: int) -> int:
        """Analog cells of a group of so many weights."""

    def sign_bits(self, weights: int) -> int:
        """The part of `digital_bits` that keeps signs."""
        return 0

    def cost(self, weights: int, medium: Medium) -> float:
        """Cells a group of so many weights takes, its scale included."""
        return (self.digital_bits(weights) + self.scale_bits) / medium.bits_per_cell + self.analog_cells(weights)

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
    largest: Rows = np.abs(rows).max(axis=1)
    if code.scale_bits == 0:
        return np.zeros_like(largest)
    weighting = np.asarray(importance, np.float64) + 1e-12 * (np.mean(importance) + 1e-300)
    best = np.full(len(rows), np.inf)
    scales = np.zeros_like(largest)
    for share in SCALE_SHARES:
        candidate = to_bfloat16(largest * np.float32(share))
        mean, variance = code.error(rows, candidate, medium)
        loss = np.einsum("gw,gw->g", weighting, mean**2 + variance)
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
