"""The report of a fit: numbers of each level with their errors, and tests of how well the card fits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from devices.fitting.drift import LevelDrift
from devices.fitting.spread import Estimate

__all__ = ["FitReport", "LevelFit", "Normality", "alike_p", "normality", "plus_minus"]

SIMULATED = 199  # normal samples of the same shape for the p value: smallest p 0.005
MOST_SIMULATED = 20_000  # writes of a simulated sample; beyond, the distance goes as 1 / √writes


def plus_minus(value: float, error: float) -> str:
    """Format a value with its standard error, to two digits of the error.

    >>> plus_minus(5.0123, 0.0234), plus_minus(5012.3, 234.0)
    ('5.012 ± 0.023', '5012 ± 234')
    """
    if not 0.0 < error < math.inf:
        return f"{value:.4g}"
    decimals = max(1 - math.floor(math.log10(error)), 0)
    return f"{value:.{decimals}f} ± {error:.{decimals}f}"


@dataclass(frozen=True)
class LevelFit:
    """Fitted numbers of one measured level, with their standard errors.

    Attributes:
        written: target or drive.
        writes, devices: number of writes, and of devices they are on.
        mean, mean_error: mean read, in the unit of the level.
        sd: standard deviation of a write on a device drawn at random, in the unit of the level. Read noise is removed
            from this and the next two where `drift` gives its q.
        cycle_sd: standard deviation of repeated writes on one device.
        device_sd: standard deviation of the devices' means; None where it cannot be separated.
        alike_p: p value of the F test that all devices have the same mean.
        drift: fitted drift and read noise; None where neither was.
    """

    written: float
    writes: int
    devices: int
    mean: float
    mean_error: float
    sd: Estimate
    cycle_sd: Estimate
    device_sd: Estimate | None
    alike_p: float
    drift: LevelDrift | None


def alike_p(levels: Sequence[LevelFit]) -> float | None:
    """p value that all devices are alike, combined over levels (Fisher); None where devices cannot be separated."""
    separable = [max(level.alike_p, 1e-300) for level in levels if level.device_sd is not None]
    return float(stats.combine_pvalues(separable).pvalue) if separable else None


@dataclass(frozen=True)
class Normality:
    """Residuals of single writes in units of their sd, and how far they are from a normal distribution.

    Attributes:
        residuals: standardised within their level and device, shape (n,).
        ks_distance: Kolmogorov-Smirnov distance to the standard normal.
        ks_p: its p value, by simulation.
        skew, excess_kurtosis: both 0 for a normal distribution.
    """

    residuals: NDArray[np.float64]
    ks_distance: float
    ks_p: float
    skew: float
    excess_kurtosis: float


def normality(values: NDArray[np.float64], group: NDArray[np.int64], level: NDArray[np.int64], seed: int) -> Normality:
    """Test whether values are normally distributed about the means of their groups.

    The p value comes from simulated normal samples of the same groups, standardised in the same way (Lilliefors, JASA
    62:399, 1967), since the tabulated p of a KS test is far too large when mean and sd were estimated from the data.

    Args:
        values: shape (n,).
        group: number of the group of each value, from 0: one device at one level.
        level: number of the level of each value, from 0.
        seed: seed of the simulated samples.
    """
    residuals = _standardised(values, group, level)
    distance = float(stats.kstest(residuals, "norm").statistic) if len(residuals) else 0.0
    generator = np.random.default_rng(seed)
    some = np.sort(generator.permutation(len(values))[:MOST_SIMULATED])
    further = 0
    for _ in range(SIMULATED if len(residuals) else 0):
        drawn = np.sort(_standardised(generator.standard_normal(len(some)), group[some], level[some]))
        further += _ks_sorted(drawn) * len(drawn) ** 0.5 >= distance * len(residuals) ** 0.5
    return Normality(
        residuals=residuals,
        ks_distance=distance,
        ks_p=(1 + further) / (SIMULATED + 1) if len(residuals) else 1.0,
        skew=float(stats.skew(residuals)) if len(residuals) else 0.0,
        excess_kurtosis=float(stats.kurtosis(residuals)) if len(residuals) else 0.0,
    )


def _ks_sorted(z: NDArray[np.float64]) -> float:
    below = stats.norm.cdf(z)
    rank = np.arange(len(z)) / len(z)
    return float(max((below - rank).max(), (rank + 1.0 / len(z) - below).max()))


def _standardised(
    values: NDArray[np.float64], group: NDArray[np.int64], level: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(value - group mean) / sd within the level's groups, of one variance each; single writes are left out."""
    count = np.maximum(np.bincount(group).astype(np.float64), 1.0)
    off = values - (np.bincount(group, values) / count)[group]
    groups = np.bincount(level, 1.0 / count[group])
    sd = np.sqrt(np.bincount(level, off**2) / np.maximum(np.bincount(level) - groups, 1.0))[level]
    own = count[group]
    kept = (own > 1.0) & (sd > 0.0)
    result: NDArray[np.float64] = off[kept] / sd[kept] / np.sqrt(1.0 - 1.0 / own[kept])
    return result


@dataclass(frozen=True)
class FitReport:
    """How well a card fits its measurements.

    Attributes:
        reads: number of reads used.
        levels: the levels used, in rising order of target or drive.
        usable: the lowest and highest drive or target of the monotone range.
        mean_chi_square: of the measured means about the card's mean curve, with `mean_dof` degrees of freedom;
            0 of 0 where the curve passes through every mean.
        interpolation_error: RMS distance of each inner level from the curve through the others, in its sd.
        device_share: share of the variance that lies between devices, over all levels; None if not separable.
        normality: test of the residuals.
        notes: what was cut, held constant or left out, a line each.
    """

    reads: int
    levels: tuple[LevelFit, ...]
    usable: tuple[float, float]
    mean_chi_square: float
    mean_dof: int
    interpolation_error: float
    device_share: float | None
    normality: Normality
    notes: tuple[str, ...]

    @property
    def reduced_chi_square(self) -> float | None:
        """χ² of the mean curve per degree of freedom; None where it passes through every mean."""
        return self.mean_chi_square / self.mean_dof if self.mean_dof else None

    def lines(self) -> list[str]:
        """The report as lines of text, without the table of levels; notes come last."""
        writes = [level.writes for level in self.levels]
        z = self.normality
        n = max(len(z.residuals), 1)
        reduced = self.reduced_chi_square
        chi = (
            "passes through every mean, no degree of freedom left"
            if reduced is None
            else (
                f"reduced χ² {reduced:.2f} ({self.mean_chi_square:.1f} of {self.mean_dof}, "
                f"p {stats.chi2.sf(self.mean_chi_square, self.mean_dof):.2g})"
            )
        )
        lines = [
            f"{self.reads} reads, {sum(writes)} writes, {len(writes)} levels of {min(writes)} to {max(writes)} writes",
            f"usable monotone range: {self.usable[0]:g} to {self.usable[1]:g}",
            f"mean curve: {chi}; leaving a level out moves the curve there by {self.interpolation_error:.2f} sd (RMS)",
            f"residuals against the normal: KS {z.ks_distance:.3f}, p {z.ks_p:.3f} by simulation, since mean and sd "
            "were estimated from the same writes",
            f"residuals: skew {z.skew:+.2f} ± {(6 / n) ** 0.5:.2f}, excess kurtosis {z.excess_kurtosis:+.2f} "
            f"± {(24 / n) ** 0.5:.2f} (the card's noise is normal: both 0)",
        ]
        if self.device_share is not None:
            p = alike_p(self.levels)
            lines.append(
                f"{100 * self.device_share:.0f} % of the variance lies between devices, the rest within one; that all "
                f"devices are alike has p {'below 1e-16' if p is not None and p < 1e-16 else format(p, '.2g')}"
            )
        return lines + [f"note: {note}" for note in self.notes]
