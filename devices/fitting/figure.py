"""The figure of a fit: mean response with the data, sd with its error, residuals, and drift where there is any."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from scipy.special import ndtri

from devices.cells.moments import response
from devices.figures.style import (
    BLACK,
    BLUE,
    DOUBLE_MM,
    ENDINGS,
    GREEN,
    METADATA,
    ORANGE,
    PURPLE,
    RED,
    letter,
    new_figure,
    paper,
)
from devices.files import replacing
from devices.fitting.fit import Fit
from devices.fitting.report import LevelFit
from devices.fitting.spread import Estimate
from devices.fitting.writes import Writes, gather

__all__ = ["draw_fit"]

FloatArray = NDArray[np.float64]

MOST_POINTS = 4000  # writes drawn in the first panel, the first ones of each level
TIMED_LEVELS = 4  # levels whose decay is drawn
TIME_BINS = 24


def draw_fit(fit: Fit, path: Path | str) -> Path:
    """Draw the figure of a fit, in three panels, or six where drift or read noise was fitted.

    Panels: mean response with a band of ± 1 sd and the data; sd against the mean with 95 % intervals; normal Q–Q plot
    of the residuals; mean reads over time beside the card's; drift exponents; read noise q.

    Args:
        fit: of `devices.fit_card`.
        path: file to write, ending in .png, .svg or .pdf.

    Raises:
        ValueError: another ending.
    """
    file = Path(path)
    ending = file.suffix.lower().lstrip(".")
    if ending not in ENDINGS:
        raise ValueError(f"figure '{file}' needs a name that ends in .png, .svg or .pdf: correct the name")
    with paper():
        timed = fit.shape.drift is not None
        figure = new_figure(DOUBLE_MM, 112.0 if timed else 58.0)
        axes = np.atleast_2d(figure.subplots(2 if timed else 1, 3))
        writes = gather(fit.measurements)
        _mean(axes[0, 0], fit, writes)
        _sd(axes[0, 1], fit)
        _quantiles(axes[0, 2], fit)
        if timed:
            _decay(axes[1, 0], fit, writes)
            _exponents(axes[1, 1], fit)
            _read_noise(axes[1, 2], fit)
        for axis, character in zip(axes.flat, "abcdef", strict=False):
            letter(axis, character)
        with replacing(file) as temporary:
            figure.savefig(temporary, format=ending, metadata=METADATA[ending])
    return file


def _label(fit: Fit) -> str:
    return f"{fit.card.level.quantity} ({fit.card.level.unit})"


def _mean(axis: Axes, fit: Fit, writes: Writes) -> None:
    """The writes, the card's curve with its band, and the measured means."""
    order = np.argsort(writes.level, kind="stable")
    count = np.bincount(writes.level)
    place = np.arange(len(order)) - np.repeat(np.cumsum(count) - count, count)
    shown = order[place < max(MOST_POINTS // len(count), 1)]
    axis.plot(
        writes.written[writes.level[shown]],
        writes.value[shown],
        ".",
        color="0.4",
        markersize=2.5,
        alpha=0.35,
        markeredgewidth=0,
        label="writes",
        zorder=1,
        rasterized=True,
    )
    drives, means = fit.shape.drives, fit.shape.means
    rising = np.argsort(fit.shape.at)
    sd = np.interp(means, fit.shape.at[rising], np.array([e.value for e in fit.shape.sd])[rising])
    axis.fill_between(
        drives, means - sd, means + sd, color=BLUE, alpha=0.25, linewidth=0, label="± 1 programming sd", zorder=2
    )
    axis.plot(drives, means, color=BLUE, label="card", zorder=3)
    levels = fit.report.levels
    axis.plot([x.written for x in levels], [x.mean for x in levels], "o", color=BLACK, label="means", zorder=4)
    if len(writes.written) > len(levels):
        for edge in fit.report.usable:
            axis.axvline(edge, ymax=0.6, color=RED, linewidth=0.7, linestyle=":")
    axis.set_xlabel(_drive(fit))
    axis.set_ylabel(_label(fit))
    axis.set_title("mean response")
    axis.legend()


def _drive(fit: Fit) -> str:
    drive = fit.card.drive
    return f"target {_label(fit)}" if drive is None else f"{drive.quantity} ({drive.unit})"


def _bars(axis: Axes, at: FloatArray, sds: list[Estimate], colour: str, marker: str, label: str) -> None:
    values = np.array([e.value for e in sds])
    ends = np.array([e.interval() for e in sds])
    error = np.abs(ends - values[:, None]).T
    axis.errorbar(at, values, error, fmt=marker, color=colour, capsize=1.5, linewidth=0.7, label=label)


def _sd(axis: Axes, fit: Fit) -> None:
    """The sds with their intervals, and the card's lines through them."""
    levels = fit.report.levels
    at = np.array([x.mean for x in levels])
    rising = np.argsort(fit.shape.at)
    axis.plot(fit.shape.at[rising], np.array([e.value for e in fit.shape.sd])[rising], color=BLUE, linewidth=0.9)
    _bars(axis, at, [x.sd for x in levels], BLUE, "o", "any device" if fit.shape.separated else "sd, 95 % interval")
    if fit.shape.separated:
        axis.plot(
            fit.shape.at[rising], np.array([e.value for e in fit.shape.cycle_sd])[rising], color=GREEN, linewidth=0.9
        )
        _bars(axis, at, [x.cycle_sd for x in levels], GREEN, "^", "within one device")
        devices = [x.device_sd for x in levels if x.device_sd is not None]
        fitted = np.array([x.device_sd is not None for x in levels])
        axis.plot(at[fitted], [e.value for e in devices], "s", color=ORANGE, label="between devices")
    tops = [min(e.interval()[1], 2.5 * e.value) for e in (x.sd for x in levels)]
    axis.set_ylim(0.0, 1.5 * max(tops))
    axis.set_xlabel(_label(fit))
    axis.set_ylabel(f"sd ({fit.card.level.unit})")
    axis.set_title("programming sd, 95 % intervals")
    axis.legend()


def _quantiles(axis: Axes, fit: Fit) -> None:
    """Sorted residuals against normal quantiles."""
    z = np.sort(fit.report.normality.residuals)
    if len(z) > MOST_POINTS:
        z = z[np.unique(np.round(np.linspace(0, len(z) - 1, MOST_POINTS)).astype(int))]
    normal = ndtri((np.arange(len(z)) + 0.5) / max(len(z), 1))
    reach = max(float(np.abs(z).max()), float(np.abs(normal).max())) if len(z) else 1.0
    axis.axline((0.0, 0.0), slope=1.0, color="0.6", linewidth=0.8)
    axis.plot(normal, z, "o", color=BLUE, markersize=2, markeredgewidth=0)
    found = fit.report.normality
    axis.text(
        0.04,
        0.96,
        f"skew {found.skew:+.2f}\nexcess kurtosis {found.excess_kurtosis:+.2f}\nKS {found.ks_distance:.3f}, "
        f"p {'≤' if found.ks_p <= 0.005 else '='} {max(found.ks_p, 0.005):.3f}",
        transform=axis.transAxes,
        va="top",
        fontsize=6.5,
    )
    axis.set_xlim(-1.08 * reach, 1.08 * reach)
    axis.set_ylim(-1.08 * reach, 1.08 * reach)
    axis.set_xlabel("normal quantile")
    axis.set_ylabel("residual (sd)")
    axis.set_title("residuals of single writes")


def _level_of(fit: Fit, level: LevelFit) -> float:
    value = level.written if fit.shape.nominal else level.mean
    return float(np.clip(fit.card.level.from_physical(value), 0.0, 1.0))


def _decay(axis: Axes, fit: Fit, writes: Writes) -> None:
    """Mean read over time of a few levels, each with its standard error, beside the card's closed form."""
    assert writes.time_s is not None
    fitted = [i for i, x in enumerate(fit.report.levels) if x.drift is not None and np.isfinite(x.drift.exponent_mean)]
    fitted = fitted or [i for i, x in enumerate(fit.report.levels) if x.drift is not None]
    picked = [fitted[i] for i in np.unique(np.linspace(0, len(fitted) - 1, min(TIMED_LEVELS, len(fitted))).astype(int))]
    t0_s, last_s = fit.card.t0_s, fit.card.t0_s + fit.card.max_s
    grid = np.geomspace(t0_s, last_s, 60) if last_s > t0_s else np.array([t0_s])
    at_0, colours = fit.card.level.at_0, (BLUE, RED, GREEN, PURPLE)
    for i, colour, marker in zip(picked, colours, "osD^", strict=False):
        level = fit.report.levels[i]
        own = writes.level_of_read == int(np.argmin(np.abs(writes.written - level.written)))
        when, mean, error = _by_time(writes.time_s[own], writes.read[own])
        x = np.array(_level_of(fit, level))
        span = fit.card.level.at_1 - at_0
        card = np.array([at_0 + span * float(response(fit.card, min(t - t0_s, fit.card.max_s)).mean(x)) for t in grid])
        first = card[0]
        axis.errorbar(
            when, mean / first, np.abs(error / first), fmt=marker, color=colour, capsize=1.5, linewidth=0.7,
            label=f"{level.mean:.3g} {fit.card.level.unit}",
        )  # fmt: skip
        axis.plot(grid, card / first, color=colour, linewidth=0.9)
    axis.set_xscale("log")
    axis.set_xlabel("time since programming (s)")
    axis.set_ylabel(f"mean read / card's at {t0_s:g} s")
    axis.set_title("decay: reads and card")
    axis.legend()


def _by_time(time_s: FloatArray, read: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Times, mean reads and their standard errors, in bins of the logarithm where there are many times."""
    times, index = np.unique(time_s, return_inverse=True)
    if len(times) > TIME_BINS:
        edges = np.geomspace(times[0], times[-1] * (1 + 1e-9), TIME_BINS + 1)
        index = np.clip(np.searchsorted(edges, time_s, side="right") - 1, 0, TIME_BINS - 1)
        index = np.unique(index, return_inverse=True)[1]
    count = np.bincount(index).astype(np.float64)
    mean = np.bincount(index, read) / count
    variance = np.bincount(index, (read - mean[index]) ** 2) / np.maximum(count - 1.0, 1.0)
    return np.exp(np.bincount(index, np.log(time_s)) / count), mean, np.sqrt(variance / count)


def _exponents(axis: Axes, fit: Fit) -> None:
    """Mean exponent with its standard error, and the spread over cells."""
    assert fit.shape.drift is not None
    rising = np.argsort(fit.shape.at)
    at = fit.shape.at[rising]
    mean, sd = (np.array([e.value for e in values])[rising] for values in fit.shape.drift[:2])
    axis.fill_between(at, mean - sd, mean + sd, color=PURPLE, alpha=0.25, linewidth=0, label="± 1 sd over cells")
    axis.plot(at, mean, color=PURPLE, linewidth=0.9)
    fitted = [x for x in fit.report.levels if x.drift is not None and np.isfinite(x.drift.exponent_mean)]
    axis.errorbar(
        [x.mean for x in fitted],
        [x.drift.exponent_mean for x in fitted if x.drift],
        [1.96 * x.drift.exponent_mean_error for x in fitted if x.drift],
        fmt="o",
        color=PURPLE,
        capsize=1.5,
        linewidth=0.7,
        label="mean, 95 % interval",
    )
    axis.set_ylim(bottom=min(0.0, float((mean - sd).min())), top=1.35 * float((mean + sd).max()) or 1.0)
    axis.set_xlabel(_label(fit))
    axis.set_ylabel("drift exponent")
    axis.set_title("drift")
    axis.legend()


def _read_noise(axis: Axes, fit: Fit) -> None:
    """q with its 95 % interval."""
    fitted = [(x.mean, x.drift) for x in fit.report.levels if x.drift is not None]
    axis.errorbar(
        [mean for mean, _ in fitted],
        [drift.q for _, drift in fitted],
        [1.96 * drift.q_error for _, drift in fitted],
        fmt="o",
        color=RED,
        capsize=1.5,
        linewidth=0.7,
    )
    assert fit.shape.drift is not None
    rising = np.argsort(fit.shape.at)
    axis.plot(fit.shape.at[rising], np.array([e.value for e in fit.shape.drift[2]])[rising], color=RED, linewidth=0.9)
    axis.set_ylim(bottom=0.0)
    axis.set_xlabel(_label(fit))
    axis.set_ylabel("q")
    axis.set_title("1/f read noise, 95 % intervals")
