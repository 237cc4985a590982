"""Estimating the spread of one level: cycle to cycle and device to device separately, with standard errors.

One-way random effects: read = mean + device + cycle, both normal. The variances are those of restricted maximum
likelihood (Patterson & Thompson, Biometrika 58:545, 1971), profiled to the one ratio θ = between / within. Errors
of variances are those of the analysis of variance (Searle, Casella & McCulloch, Variance Components, 1992, ch. 4)
with the within part widened by the excess kurtosis, since single writes are seldom normal. An interval of an sd is
the chi-square one at the degrees of freedom that match the error (Satterthwaite, Biometrics Bulletin 2:110, 1946).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats
from scipy.special import ndtr

__all__ = ["Estimate", "Spread", "read_noise_removed", "spread_of", "unclamped"]

FloatArray = NDArray[np.float64]

LOWEST = -3.0  # sd below the floor that a latent mean may lie
CLAMP_REACH = 4.0  # sd above the floor from which clamping moves an sd by less than 1e-3


@dataclass(frozen=True)
class Estimate:
    """An estimated standard deviation `value` with its standard error `error`, in the same unit."""

    value: float
    error: float

    @property
    def dof(self) -> float:
        """Degrees of freedom of a sample with the same relative error, (value / error)² / 2."""
        return 0.5 * (self.value / self.error) ** 2 if self.error > 0.0 else math.inf

    def interval(self, share: float = 0.95) -> tuple[float, float]:
        """Two-sided chi-square confidence interval.

        >>> low, high = Estimate(1.0, 1.0 / math.sqrt(2.0 * 119)).interval()  # 120 writes
        >>> round(low, 3), round(high, 3)
        (0.887, 1.145)
        """
        if self.value <= 0.0 or math.isinf(self.dof):
            return self.value, self.value + 1.96 * self.error
        tail = 0.5 * (1.0 - share)
        high, low = stats.chi2.ppf([1.0 - tail, tail], self.dof)
        return self.value * math.sqrt(self.dof / high), self.value * math.sqrt(self.dof / low)

    @classmethod
    def of_variance(cls, variance: float, variance_of_it: float) -> Estimate:
        """Make an sd from a variance and the variance of that estimate; a variance of 0 or less gives sd 0."""
        error = math.sqrt(max(variance_of_it, 0.0))
        if variance <= 0.0:
            return cls(0.0, math.sqrt(error))
        sd = math.sqrt(variance)
        return cls(sd, error / (2.0 * sd))


@dataclass(frozen=True)
class Spread:
    """Mean and variance components of one level, with the variances of these estimates.

    Attributes:
        count, devices: number of writes and of devices.
        mean, mean_variance: mean of a write, and the variance of this estimate.
        within, within_variance: variance of repeated writes on one device, and the variance of this estimate.
        between, between_variance: variance of the devices' means likewise; None and 0 where it cannot be separated.
        covariance: of the estimates of `within` and `between`.
        alike_p: p value of the F test that all devices have the same mean; 1 where they cannot be separated.
    """

    count: int
    devices: int
    mean: float
    mean_variance: float
    within: float
    within_variance: float
    between: float | None
    between_variance: float
    covariance: float
    alike_p: float

    @property
    def total(self) -> float:
        """Variance of a write on a device drawn at random."""
        return self.within + (self.between or 0.0)

    @property
    def total_variance(self) -> float:
        """Variance of the estimate `total`."""
        return max(self.within_variance + self.between_variance + 2.0 * self.covariance, 0.0)


def spread_of(values: FloatArray, device: NDArray[np.int64] | None, kurtosis: float) -> Spread:
    """Estimate mean and variance components of the writes of one level.

    Args:
        values: one for each write, shape (n,).
        device: device of each, or None; devices can be separated if there are two, and a write more than devices.
        kurtosis: excess kurtosis of single writes about their device's mean.
    """
    n = len(values)
    _, group = np.unique(np.zeros(n) if device is None else device, return_inverse=True)
    count = np.bincount(group).astype(np.float64)
    mean = np.bincount(group, values) / count
    inside = float(((values - mean[group]) ** 2).sum())
    k = len(count)
    if k < 2 or k == n:
        variance = float(values.var(ddof=1))
        return Spread(
            count=n,
            devices=k,
            mean=float(values.mean()),
            mean_variance=variance / n,
            within=variance,
            within_variance=_error2(variance, n, n - 1, kurtosis),
            between=None,
            between_variance=0.0,
            covariance=0.0,
            alike_p=1.0,
        )
    ratio = _reml_ratio(count, mean, inside)
    weight, centre, within = _profile(ratio, count, mean, inside)
    between = ratio * within
    per_device = (n - float((count**2).sum()) / n) / (k - 1)  # effective writes a device
    residual = 2.0 * within**2 / (n - k)
    outer = 2.0 * (within + per_device * between) ** 2 / (k - 1)
    return Spread(
        count=n,
        devices=k,
        mean=centre,
        mean_variance=within / float(weight.sum()),
        within=within,
        within_variance=_error2(within, n, n - k, kurtosis),
        between=between,
        between_variance=(outer + residual) / per_device**2,
        covariance=-residual / per_device,
        alike_p=_alike(count, mean, inside),
    )


def _alike(count: FloatArray, mean: FloatArray, inside: float) -> float:
    n, k = float(count.sum()), len(count)
    outside = float((count * (mean - float((count * mean).sum()) / n) ** 2).sum())
    if inside <= 0.0:
        return 1.0 if outside <= 0.0 else 0.0
    return float(stats.f.sf(outside / (k - 1) / (inside / (n - k)), k - 1, n - k))


def _error2(variance: float, n: int, dof: int, kurtosis: float) -> float:
    """Variance of a sample variance: variance² (2 / dof + excess kurtosis / n)."""
    return variance**2 * max(2.0 / dof + kurtosis / n, 0.2 / dof)


def _profile(ratio: float, count: FloatArray, mean: FloatArray, inside: float) -> tuple[FloatArray, float, float]:
    """Weights, mean and within variance at θ = between / within."""
    weight = count / (1.0 + ratio * count)
    centre = float((weight * mean).sum() / weight.sum())
    within = (inside + float((weight * (mean - centre) ** 2).sum())) / (float(count.sum()) - 1.0)
    return weight, centre, within


def _reml_ratio(count: FloatArray, mean: FloatArray, inside: float) -> float:
    """θ at the restricted maximum likelihood, 0 where the devices are alike."""

    def minus_twice_log(ratio: float) -> float:
        weight, _, within = _profile(ratio, count, mean, inside)
        sums = float(np.log1p(ratio * count).sum()) + math.log(float(weight.sum()))
        return (float(count.sum()) - 1.0) * math.log(max(within, 1e-300)) + sums

    found = optimize.minimize_scalar(
        lambda log_ratio: minus_twice_log(math.exp(log_ratio)),
        bounds=(-18.0, 18.0),
        method="bounded",
        options={"xatol": 1e-9},
    )
    return 0.0 if minus_twice_log(0.0) <= found.fun else math.exp(found.x)


def read_noise_removed(mean: float, variance: float, relative: float) -> float:
    """Remove multiplicative read noise of relative sd `relative` from the variance of reads.

    Read noise multiplies: E[read²] = E[level²] (1 + relative²).
    """
    return (variance + mean**2) / (1.0 + relative**2) - mean**2


def _clamped(mean: float, sd: float) -> tuple[float, float]:
    """Mean and variance of max(0, N(mean, sd))."""
    above = float(ndtr(mean / sd))
    density = sd * math.exp(-0.5 * (mean / sd) ** 2) / math.sqrt(2.0 * math.pi)
    first = mean * above + density
    return first, (mean**2 + sd**2) * above + mean * density - first**2


def unclamped(mean: float, variance: float) -> tuple[float, float]:
    """Undo clamping: mean and variance of the normal that has the given ones after clamping at 0.

    >>> [round(v, 6) for v in unclamped(*_clamped(0.3, 1.0))]
    [0.3, 1.0]
    """
    sd = math.sqrt(max(variance, 0.0))
    if sd == 0.0 or mean > CLAMP_REACH * sd:
        return mean, variance

    def off(ratio: float) -> float:
        """Of the relative variance, which falls as the mean counted in sds rises."""
        first, second = _clamped(ratio, 1.0)
        return second / first**2 - variance / mean**2

    if mean <= 0.0 or off(LOWEST) < 0.0:
        return 0.0, 2.0 * (variance + mean**2)  # the half-normal with this root mean square
    ratio = float(optimize.brentq(off, LOWEST, 2.0 * CLAMP_REACH))
    latent = mean / _clamped(ratio, 1.0)[0]
    return ratio * latent, latent**2
