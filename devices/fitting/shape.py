"""The curves of a fitted card: points from level 0 to level 1, and the value of every curve at them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from devices.fitting.curve import LEAST_STEP, Knots, smooth
from devices.fitting.report import LevelFit, alike_p
from devices.fitting.spread import Estimate

__all__ = ["Shape", "shape_of"]

FloatArray = NDArray[np.float64]

DIFFERENT = 0.01  # p value below which devices differ, so that the card has two variants
AS_ASKED = 0.01  # p value above which means that equal their targets are taken as those


@dataclass(frozen=True, eq=False)
class Shape:
    """The curves of a fitted card, in the unit of the level.

    Attributes:
        at: mean reads at the knots, from level 0 to level 1, shape (k,).
        drives, means: the mean response by rising drive, shape (m,); m = k where it is not smooth.
        nominal: whether the means equal their targets, so that the card needs no [drive].
        sd, cycle_sd: programming sd on any device, and on one device, at each knot.
        drift: mean and sd of the exponents, and q, at each knot; None where neither was fitted.
        separated: whether devices differ, so that the card has two variants.
        chi_square, dof: of the measured means about the curve.
        sd_at_knots: at the knots of the isotonic response, by rising drive.
    """

    at: FloatArray
    drives: FloatArray
    means: FloatArray
    nominal: bool
    sd: tuple[Estimate, ...]
    cycle_sd: tuple[Estimate, ...]
    drift: tuple[tuple[Estimate, ...], ...] | None
    separated: bool
    chi_square: float
    dof: int
    sd_at_knots: FloatArray
    notes: tuple[str, ...]


def shape_of(knots: Knots, levels: list[LevelFit], at_0: float | None, *, is_target: bool, smoothed: bool) -> Shape:
    """Make the curves of a card from the knots of the mean response and the fitted levels.

    Args:
        knots: the isotonic mean response.
        levels: the fitted levels that `knots.of` counts.
        at_0: physical value of level 0; None takes the mean at the lowest drive.
        is_target: drives are targets, which the means may equal.
        smoothed: whether to put a monotone cubic through the knots.
    """
    chi_square, dof, notes = knots.chi_square, knots.dof, []
    sd_at_knots = np.array([_pooled([levels[i].sd for i in of]).value for of in knots.of])
    asked = _as_asked(levels) if is_target else None
    if asked is not None:
        chi_square, dof = asked
        notes.append(
            f"the means are the targets within their errors (χ² {chi_square:.1f} of {dof}): levels are targets"
        )
        targets = np.array([level.written for level in levels])
        knots = Knots(targets, targets.copy(), tuple(np.array([i]) for i in range(len(levels))), chi_square, dof)
    pooled = len(levels) - len(knots.drives)
    if pooled:
        what = "1 level was" if pooled == 1 else f"{pooled} levels were"
        notes.append(f"{what} pooled with a neighbour of equal or reversed mean")
    anchored, drives, means, more = _anchored(knots, levels, at_0, smoothed=smoothed and asked is None)
    own = [[levels[i] for i in of] for of in knots.of]
    sds = [_pooled([level.sd for level in some]) for some in own]
    p = alike_p(levels)
    separated = p is not None and p < DIFFERENT
    if p is not None and not separated:
        more.append(f"devices cannot be told apart (p {p:.2g}), so the card is one for all of them")
    drift = None
    if any(level.drift is not None for level in levels):
        drift = tuple(
            _held(anchored, knots.means, [_drift_value(some, name) for some in own])
            for name in ("exponent_mean", "exponent_sd", "q")
        )
    return Shape(
        at=anchored,
        drives=drives,
        means=means,
        nominal=asked is not None,
        sd=_held(anchored, knots.means, sds),
        cycle_sd=_held(anchored, knots.means, [_pooled([level.cycle_sd for level in some]) for some in own]),
        drift=drift,
        separated=separated,
        chi_square=chi_square,
        dof=dof,
        sd_at_knots=sd_at_knots,
        notes=(*notes, *more),
    )


def _held(at: FloatArray, means: FloatArray, values: list[Estimate]) -> tuple[Estimate, ...]:
    """Interpolate values known at `means` to the knots, constant beyond the ends; NaN is skipped, 0 if all are."""
    order = [i for i in np.argsort(means) if math.isfinite(values[i].value)]
    if not order:
        return tuple(Estimate(0.0, 0.0) for _ in at)
    columns = ([values[i].value for i in order], [values[i].error for i in order])
    pairs = np.column_stack([np.interp(at, means[order], column) for column in columns])
    return tuple(Estimate(float(value), float(error)) for value, error in pairs)


def _drift_value(levels: list[LevelFit], name: str) -> Estimate:
    """A number of the drift of levels pooled into one knot; NaN where it is known for none."""
    values = [(getattr(x.drift, name), getattr(x.drift, f"{name}_error")) for x in levels if x.drift is not None]
    known = np.array([pair for pair in values if math.isfinite(pair[0])])
    if not len(known):
        return Estimate(math.nan, math.nan)
    return Estimate(float(known[:, 0].mean()), float(np.sqrt((known[:, 1] ** 2).sum()) / len(known)))


def _as_asked(levels: list[LevelFit]) -> tuple[float, int] | None:
    """χ² and degrees of freedom of the means about their targets; None where they differ."""
    if any(level.mean_error <= 0.0 for level in levels):
        return None
    chi_square = sum(((level.mean - level.written) / level.mean_error) ** 2 for level in levels)
    return (chi_square, len(levels)) if stats.chi2.sf(chi_square, len(levels)) > AS_ASKED else None


def _pooled(estimates: list[Estimate]) -> Estimate:
    """The sd of levels pooled into one knot: that of their mean variance."""
    variance = float(np.mean([e.value**2 for e in estimates]))
    error = math.sqrt(sum((2.0 * e.value * e.error) ** 2 for e in estimates)) / len(estimates)
    if len(estimates) == 1:
        return estimates[0]
    return Estimate.of_variance(variance, error**2)


def _anchored(
    knots: Knots, levels: list[LevelFit], at_0: float | None, *, smoothed: bool
) -> tuple[FloatArray, FloatArray, FloatArray, list[str]]:
    """Knot means from level 0 to 1, drives and their means, with level 0 at exactly `at_0`; and notes."""
    at, notes = knots.means.copy(), []
    drives = knots.drives.copy()
    if at_0 is not None:
        low_first = abs(at[0] - at_0) <= abs(at[-1] - at_0)
        if not low_first:
            at, drives = at[::-1], drives[::-1]
        sign = 1.0 if at[-1] > at_0 else -1.0
        error = levels[0 if low_first else -1].mean_error
        least = LEAST_STEP * float(np.ptp(at))
        if abs(at[0] - at_0) <= max(3.0 * error, least) and (at[1] - at_0) * sign > 0.0:
            at[0] = at_0
        elif (at[0] - at_0) * sign > 0.0:
            slope = (drives[1] - drives[0]) / (at[1] - at[0])
            notes.append(
                f"below the mean {at[0]:.4g} the response is a straight line on to level 0 at {at_0:g}; sd, drift and "
                "read noise are held there"
            )
            drives, at = np.insert(drives, 0, drives[0] + (at_0 - at[0]) * slope), np.insert(at, 0, at_0)
        else:
            inside = (at - at_0) * sign > 0.0
            first = float(np.interp(at_0 * sign, at * sign, drives))
            drives, at = np.insert(drives[inside], 0, first), np.insert(at[inside], 0, at_0)
            notes.append(f"means below level 0 at {at_0:g} are cut off")
    rising = np.argsort(drives)
    of = tuple(np.zeros(0, dtype=np.int64) for _ in drives)
    ordered = Knots(drives[rising], at[rising], of, 0.0, 0)
    curve = smooth(ordered) if smoothed else (ordered.drives, ordered.means)
    return at, *curve, notes
