"""The parts of a device card, and how each is read from TOML and checked.

Every reader raises ValueError with one line that names the place on the card, the rule and the value; the card
adds its own name in front.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np

from devices.curves import Curve, number, parse, tabulate

__all__ = ["Drift", "Drive", "Level", "ReadNoise", "Source"]

T = TypeVar("T")


@dataclass(frozen=True)
class Source:
    """Where numbers of a card come from: what it gives, the paper, its figure, the DOI and the licence."""

    gives: str
    paper: str
    figure: str
    doi: str
    licence: str


@dataclass(frozen=True)
class Level:
    """What levels 0 and 1 are on the device, in `unit`; `clamp_at_0`: no cell is programmed below level 0."""

    quantity: str
    unit: str
    at_0: float
    at_1: float
    clamp_at_0: bool

    def __post_init__(self) -> None:
        if self.at_0 == self.at_1:
            raise ValueError(f"needs at_0 and at_1 to differ, not both {self.at_0:g}")

    def from_physical(self, value: float) -> float:
        """The level x of a value in `unit`."""
        return (value - self.at_0) / (self.at_1 - self.at_0)


@dataclass(frozen=True)
class Drive:
    """The mean response: at drive `values` (say volts) the device's mean is `means`, in the level's unit."""

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
class Drift:
    """Power-law drift (t / t0)^-ν with ν = |N(exponent_mean(x), exponent_sd(x))|, one ν a cell."""

    exponent_mean: Curve
    exponent_sd: Curve


@dataclass(frozen=True)
class ReadNoise:
    """1/f read noise: relative sd q(x) · √ln((t + t_read) / (2 t_read)), t_read in seconds."""

    t_read_s: float
    q: Curve

    def growth(self, t_s: float) -> float:
        """The factor √ln((t + t_read) / (2 t_read)) at t seconds after programming.

        >>> round(ReadNoise(t_read_s=250e-9, q=np.ones_like).growth(20.0), 3)
        4.184
        """
        return math.sqrt(math.log((t_s + self.t_read_s) / (2.0 * self.t_read_s)))


def fields_of(table: object, place: str, needed: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Any]:
    """The table as dict; ValueError unless it has all needed fields and no unknown one."""
    if not isinstance(table, Mapping):
        raise ValueError(f"{place} needs a table with {', '.join(needed)}, not {table!r}")
    missing = [name for name in needed if name not in table]
    unknown = [name for name in table if name not in (*needed, *optional)]
    if missing or unknown:
        raise ValueError(
            f"{place} needs the fields {', '.join(needed)}: "
            f"missing {', '.join(missing) or 'none'}, unknown {', '.join(unknown) or 'none'}"
        )
    return dict(table)


def value_of(value: object, kind: str, place: str) -> Any:
    """A card's value as the type that a dataclass declares for it."""
    if kind == "float":
        try:
            return number(value)
        except ValueError as error:
            raise ValueError(f"{place} {error}") from None
    if kind == "tuple[float, ...]" and isinstance(value, list):
        return tuple(value_of(item, "float", place) for item in value)
    if kind == "bool" and isinstance(value, bool):
        return value
    if kind == "str" and isinstance(value, str) and value:
        return value
    wanted = {"bool": "true or false", "str": "a text"}.get(kind, "a list of numbers")
    raise ValueError(f"{place} needs {wanted}, not {value!r}")


def record_of(cls: type[T], table: object, place: str) -> T:
    """A frozen dataclass of plain values, read from the table of the same field names."""
    kinds = {item.name: str(item.type) for item in fields(cls)}  # type: ignore[arg-type]  # a dataclass, always
    given = fields_of(table, place, list(kinds))
    values = {name: value_of(given[name], kind, f"{place}.{name}") for name, kind in kinds.items()}
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{place} {error}") from None


def curve_of(spec: object, place: str, level: Level, *, in_levels: bool = False) -> Curve:
    """A curve of the card, nowhere negative; with `in_levels` it may be in the level's unit."""
    units = {"1": 1.0} | ({level.unit: 1.0 / abs(level.at_1 - level.at_0)} if in_levels else {})
    try:
        curve = parse(spec, units=units, to_level=level.from_physical)
    except ValueError as error:
        raise ValueError(f"{place} {error}") from None
    table = tabulate(curve)
    if not (np.isfinite(table).all() and (table >= 0.0).all()):
        raise ValueError(
            f"{place} needs finite values of 0 or more at every level, not {table.min():g} to {table.max():g}"
        )
    return curve


def time_of(table: object) -> tuple[float, float]:
    """t0_s and max_s, the latter possibly infinite."""
    given = fields_of(table, "time", ("t0_s", "max_s"))
    t0_s = value_of(given["t0_s"], "float", "time.t0_s")
    max_s = math.inf if given["max_s"] == math.inf else value_of(given["max_s"], "float", "time.max_s")
    if t0_s < 0.0 or max_s < 0.0:
        raise ValueError(f"time needs t0_s and max_s of 0 s or more, not {t0_s:g} and {max_s:g}")
    return t0_s, max_s


def drive_of(table: object, level: Level) -> Drive:
    """The drive, whose mean response must span the level range."""
    drive = record_of(Drive, table, "drive")
    if {drive.means[0], drive.means[-1]} != {level.at_0, level.at_1}:
        raise ValueError(f"drive.means need to end at {level.at_0} and {level.at_1}, not {list(drive.means)}")
    return drive


def drift_of(table: object, level: Level, t0_s: float) -> Drift:
    """The drift, which needs a reference read to count from."""
    given = fields_of(table, "drift", ("exponent_mean", "exponent_sd"))
    if t0_s == 0.0:
        raise ValueError("drift needs time.t0_s above 0 s, the time of the reference read, not 0")
    mean, sd = (curve_of(given[name], f"drift.{name}", level) for name in ("exponent_mean", "exponent_sd"))
    return Drift(mean, sd)


def read_noise_of(table: object, level: Level, t0_s: float) -> ReadNoise:
    """The read noise, whose logarithm needs a reference read later than one reading time."""
    given = fields_of(table, "read_noise", ("t_read_s", "q"))
    t_read_s = value_of(given["t_read_s"], "float", "read_noise.t_read_s")
    if not 0.0 < t_read_s <= t0_s:
        raise ValueError(
            f"read_noise.t_read_s needs to lie above 0 s and within time.t0_s = {t0_s:g}, not {t_read_s:g}"
        )
    return ReadNoise(t_read_s, curve_of(given["q"], "read_noise.q", level))
