"""Power-law drift: the level of a cell decays as (t / t0)^-ν, with an exponent ν of its own.

t counts from programming, t0 is the reference read. The law and the folded-normal distribution of ν are those of
phase-change cells (S. R. Nandakumar et al., ICECS 2019).
"""

from __future__ import annotations

from dataclasses import dataclass

from devices.cards.curves import Curve
from devices.cards.fields import fields_of
from devices.cards.parts import Level, curve_of

__all__ = ["Drift"]


@dataclass(frozen=True)
class Drift:
    """Power-law drift, level · (t / t0)^-ν with ν = |N(exponent_mean(x), exponent_sd(x))|, drawn once for each cell.

    Both curves are over the target level x and dimensionless.
    """

    exponent_mean: Curve
    exponent_sd: Curve


def drift_of(table: object, level: Level, t0_s: float) -> Drift:
    """Read the table [drift] of a card; ValueError unless the card has a reference read after 0 s."""
    given = fields_of(table, "drift", ("exponent_mean", "exponent_sd"))
    if t0_s == 0.0:
        raise ValueError("drift needs time.t0_s above 0 s, the time of the reference read, not 0")
    mean, sd = (curve_of(given[name], f"drift.{name}", level) for name in ("exponent_mean", "exponent_sd"))
    return Drift(mean, sd)
