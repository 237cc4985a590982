"""Estimating drift exponents and 1/f read noise from reads of the same cells at several times.

The model of one written cell is read = p (t/t0)^-ν (1 + q s ε), with a standard normal ε: noise in proportion to the
mean. At time t all 1/f noise together has s² = ln((t + t_read) / (2 t_read)). Two reads a time Δ apart share the noise
slower than Δ, so that repeated reads differ by s² = ln(Δ / (2 t_read)) only, as in `devices.cards.read_noise`. Each
cell's ln p and ν solve the quasi-likelihood equations of a mean with log link and variance ∝ mean² (McCullagh & Nelder,
Generalized Linear Models, 1989, ch. 9). Unlike a line through logarithms, these have no bias from E ln(1 + noise) and
allow reads below 0. The pooled residuals of a level give q. The spread of ν over cells is that of the fitted exponents
minus the part that read noise causes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

__all__ = [
    "NOISY",
    "CellFits",
    "LevelDrift",
    "drift_of",
    "fit_cells",
    "folded_to_normal",
    "fresh_growth",
    "noise_growth",
    "noise_of_pairs",
]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MOST_NOISE = 0.35  # relative sd of a read beyond which no exponent is fitted to single cells (our choice)
NOISY = 0.15  # from here on q of single-cell fits is high by a percent or more, and that of pairs is taken
STEPS = 60


def noise_growth(time_s: FloatArray | float, t_read_s: float) -> FloatArray:
    """Growth s of all 1/f noise in one read, `time_s` seconds after programming: √ln((t + t_read) / (2 t_read))."""
    growth: FloatArray = np.sqrt(np.log((np.asarray(time_s) + t_read_s) / (2.0 * t_read_s)))
    return growth


def fresh_growth(write: IntArray, time_s: FloatArray, t_read_s: float, apart_s: float) -> FloatArray:
    """Growth s of the 1/f noise by which each read differs from the other reads of its write.

    It is the noise that is new since the read before.

    Args:
        write: number of the write that each read belongs to, shape (n,).
        time_s: seconds after programming, shape (n,).
        t_read_s: duration of a read, in seconds.
        apart_s: seconds assumed between reads that state the same time.
    """
    order = np.lexsort((time_s, write))
    since = np.full(len(order), np.inf)
    same = write[order][1:] == write[order][:-1]
    gap = np.diff(time_s[order])
    gap = np.where(gap > 0.0, gap, apart_s)
    since[1:][same] = gap[same]
    first = ~np.concatenate([[False], same])
    since[:-1][first[:-1] & same] = gap[first[:-1] & same]  # the first read: until the next
    growth = np.empty(len(order))
    at = time_s[order] + t_read_s
    growth[order] = np.sqrt(np.log(np.maximum(np.minimum(since, at), 4.0 * t_read_s) / (2.0 * t_read_s)))
    return growth


@dataclass(frozen=True)
class LevelDrift:
    """Fitted drift and read noise of one level, with standard errors.

    Attributes:
        cells: number of cells that were fitted.
        exponent_mean, exponent_sd: of the normal whose absolute value is ν; NaN where reads are too noisy to fit single
            cells, but q could still be estimated.
        q: relative read noise at growth 1.
        growing: reads rise with time instead of decaying, by more than 3 standard errors.
    """

    cells: int
    exponent_mean: float
    exponent_mean_error: float
    exponent_sd: float
    exponent_sd_error: float
    q: float
    q_error: float
    growing: bool = False


@dataclass(frozen=True)
class CellFits:
    """Power laws fitted to single cells, shape (cells,) each; NaN where a cell could not be fitted.

    Attributes:
        exponent: ν of each cell.
        unit_variance: variance of that estimate for q = 1.
        squares: weighted sum of squared relative residuals.
        reads: number of reads.
    """

    exponent: FloatArray
    unit_variance: FloatArray
    squares: FloatArray
    reads: FloatArray


def fit_cells(cell: IntArray, log_time: FloatArray, growth: FloatArray, read: FloatArray, *, drifts: bool) -> CellFits:
    """Fit a power law of time to the reads of each cell, all cells at once.

    Args:
        cell: number of the cell of each read, from 0, shape (n,).
        log_time: ln(t / t0) of each read.
        growth: s of each read, see `fresh_growth`.
        read: reads measured from level 0, positive on average.
        drifts: whether to fit exponents; otherwise they are 0 and only the mean is fitted.
    """
    cells = int(cell.max()) + 1 if len(cell) else 0
    weight = growth**-2.0

    def total(values: FloatArray) -> FloatArray:
        summed: FloatArray = np.bincount(cell, values, minlength=cells).astype(np.float64)
        return summed

    reads = total(np.ones_like(read))
    s0, s1, s2 = total(weight), total(-weight * log_time), total(weight * log_time**2)
    determinant = s0 * s2 - s1**2
    good = (total(weight * read) > 0.0) & (reads >= (3 if drifts else 2))
    if drifts:
        good &= determinant > 1e-9 * s0 * np.maximum(s2, 1e-300)
    safe = np.where(good & drifts, determinant, 1.0)
    log_p = np.log(np.where(good, total(weight * read) / np.maximum(s0, 1e-300), 1.0))
    exponent = np.zeros(cells)
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(STEPS):
            off = read / np.exp(log_p[cell] - exponent[cell] * log_time) - 1.0
            b0, b1 = total(weight * off), total(-weight * log_time * off)
            step_p = (s2 * b0 - s1 * b1) / safe if drifts else b0 / np.maximum(s0, 1e-300)
            step_nu = (s0 * b1 - s1 * b0) / safe if drifts else np.zeros(cells)
            size = np.maximum(1.0, np.maximum(np.abs(step_p), np.abs(step_nu)))
            log_p, exponent = log_p + step_p / size, exponent + step_nu / size
            if not (np.abs(step_p) + np.abs(step_nu) > 1e-10)[good].any():
                break
        off = read / np.exp(log_p[cell] - exponent[cell] * log_time) - 1.0
        good &= np.abs(step_p) + np.abs(step_nu) < 1e-6
    nothing = np.where(good, 0.0, math.nan)
    return CellFits(exponent + nothing, s0 / safe + nothing, total(weight * off**2) + nothing, reads)


def drift_of(fits: CellFits, reference_growth: float, *, drifts: bool, least: int) -> LevelDrift | None:
    """Combine the fits of the cells of one level; None if too few could be fitted or reads are too noisy."""
    good = np.isfinite(fits.exponent)
    cells = int(good.sum())
    dof = float((fits.reads[good] - (2 if drifts else 1)).sum())
    if cells < least or dof < least or cells < 0.9 * len(good):
        return None
    q = math.sqrt(float(fits.squares[good].sum()) / dof)
    if q * reference_growth > MOST_NOISE:
        return None
    q_error = q / math.sqrt(2.0 * dof)
    if not drifts:
        return LevelDrift(cells, 0.0, 0.0, 0.0, 0.0, q, q_error)
    exponent = fits.exponent[good]
    seen = float(exponent.var(ddof=1))
    noise = q**2 * float(fits.unit_variance[good].mean())
    kurtosis = float(stats.kurtosis(exponent))
    seen_error = seen * math.sqrt(max(2.0 / (cells - 1) + kurtosis / cells, 0.2 / cells))
    variance = max(seen - noise, 0.0)
    sd = math.sqrt(variance)
    mean, sd_of_normal = folded_to_normal(max(float(exponent.mean()), 0.0), sd)
    error = math.hypot(seen_error, 2.0 * noise * q_error / max(q, 1e-300))
    return LevelDrift(
        cells=cells,
        exponent_mean=mean,
        exponent_mean_error=math.sqrt(seen / cells),
        exponent_sd=sd_of_normal,
        exponent_sd_error=error / (2.0 * sd) if sd**2 > error else math.sqrt(error),
        q=q,
        q_error=q_error,
        growing=float(exponent.mean()) < -3.0 * math.sqrt(seen / cells),
    )


def noise_of_pairs(
    cell: IntArray, log_time: FloatArray, growth: FloatArray, read: FloatArray, exponent: float
) -> LevelDrift | None:
    """Estimate q from differences of successive reads, which works for any noise without fitting single cells.

    With the mean drift removed, E (y₂ - y₁)² = p² q² (s₁² + s₂²) and E y₁ y₂ = p², so q² is the ratio of their sums.
    The spread of exponents adds a little to the differences, which is small where the noise is large.

    Args:
        cell, log_time, growth, read: as for `fit_cells`.
        exponent: the mean drift exponent to remove.
    """
    order = np.lexsort((log_time, cell))
    y, c, s2 = (read * np.exp(exponent * log_time))[order], cell[order], growth[order] ** 2
    same = c[1:] == c[:-1]
    if not same.any():
        return None
    above = np.bincount(c[1:][same], ((y[1:] - y[:-1]) ** 2)[same])
    below = np.bincount(c[1:][same], ((s2[1:] + s2[:-1]) * y[1:] * y[:-1])[same])
    usable = (above > 0.0) | (below != 0.0)
    above, below = above[usable], below[usable]
    if below.sum() <= 0.0 or len(below) < 2:
        return None
    ratio = float(above.sum() / below.sum())
    error = math.sqrt(float(((above - ratio * below) ** 2).sum()) * len(below) / (len(below) - 1)) / float(below.sum())
    q = math.sqrt(ratio)
    return LevelDrift(len(below), math.nan, math.nan, math.nan, math.nan, q, error / (2.0 * q)) if q > 0.0 else None


def folded_to_normal(mean: float, sd: float) -> tuple[float, float]:
    """Find µ and σ for which |N(µ, σ)| has a given mean and sd (Leone, Nelson & Nottingham, Technometrics 3:543, 1961).

    A mean too small for any µ (below √(2/π) of the root mean square) gives the half-normal, µ = 0.

    >>> [round(v, 4) for v in folded_to_normal(0.0490, 0.008)]
    [0.049, 0.008]
    """
    square = mean**2 + sd**2
    root = math.sqrt(square)
    if sd <= 0.0 or mean > 6.0 * sd:
        return max(mean, 0.0), max(sd, 0.0)
    if mean <= math.sqrt(2.0 / math.pi) * root:
        return 0.0, root

    def off(centre: float) -> float:
        spread = math.sqrt(square - centre**2)
        return float(stats.foldnorm.mean(centre / spread, scale=spread)) - mean

    centre = float(optimize.brentq(off, 0.0, mean))
    return centre, math.sqrt(square - centre**2)
