"""Programming and reading cells: the only way from levels to noisy levels.

Everything a cell draws is counted from (seed, stream, index), so a chip is its card, its targets, its
programmed levels and its seed: the same seed gives the same bits on any number of threads, and `program` on
the first n levels gives the first n cells of the whole.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from devices import kernels, random
from devices.card import Card
from devices.library import as_card
from devices.response import SLACK, programming_table, read_tables

__all__ = ["Cells", "program"]

FloatCells = NDArray[np.float32]

READS = 2**32  # reads of one chip that have a stream of their own


def _read_only(array: ArrayLike) -> FloatCells:
    """The array as float32, contiguous and locked; no copy where none is needed."""
    locked = np.ascontiguousarray(array, dtype=np.float32).view()
    locked.flags.writeable = False
    return locked.reshape(np.shape(array))


def _checked_levels(levels: ArrayLike) -> FloatCells:
    """Levels as float32 in [0, 1]; rounding beyond the ends is clipped, anything else refused."""
    array = _read_only(levels)
    if array.size == 0:
        return array
    low, high = float(array.min()), float(array.max())
    if not (low >= -SLACK and high <= 1.0 + SLACK):
        raise ValueError(f"levels must lie in [0, 1], not from {low:g} to {high:g}: scale them before programming")
    return array if low >= 0.0 and high <= 1.0 else _read_only(array.clip(0.0, 1.0))


@dataclass(frozen=True, eq=False)
class Cells:
    """Programmed cells of one card: all that is needed to read them, at any time, many times.

    Attributes:
        card: the device.
        levels: the targets in [0, 1], float32, any shape; kept without a copy where possible, so do not
            change them.
        programmed: the levels right after programming, before drift and read noise, same shape.
        seed: what `program` was given; drift exponents and reads are drawn from it.

    Raises:
        ValueError: levels outside [0, 1], shapes that differ, a seed that is none.
    """

    card: Card
    levels: FloatCells
    programmed: FloatCells
    seed: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", _checked_levels(self.levels))
        object.__setattr__(self, "programmed", _read_only(self.programmed))
        object.__setattr__(self, "seed", random.check_seed(self.seed))
        if self.levels.shape != self.programmed.shape:
            raise ValueError(
                f"cells need one programmed level a target, not shapes {self.programmed.shape} "
                f"and {self.levels.shape}: take both from one chip"
            )

    def read(self, *, time_s: float, read: int = 0) -> FloatCells:
        """The cells' levels at a read, float32, a new array of the shape of `levels`.

        Args:
            time_s: seconds since the end of programming and the reference read: t = time_s + t0 in the card's
                formulas, so at 0 there is read noise but no drift.
            read: number of the read. Another number means new read noise on the same cells (same
                programming, same drift exponents); the same number at another time means the same draw.

        Raises:
            ValueError: time outside the card's range, or a read number that is no whole number from 0 on.

        >>> cells = program("ideal", [0.0, 0.25, 1.0], seed=7)
        >>> cells.read(time_s=3600.0).tolist()
        [0.0, 0.25, 1.0]
        """
        if isinstance(read, bool) or not isinstance(read, (int, np.integer)) or not 0 <= operator.index(read) < READS:
            raise ValueError(
                f"read must be a whole number from 0 to 2^32 - 1, not {read!r}: number the reads 0, 1, 2 …"
            )
        tables = read_tables(self.card, self.card.check_time(time_s))
        if tables is None:
            return self.programmed.copy()
        drift_keys = random.keys(self.seed, random.DRIFT)
        read_keys = random.keys(self.seed, random.READ + int(read))
        levels, programmed = self.levels.reshape(-1), self.programmed.reshape(-1)
        out = np.empty_like(programmed)

        def work(start: int, stop: int) -> None:
            kernels.read_cells(
                levels[start:stop],
                programmed[start:stop],
                (tables.drift_mean, tables.drift_sd),
                tables.noise,
                random.QUANTILES,
                drift_keys,
                read_keys,
                start,
                out[start:stop],
            )

        kernels.in_chunks(out.size, work)
        return out.reshape(self.levels.shape)


def _check_rates(stuck_low: float, stuck_high: float) -> tuple[float, float]:
    low, high = float(stuck_low), float(stuck_high)
    if not (low >= 0.0 and high >= 0.0 and low + high <= 1.0):
        raise ValueError(
            f"stuck_low and stuck_high must be shares of the cells, together at most 1, "
            f"not {low:g} and {high:g}: pass for example stuck_low=0.01"
        )
    return low, high


def program(
    card: Card | str, levels: ArrayLike, *, seed: int, stuck_low: float = 0.0, stuck_high: float = 0.0
) -> Cells:
    """Program levels onto cells of a card.

    Args:
        card: a card, or the name or path of one.
        levels: targets in [0, 1], any shape; float32 is kept as it is, anything else is converted.
        seed: whole number from 0 to 2^64 - 1; the same seed gives the same cells, bit for bit.
        stuck_low: share of cells that sit at level 0 whatever is written (off by default; 10 to 14 % were
            reported for RRAM arrays: Gong & Rasch, IEDM 2022). A larger share contains the cells of a
            smaller one.
        stuck_high: share of cells that sit at level 1. Stuck cells drift and read like any cell of their
            target (our choice).

    Raises:
        ValueError: unknown card, levels outside [0, 1] or NaN, a seed or shares that are none.

    >>> cells = program("pcm-nandakumar", [0.1, 0.5], seed=1)
    >>> cells.programmed.shape, cells.read(time_s=86400.0).shape
    ((2,), (2,))
    """
    device, targets, checked = as_card(card), _checked_levels(levels), random.check_seed(seed)
    low, high = _check_rates(stuck_low, stuck_high)
    sd = programming_table(device)
    bound = 0.0 if device.level.clamp_at_0 else -math.inf
    programming_keys, stuck_keys = (
        random.keys(checked, random.PROGRAMMING),
        random.keys(checked, random.STUCK),
    )
    flat = targets.reshape(-1)
    out = np.empty_like(flat)

    def work(start: int, stop: int) -> None:
        part = out[start:stop]
        kernels.program_cells(flat[start:stop], sd, random.QUANTILES, programming_keys, start, bound, part)
        if low or high:
            kernels.stick_cells(low, high, stuck_keys, start, part)

    kernels.in_chunks(out.size, work)
    return Cells(device, targets, out.reshape(targets.shape), checked)
