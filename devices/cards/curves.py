"""Curves of a card: functions of the level x, read from TOML tables, and the look-up tables made of them.

A curve maps levels x in [0, 1] (float64, any shape) to one number each: a standard deviation, a drift exponent, a
shift. A card names the curve's kind and its parameters; `parse` checks them and converts the unit. A new kind is one
frozen dataclass in `devices.cards.shapes` and one entry in `KINDS`. Look-up tables have their nodes evenly spaced in
√x, since published curves change fastest near level 0, as ln x or x^-0.65.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devices.cards.shapes import (
    ClippedLog,
    ClippedPower,
    Constant,
    Curve,
    FloatArray,
    Joined,
    Log10,
    Nearest,
    OverPhysical,
    Points,
    Polynomial,
    Saturating,
    Scaled,
)

__all__ = [
    "INTERVALS",
    "KINDS",
    "Constant",
    "Curve",
    "FloatArray",
    "interpolate",
    "number",
    "parse",
    "sqrt_grid",
    "tabulate",
]

INTERVALS = 1024
"""Intervals of a look-up table, uniform in √x (our choice: 4 KiB a curve, so that all stay in the L1
cache)."""

KINDS: dict[str, type[Any]] = {
    "constant": Constant,
    "polynomial": Polynomial,
    "points": Points,
    "clipped-log": ClippedLog,
    "clipped-power": ClippedPower,
    "nearest": Nearest,
    "log10": Log10,
    "saturating": Saturating,
    "joined": Joined,
}
"""The kinds of curve that a card may name in `kind = "…"`."""


def number(value: object) -> float:
    """A finite number of a card as float; ValueError for a text, true, NaN or infinity."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"needs a finite number, not {value!r}")
    return float(value)


def _argument(value: object) -> float | tuple[float, ...] | Curve:
    if isinstance(value, Mapping):
        curve = _shape(value)
        if isinstance(curve, (Points, Nearest)):
            raise ValueError(f"needs no points inside another curve, not {value!r}")
        return curve
    return tuple(number(item) for item in value) if isinstance(value, list) else number(value)


def _shape(spec: Mapping[str, object]) -> Curve:
    """The curve of a table with `kind` and the fields of that kind, as published."""
    arguments = dict(spec)
    kind = KINDS.get(str(arguments.pop("kind", None)))
    if kind is None:
        raise ValueError(f"needs kind = one of {', '.join(KINDS)}, not {spec.get('kind')!r}")
    wanted = {field.name for field in fields(kind)}
    if set(arguments) != wanted:
        wrong = ", ".join(sorted(set(arguments) ^ wanted))
        raise ValueError(f"needs the fields {', '.join(sorted(wanted))} and no others; wrong or missing: {wrong}")
    values = {name: _argument(value) for name, value in arguments.items()}
    for name, value in values.items():
        expected = str(next(field.type for field in fields(kind) if field.name == name))
        found = "float" if isinstance(value, float) else "tuple" if isinstance(value, tuple) else "Curve"
        if not expected.startswith(found):
            what = {"f": "a number", "t": "a list of numbers", "C": "a table with kind"}[expected[0]]
            raise ValueError(f"needs {name} = {what}, not {arguments[name]!r}")
    curve: Curve = kind(**values)
    return curve


def parse(
    spec: object,
    *,
    units: Mapping[str, float],
    to_level: Callable[[float], float],
    physical: tuple[str, float, float] | None = None,
) -> Curve:
    """Make the curve that a TOML table of a card describes.

    Args:
        spec: table with `kind`, `unit` and the fields of that kind; `over` names the unit of the argument, "1"
            (the level x, also without it) or the card's level unit. The `at` of points are always in the latter.
        units: the units allowed here, each with the factor that turns it into the unit wanted.
        to_level: turns a value in the card's level unit into x in [0, 1].
        physical: the card's level unit, the value at level 0 and the span to level 1; None allows x only.

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
    if str(spec.get("kind")) not in KINDS:
        raise ValueError(f"needs kind = one of {', '.join(KINDS)}, not {spec.get('kind')!r}")
    unit, over = spec.get("unit"), spec.get("over", "1")
    if not isinstance(unit, str) or unit not in units:
        raise ValueError(f"needs unit = one of {', '.join(units)}, not {unit!r}")
    curve = _shape({name: value for name, value in spec.items() if name not in ("unit", "over")})
    if isinstance(curve, (Points, Nearest)):
        curve = curve.on_levels(to_level)
    elif physical is not None and over == physical[0] != "1":
        curve = OverPhysical(curve, physical[1], physical[2])
    elif over != "1":
        raise ValueError(f"needs over = 1{'' if physical is None else ' or ' + physical[0]}, not {over!r}")
    return curve if units[unit] == 1.0 else Scaled(curve, units[unit])


def sqrt_grid(intervals: int = INTERVALS) -> FloatArray:
    """The nodes of a look-up table: levels from 0 to 1, evenly spaced in √x, float64, shape (intervals + 1,)."""
    grid: FloatArray = np.linspace(0.0, 1.0, intervals + 1) ** 2
    return grid


def tabulate(curve: Curve) -> NDArray[np.float32]:
    """The look-up table of a curve: its values at the nodes of `sqrt_grid`, float32, shape (INTERVALS + 1,)."""
    with np.errstate(over="ignore"):  # the caller looks at the values, an infinite one included
        return curve(sqrt_grid()).astype(np.float32)


def interpolate(table: NDArray[Any], x: FloatArray) -> FloatArray:
    """Look a table up at levels x as the compiled loops do: linear in √x between the nodes, in float64."""
    values: FloatArray = np.interp(np.sqrt(x), np.linspace(0.0, 1.0, table.size), table)
    return values
