"""Mean and variance of the read of one cell, in closed form, for a card at one time.

They are computed from the same tables that the compiled loops look up, so that simulation and formula agree exactly.
Programming, relaxation, drift exponent and read noise are independent given the target x. With p the level after
programming and relaxation, f = (t/t0)^-ν the share left by drift, 1 + n the factor and m the addend of read noise,

    mean = E[p] E[f]        variance = E[p²] E[f²] (1 + E[n²]) + E[m²] - mean²

p is a Gaussian, clamped at 0 where the card says so; ν is a folded normal, whose moment-generating function
is closed (Leone, Nelson & Nottingham, Technometrics 3:543, 1961). Cells that are stuck at 0 or 1 add two points to
the distribution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_ndtr, ndtr

from devices.cards.card import Card
from devices.cards.curves import INTERVALS, FloatArray, interpolate, sqrt_grid
from devices.cards.library import as_card
from devices.cards.parts import Stuck
from devices.cells.tables import FloatTable, ReadTables, level_thresholds, programming_table, read_tables

__all__ = ["ReadTables", "Response", "programming_table", "read_tables", "response"]

GRID = 4 * INTERVALS  # nodes of the moments: the tables' own and three between each two
SLACK = 1e-6  # rounding in levels that is clipped instead of refused, in every room


def _programmed(x: FloatArray, sd: FloatArray, clamp: bool) -> tuple[FloatArray, FloatArray]:
    """Mean and variance of a Gaussian level, clamped at 0 or not."""
    if not clamp:
        return x, sd**2
    safe = np.where(sd > 0.0, sd, 1.0)
    above = ndtr(x / safe)  # the share that is not clamped
    density = safe * np.exp(-0.5 * (x / safe) ** 2) / math.sqrt(2.0 * math.pi)
    mean = x * above + density
    variance = (x**2 + sd**2) * above + x * density - mean**2
    return np.where(sd > 0.0, mean, x), np.where(sd > 0.0, variance, 0.0)


def _kept(mean: FloatArray, sd: FloatArray, power: float) -> FloatArray:
    """E[2^(-power |N(mean, sd)|)]."""
    step = power * math.log(2.0)
    safe = np.where(sd > 0.0, sd, 1.0)
    spread = 0.5 * (step * safe) ** 2
    falling = np.exp(spread - step * mean + log_ndtr(mean / safe - step * safe))
    rising = np.exp(spread + step * mean + log_ndtr(-mean / safe - step * safe))
    return np.where(sd > 0.0, falling + rising, np.exp(-step * mean))


@dataclass(frozen=True, eq=False)
class Response:
    """Mean and variance of the read of one cell as functions of its target level, for one card at one time.

    Attributes:
        card: the kind of cell.
        time_s: the read, in seconds after the reference read.
        mean_table, variance_table: mean read level and variance at targets evenly spaced in √x, float64, shape
            (GRID + 1,). On a card with finite levels they are steps: a target counts as the level it is written to.
    """

    card: Card
    time_s: float
    mean_table: FloatArray
    variance_table: FloatArray

    @property
    def low(self) -> float:
        """Mean read level of target 0."""
        return float(self.mean_table[0])

    @property
    def high(self) -> float:
        """Mean read level of target 1."""
        return float(self.mean_table[-1])

    def mean(self, x: ArrayLike) -> FloatArray:
        """Mean read level of targets x in [0, 1], any shape, float64."""
        return interpolate(self.mean_table, self._targets(x))

    def variance(self, x: ArrayLike) -> FloatArray:
        """Variance of the read level of one cell at targets x in [0, 1], any shape, float64."""
        return interpolate(self.variance_table, self._targets(x))

    def inverse(self, mean: ArrayLike) -> FloatArray:
        """Find the targets whose mean read levels are `mean`, which lie from `low` to `high`; float64, any shape.

        To store v in [0, 1], program inverse(low + v (high - low)); (y - low) / (high - low) of the read y is then v
        on average. On a card with finite levels it is the level whose mean read is nearest.

        >>> day = response("pcm-nandakumar", 86400.0)
        >>> middle = 0.5 * (day.low + day.high)
        >>> bool(abs(day.mean(day.inverse(middle)) - middle) < 1e-12)
        True
        """
        m = np.asarray(mean, dtype=np.float64)
        if not ((m >= self.low - SLACK) & (m <= self.high + SLACK)).all():
            raise ValueError(
                f"card '{self.card.name}' at {self.time_s:g} s reads {self.low:.6g} to {self.high:.6g} "
                f"on average, not {np.min(m):g} to {np.max(m):g}: scale the values into that range"
            )
        if self.card.written_levels:
            at = np.array(self.card.written_levels)
            means = self.mean(at)
            nearest: FloatArray = at[np.searchsorted(0.5 * (means[1:] + means[:-1]), m, side="right")]
            return nearest
        return np.interp(m, self.mean_table, np.linspace(0.0, 1.0, GRID + 1)) ** 2

    def _targets(self, x: ArrayLike) -> FloatArray:
        levels = np.asarray(x, dtype=np.float64)
        if not ((levels >= -SLACK) & (levels <= 1.0 + SLACK)).all():
            raise ValueError(f"levels must lie in [0, 1], not {np.min(levels):g} to {np.max(levels):g}: scale them")
        return _written(self.card, np.clip(levels, 0.0, 1.0))


def _written(card: Card, x: FloatArray) -> FloatArray:
    """The levels that targets x are written to: x itself, or the nearest finite levels of the card."""
    if not card.written_levels:
        return x
    above = np.searchsorted(level_thresholds(card), x.astype(np.float32), side="right")
    nearest: FloatArray = np.array(card.written_levels)[above]
    return nearest


def response(
    card: Card | str, time_s: float, *, stuck_low: float | None = None, stuck_high: float | None = None
) -> Response:
    """Mean and variance of a read `time_s` seconds after the reference read; the result is cached.

    Args:
        card: a card, or the name or path of one.
        time_s: seconds after the reference read.
        stuck_low, stuck_high: shares of stuck cells, as for `program`; None takes the card's.

    Raises:
        ValueError: a time at which the card does not hold, or a mean read that does not rise with the target.
    """
    device = as_card(card)
    return _response(device, device.check_time(time_s), device.stuck.replaced(stuck_low, stuck_high))


@lru_cache(maxsize=256)
def _response(card: Card, time_s: float, stuck: Stuck) -> Response:
    grid = sqrt_grid(GRID)
    x = _written(card, grid)
    mean, variance = _healthy(card, read_tables(card, time_s) or ReadTables(), x)
    if stuck:
        healthy = 1.0 - stuck.low - stuck.high
        variance = healthy * (variance + mean**2) + stuck.high
        mean = healthy * mean + stuck.high
        variance -= mean**2
    at = np.array(card.written_levels) if card.written_levels else grid
    rising = np.diff(interpolate(mean, at)) > 0.0
    if not rising.all():
        raise ValueError(
            f"card '{card.name}' at {time_s:g} s: the mean read level must rise with the target, "
            f"but falls near level {at[int(np.argmin(rising))]:.3g}: read earlier or narrow the card's level range"
        )
    return Response(card, time_s, _locked(mean), _locked(variance))


def _healthy(card: Card, tables: ReadTables, x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and variance of the read of a cell that is not stuck."""

    def at(table: FloatTable | None) -> FloatArray:
        return np.zeros_like(x) if table is None else interpolate(table, x)

    sd, spread = at(programming_table(card)), at(tables.spread)
    if tables.spread is not None:
        sd = np.hypot(sd, spread)
    mean, variance = _programmed(x if tables.shift is None else x + at(tables.shift), sd, card.level.clamp_at_0)
    if tables.drift_mean is not None or tables.noise is not None:
        drift = at(tables.drift_mean), at(tables.drift_sd)
        kept, kept_squared = _kept(*drift, 1.0), _kept(*drift, 2.0)
        noise = at(tables.noise) ** 2
        # the three terms: programming, drift and read noise; no difference of nearly equal numbers
        variance = (
            variance * kept_squared + mean**2 * (kept_squared - kept**2) + (mean**2 + variance) * kept_squared * noise
        )
        mean = mean * kept
    return mean, variance + at(tables.added) ** 2


def _locked(table: FloatArray) -> FloatArray:
    """The table, read-only, since many callers share it."""
    table.flags.writeable = False
    return table
