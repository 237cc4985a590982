"""Relaxation: after programming, levels shift on average and spread, by amounts that add to the level.

Each cell draws one standard normal z for good and has moved by shift(x, t) + spread(x, t) · z at time t. So a cell
that has moved up early has moved up later too, the published spread holds at each time, and averaging repeated reads
does not reduce it. (The sources give spreads at single times and nothing about the path of one cell; that each cell
keeps its direction is our choice, and the cautious one.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from devices.cards.curves import Curve, FloatArray, sqrt_grid
from devices.cards.fields import fields_of, positive, value_of
from devices.cards.parts import Level, Times, curve_of
from devices.cards.read_noise import NOTHING

__all__ = ["AtTimes", "LogTime", "PowerTime", "Relaxation"]


class Relaxation(Protocol):
    """A law of relaxation: mean shift and added spread of the level, t seconds after programming."""

    def shift(self, x: FloatArray, t_s: float, /) -> FloatArray:
        """Mean change of cells programmed to levels x, in levels."""

    def spread(self, x: FloatArray, t_s: float, /) -> FloatArray:
        """Standard deviation that relaxation adds, in levels, independent of that of programming."""


@dataclass(frozen=True)
class LogTime:
    """Relaxation in proportion to the logarithm of time, t in seconds after programming.

    shift = shift_per_log · ln t and spread = spread_at_1_s + spread_per_log · ln t; all three are curves in levels.
    """

    shift_per_log: Curve
    spread_at_1_s: Curve
    spread_per_log: Curve

    def shift(self, x: FloatArray, t_s: float) -> FloatArray:
        """Mean change of cells programmed to levels x, in levels."""
        return self.shift_per_log(x) * math.log(t_s)

    def spread(self, x: FloatArray, t_s: float) -> FloatArray:
        """Standard deviation that relaxation adds, in levels."""
        return self.spread_at_1_s(x) + self.spread_per_log(x) * math.log(t_s)


@dataclass(frozen=True)
class PowerTime:
    """Relaxation that spreads as a power of time, amplitude · (t / scale_s)^power, without a mean shift.

    `amplitude` is a curve in levels, `scale_s` is in seconds.
    """

    amplitude: Curve
    scale_s: float
    power: float

    def shift(self, x: FloatArray, t_s: float) -> FloatArray:
        """Zero: this law has no mean change."""
        return np.zeros_like(x)

    def spread(self, x: FloatArray, t_s: float) -> FloatArray:
        """Standard deviation that relaxation adds, in levels."""
        factor = float((t_s / self.scale_s) ** self.power)
        return factor * self.amplitude(x)


@dataclass(frozen=True)
class AtTimes:
    """Relaxation measured at several times, with straight lines between them.

    Attributes:
        programming_sd: the card's own curve, which holds at the first time.
        at_s: the times, in seconds after programming, rising.
        sds: total standard deviation at each, in levels, programming included.
        shifts: mean change at each, in levels, 0 at the first.
    """

    programming_sd: Curve
    at_s: tuple[float, ...]
    sds: tuple[Curve, ...]
    shifts: tuple[Curve, ...]

    def _at(self, curves: tuple[Curve, ...], x: FloatArray, t_s: float) -> FloatArray:
        later = min(max(int(np.searchsorted(self.at_s, t_s)), 1), len(self.at_s) - 1)
        before, after = self.at_s[later - 1], self.at_s[later]
        share = min(max((t_s - before) / (after - before), 0.0), 1.0)
        return (1.0 - share) * curves[later - 1](x) + share * curves[later](x)

    def shift(self, x: FloatArray, t_s: float) -> FloatArray:
        """Mean change of cells programmed to levels x, in levels."""
        return self._at(self.shifts, x, t_s)

    def spread(self, x: FloatArray, t_s: float) -> FloatArray:
        """Standard deviation that makes up the total with that of programming: √(total² - programming²)."""
        total = self._at(self.sds, x, t_s)
        return np.sqrt(np.maximum(total**2 - self.programming_sd(x) ** 2, 0.0))


def relaxation_of(table: object, level: Level, times: Times, programming_sd: Curve) -> Relaxation:
    """Read the table [relaxation] of a card and check it over the card's times."""
    kind = table.get("kind") if isinstance(table, dict) else None
    if kind == "log-time":
        return _bounded(_log_time(table, level, times), times)
    if kind == "power-time":
        given = fields_of(table, "relaxation", ("kind", "amplitude", "scale_s", "power"))
        amplitude = curve_of(given["amplitude"], "relaxation.amplitude", level, in_levels=True)
        scale_s, power = (positive(given[name], f"relaxation.{name}") for name in ("scale_s", "power"))
        return _bounded(PowerTime(amplitude, scale_s, power), times)
    if kind == "at-times":
        return _at_times(table, level, times, programming_sd)
    raise ValueError(f"relaxation needs kind = one of log-time, power-time, at-times, not {kind!r}")


def _bounded(relaxation: Relaxation, times: Times) -> Relaxation:
    """The relaxation; ValueError where what it adds is not finite at the card's last time, its largest value."""
    x, last_s = sqrt_grid(), times.t0_s + times.max_s
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            added = np.abs([relaxation.shift(x, last_s), relaxation.spread(x, last_s)])
    except OverflowError:  # of the power of a time
        added = np.array([math.inf])
    if not added.max() < np.finfo(np.float32).max:
        raise ValueError(
            f"relaxation needs a finite shift and spread until time.max_s = {times.max_s:g} s, not {added.max():g}: "
            "lower max_s or correct the curves"
        )
    return relaxation


def _log_time(table: object, level: Level, times: Times) -> LogTime:
    given = fields_of(table, "relaxation", ("kind", "shift_per_log", "spread_at_1_s", "spread_per_log"))
    if times.t0_s < 1.0:
        raise ValueError(
            f"relaxation of kind log-time needs time.t0_s of 1 s or more, so that ln t is not negative, "
            f"not {times.t0_s:g}"
        )
    shift = curve_of(given["shift_per_log"], "relaxation.shift_per_log", level, in_levels=True, signed=True)
    spreads = (
        curve_of(given[name], f"relaxation.{name}", level, in_levels=True)
        for name in ("spread_at_1_s", "spread_per_log")
    )
    return LogTime(shift, *spreads)


def _at_times(table: object, level: Level, times: Times, programming_sd: Curve) -> AtTimes:
    given = fields_of(table, "relaxation", ("kind", "at"))
    if not isinstance(given["at"], list) or not given["at"]:
        raise ValueError("relaxation needs at least one [[relaxation.at]] table with time_s and sd")
    first_s = times.only_s[0] if times.only_s else 0.0
    at_s = [times.t0_s + first_s]
    sds: list[Curve] = [programming_sd]
    shifts: list[Curve] = [NOTHING]
    for i, item in enumerate(given["at"]):
        place = f"relaxation.at {i + 1}"
        row = fields_of(item, place, ("time_s", "sd"), ("shift",))
        at_s.append(times.t0_s + value_of(row["time_s"], "float", f"{place}.time_s"))
        sds.append(curve_of(row["sd"], f"{place}.sd", level, in_levels=True))
        shift = row.get("shift")
        curve = curve_of(shift, f"{place}.shift", level, in_levels=True, signed=True) if shift else NOTHING
        shifts.append(curve)
        if (sds[-1](sqrt_grid()) < programming_sd(sqrt_grid()) * (1.0 - 1e-9)).any():
            raise ValueError(f"{place}.sd needs to be nowhere below programming.sd, since cells only spread: check it")
    if sorted(set(at_s)) != at_s or at_s[-1] != times.t0_s + times.max_s:
        raise ValueError(
            f"relaxation.at needs times that rise from {first_s:g} s to time.max_s = {times.max_s:g}, "
            f"not {[value - times.t0_s for value in at_s[1:]]}"
        )
    return AtTimes(programming_sd, tuple(at_s), tuple(sds), tuple(shifts))
