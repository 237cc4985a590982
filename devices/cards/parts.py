"""Parts of a card that do not change with time: sources, level range, drive, valid times, temperature, stuck cells.

Ageing and reading have a module each: `devices.cards.drift`, `devices.cards.relaxation`, `devices.cards.read_noise`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from devices.cards.curves import Curve, parse, tabulate
from devices.cards.fields import fields_of, record_of, value_of

__all__ = ["Drive", "Level", "Source", "Stuck", "Temperature", "Times"]

BOLTZMANN_EV = 8.617333262e-5  # eV per kelvin (CODATA 2018, exact)


@dataclass(frozen=True)
class Source:
    """The publication that numbers of a card were taken from.

    Attributes:
        gives: which numbers these are.
        paper: authors, title, journal and year.
        figure: the figure or table of the paper.
        doi: its DOI, or "none".
        licence: of the numbers or the paper.
    """

    gives: str
    paper: str
    figure: str
    doi: str
    licence: str


@dataclass(frozen=True)
class Level:
    """The physical quantity behind a level, and its values at levels 0 and 1.

    Attributes:
        quantity: "conductance", "cell current", "log10 resistance" …
        unit: of the quantity, "µS" for example; "1" for a normalised one.
        at_0, at_1: its values at levels 0 and 1, in `unit`; `at_1` may be the smaller one.
        clamp_at_0: a cell that would be programmed below level 0 sits at level 0, as a conductance cannot be negative.
    """

    quantity: str
    unit: str
    at_0: float
    at_1: float
    clamp_at_0: bool

    def __post_init__(self) -> None:
        if self.at_0 == self.at_1:
            raise ValueError(f"needs at_0 and at_1 to differ, not both {self.at_0:g}")

    def from_physical(self, value: float) -> float:
        """Convert a value in `unit` to a level x."""
        return (value - self.at_0) / (self.at_1 - self.at_0)


@dataclass(frozen=True)
class Drive:
    """The mean response of the device to its write voltage (or current, or pulse count).

    Attributes:
        quantity, unit: what is applied, "write voltage" in "V" for example.
        values: applied values in `unit`, strictly rising, shape (n,).
        means: mean of the quantity programmed at each, in the unit of the level, strictly rising or falling.
    """

    quantity: str
    unit: str
    values: tuple[float, ...]
    means: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.values) != len(self.means) or len(self.values) < 2:
            raise ValueError(f"needs as many values as means, two or more, not {len(self.values)}, {len(self.means)}")
        if not all(a < b for a, b in zip(self.values, self.values[1:], strict=False)):
            raise ValueError(f"needs values that rise strictly, not {list(self.values)}")
        step = np.diff(self.means)
        if not ((step > 0).all() or (step < 0).all()):
            raise ValueError(
                f"needs means that only rise or only fall (cut to the monotone range), not {list(self.means)}"
            )


@dataclass(frozen=True)
class Times:
    """The times at which a card holds, in seconds.

    Attributes:
        t0_s: the reference read, after programming; `time_s` of a read counts from it.
        max_s: the latest `time_s`; may be infinite.
        only_s: the only `time_s` at which the device was measured; empty where every time up to `max_s` is covered.
    """

    t0_s: float
    max_s: float
    only_s: tuple[float, ...] = ()

    def check(self, card: str, time_s: object) -> float:
        """A read time in seconds as float; ValueError where the card named `card` does not hold."""
        value = float(time_s) if isinstance(time_s, (int, float, np.number)) else math.nan
        if self.only_s and value not in self.only_s:
            listed = ", ".join(f"{at:g}" for at in self.only_s)
            raise ValueError(
                f"card '{card}' holds only at time_s = {listed} s after programming, where it was measured, "
                f"not at {time_s!r}: read at one of these"
            )
        if not 0.0 <= value <= self.max_s:
            raise ValueError(
                f"card '{card}' holds from time_s = 0 to {self.max_s:g} s after programming, "
                f"not at {time_s!r}: read within that range or take a card measured there"
            )
        return value

    def __str__(self) -> str:
        if self.only_s:
            return "only at " + ", ".join(f"{at:g}" for at in self.only_s) + " s"
        return f"0 to {self.max_s:g} s"


@dataclass(frozen=True)
class Temperature:
    """Arrhenius law of ageing: a second at T ages a cell as exp(Ea/k (1/T_ref - 1/T)) seconds at T_ref.

    Attributes:
        reference_k: T_ref, the temperature that the card's times are stated for, in kelvin.
        activation_ev: activation energy Ea, in electronvolt.
        min_k, max_k: the temperatures within which the law holds, in kelvin.
    """

    reference_k: float
    activation_ev: float
    min_k: float
    max_k: float

    def __post_init__(self) -> None:
        if not (self.activation_ev > 0.0 and 0.0 < self.min_k <= self.reference_k <= self.max_k):
            raise ValueError(
                "needs activation_ev above 0 and min_k, reference_k, max_k rising from above 0, not "
                f"{self.activation_ev:g} and {self.min_k:g}, {self.reference_k:g}, {self.max_k:g}"
            )

    def acceleration(self, temperature_k: float) -> float:
        """How many seconds at the reference temperature age a cell as much as one second at `temperature_k` (kelvin).

        >>> lab = Temperature(reference_k=358.0, activation_ev=2.25, min_k=338.0, max_k=373.0)
        >>> round(lab.acceleration(373.0), 1)
        18.8
        """
        return math.exp(self.activation_ev / BOLTZMANN_EV * (1.0 / self.reference_k - 1.0 / temperature_k))


@dataclass(frozen=True)
class Stuck:
    """Shares of defective cells, 0 to 1, that stay at level 0 (`low`) or level 1 (`high`) whatever is written."""

    low: float = 0.0
    high: float = 0.0

    def __post_init__(self) -> None:
        if not (self.low >= 0.0 and self.high >= 0.0 and self.low + self.high <= 1.0):
            raise ValueError(
                f"stuck_low and stuck_high must be shares of the cells, together at most 1, "
                f"not {self.low:g} and {self.high:g}: pass for example stuck_low=0.01"
            )

    def replaced(self, low: float | None, high: float | None) -> Stuck:
        """The shares with `low` or `high` replaced where they are not None."""
        return Stuck(self.low if low is None else float(low), self.high if high is None else float(high))

    def __bool__(self) -> bool:
        return self.low > 0.0 or self.high > 0.0


def curve_of(spec: object, place: str, level: Level, *, in_levels: bool = False, signed: bool = False) -> Curve:
    """Read a curve of a card and check that it is finite, and nowhere negative unless `signed`.

    With `in_levels` the curve may be given in the unit of the level and is converted to levels. A signed curve is a
    change of the level: on a range that falls (`at_1` below `at_0`) its sign is turned.
    """
    span = level.at_1 - level.at_0
    units = {"1": 1.0} | ({level.unit: 1.0 / (span if signed else abs(span))} if in_levels else {})
    try:
        curve = parse(spec, units=units, to_level=level.from_physical, physical=(level.unit, level.at_0, span))
    except ValueError as error:
        raise ValueError(f"{place} {error}") from None
    table = tabulate(curve)
    if not (np.isfinite(table).all() and (signed or (table >= 0.0).all())):
        raise ValueError(
            f"{place} needs finite values{'' if signed else ' of 0 or more'} at every level, "
            f"not {table.min():g} to {table.max():g}"
        )
    return curve


def times_of(table: object) -> Times:
    """Read the table [time] of a card."""
    given = fields_of(table, "time", ("t0_s", "max_s"), ("only_s",))
    t0_s = value_of(given["t0_s"], "float", "time.t0_s")
    max_s = math.inf if given["max_s"] == math.inf else value_of(given["max_s"], "float", "time.max_s")
    if t0_s < 0.0 or max_s < 0.0:
        raise ValueError(f"time needs t0_s and max_s of 0 s or more, not {t0_s:g} and {max_s:g}")
    only_s = value_of(given.get("only_s", []), "tuple[float, ...]", "time.only_s")
    if list(only_s) != sorted(set(only_s)) or (only_s and not 0.0 <= only_s[0] <= only_s[-1] == max_s):
        raise ValueError(f"time.only_s needs times that rise from 0 or later to max_s = {max_s:g}, not {list(only_s)}")
    return Times(t0_s, max_s, only_s)


def drive_of(table: object, level: Level) -> Drive:
    """Read the table [drive] of a card; ValueError unless its means end at levels 0 and 1."""
    drive = record_of(Drive, table, "drive")
    if {drive.means[0], drive.means[-1]} != {level.at_0, level.at_1}:
        raise ValueError(f"drive.means need to end at {level.at_0} and {level.at_1}, not {list(drive.means)}")
    return drive


def levels_of(values: object, level: Level) -> tuple[float, ...]:
    """Read the finite levels of a cell, in the unit of the level, as levels x that rise from 0 to 1."""
    given = value_of(values, "tuple[float, ...]", "programming.levels")
    at = tuple(sorted(level.from_physical(value) for value in given))
    if len(at) < 2 or len(set(at)) < len(at) or abs(at[0]) > 1e-9 or abs(at[-1] - 1.0) > 1e-9:
        raise ValueError(
            f"programming.levels needs two or more different levels from {level.at_0:g} to {level.at_1:g}, "
            f"not {list(given)}"
        )
    return (0.0, *at[1:-1], 1.0)  # without the rounding of the division
