"""The mean response to target or voltage: its monotone range, isotonic regression, and a smooth curve through it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.optimize import isotonic_regression

__all__ = [
    "LEAST_STEP",
    "REVERSAL",
    "Knots",
    "MonotoneRange",
    "interpolation_error",
    "isotonic",
    "monotone_range",
    "smooth",
]

FloatArray = NDArray[np.float64]

REVERSAL = 3.0  # standard errors by which two means must stand in the wrong order to be a reversal (our choice)
LEAST_STEP = 1e-4  # of the range: knots nearer than that are one (our choice)
PIECES = 4  # straight lines for one interval of the smooth curve


@dataclass(frozen=True)
class MonotoneRange:
    """The range of measured levels over which the mean response is monotone.

    Attributes:
        start, stop: levels `start` to `stop - 1` are in the range.
        rising: whether the mean rises over it, else it falls.
        cut: whether levels are left out.
    """

    start: int
    stop: int
    rising: bool
    cut: bool


@dataclass(frozen=True)
class Knots:
    """Points that the fitted mean response passes through.

    Attributes:
        drives: drives or targets, strictly rising, shape (k,).
        means: mean read at each, strictly rising or falling, shape (k,).
        of: for each knot, the numbers of the measured levels that it stands for.
        chi_square: of the measured means about the curve.
        dof: its degrees of freedom; 0 where no levels were pooled.
    """

    drives: FloatArray
    means: FloatArray
    of: tuple[NDArray[np.int64], ...]
    chi_square: float
    dof: int


def monotone_range(means: FloatArray, errors: FloatArray) -> MonotoneRange:
    """Find the run of neighbouring levels with the widest span of means and no significant reversal.

    Args:
        means: mean read at rising drives, shape (n,).
        errors: their standard errors, shape (n,).

    >>> found = monotone_range(np.array([0.0, 1.0, 2.0, 1.0]), np.full(4, 0.01))
    >>> found.start, found.stop, found.rising, found.cut
    (0, 3, True, True)
    """
    n = len(means)
    step = means[None, :] - means[:, None]
    error = np.sqrt(errors[None, :] ** 2 + errors[:, None] ** 2)
    best = (0, 1, True, -1.0)
    for rising in (True, False):
        wrong = np.triu((step if not rising else -step) > REVERSAL * error, 1)
        # the first level from which each level is reached without a reversal
        worst = np.array([max(np.flatnonzero(wrong[:, stop]), default=-1) for stop in range(n)]) + 1
        starts = np.maximum.accumulate(worst)
        spans = (means - means[starts]) * (1 if rising else -1)
        widest = int(np.argmax(spans))
        if spans[widest] > best[3]:
            stop = int(np.flatnonzero(starts == starts[widest])[-1]) + 1  # a flat end, too
            best = (int(starts[widest]), stop, rising, float(spans[widest]))
    start, stop, rising, _ = best
    return MonotoneRange(start, stop, rising, cut=stop - start < n)


def isotonic(drives: FloatArray, means: FloatArray, errors: FloatArray, *, rising: bool) -> Knots:
    """Weighted isotonic regression of the means; levels that it pools become one knot.

    A knot of pooled levels stands at their mean drive; at either end of the range, at the innermost of them.
    """
    floor = 1e-9 * max(float(np.ptp(means)), 1e-300)
    weights = 1.0 / np.maximum(errors, floor) ** 2
    fit = isotonic_regression(means, weights=weights, increasing=rising)
    edges = list(fit.blocks)
    rounding = 1e-12 * float(np.abs(means).max())  # no step at all
    least = max(LEAST_STEP * float(np.ptp(fit.x)), rounding)
    edges = [0] + [e for e in edges[1:-1] if abs(fit.x[e] - fit.x[e - 1]) > least] + [edges[-1]]
    of = tuple(np.arange(a, b, dtype=np.int64) for a, b in pairwise(edges))
    at = [float(np.average(drives[i], weights=weights[i])) for i in of]
    at[0], at[-1] = float(drives[of[0][-1]]), float(drives[of[-1][0]])
    mean = np.array([float(np.average(means[i], weights=weights[i])) for i in of])
    chi_square = float((weights * (means - np.repeat(mean, [len(i) for i in of])) ** 2).sum())
    return Knots(np.array(at), mean, of, chi_square, len(means) - len(of))


def smooth(knots: Knots, pieces: int = PIECES) -> tuple[FloatArray, FloatArray]:
    """A monotone cubic curve through the knots, as drives and means of `pieces` straight lines an interval.

    PCHIP: Fritsch & Butland, SIAM J. Sci. Stat. Comput. 5:300, 1984.
    """
    between = np.arange(pieces) / pieces
    drives = np.append(
        (knots.drives[:-1, None] + np.diff(knots.drives)[:, None] * between).reshape(-1), knots.drives[-1]
    )
    means = PchipInterpolator(knots.drives, knots.means)(drives)
    means[::pieces] = knots.means  # exactly
    return drives, means


def interpolation_error(knots: Knots, sds: FloatArray) -> float:
    """How far the curve moves at a knot when that knot is left out: root mean square over inner knots, in their sd.

    Well below 1, the drives lie dense enough. `sds` are the sds at the knots, shape (k,), in the unit of the means.
    """
    off = []
    for i in range(1, len(knots.drives) - 1):
        others = np.arange(len(knots.drives)) != i
        predicted = float(PchipInterpolator(knots.drives[others], knots.means[others])(knots.drives[i]))
        off.append((knots.means[i] - predicted) / sds[i] if sds[i] > 0.0 else 0.0)
    return math.sqrt(float(np.mean(np.square(off)))) if off else math.nan
