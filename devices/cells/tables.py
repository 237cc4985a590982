"""A card as look-up tables at one time: what the compiled loops and the closed-form moments both take.

The tables have INTERVALS + 1 nodes, uniform in √x. A part that a card does not have is None, and costs a loop
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
    """A card's look-up tables at one time for `devices.cells.kernels.read_cells`: float32, shape (INTERVALS + 1,).

    `shift`, `spread`: of the relaxation, in levels. `drift_mean`, `drift_sd`: of the binary orders of magnitude
    lost, ν log2(t/t0). `noise`: relative sd of a read; `added`: sd of a read in levels. `common`: the share of
    the read noise that reads of one cell have in common. `kept`: the share of a cell's deviation that a further read
    still shows; None where all of it.
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
    """The table, locked, since many callers share it."""
    table.flags.writeable = False
    return table


def _or_none(table: FloatTable) -> FloatTable | None:
    """The table, locked; None where it is zero everywhere."""
    return constant(table) if table.any() else None


@lru_cache(maxsize=64)
def programming_table(card: Card) -> FloatTable:
    """The programming sd of a card in levels, shape (INTERVALS + 1,)."""
    return constant(tabulate(card.programming_sd))


def level_thresholds(card: Card) -> FloatTable:
    """The targets between which a card with finite levels takes the next one: half-way, the upper one from there."""
    at = np.array(card.written_levels)
    return constant((0.5 * (at[1:] + at[:-1])).astype(np.float32))


@lru_cache(maxsize=256)
def read_tables(card: Card, time_s: float) -> ReadTables | None:
    """The tables of a read time_s after the reference read; None where a read returns what was programmed."""
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
