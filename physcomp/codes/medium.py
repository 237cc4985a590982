"""Cells as the codes see them: values in [0, 1] written, aged and read, with their mean and variance."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

import devices
from devices.channel.channel import simulated_below

Rows = NDArray[np.float32]
Storage = Literal["bound", "bch"]
"""What digital bits are counted by: the bound of any error-correcting code, or a BCH code that exists."""
Over = Literal["mean", "worst"]
"""What counts of the losses at several times."""

# How often a read is decided for each level is counted from so many simulated cells: the Gaussian of the card's moments
# is wrong tenfold about rare errors (see `devices.channel.capacity`). Our choice: a second; an error of one in 10,000
# to 5 %.
DECISION_CELLS = 1 << 22
DECISION_SEED = 1 << 41


@dataclass(frozen=True)
class Medium:
    """Cells of a card as the codes see them: written for one time, read at another.

    Args:
        card: the device.
        written_for_s: the time, in seconds since programming, for which levels are chosen when they are written.
        read_time_s: the time at which they are read; None: the time they were written for.
        raw: write a value as the level of the same number and take what is read for the value, so that the cell's mean
            error stays: what inverse mapping is compared with (Isik et al. 2023, doi 10.1145/3588436).
        steps: only so many values, spaced evenly, are written, and each cell read is decided for one of them; 0: any.
        storage: by what digital bits are counted in cells; see `devices.reliable_bits` and `devices.practical_bits`.
        span_s: times at which the cells are to be read, all of which count when codes and scales are chosen; empty:
            the one time alone. Digital bits have to hold at all of them.
        over: what counts of them, the mean of the losses or the worst.

    A value v in [0, 1] is written as the level whose mean at `written_for_s` lies v of the way between the means
    of levels 0 and 1 (inverse mapping), and decoded as the place of the read level between these two means at
    `read_time_s`: exactly unbiased when the two times agree and the card takes any level.
    """

    card: devices.Card
    written_for_s: float
    read_time_s: float | None = None
    raw: bool = False
    steps: int = 0
    storage: Storage = "bound"
    span_s: tuple[float, ...] = ()
    over: Over = "mean"

    def __post_init__(self) -> None:
        if self.over not in get_args(Over):
            raise ValueError(f"over: one of {', '.join(get_args(Over))}, got '{self.over}'; correct it")
        if self.storage not in get_args(Storage):
            raise ValueError(f"storage: one of {', '.join(get_args(Storage))}, got '{self.storage}'; correct it")

    def seen(self, *, raw: bool, steps: int) -> "Medium":
        """The same cells with another way of writing and reading values; kept for the next call."""
        return self if (raw, steps) == (self.raw, self.steps) else _seen(self, raw, steps)

    @cached_property
    def reads(self) -> tuple["Medium", ...]:
        """The same cells at each time of the span; themselves without one."""
        return tuple(replace(self, read_time_s=time_s, span_s=()) for time_s in self.span_s) or (self,)

    def counted(self, losses: Sequence[NDArray[np.float64]] | NDArray[np.float64]) -> NDArray[np.float64]:
        """What counts of the losses at each of `reads`, of one shape: their mean or the greatest of them."""
        return np.asarray(np.mean(losses, axis=0) if self.over == "mean" else np.max(losses, axis=0))

    @cached_property
    def bits_per_cell(self) -> float:
        """Bits a cell holds reliably at the time it was written for, or over the span, by the kind of `storage`."""
        if self.span_s:
            return min(replace(self, written_for_s=time_s, span_s=()).bits_per_cell for time_s in self.span_s)
        if self.storage == "bch":
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
        """Levels to write for values in [0, 1]; float32 of the same shape."""
        if self.steps:
            return self._targets.astype(np.float32)[self._step(values)]
        return self._written(values)

    def _written(self, values: NDArray[np.floating]) -> Rows:
        if self.raw:
            return np.asarray(values, np.float32)
        low, high = self._writing.low, self._writing.high
        return np.asarray(self._writing.inverse(low + values * (high - low)), np.float32)

    def values(self, levels: NDArray[np.floating]) -> NDArray[np.float64]:
        """Values decoded from read levels; float64 of the same shape, noise may carry them outside [0, 1]."""
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
        """Read levels between neighbouring steps, equally many standard deviations from both."""
        mean, sd = self._reading.mean(self._targets), np.sqrt(self._reading.variance(self._targets))
        total = sd[:-1] + sd[1:]
        share = np.where(total > 0, sd[:-1] / np.where(total > 0, total, 1), 0.5)
        return np.asarray(mean[:-1] + share * (mean[1:] - mean[:-1]))

    @cached_property
    def _decided(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and variance of the decided value for each step, symbol errors included."""
        cells = DECISION_CELLS // self.steps
        below = simulated_below(self._reading, tuple(self._targets.tolist()), cells, DECISION_SEED)(self._thresholds)
        shares = np.diff(np.hstack([np.zeros((self.steps, 1)), below, np.ones((self.steps, 1))]), axis=1)
        values = np.linspace(0, 1, self.steps)
        mean = shares @ values
        return mean, np.maximum(shares @ values**2 - mean**2, 0)

    @cached_property
    def _moments(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Mean and variance of the decoded value on a fine grid of stored values (spaced evenly in the root)."""
        stored = np.linspace(0, 1, 4097) ** 2
        return stored, self._mean_of(stored), self._variance_of(stored)

    def _mean_of(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        return self.values(self._reading.mean(self._written(values)))

    def _variance_of(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        span = 1.0 if self.raw else self._reading.high - self._reading.low
        return np.asarray(self._reading.variance(self._written(values)) / span**2)

    def mean(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Mean of the decoded value of one cell that stores each value in [0, 1]."""
        if self.steps:
            return self._decided[0][self._step(values)]
        if self.card.written_levels:
            return self._mean_of(values)  # steps, which a grid would smear
        if not self.raw and (self.read_time_s is None or self.read_time_s == self.written_for_s):
            return np.asarray(values, np.float64)
        return np.asarray(np.interp(values, self._moments[0], self._moments[1]))

    def variance(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Variance of the decoded value of one cell that stores each value in [0, 1]."""
        if self.steps:
            return self._decided[1][self._step(values)]
        if self.card.written_levels:
            return self._variance_of(values)
        return np.asarray(np.interp(values, self._moments[0], self._moments[2]))


@lru_cache(maxsize=256)
def _seen(medium: Medium, raw: bool, steps: int) -> Medium:
    return replace(medium, raw=raw, steps=steps)
