"""Checks of a card beyond its format: simulated cells against closed-form moments, and notes for its user.

A card that loads is well formed. Whether it describes a sensible device shows in use: the mean read has to rise with
the target at every time, simulated cells have to show the mean and variance that codes and capacities count on, and
the look-up tables have to follow the curves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from devices.cards.card import Card
from devices.cards.curves import FloatArray, interpolate, tabulate
from devices.cards.library import as_card
from devices.cells.cells import program
from devices.cells.moments import response

__all__ = ["CardCheck", "Moments", "check_card", "check_times"]

CELLS = 20_000  # a level: the sd is then known to 0.5 %
LEVELS = 16
STANDARD_ERRORS = 5.0
LONGEST_S = 1e9  # stands for "for ever"
ROUNDING = 2e-7  # of float32 levels


@dataclass(frozen=True)
class Moments:
    """How far simulated cells are from the closed-form mean and variance at one time.

    Attributes:
        time_s: the read, in seconds after the reference read.
        levels: how many levels were simulated.
        mean_errors, variance_errors: the largest difference over the levels, in standard errors of the simulation.
        largest_sd: the largest standard deviation of a read, in levels.
    """

    time_s: float
    levels: int
    mean_errors: float
    variance_errors: float
    largest_sd: float


@dataclass(frozen=True)
class CardCheck:
    """Result of a check: `moments` at each time, `problems` to correct and `notes` to know, one line each."""

    card: str
    moments: tuple[Moments, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]


def check_times(card: Card) -> tuple[float, ...]:
    """The times at which a card is checked: all of them where they are few, else the first, a middle one and the last.

    >>> check_times(as_card("rram-neurram"))
    (1.0, 86400.0, 172800.0)
    """
    if card.times.only_s:
        return card.times.only_s
    last = min(card.max_s, LONGEST_S)
    return tuple(sorted({0.0, math.sqrt(last) if last > 1.0 else 0.5 * last, last}))


def check_card(card: Card | str, *, seed: int = 0) -> CardCheck:
    """Check a card: simulate cells at 16 levels (or its finite ones) and several times, and list its problems.

    Args:
        card: a card, or the name or path of one.
        seed: of the simulated cells.

    >>> check_card("rram-milo").problems
    ()
    """
    device = as_card(card)
    moments, problems = [], [*_table_problems(device)]
    for time_s in check_times(device):
        try:
            found = _simulated(device, time_s, seed)
        except ValueError as error:
            problems.append(str(error))
            continue
        moments.append(found)
        worst = max(found.mean_errors, found.variance_errors)
        if worst > STANDARD_ERRORS:
            problems.append(f"at {time_s:g} s simulated moments are {worst:.1f} standard errors off the closed form")
        if found.largest_sd > 0.5:
            problems.append(f"at {time_s:g} s a cell reads with an sd of {found.largest_sd:.2g} of the whole range")
    return CardCheck(device.name, tuple(moments), tuple(problems), tuple(_notes(device)))


def _simulated(card: Card, time_s: float, seed: int) -> Moments:
    x = np.array(card.written_levels) if card.written_levels else np.linspace(0.0, 1.0, LEVELS)
    expected = response(card, time_s)
    mean, variance = expected.mean(x), expected.variance(x)
    reads = program(card, np.repeat(x, CELLS), seed=seed).read(time_s=time_s).reshape(x.size, CELLS)
    off = reads.astype(np.float64) - mean[:, None]
    squares = off**2
    mean_error = np.maximum(np.abs(off.mean(axis=1)) - ROUNDING, 0.0)
    variance_error = np.maximum(np.abs(squares.mean(axis=1) - variance) - ROUNDING**2, 0.0)
    return Moments(
        time_s=time_s,
        levels=x.size,
        mean_errors=_largest(mean_error, np.sqrt(variance / CELLS)),
        variance_errors=_largest(variance_error, squares.std(axis=1) / math.sqrt(CELLS)),
        largest_sd=float(np.sqrt(variance.max())),
    )


def _largest(error: FloatArray, unit: FloatArray) -> float:
    """The largest error in its unit; 0 where there is none, infinite where the unit is 0."""
    return float(max(e / u if u > 0.0 else math.inf if e > 0.0 else 0.0 for e, u in zip(error, unit, strict=True)))


def _table_problems(card: Card) -> list[str]:
    """Curves that change faster than their look-up tables follow: by more than 1 % of the largest value."""
    x = np.linspace(0.0, 1.0, 20_001) ** 2
    curves = {"programming.sd": card.programming_sd} if not card.written_levels else {}
    if card.drift is not None:
        curves |= {"drift.exponent_mean": card.drift.exponent_mean, "drift.exponent_sd": card.drift.exponent_sd}
    if card.read_noise is not None:
        curves |= {"read_noise.q": card.read_noise.q, "read_noise.sd": card.read_noise.sd}
    found = []
    for name, curve in curves.items():
        error = np.abs(interpolate(tabulate(curve), x) - curve(x)).max()
        if error > 0.01 * np.abs(curve(x)).max():
            found.append(f"{name} changes by {error:.2g} within one interval of the tables: smooth its steps")
    return found


def _notes(card: Card) -> list[str]:
    notes = [f"source {i + 1} gives no DOI" for i, source in enumerate(card.sources) if source.doi == "none"]
    if not card.choices:
        notes.append("the card states no choices of its author")
    if card.temperature is None:
        notes.append("no activation energy: temperature is refused")
    if card.drift is None and card.relaxation is None and card.max_s > 0.0:
        notes.append("nothing changes with time: reads later than the reference read are as good")
    return notes
