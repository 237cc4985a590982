"""Bits that a cell holds: the capacity of the channel from the level written to the level read.

The channel is Gaussian with the card's mean and variance at the time of reading (`devices.cells.moments`; our choice).
Clamping, drift and multiplicative noise make the true distribution differ from a Gaussian: for pcm-nandakumar at one
day, against two million simulated cells, the bits are within 2 % at 4, 8 and 16 levels and symbol errors above a tenth
within 6 %, but the symbol error of 4 levels is given as 0.0007 where the simulation shows 0.0054. Capacities come from
the Blahut-Arimoto algorithm (Blahut; Arimoto, IEEE Trans. Inf. Theory 18, 1972).
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from devices.cards.card import Card
from devices.cards.curves import FloatArray
from devices.cards.library import as_card
from devices.cells.moments import Response, response
from devices.channel.channel import (
    Below,
    Channel,
    between,
    blahut_arimoto,
    mutual_information,
    simulated_below,
    soft_thresholds,
    symbol_error,
)
from devices.files import replacing

__all__ = [
    "Capacity",
    "CapacityPoint",
    "LevelsRow",
    "capacity",
    "capacity_study",
    "most_levels",
    "noise_free_row",
    "reliable_bits",
    "save_points",
]

MOST_LEVELS = 32
MOST_READ = 256
CUSTOMARY_LEVELS = (2, 4, 8, 16)


@dataclass(frozen=True)
class LevelsRow:
    """What a cell holds when it is written to L levels and read back as one of them (a hard decision).

    Attributes:
        levels: L.
        bits: bits a cell when the levels are used as often as is best.
        symbol_error: share of cells read as another level when the levels are used equally often.
        targets: the L levels to write, in [0, 1].
        thresholds: the L - 1 read levels between neighbouring decisions.
    """

    levels: int
    bits: float
    symbol_error: float
    targets: tuple[float, ...]
    thresholds: tuple[float, ...]


@dataclass(frozen=True)
class Capacity:
    """Bits that a cell of one card holds at one time, by the number of levels and at the bound.

    Attributes:
        card: name of the card.
        time_s: the read, in seconds after the reference read.
        analog_bits: capacity with any level written and any read, the upper bound; infinite without noise.
        levels_table: a row for each number of levels, from 2 on.
        reliable_bits: bits of the best row.
        reliable_levels: number of levels of the best row.
    """

    card: str
    time_s: float
    analog_bits: float
    levels_table: tuple[LevelsRow, ...]
    reliable_bits: float
    reliable_levels: int


def _decided(channel: Channel, levels: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """L levels evenly spaced in u, thresholds equally many standard deviations from both, and the L x L channel."""
    u = channel.inputs(levels)
    thresholds = channel.thresholds(u)
    return u, thresholds, between(channel.below(u)(thresholds))


def _row(channel: Channel, levels: int) -> LevelsRow:
    u, thresholds, matrix = _decided(channel, levels)
    return LevelsRow(
        levels=levels,
        bits=blahut_arimoto(matrix),
        symbol_error=symbol_error(matrix),
        targets=channel.targets(u),
        thresholds=tuple(thresholds.tolist()),
    )


def most_levels(card: Card) -> int:
    """The largest number of levels considered: 32, or as many as the card has."""
    return min(MOST_LEVELS, len(card.written_levels) or MOST_LEVELS)


def _noise_free(card: Card, time_s: float) -> Capacity:
    """The capacity of a card without noise: the `reliable_bits` that it states by convention."""
    if card.reliable_bits is None:
        raise ValueError(f"card '{card.name}' has no noise, so any capacity: state reliable_bits = … on the card")
    rows = tuple(noise_free_row(levels) for levels in range(2, most_levels(card) + 1))
    levels = max(2, math.floor(2.0**card.reliable_bits))
    return Capacity(card.name, time_s, math.inf, rows, card.reliable_bits, levels)


def noise_free_row(levels: int) -> LevelsRow:
    """The row of L evenly spaced levels that are always read correctly."""
    targets = np.linspace(0.0, 1.0, levels)
    middles = 0.5 * (targets[1:] + targets[:-1])
    return LevelsRow(levels, math.log2(levels), 0.0, tuple(targets.tolist()), tuple(middles.tolist()))


def capacity(card: Card | str, time_s: float) -> Capacity:
    """Bits that a cell of the card holds when read `time_s` seconds after the reference read; the result is cached.

    The L levels are evenly spaced in ∫ dm/σ over the mean reads m, so that neighbours are equally many standard
    deviations apart. Each threshold lies equally many standard deviations from both its levels, so that both are
    mistaken equally often. (Thresholds where the densities cross gain up to 2 % of the bits; ours have a closed form.)
    On a card with finite levels the L levels are those of its own that lie farthest apart, and there are no rows beyond
    their number. A card without noise has infinite analog bits and the reliable bits that it states by convention.

    Raises:
        ValueError: unknown card, or a time outside its range.

    >>> now = capacity("pcm-zarcone:aligned", 0.0)
    >>> round(now.analog_bits, 2), round(now.levels_table[2].bits, 2)  # 4 levels
    (2.04, 1.8)
    """
    device = as_card(card)
    return _capacity(device, device.check_time(time_s))


@lru_cache(maxsize=256)
def _capacity(card: Card, time_s: float) -> Capacity:
    seen = response(card, time_s)
    if not seen.variance_table.any():
        return _noise_free(card, time_s)
    channel = Channel.of(seen)
    rows = tuple(_row(channel, levels) for levels in range(2, most_levels(card) + 1))
    best = max(rows, key=lambda row: row.bits)
    return Capacity(card.name, time_s, channel.analog_bits(), rows, best.bits, best.levels)


def reliable_bits(card: Card | str, time_s: float) -> float:
    """Bits a cell at the best number of levels, 2 to 32, with hard decisions: the bound for digital storage.

    It is an upper bound on what any error-correcting code reaches on those levels; `practical_bits` gives one code.

    >>> reliable_bits("ideal", 0.0)
    4.0
    """
    device = as_card(card)
    return _reliable_bits(device, device.check_time(time_s))


@lru_cache(maxsize=256)
def _reliable_bits(card: Card, time_s: float) -> float:
    """The `reliable_bits` of `_capacity` alone, in a tenth of the time."""
    seen = response(card, time_s)
    if not seen.variance_table.any():
        return _noise_free(card, time_s).reliable_bits
    channel, best = Channel.of(seen), 0.0
    for levels in range(most_levels(card), 1, -1):  # most cards hold most with most levels: others are left early
        if math.log2(levels) > best:
            best = max(best, blahut_arimoto(_decided(channel, levels)[2], least=best))
    return best


@dataclass(frozen=True)
class CapacityPoint:
    """Bits a cell for L levels written and M levels distinguished by a read, at one time and temperature.

    Attributes:
        card: name of the card.
        time_s: the read, in seconds after the reference read.
        temperature_k: temperature of the cells in kelvin; None for the one that the card was measured at.
        levels_written: L.
        levels_read: M; M = L is a hard decision, M > L a soft one, which also tells how certain it is.
        bits: capacity of the L x M channel, the levels used as often as is best (Blahut-Arimoto).
        uniform_bits: mutual information with the levels used equally often.
        symbol_error: share of wrong hard decisions when the levels are used equally often, whatever M is.
        analog_bits: capacity of the card's Gaussian channel with any level written and any read, the upper bound.
        targets: the L levels to write, in [0, 1].
        thresholds: the M - 1 levels that the read is compared with (L - 1 without noise, where more add nothing).
    """

    card: str
    time_s: float
    temperature_k: float | None
    levels_written: int
    levels_read: int
    bits: float
    uniform_bits: float
    symbol_error: float
    analog_bits: float
    targets: tuple[float, ...]
    thresholds: tuple[float, ...]


def capacity_study(
    card: Card | str,
    *,
    levels_written: Sequence[int] | None = None,
    levels_read: Sequence[int] | None = None,
    times_s: Sequence[float] = (0.0,),
    temperatures_k: Sequence[float] | None = None,
    cells_a_level: int | None = None,
    seed: int = 0,
) -> tuple[CapacityPoint, ...]:
    """Tabulate the bits a cell over levels written, levels read, times and temperatures.

    Levels and hard thresholds are those of `capacity` at the time of the read; each further threshold is the one that
    adds most bits (`devices.channel.channel.soft_thresholds`).

    Args:
        card: a card, or the name or path of one.
        levels_written: numbers L of levels, 2 to 32 each, or as many as the card has. None: 2, 4, 8 and 16.
        levels_read: numbers M of read levels, up to 256 each; pairs with M < L are left out. None: M = L.
        times_s: seconds since the reference read.
        temperatures_k: in kelvin, for cards with an activation energy. None: the card's own temperature.
        cells_a_level: None for the Gaussian channel; a number simulates that many cells a level and counts their reads,
            so that clamping and skewed drift are included. Counting overstates bits by about M / (2 ln 2 · cells):
            0.0001 for 16 levels read and 100,000 cells.
        seed: of the simulated cells.

    Returns:
        A point for each temperature, time, L and M, in this order.

    Raises:
        ValueError: unknown card, a time or temperature at which it does not hold, a number of levels out of range.

    >>> hard, soft = capacity_study("pcm-zarcone:aligned", levels_written=[4], levels_read=[4, 16])
    >>> round(hard.bits, 2), round(soft.bits, 2), round(soft.analog_bits, 2)
    (1.8, 1.89, 2.04)
    """
    device = as_card(card)
    most = most_levels(device)
    given = [levels for levels in CUSTOMARY_LEVELS if levels <= most] if levels_written is None else levels_written
    written = [_whole(count, f"levels written on '{device.name}'", most) for count in given]
    read = None if levels_read is None else [_whole(count, "levels read", MOST_READ) for count in levels_read]
    pairs = [(count, [m for m in (read or [count]) if m >= count]) for count in written]
    if not any(reads for _, reads in pairs):
        raise ValueError(
            f"levels read must reach the levels written, not {read} for {written}: "
            f"read as many levels as were written, or more"
        )
    if cells_a_level is not None and (not isinstance(cells_a_level, (int, np.integer)) or cells_a_level < 1):
        raise ValueError(
            f"cells_a_level must be a whole number from 1 on, not {cells_a_level!r}: 100000 make bits good to 0.001"
        )
    points: list[CapacityPoint] = []
    for temperature_k in temperatures_k if temperatures_k is not None else (None,):
        for time_s in times_s:
            at = response(device, _aged(device, time_s, temperature_k))
            for levels, reads in pairs:
                found = _points(at, levels, reads, cells_a_level, seed)
                points += [replace(point, time_s=float(time_s), temperature_k=temperature_k) for point in found]
    return tuple(points)


def _whole(count: int, what: str, most: int) -> int:
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or not 2 <= count <= most:
        raise ValueError(
            f"{what} must be a whole number from 2 to {most}, not {count!r}: take for example {min(8, most)}"
        )
    return int(count)


def _aged(card: Card, time_s: float, temperature_k: float | None) -> float:
    """The time at the card's own temperature that ages a cell as much as `time_s` at `temperature_k`."""
    return card.check_time(time_s if temperature_k is None else card.equivalent_time(time_s, temperature_k))


def _points(seen: Response, levels: int, reads: list[int], cells: int | None, seed: int) -> list[CapacityPoint]:
    """The points of one number of levels, at the card's own temperature."""
    whole = capacity(seen.card, seen.time_s)
    row = whole.levels_table[levels - 2]
    hard = np.array(row.thresholds)
    if seen.variance_table.any():
        channel = Channel.of(seen)
        places = channel.places()
        below = channel.below(channel.inputs(levels))
        if cells is not None:
            below = simulated_below(seen, row.targets, cells, seed)
    else:
        places = hard
        below = _steps(np.array(row.targets))
    points = []
    for count in reads:
        thresholds = soft_thresholds(below, hard, places, count - 1)
        matrix = between(below(thresholds))
        points.append(
            CapacityPoint(
                card=seen.card.name,
                time_s=seen.time_s,
                temperature_k=None,
                levels_written=levels,
                levels_read=count,
                bits=blahut_arimoto(matrix),
                uniform_bits=mutual_information(matrix),
                symbol_error=symbol_error(between(below(hard))),
                analog_bits=whole.analog_bits,
                targets=row.targets,
                thresholds=tuple(thresholds.tolist()),
            )
        )
    return points


def _steps(reads: FloatArray) -> Below:
    """The distribution functions of reads without noise."""
    return lambda edges: (reads[:, None] <= edges[None, :]).astype(np.float64)


def save_points(points: Sequence[CapacityPoint], path: Path | str) -> Path:
    """Save points of `capacity_study` as CSV, one row a point, with the fields of `CapacityPoint` as columns.

    Targets and thresholds are numbers separated by spaces within their column.

    Raises:
        OSError: the file cannot be written.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    names = [field.name for field in fields(CapacityPoint)]
    with replacing(target) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        for point in points:
            values = [getattr(point, name) for name in names]
            writer.writerow([" ".join(map(repr, v)) if isinstance(v, tuple) else v for v in values])
    return target
