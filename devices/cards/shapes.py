"""Shapes of curves that a card can name: constant, polynomial, clipped logarithm and so on.

Each is a frozen dataclass of its parameters, called with float64 values of any shape: the level x in [0, 1], or the
physical value where the card says so (`OverPhysical`). A new shape is one dataclass here and one entry in
`devices.cards.curves.KINDS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

TINY_LEVEL = 1e-30  # stands for x = 0 under a logarithm; every clipped curve has long reached its bound


class Curve(Protocol):
    """A function of the level x that gives one number for each level."""

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
    """Polynomial c0 + c1 x + c2 x² + …, with the coefficients from c0 on."""

    coefficients: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.coefficients:
            raise ValueError("needs at least one coefficient, not []")

    def __call__(self, x: FloatArray, /) -> FloatArray:
        """The polynomial at x."""
        result: FloatArray = np.asarray(np.polynomial.polynomial.polyval(x, self.coefficients), dtype=np.float64)
        return result


@dataclass(frozen=True)
class Points:
    """Straight lines between measured points; `at` is in the unit of the level and spans its whole range."""

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
    """Logarithm slope · ln x + offset, clipped to [low, high]."""

    slope: float
    offset: float
    low: float
    high: float

    def __post_init__(self) -> None:
        _check_bounds(self.low, self.high)

    def __call__(self, x: FloatArray, /) -> FloatArray:
        """The clipped logarithm at x; at x = 0 the bound that it reaches there."""
        return np.clip(self.slope * np.log(np.maximum(x, TINY_LEVEL)) + self.offset, self.low, self.high)


@dataclass(frozen=True)
class ClippedPower:
    """Power factor · x^exponent, clipped to [low, high]."""

    factor: float
    exponent: float
    low: float
    high: float

    def __post_init__(self) -> None:
        _check_bounds(self.low, self.high)

    def __call__(self, x: FloatArray, /) -> FloatArray:
        """The clipped power at x; at x = 0 the bound that it reaches there."""
        return np.clip(self.factor * np.maximum(x, TINY_LEVEL) ** self.exponent, self.low, self.high)


@dataclass(frozen=True)
class Nearest:
    """Step curve with the value of the nearest point, for cells with few levels; `at` is in the unit of the level."""

    at: tuple[float, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.at) != len(self.values) or not self.at or len(set(self.at)) < len(self.at):
            raise ValueError(
                f"needs different 'at' and as many 'values', not {len(set(self.at))} and {len(self.values)}"
            )

    def on_levels(self, to_level: Callable[[float], float]) -> Nearest:
        """The same points with `at` as levels x, rising."""
        pairs = sorted((to_level(at), value) for at, value in zip(self.at, self.values, strict=True))
        return Nearest(tuple(at for at, _ in pairs), tuple(value for _, value in pairs))

    def __call__(self, x: FloatArray, /) -> FloatArray:
        """The value of the point nearest to x; half-way, of the upper one."""
        at = np.array(self.at)
        nearest: FloatArray = np.array(self.values)[np.searchsorted(0.5 * (at[1:] + at[:-1]), x, side="right")]
        return nearest


@dataclass(frozen=True)
class Log10:
    """Decimal logarithm factor · log10 v; made for physical values (`over`), since it diverges at level 0."""

    factor: float

    def __call__(self, x: FloatArray, /) -> FloatArray:
        """The logarithm at x."""
        return self.factor * np.log10(np.maximum(x, TINY_LEVEL))


@dataclass(frozen=True)
class Saturating:
    """Saturating exponential height · (1 - exp(-x / scale))."""

    height: float
    scale: float

    def __post_init__(self) -> None:
        if self.scale <= 0.0:
            raise ValueError(f"needs scale above 0, not {self.scale:g}")

    def __call__(self, x: FloatArray, /) -> FloatArray:
        """The saturating curve at x."""
        return -self.height * np.expm1(-x / self.scale)


@dataclass(frozen=True)
class Joined:
    """Two curves joined: `below` up to the argument `at`, `above` from there on."""

    at: float
    below: Curve
    above: Curve

    def __call__(self, x: FloatArray, /) -> FloatArray:
        """The joined curve at x."""
        return np.where(x < self.at, self.below(x), self.above(x))


def _check_bounds(low: float, high: float) -> None:
    if low > high:
        raise ValueError(f"needs low below high, not {low:g} and {high:g}")


@dataclass(frozen=True)
class Scaled:
    """Another curve times a factor, which converts its published unit to levels."""

    curve: Curve
    factor: float

    def __call__(self, x: FloatArray, /) -> FloatArray:
        """The curve at x, in levels."""
        return self.factor * self.curve(x)


@dataclass(frozen=True)
class OverPhysical:
    """A curve over the physical value at_0 + span · x instead of the level x."""

    curve: Curve
    at_0: float
    span: float

    def __call__(self, x: FloatArray, /) -> FloatArray:
        """The curve at the physical value of level x."""
        return self.curve(self.at_0 + self.span * np.asarray(x, dtype=np.float64))
