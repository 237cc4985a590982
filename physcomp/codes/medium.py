"""The cells that codes write to: what a value in [0, 1] reads as after some time, in mean and variance."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Literal, get_args

import numpy as np
from numba import njit
from numpy.typing import NDArray

import devices
from devices.channel.channel import simulated_below

Rows = NDArray[np.float32]
Ecc = Literal["bound", "bch"]
"""How digital bits are converted to cells: by the bound for any error-correcting code, or by an existing BCH code."""
Over = Literal["mean", "worst"]
"""How losses at several read times count together: by their mean, or by the worst."""

# Simulated cells by which decision errors are counted: a Gaussian with the moments of the card is wrong tenfold about
# rare errors (see `devices.channel.capacity`). Our choice: it takes a second, and an error rate of 1 in 10,000 is known
# to 5 %.
DECISION_CELLS = 1 << 22
DECISION_SEED = 1 << 41
GRID = 4096  # intervals of the tables of moments; our choice


@dataclass(frozen=True)
class Medium:
    """The cells of a card with the times at which they are read, and the way in which values become levels.

    Args:
        card: the device.
        written_for_s: seconds since programming at which the levels written are meant to be read.
        read_time_s: seconds since programming at which they are read; None: `written_for_s`.
        raw: write a value as the level of the same number and read it likewise, so that the mean error remains: for
            comparison with inverse mapping (Isik et al. 2023, doi 10.1145/3588436).
        steps: number of evenly spaced values that may be written; each cell read is decided for one of them. 0: any.
        ecc: how digital bits are converted to cells; see `devices.reliable_bits` and `devices.practical_bits`.
        span_s: several read times in seconds, all of which count when codes and scales are chosen, and at all of which
            digital bits must be readable. Empty: the one read time alone.
        over: how the losses at these times count: by their mean, or by the worst.

    A value v in [0, 1] is written by inverse mapping: as the level whose mean at `written_for_s` lies at the fraction v
    between the means of levels 0 and 1. It is decoded as the fraction at which the level read lies between these two
    means at `read_time_s`. That is exactly unbiased if both times are equal and the card can write any level.
    """

    card: devices.Card
    written_for_s: float
    read_time_s: float | None = None
    raw: bool = False
    steps: int = 0
    ecc: Ecc = "bound"
    span_s: tuple[float, ...] = ()
    over: Over = "mean"

    def __post_init__(self) -> None:
        if self.over not in get_args(Over):
            raise ValueError(f"over: one of {', '.join(get_args(Over))}, got '{self.over}'; correct it")
        if self.ecc not in get_args(Ecc):
            raise ValueError(f"ecc: one of {', '.join(get_args(Ecc))}, got '{self.ecc}'; correct it")

    def seen(self, *, raw: bool, steps: int) -> "Medium":
        """The same cells with another `raw` and `steps`; cached."""
        return self if (raw, steps) == (self.raw, self.steps) else _seen(self, raw, steps)

    @cached_property
    def reads(self) -> tuple["Medium", ...]:
        """The same cells once for each time of `span_s`; just these cells if it is empty."""
        return tuple(replace(self, read_time_s=time_s, span_s=()) for time_s in self.span_s) or (self,)

    def counted(self, losses: Sequence[NDArray[np.float64]] | NDArray[np.float64]) -> NDArray[np.float64]:
        """Combine losses at each of `reads` (arrays of one shape): their mean or maximum, as `over` says."""
        return np.asarray(np.mean(losses, axis=0) if self.over == "mean" else np.max(losses, axis=0))

    @cached_property
    def bits_per_cell(self) -> float:
        """Bits that a cell holds reliably at `written_for_s`, or at all times of `span_s`, as `ecc` counts them."""
        if self.span_s:
            return min(replace(self, written_for_s=time_s, span_s=()).bits_per_cell for time_s in self.span_s)
        if self.ecc == "bch":
            return devices.practical_bits(self.card, self.written_for_s).bits_per_cell
        return devices.reliable_bits(self.card, self.written_for_s)

    @cached_property
    def _writing(self) -> devices.Response:
        return devices.response(self.card, self.written_for_s)

    @cached_property
    def _reading(self) -> devices.Response:
        time_s = self.written_for_s if self.read_time_s is None else self.read_time_s
        return devices.response(self.card, time_s)

    def levels(self, values: NDArray[np.floating]) -> Rows:
        """The levels to write for values in [0, 1]: float32 of the same shape."""
        if self.steps:
            return self._targets.astype(np.float32)[self._step(values)]
        return self._written(values)

    def _written(self, values: NDArray[np.floating]) -> Rows:
        if self.raw:
            return np.asarray(values, np.float32)
        low, high = self._writing.low, self._writing.high
        return np.asarray(self._writing.inverse(low + values * (high - low)), np.float32)

    def values(self, levels: NDArray[np.floating]) -> NDArray[np.float64]:
        """The values decoded from levels read: float64 of the same shape; noise may move them outside [0, 1]."""
        if self.steps:
            decided = np.searchsorted(self._thresholds, np.asarray(levels, np.float64), side="left")
            return decided / (self.steps - 1)
        if self.raw:
            return np.asarray(levels, np.float64)
        low, high = self._reading.low, self._reading.high
        return (np.asarray(levels, np.float64) - low) / (high - low)

    def _step(self, values: NDArray[np.floating]) -> NDArray[np.int64]:
        """Number of the step nearest to each value in [0, 1]."""
        return np.floor(np.asarray(values, np.float64) * (self.steps - 1) + 0.5).astype(np.int64)

    @cached_property
    def _targets(self) -> NDArray[np.float64]:
        """The level written for each step."""
        return self._written(np.linspace(0, 1, self.steps)).astype(np.float64)

    @cached_property
    def _thresholds(self) -> NDArray[np.float64]:
        """The levels read at which decisions change: equally many standard deviations from both neighbours."""
        mean, sd = self._reading.mean(self._targets), np.sqrt(self._reading.variance(self._targets))
        total = sd[:-1] + sd[1:]
        share = np.where(total > 0, sd[:-1] / np.where(total > 0, total, 1), 0.5)
        return np.asarray(mean[:-1] + share * (mean[1:] - mean[:-1]))

    @cached_property
    def _decided(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and variance of the decided value for each step written, decision errors included."""
        cells = DECISION_CELLS // self.steps
        below = simulated_below(self._reading, tuple(self._targets.tolist()), cells, DECISION_SEED)(self._thresholds)
        shares = np.diff(np.hstack([np.zeros((self.steps, 1)), below, np.ones((self.steps, 1))]), axis=1)
        values = np.linspace(0, 1, self.steps)
        mean = shares @ values
        return mean, np.maximum(shares @ values**2 - mean**2, 0)

    @cached_property
    def _moments(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """A fine grid of values, evenly spaced in their square root; mean and variance of what each decodes to."""
        stored = np.linspace(0, 1, GRID + 1) ** 2
        return stored, self._mean_of(stored), self._variance_of(stored)

    def _mean_of(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        return self.values(self._reading.mean(self._written(values)))

    def _variance_of(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        span = 1.0 if self.raw else self._reading.high - self._reading.low
        return np.asarray(self._reading.variance(self._written(values)) / span**2)

    def mean(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Mean of the value decoded from one cell, for each value stored, in [0, 1]."""
        if self.steps:
            return self._decided[0][self._step(values)]
        if self.card.written_levels:
            return self._mean_of(values)  # interpolation on a grid would smear the steps
        if not self.raw and (self.read_time_s is None or self.read_time_s == self.written_for_s):
            return np.asarray(values, np.float64)
        return _between(values, self._moments[0], self._moments[1])

    def variance(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Variance of the value decoded from one cell, for each value stored, in [0, 1]."""
        if self.steps:
            return self._decided[1][self._step(values)]
        if self.card.written_levels:
            return self._variance_of(values)
        return _between(values, self._moments[0], self._moments[2])


def _between(values: NDArray[np.floating], grid: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear interpolation on a grid of values evenly spaced in their square root, without a search."""
    given = np.ascontiguousarray(values, np.float64)
    found = np.empty_like(given)
    _interpolate(given.reshape(-1), grid, at, found.reshape(-1))
    return found


@njit(cache=True, nogil=True)
def _interpolate(
    values: NDArray[np.float64], grid: NDArray[np.float64], at: NDArray[np.float64], found: NDArray[np.float64]
) -> None:
    last = len(grid) - 2
    for i in range(len(values)):
        value = min(values[i], 1.0) if values[i] > 0 else 0.0
        place = min(int(np.sqrt(value) * (last + 1)), last)
        share = (value - grid[place]) / (grid[place + 1] - grid[place])
        found[i] = at[place] + share * (at[place + 1] - at[place])


@lru_cache(maxsize=256)
def _seen(medium: Medium, raw: bool, steps: int) -> Medium:
    return replace(medium, raw=raw, steps=steps)
