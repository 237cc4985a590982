"""What one cell reads on average, and how far it strays: closed-form moments of a card at one time.

They are computed from the very tables that the kernels look up, so that Monte-Carlo and formula agree
exactly. Programming, drift exponent and read noise are independent given the target x, hence with p the
programmed level, f = (t/t0)^-ν the share kept and 1 + n the read factor,

    mean = E[p] E[f]        variance = E[p²] E[f²] (1 + E[n²]) - mean²

p is a Gaussian, clamped at 0 where the card says so; ν is a folded normal, whose moment-generating function
is closed (Leone, Nelson & Nottingham, Technometrics 3:543, 1961).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_ndtr, ndtr

from devices.card import Card
from devices.curves import INTERVALS, FloatArray, interpolate, sqrt_grid, tabulate
from devices.library import as_card

__all__ = ["ReadTables", "Response", "programming_table", "read_tables", "response"]

Table = TypeVar("Table", NDArray[np.float32], FloatArray)

GRID = 4 * INTERVALS  # nodes of the moments: the tables' own and three between each two
SLACK = 1e-6  # rounding in levels that is clipped instead of refused, in every room


@dataclass(frozen=True, eq=False)
class ReadTables:
    """A card's look-up tables at one time for `devices.kernels.read_cells`: float32, shape (INTERVALS + 1,).

    `drift_mean`, `drift_sd`: of the binary orders of magnitude lost, ν log2(t/t0); `noise`: relative sd of
    a read.
    """

    drift_mean: NDArray[np.float32]
    drift_sd: NDArray[np.float32]
    noise: NDArray[np.float32]


@lru_cache(maxsize=64)
def programming_table(card: Card) -> NDArray[np.float32]:
    """The programming sd of a card in levels, shape (INTERVALS + 1,)."""
    return _constant(tabulate(card.programming_sd))


@lru_cache(maxsize=256)
def read_tables(card: Card, time_s: float) -> ReadTables | None:
    """The tables of a read time_s after the reference read; None where a read returns what was programmed."""
    t_s = card.check_time(time_s) + card.t0_s
    if card.drift is None and card.read_noise is None:
        return None
    nothing = np.zeros(INTERVALS + 1, dtype=np.float32)
    mean, sd, noise = nothing, nothing, nothing
    if card.drift is not None:
        decay = np.float32(math.log2(t_s / card.t0_s))
        mean, sd = decay * tabulate(card.drift.exponent_mean), decay * tabulate(card.drift.exponent_sd)
    if card.read_noise is not None:
        noise = np.float32(card.read_noise.growth(t_s)) * tabulate(card.read_noise.q)
    return ReadTables(_constant(mean), _constant(sd), _constant(noise))


def _constant(table: Table) -> Table:
    """The table, locked, since many callers share it."""
    table.flags.writeable = False
    return table


def _programmed(x: FloatArray, sd: FloatArray, clamp: bool) -> tuple[FloatArray, FloatArray]:
    """Mean and variance of the programmed level."""
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
    """Mean and variance of ONE cell's read level against its target level, for one card at one time.

    `low` and `high` are the mean reads of targets 0 and 1. The tables have shape (GRID + 1,), uniform in √x.
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
        """The targets whose mean read levels are `mean`, from `low` to `high`, any shape, float64.

        So low + v (high - low), written at its inverse, reads v on average after (y - low) / (high - low):

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
        return np.interp(m, self.mean_table, np.linspace(0.0, 1.0, GRID + 1)) ** 2

    def _targets(self, x: ArrayLike) -> FloatArray:
        levels = np.asarray(x, dtype=np.float64)
        if not ((levels >= -SLACK) & (levels <= 1.0 + SLACK)).all():
            raise ValueError(f"levels must lie in [0, 1], not {np.min(levels):g} to {np.max(levels):g}: scale them")
        return np.clip(levels, 0.0, 1.0)


def response(card: Card | str, time_s: float) -> Response:
    """Mean and variance of a read, time_s seconds after the reference read; kept for the next call.

    Raises:
        ValueError: time outside the card's range, or a mean that does not rise with the target.
    """
    device = as_card(card)
    return _response(device, device.check_time(time_s))


@lru_cache(maxsize=256)
def _response(card: Card, time_s: float) -> Response:
    x = sqrt_grid(GRID)
    mean, variance = _programmed(x, interpolate(programming_table(card), x), card.level.clamp_at_0)
    tables = read_tables(card, time_s)
    if tables is not None:
        drift = interpolate(tables.drift_mean, x), interpolate(tables.drift_sd, x)
        kept, kept_squared = _kept(*drift, 1.0), _kept(*drift, 2.0)
        noise = interpolate(tables.noise, x) ** 2
        # the three terms: programming, drift and read noise; no difference of nearly equal numbers
        variance = (
            variance * kept_squared + mean**2 * (kept_squared - kept**2) + (mean**2 + variance) * kept_squared * noise
        )
        mean = mean * kept
    if not (np.diff(mean) > 0.0).all():
        at = x[np.argmin(np.diff(mean))]
        raise ValueError(
            f"card '{card.name}' at {time_s:g} s: the mean read level must rise with the target, "
            f"but falls near level {at:.3g}: read earlier or narrow the card's level range"
        )
    return Response(card, time_s, _constant(mean), _constant(variance))
