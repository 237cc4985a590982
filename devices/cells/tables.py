"""Look-up tables of a card at one time, which both the compiled loops and the closed-form moments use.

The tables have INTERVALS + 1 nodes, evenly spaced in √x. A part that a card does not have is None and costs the loops
nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from devices.cards.card import Card
from devices.cards.curves import FloatArray, sqrt_grid, tabulate

__all__ = ["FloatTable", "ReadTables", "level_thresholds", "programming_table", "read_tables"]

FloatTable = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ReadTables:
    """Look-up tables of a card at one time, float32, shape (INTERVALS + 1,) each; None for a part it does not have.

    Attributes:
        shift, spread: mean change and added standard deviation of the relaxation, in levels.
        drift_mean, drift_sd: mean and sd of ν log2(t / t0), the number of halvings by drift.
        noise: relative standard deviation of a read.
        added: additive standard deviation of a read, in levels.
        common: correlation of the noise of two reads of one cell, 0 to 1.
        kept: share of a cell's programming error that a further read still shows; None where all of it.
    """

    shift: FloatTable | None = None
    spread: FloatTable | None = None
    drift_mean: FloatTable | None = None
    drift_sd: FloatTable | None = None
    noise: FloatTable | None = None
    added: FloatTable | None = None
    common: float = 0.0
    kept: float | None = None


def constant(table: FloatTable) -> FloatTable:
    """The table, read-only, since many callers share it."""
    table.flags.writeable = False
    return table


def _or_none(table: FloatTable) -> FloatTable | None:
    """The table, read-only; None where it is zero everywhere."""
    return constant(table) if table.any() else None


@lru_cache(maxsize=64)
def programming_table(card: Card) -> FloatTable:
    """Table of the programming standard deviation of a card, in levels, float32, shape (INTERVALS + 1,)."""
    return constant(tabulate(card.programming_sd))


def level_thresholds(card: Card) -> FloatTable:
    """Thresholds half-way between the finite levels of a card; a target at one is written to the upper level."""
    at = np.array(card.written_levels)
    return constant((0.5 * (at[1:] + at[:-1])).astype(np.float32))


@lru_cache(maxsize=256)
def read_tables(card: Card, time_s: float) -> ReadTables | None:
    """Tables of a read `time_s` after the reference read; None where a read returns exactly what was programmed."""
    t_s = card.check_time(time_s) + card.t0_s
    tables: dict[str, FloatTable | float | None] = {}
    if card.relaxation is not None:
        x = sqrt_grid()
        tables["shift"] = _or_none(_float32(card.relaxation.shift(x, t_s)))
        tables["spread"] = _or_none(_float32(card.relaxation.spread(x, t_s)))
    if card.drift is not None:
        decay = np.float32(math.log2(t_s / card.t0_s))
        tables["drift_mean"] = _or_none(decay * tabulate(card.drift.exponent_mean))
        tables["drift_sd"] = _or_none(decay * tabulate(card.drift.exponent_sd))
    if card.read_noise is not None:
        growth = np.float32(card.read_noise.growth(t_s))
        tables["noise"] = _or_none(growth * tabulate(card.read_noise.q))
        tables["added"] = _or_none(growth * tabulate(card.read_noise.sd))
        tables["common"] = card.read_noise.common(t_s)
    if card.rereads is not None:
        tables["kept"] = card.rereads
    return ReadTables(**tables) if tables else None  # type: ignore[arg-type]  # each name has its type


def _float32(values: FloatArray) -> FloatTable:
    return values.astype(np.float32)
