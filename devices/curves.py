"""Curves over the level x: what a card says in a few numbers, and the look-up tables made of it.

A curve maps levels x in [0, 1] (float64, any shape) to one number each. A card names its kind and its
parameters; `parse` checks them and converts the unit. A new kind is one frozen dataclass and one entry in
`KINDS`. The table nodes are uniform in √x, because published curves go as ln x or as x^-0.65 near 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["INTERVALS", "KINDS", "Curve", "interpolate", "number", "parse", "sqrt_grid", "tabulate"]

FloatArray = NDArray[np.float64]

INTERVALS = 1024
"""Intervals of a look-up table, uniform in √x (our choice: 4 KiB a curve, so that all stay in the L1
cache)."""

TINY_LEVEL = 1e-30  # stands for x = 0 under a logarithm; every clipped curve has long reached its bound


class Curve(Protocol):
    """A function of the level."""

    def __call__(self, x: FloatArray, /) -> FloatArray:
        """The curve at levels x in [0, 1], any shape."""


@dataclass(frozen=True)
class Constant:
    """The same value at every level."""

    value: float

    def __call__(self, x: FloatArray, /) -> FloatArray:
        """The value, in the shape of x."""
        return np.full_like(x, self.value, dtype=np.float64)


@dataclass(frozen=True)
class Polynomial:
    """c0 + c1 x + c2 x² + … of the level."""

    coefficients: tuple[float, ...]

    def __call__(self, x: FloatArray, /) -> FloatArray:
        """The polynomial at x."""
        result: FloatArray = np.asarray(np.polynomial.polynomial.polyval(x, self.coefficients), dtype=np.float64)
        return result


@dataclass(frozen=True)
class Points:
    """Straight lines between measured points; `at` is in the card's level unit and spans its whole range."""

    at: tuple[float, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.at) != len(self.values) or len(self.at) < 2:
            raise ValueError(f"needs two or more 'at' and as many 'values', not {len(self.at)} and {len(self.values)}")
        step = np.diff(self.at)
        if not ((step > 0).all() or (step < 0).all()):
            raise ValueError(f"needs 'at' strictly rising or falling, not {list(self.at)}")

    def on_levels(self, to_level: Callable[[float], float]) -> Points:
        """The same points with `at` as levels x, rising from 0 to 1."""
        pairs = sorted((to_level(at), value) for at, value in zip(self.at, self.values, strict=True))
        if abs(pairs[0][0]) > 1e-9 or abs(pairs[-1][0] - 1.0) > 1e-9:
            raise ValueError(f"needs 'at' from one end of the level range to the other, not {list(self.at)}")
        return Points(tuple(at for at, _ in pairs), tuple(value for _, value in pairs))

    def __call__(self, x: FloatArray, /) -> FloatArray:
        """Linear interpolation at x."""
        return np.interp(x, self.at, self.values)


@dataclass(frozen=True)
class ClippedLog:
    """slope · ln x + offset, kept within [low, high]."""

    slope: float
    offset: float
    low: float
    high: float

    def __post_init__(self) -> None:
        _check_bounds(self.low, self.high)

    def __call__(self, x: FloatArray, /) -> FloatArray:
        """The clipped logarithm at x; at x = 0 the bound it runs into."""
        return np.clip(self.slope * np.log(np.maximum(x, TINY_LEVEL)) + self.offset, self.low, self.high)


@dataclass(frozen=True)
class ClippedPower:
    """factor · x^exponent, kept within [low, high]."""

    factor: float
    exponent: float
    low: float
    high: float

    def __post_init__(self) -> None:
        _check_bounds(self.low, self.high)

    def __call__(self, x: FloatArray, /) -> FloatArray:
        """The clipped power at x; at x = 0 the bound it runs into."""
        return np.clip(self.factor * np.maximum(x, TINY_LEVEL) ** self.exponent, self.low, self.high)


def _check_bounds(low: float, high: float) -> None:
    if low > high:
        raise ValueError(f"needs low below high, not {low:g} and {high:g}")


@dataclass(frozen=True)
class Scaled:
    """Another curve times a factor: how a published unit becomes the level's."""

    curve: Curve
    factor: float

    def __call__(self, x: FloatArray, /) -> FloatArray:
        """The curve at x, in levels."""
        return self.factor * self.curve(x)


KINDS: dict[str, type[Any]] = {
    "constant": Constant,
    "polynomial": Polynomial,
    "points": Points,
    "clipped-log": ClippedLog,
    "clipped-power": ClippedPower,
}
"""What `kind = "…"` may say on a card."""


def number(value: object) -> float:
    """A finite number of a card as float; ValueError for anything else (text, true, NaN, infinity)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"needs a finite number, not {value!r}")
    return float(value)


def _argument(value: object) -> float | tuple[float, ...]:
    return tuple(number(item) for item in value) if isinstance(value, list) else number(value)


def parse(spec: object, *, units: Mapping[str, float], to_level: Callable[[float], float]) -> Curve:
    """The curve that a card's table describes.

    Args:
        spec: table with `kind`, `unit` and the fields of that kind.
        units: the units allowed here, each with the factor that turns it into the unit wanted.
        to_level: turns a value in the card's level unit into x in [0, 1].

    Raises:
        ValueError: unknown kind or unit, missing or unknown field, a number that is none.

    >>> curve = parse(
    ...     {"kind": "polynomial", "unit": "µS", "coefficients": [1.0, 2.0]},
    ...     units={"µS": 1 / 25},
    ...     to_level=lambda g: g / 25,
    ... )
    >>> float(curve(np.array(1.0)))
    0.12
    """
    if not isinstance(spec, Mapping):
        raise ValueError(f"needs a table with kind, unit and parameters, not {spec!r}")
    arguments = dict(spec)
    kind = KINDS.get(str(arguments.pop("kind", None)))
    if kind is None:
        raise ValueError(f"needs kind = one of {', '.join(KINDS)}, not {spec.get('kind')!r}")
    unit = arguments.pop("unit", None)
    if not isinstance(unit, str) or unit not in units:
        raise ValueError(f"needs unit = one of {', '.join(units)}, not {unit!r}")
    wanted = {field.name for field in fields(kind)}
    if set(arguments) != wanted:
        wrong = ", ".join(sorted(set(arguments) ^ wanted))
        raise ValueError(f"needs the fields {', '.join(sorted(wanted))} and no others; wrong or missing: {wrong}")
    curve: Curve = kind(**{name: _argument(value) for name, value in arguments.items()})
    if isinstance(curve, Points):
        curve = curve.on_levels(to_level)
    return curve if units[unit] == 1.0 else Scaled(curve, units[unit])


def sqrt_grid(intervals: int = INTERVALS) -> FloatArray:
    """Levels x from 0 to 1 in steps uniform in √x, shape (intervals + 1,)."""
    grid: FloatArray = np.linspace(0.0, 1.0, intervals + 1) ** 2
    return grid


def tabulate(curve: Curve) -> NDArray[np.float32]:
    """The curve at the nodes of the look-up tables, shape (INTERVALS + 1,), float32 for the kernels."""
    with np.errstate(over="ignore"):  # the caller looks at the values, an infinite one included
        return curve(sqrt_grid()).astype(np.float32)


def interpolate(table: NDArray[Any], x: FloatArray) -> FloatArray:
    """What the kernels make of a table at levels x, in float64: linear in √x between the nodes."""
    values: FloatArray = np.interp(np.sqrt(x), np.linspace(0.0, 1.0, table.size), table)
    return values
