"""Power-law drift: every cell loses its level as (t / t0)^-ν, with an exponent of its own.

The law and its folded-normal exponents are those of phase-change cells (S. R. Nandakumar et al., ICECS 2019).
"""

from __future__ import annotations

from dataclasses import dataclass

from devices.cards.curves import Curve
from devices.cards.fields import fields_of
from devices.cards.parts import Level, curve_of

__all__ = ["Drift"]


@dataclass(frozen=True)
class Drift:
    """Power-law drift (t / t0)^-ν with ν = |N(exponent_mean(x), exponent_sd(x))|, one ν a cell."""

    exponent_mean: Curve
    exponent_sd: Curve


def drift_of(table: object, level: Level, t0_s: float) -> Drift:
    """The drift, which needs a reference read to count from."""
    given = fields_of(table, "drift", ("exponent_mean", "exponent_sd"))
    if t0_s == 0.0:
        raise ValueError("drift needs time.t0_s above 0 s, the time of the reference read, not 0")
    mean, sd = (curve_of(given[name], f"drift.{name}", level) for name in ("exponent_mean", "exponent_sd"))
    return Drift(mean, sd)
