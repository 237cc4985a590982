"""Mean and programming noise of one level, from its reads, with read noise and the effect of clamping removed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from devices.fitting.drift import LevelDrift, noise_growth
from devices.fitting.report import LevelFit
from devices.fitting.spread import CLAMP_REACH, Estimate, Spread, read_noise_removed, spread_of, unclamped
from devices.fitting.writes import Writes

if TYPE_CHECKING:
    from devices.fitting.options import FitOptions

__all__ = ["level_fit"]

FloatArray = NDArray[np.float64]


def level_fit(
    writes: Writes,
    level: int,
    at_0: float | None,
    sign: int,
    drift: LevelDrift | None,
    held_q: tuple[float, float],
    kurtosis: float,
    options: FitOptions,
) -> LevelFit:
    """Fit one level: its mean and standard deviations, with standard errors propagated to first order.

    Args:
        writes: all writes.
        level: number of the level.
        at_0: physical value of level 0; None where it is not known (then no read noise is removed).
        sign: 1 where level 1 lies above it, -1 below.
        drift: drift of this level, for the report.
        held_q: q of the read noise and its error, from this level or the nearest; 0 where none was fitted.
        kurtosis: excess kurtosis of single writes.
        options: whether levels are clamped at 0, the duration of a read and the time between reads.
    """
    own = writes.level == level
    height = (writes.value[own] - (at_0 or 0.0)) * sign
    spread = spread_of(height, writes.device[own] if writes.device is not None else None, kurtosis)
    reads = float(1.0 / np.mean(1.0 / writes.repeats[own]))
    growth = _growth_of_mean(reads, writes.t0_s, options) if held_q[0] > 0.0 else 0.0
    # without a fitted q the spread is that of one read, also where several were averaged
    averaged = 0.0 if held_q[0] > 0.0 else (1.0 - 1.0 / reads) * float(writes.repeat_variance[level])

    def unread(at: FloatArray) -> float:
        return read_noise_removed(at[0], at[1], at[2] * growth) + averaged

    def latent(at: FloatArray) -> FloatArray:
        """Mean and variance of the write from mean and variance of its reads and q."""
        return np.array(unclamped(at[0], unread(at)) if options.clamp_at_0 else (at[0], unread(at)))

    at = np.array([spread.mean, spread.total, held_q[0]])
    found, errors = _carried(latent, at, _covariance(spread, height, held_q[1], clamp=options.clamp_at_0))
    without_reading = unread(at)
    scale = max(found[1], 0.0) / max(without_reading, 1e-300) if options.clamp_at_0 else 1.0
    within = max(spread.within - (spread.total - without_reading), 0.0) * scale
    added = max(errors[1] ** 2 - spread.total_variance * scale**2, 0.0)  # what q and the mean add
    total = Estimate.of_variance(found[1], errors[1] ** 2)
    apart = spread.between is not None
    return LevelFit(
        written=float(writes.written[level]),
        writes=spread.count,
        devices=spread.devices if writes.device is not None else 1,
        mean=(at_0 or 0.0) + sign * float(found[0]),
        mean_error=float(errors[0]),
        sd=total,
        cycle_sd=Estimate.of_variance(within, spread.within_variance * scale**2 + added) if apart else total,
        device_sd=Estimate.of_variance((spread.between or 0.0) * scale, spread.between_variance * scale**2)
        if apart
        else None,
        alike_p=spread.alike_p,
        drift=drift,
    )


def _growth_of_mean(reads: float, t0_s: float, options: FitOptions) -> float:
    """Growth s of the 1/f noise in the mean of several reads at t0: only noise that is new between them averages."""
    both = float(noise_growth(t0_s, options.t_read_s)) ** 2
    new = min(math.log(max(options.apart_s / (2.0 * options.t_read_s), 1.0)), both)
    return math.sqrt(both - new + new / reads)


def _covariance(spread: Spread, height: FloatArray, q_error: float, *, clamp: bool) -> FloatArray:
    """Covariance matrix of mean, variance and q; for a clamped level from the third and fourth moment of its writes."""
    covariance = np.diag([spread.mean_variance, spread.total_variance, q_error**2])
    if clamp and spread.mean < CLAMP_REACH * math.sqrt(spread.total):
        off = height - height.mean()
        covariance[0, 1] = covariance[1, 0] = float((off**3).mean()) / spread.count
        covariance[1, 1] = float((off**4).mean() - (off**2).mean() ** 2) / spread.count
    return covariance


def _carried(
    function: Callable[[FloatArray], FloatArray], at: FloatArray, covariance: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Values of a function and their propagated standard errors, by central differences of a tenth of each error."""
    values = function(at)
    columns = []
    for i in range(len(at)):
        step = 0.1 * math.sqrt(covariance[i, i])
        if step == 0.0:
            columns.append(np.zeros_like(values))
            continue
        move = np.eye(len(at))[i] * step
        columns.append((function(at + move) - function(at - move)) / (2.0 * step))
    jacobian = np.column_stack(columns)
    return values, np.sqrt(np.maximum(np.diag(jacobian @ covariance @ jacobian.T), 0.0))
