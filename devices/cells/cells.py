"""Simulation of memory cells: `program` writes levels to cells of a card, `Cells.read` reads them back with noise.

Every random number of a cell is computed from the seed, the stream (programming, drift, k-th read …) and the cell's
index. So a chip is fully described by its card, targets, programmed levels and seed (and its shares of stuck cells,
where these are not the card's). The same seed gives the same bits on any number of threads, and programming only the
first n levels gives the first n cells of the whole.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from devices.cards.card import Card
from devices.cards.curves import INTERVALS
from devices.cards.library import as_card
from devices.cards.parts import Stuck
from devices.cells import counter_random, kernels
from devices.cells.moments import SLACK
from devices.cells.tables import ReadTables, level_thresholds, programming_table, read_tables

__all__ = ["Cells", "program"]

FloatCells = NDArray[np.float32]

READS = 2**32  # reads of one chip that have a stream of their own


def _read_only(array: ArrayLike) -> FloatCells:
    """The array as contiguous read-only float32, without a copy where none is needed."""
    locked = np.ascontiguousarray(array, dtype=np.float32).view()
    locked.flags.writeable = False
    return locked.reshape(np.shape(array))


def _checked_levels(levels: ArrayLike) -> FloatCells:
    """Levels as float32 in [0, 1]; rounding errors beyond the ends are clipped, anything further is a ValueError."""
    array = _read_only(levels)
    if array.size == 0:
        return array
    low, high = float(array.min()), float(array.max())
    if not (low >= -SLACK and high <= 1.0 + SLACK):
        raise ValueError(f"levels must lie in [0, 1], not from {low:g} to {high:g}: scale them before programming")
    return array if low >= 0.0 and high <= 1.0 else _read_only(array.clip(0.0, 1.0))


@dataclass(frozen=True, eq=False)
class Cells:
    """Programmed memory cells of one card, which can be read at any time and any number of times.

    Attributes:
        card: the kind of cell.
        levels: target levels in [0, 1], float32, any shape; on a card with finite levels the ones that were written.
            Kept without a copy where possible, so do not change the array you passed.
        programmed: levels right after programming, before ageing and read noise, float32, same shape. On a card with
            relaxation they are not yet clamped: the clamp comes at the read, after the relaxation.
        seed: the seed given to `program`; drift exponents and reads are drawn from it.
        stuck: shares of stuck cells; None takes the card's.

    Raises:
        ValueError: levels outside [0, 1], shapes that differ, a seed out of range.
    """

    card: Card
    levels: FloatCells
    programmed: FloatCells
    seed: int
    stuck: Stuck | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", _checked_levels(self.levels))
        object.__setattr__(self, "programmed", _read_only(self.programmed))
        object.__setattr__(self, "seed", counter_random.check_seed(self.seed))
        object.__setattr__(self, "stuck", self.card.stuck if self.stuck is None else self.stuck)
        if self.levels.shape != self.programmed.shape:
            raise ValueError(
                f"cells need one programmed level a target, not shapes {self.programmed.shape} "
                f"and {self.levels.shape}: take both from one chip"
            )

    def read(self, *, time_s: float, read: int = 0, temperature_k: float | None = None) -> FloatCells:
        """Read all cells once: their noisy levels, float32, a new array of the shape of `levels`.

        Args:
            time_s: seconds since the reference read; in the card's formulas t = time_s + t0. At 0 there is read noise
                but no drift.
            read: number of the read, from 0. Another number gives new read noise on the same cells (same programming
                errors, same drift exponents), correlated as the card says: reads share the slow part of 1/f noise, or
                have the correlation that a card without separate read noise states. The same number at another time
                uses the same random draw, so the noise of distant times is more alike than in a real cell.
            temperature_k: temperature of the cells since programming, in kelvin; None: that of the card's own times.

        Raises:
            ValueError: time or temperature outside the card's range, a temperature where the card has no
                activation energy, or a read number that is no whole number from 0 on.

        >>> cells = program("ideal", [0.0, 0.25, 1.0], seed=7)
        >>> cells.read(time_s=3600.0).tolist()
        [0.0, 0.25, 1.0]
        """
        if isinstance(read, bool) or not isinstance(read, (int, np.integer)) or not 0 <= operator.index(read) < READS:
            raise ValueError(
                f"read must be a whole number from 0 to 2^32 - 1, not {read!r}: number the reads 0, 1, 2 …"
            )
        if temperature_k is not None:
            time_s = self.card.equivalent_time(time_s, temperature_k)
        tables = read_tables(self.card, self.card.check_time(time_s)) or ReadTables()
        levels, programmed = self.levels.reshape(-1), self.programmed.reshape(-1)
        out = np.empty_like(programmed)
        loop, stuck = _reading(self.card, tables, self.seed, int(read)), self.stuck
        stuck_keys = counter_random.keys(self.seed, counter_random.STUCK)

        def work(start: int, stop: int) -> None:
            loop(levels[start:stop], programmed[start:stop], start, out[start:stop])
            if stuck:
                kernels.stick_cells(stuck.low, stuck.high, stuck_keys, start, out[start:stop])

        kernels.in_chunks(out.size, work)
        return out.reshape(self.levels.shape)


Loop = Callable[[FloatCells, FloatCells, int, FloatCells], None]


def _reading(card: Card, tables: ReadTables, seed: int, read: int) -> Loop:
    """The compiled loop of one read, ready to be called with (levels, programmed, index of the first cell, output)."""
    if card.relaxation is None and tables.drift_mean is None and tables.noise is None and tables.added is None:
        if tables.kept is None or read == 0:
            return _copy
        tables = _further_read(card, tables.kept)
        shared = _shared(seed, 0.0, tables.common, 1.0 - tables.common)
    elif tables.common > 0.0 and read > 0:
        shared = _shared(seed, tables.common**2, tables.common - tables.common**2, 1.0 - tables.common)
    else:
        shared = None
    relaxation = _pair(tables.shift, tables.spread, counter_random.keys(seed, counter_random.RELAXATION))
    drift = _pair(tables.drift_mean, tables.drift_sd, counter_random.keys(seed, counter_random.DRIFT))
    both = tables.noise is not None and tables.added is not None
    fixed = (
        tables.kept,
        relaxation,
        0.0 if card.level.clamp_at_0 and card.relaxation is not None else None,
        drift,
        tables.noise,
        tables.added,
        counter_random.keys(seed, counter_random.ADDED + read) if both else None,
        shared,
        np.int32(INTERVALS),
        counter_random.QUANTILES,
        counter_random.keys(seed, counter_random.READ + read),
    )

    def loop(levels: FloatCells, programmed: FloatCells, first: int, out: FloatCells) -> None:
        kernels.read_cells(levels, programmed, *fixed, first, out)

    return loop


def _copy(levels: FloatCells, programmed: FloatCells, first: int, out: FloatCells) -> None:
    out[:] = programmed


def _further_read(card: Card, kept: float) -> ReadTables:
    """The tables of read 1, 2, … of a card without separate read noise, in which part of the spread is drawn anew.

    With c = `kept`, the correlation of any two reads: x + c (first read - x) + √(1 - c²) sd z, where the z of two
    further reads correlate c / (1 + c).
    """
    added = np.float32(math.sqrt(1.0 - kept**2)) * programming_table(card)
    return ReadTables(added=added, kept=kept, common=kept / (1.0 + kept))


Shared = tuple[np.float32, np.float32, np.float32, np.uint64, np.uint64, np.uint64, np.uint64]


def _shared(seed: int, first: float, common: float, own: float) -> Shared:
    """Weights and keys of the noise that a further read shares with read 0 and with all further reads.

    `first`, `common` and `own` are shares of the variance.
    """
    weights = (np.float32(math.sqrt(share)) for share in (first, common, own))
    return (
        *weights,
        *counter_random.keys(seed, counter_random.READ),
        *counter_random.keys(seed, counter_random.COMMON),
    )  # type: ignore[return-value]


def _pair(
    mean: FloatCells | None, sd: FloatCells | None, keys: tuple[np.uint64, np.uint64]
) -> tuple[FloatCells, FloatCells, np.uint64, np.uint64] | None:
    """Mean and sd table of a part with its keys, for a loop; a missing one is zero, and both missing give None."""
    if mean is None and sd is None:
        return None
    nothing = np.zeros(INTERVALS + 1, dtype=np.float32)
    return (nothing if mean is None else mean, nothing if sd is None else sd, *keys)


def _targets(card: Card, levels: ArrayLike) -> FloatCells:
    """The levels to write, float32: those given, or the nearest ones of a card with finite levels."""
    targets = _checked_levels(levels)
    if not card.written_levels:
        return targets
    flat, values = targets.reshape(-1), np.array(card.written_levels, dtype=np.float32)
    thresholds, out = level_thresholds(card), np.empty(targets.size, dtype=np.float32)
    kernels.in_chunks(
        out.size, lambda start, stop: kernels.snap_cells(flat[start:stop], thresholds, values, out[start:stop])
    )
    return out.reshape(targets.shape)


def program(
    card: Card | str,
    levels: ArrayLike,
    *,
    seed: int,
    stuck_low: float | None = None,
    stuck_high: float | None = None,
) -> Cells:
    """Program levels to memory cells of a card, with its programming noise: one cell for each level.

    Args:
        card: a card, or the name or path of one.
        levels: target levels in [0, 1], any shape; float32 is kept as it is, other types are converted. On a card
            with finite levels each cell is written to the nearest of them.
        seed: whole number from 0 to 2^64 - 1; the same seed gives the same cells, bit for bit.
        stuck_low: share of cells that stay at level 0 whatever is written; None takes the card's (0 on every
            built-in one; 10 to 14 % were reported for RRAM arrays: Gong & Rasch, IEDM 2022). The stuck cells of a
            smaller share are among those of a larger one.
        stuck_high: share of cells that stay at level 1. A stuck cell reads exactly its end of the range, without
            noise, at any time (our choice).

    Raises:
        ValueError: unknown card, levels outside [0, 1] or NaN, a seed or share out of range.

    >>> cells = program("pcm-nandakumar", [0.1, 0.5], seed=1)
    >>> cells.programmed.shape, cells.read(time_s=86400.0).shape
    ((2,), (2,))
    """
    device, checked = as_card(card), counter_random.check_seed(seed)
    targets, stuck = _targets(device, levels), device.stuck.replaced(stuck_low, stuck_high)
    sd = programming_table(device)
    bound = 0.0 if device.level.clamp_at_0 and device.relaxation is None else -math.inf
    programming_keys = counter_random.keys(checked, counter_random.PROGRAMMING)
    stuck_keys = counter_random.keys(checked, counter_random.STUCK)
    flat = targets.reshape(-1)
    out = np.empty_like(flat)

    def work(start: int, stop: int) -> None:
        part = out[start:stop]
        kernels.program_cells(flat[start:stop], sd, counter_random.QUANTILES, programming_keys, start, bound, part)
        if stuck:
            kernels.stick_cells(stuck.low, stuck.high, stuck_keys, start, part)

    kernels.in_chunks(out.size, work)
    return Cells(device, targets, out.reshape(targets.shape), checked, stuck)
