"""Fitting a card to measurements: the whole way from a table of reads to a card and a report.

The steps: gather reads into writes and writes into levels; find the monotone range of the mean response; estimate drift
exponents and read noise from cells that were read several times; take read noise out of each level's variance, which
leaves programming noise, and split it into cycle to cycle and device to device; make the mean response monotone; write
the card and load it again with `Card`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from devices.cards.card import Card
from devices.fitting.card_text import CardLabels, card_text
from devices.fitting.curve import REVERSAL, MonotoneRange, interpolation_error, isotonic, monotone_range
from devices.fitting.drift_and_read_noise import drifts_of, nearest
from devices.fitting.measurements import Measurements
from devices.fitting.moments import level_fit
from devices.fitting.options import FitOptions
from devices.fitting.report import FitReport, LevelFit, Normality, normality
from devices.fitting.shape import Shape, shape_of
from devices.fitting.spread import CLAMP_REACH
from devices.fitting.writes import Writes, gather

__all__ = ["CardLabels", "Fit", "FitOptions", "fit_card"]

FloatArray = NDArray[np.float64]

LEAST_LEVELS = 3
LEAST_WRITES = 30


@dataclass(frozen=True, eq=False)
class Fit:
    """Result of a fit.

    Attributes:
        card: the fitted card.
        report: numbers of each level with their errors, and how well the card fits.
        text: the card as TOML, to be saved.
        measurements: the data that was fitted.
        shape: the curves of the card, in the unit of the level.
    """

    card: Card
    report: FitReport
    text: str
    measurements: Measurements
    shape: Shape


def fit_card(
    measurements: Measurements, *, name: str, labels: CardLabels | None = None, options: FitOptions | None = None
) -> Fit:
    """Fit a device card to measurements of one kind of device.

    Args:
        measurements: reads of cells; see `read_measurements`.
        name: name of the card, without a colon.
        labels: quantity, units and source for the card.
        options: how to fit.

    Raises:
        ValueError: too few writes at a level or in total, no spread at all, a response without a monotone range of
            three levels, or one that is not monotone where `monotone_range` is False.

    >>> rng = np.random.default_rng(0)
    >>> volts = np.repeat([0.7, 0.9, 1.1, 1.3], 50)
    >>> fit = fit_card(Measurements(volts, 10 * volts + rng.normal(0, 0.2, 200), is_target=False), name="mine")
    >>> fit.card.drive.unit, fit.report.levels[0].writes
    ('V', 50)
    """
    labels, options = labels or CardLabels(), options or FitOptions()
    if measurements.time_s is None and options.t0_s is not None:
        measurements = replace(measurements, time_s=np.full(len(measurements.read), options.t0_s))
    elif options.t0_s is not None:
        raise ValueError("t0_s is for data without times, but there is a time column: leave t0_s out")
    writes = gather(measurements)
    _check_enough(writes, labels, options)
    means = np.array([writes.value[writes.level == i].mean() for i in range(len(writes.written))])
    errors = np.array([_standard_error(writes, i) for i in range(len(writes.written))])
    found = monotone_range(means, errors)
    notes = list(writes.notes)
    notes += _monotone_notes(writes, found, labels, options)
    writes = writes.only_levels(found.start, found.stop)
    at_0, sign = _zero(means[found.start : found.stop], writes, options)
    drifts, drift_notes = drifts_of(writes, at_0, sign, options)
    residuals = _residuals(writes, at_0, sign, options)
    noises = [(nearest(drifts, i, "q"), nearest(drifts, i, "q_error")) for i in range(len(drifts))]
    levels = [
        level_fit(writes, i, at_0, sign, drifts[i], noises[i], residuals.excess_kurtosis, options)
        for i in range(len(drifts))
    ]
    if not any(level.sd.value > 0.0 for level in levels):
        raise ValueError(
            f"{writes.source}: no level has any spread beyond read noise, so there is no noise of programming to fit: "
            "give repeated writes"
        )
    return _assembled(
        measurements, writes, levels, (at_0, found.rising), residuals, (name, labels, options), notes + drift_notes
    )


def _assembled(
    measurements: Measurements,
    writes: Writes,
    levels: list[LevelFit],
    zero: tuple[float | None, bool],
    residuals: Normality,
    given: tuple[str, CardLabels, FitOptions],
    notes: list[str],
) -> Fit:
    """Make the card and the report from the fitted levels."""
    name, labels, options = given
    drives = np.array([level.written for level in levels])
    knots = isotonic(
        drives,
        np.array([level.mean for level in levels]),
        np.array([level.mean_error for level in levels]),
        rising=zero[1],
    )
    if len(knots.drives) < LEAST_LEVELS:
        raise ValueError(
            f"{writes.source}: only {len(knots.drives)} levels can be told apart by their means, a card needs "
            f"{LEAST_LEVELS}: measure more writes or a wider range"
        )
    error = math.hypot(levels[0].mean_error, levels[-1].mean_error)
    if abs(knots.means[-1] - knots.means[0]) < REVERSAL * error:
        raise ValueError(
            f"{writes.source}: the mean only moves from {knots.means[0]:.4g} to {knots.means[-1]:.4g}, within "
            f"{REVERSAL:g} standard errors of {error:.2g}: measure more writes or a wider range"
        )
    shape = shape_of(knots, levels, zero[0], is_target=measurements.is_target, smoothed=options.curve == "smooth")
    report = FitReport(
        reads=writes.reads,
        levels=tuple(levels),
        usable=(levels[0].written, levels[-1].written)
        if shape.nominal
        else (float(knots.drives[0]), float(knots.drives[-1])),
        mean_chi_square=shape.chi_square,
        mean_dof=shape.dof,
        interpolation_error=interpolation_error(knots, shape.sd_at_knots),
        device_share=_device_share(levels),
        normality=residuals,
        notes=(*notes, *shape.notes),
    )
    text = card_text(name, labels, options, writes, shape, report)
    return Fit(Card.from_text(text), report, text, measurements, shape)


def _check_enough(writes: Writes, labels: CardLabels, options: FitOptions) -> None:
    count = np.bincount(writes.level, minlength=len(writes.written))
    unit = labels.unit if writes.is_target else labels.drive_unit
    if (count < options.least_writes).any():
        few = np.flatnonzero(count < options.least_writes)
        raise ValueError(
            f"{writes.source}: {len(few)} of {len(count)} levels have fewer than {options.least_writes} writes (the "
            f"first is {writes.written[few[0]]:g} {unit} with {count[few[0]]}): repeat these writes or leave them out"
        )
    if len(count) < LEAST_LEVELS or count.sum() < LEAST_WRITES:
        raise ValueError(
            f"{writes.source}: {len(count)} levels with {count.sum()} writes in all are too few, a card needs "
            f"{LEAST_LEVELS} levels and {LEAST_WRITES} writes: measure more"
        )


def _standard_error(writes: Writes, level: int) -> float:
    """Standard error of a level's mean, within devices, since the offset of a device is the same at all levels."""
    values, group = writes.value[writes.level == level], writes.group(level)
    count = np.bincount(group)
    if len(count) == len(values):
        group, count = np.zeros(len(values), dtype=np.int64), np.array([len(values)])
    inside = ((values - (np.bincount(group, values) / count)[group]) ** 2).sum()
    return math.sqrt(inside / max(len(values) - len(count), 1) / len(values))


def _monotone_notes(writes: Writes, found: MonotoneRange, labels: CardLabels, options: FitOptions) -> list[str]:
    """A note on levels cut off; ValueError where too few are left or none may be cut."""
    unit = labels.unit if writes.is_target else labels.drive_unit
    first, last = writes.written[found.start], writes.written[found.stop - 1]
    line = f"the mean response is monotone from {first:g} to {last:g} {unit} only, {found.stop - found.start} levels"
    if found.stop - found.start < LEAST_LEVELS:
        raise ValueError(f"{writes.source}: {line}, a card needs {LEAST_LEVELS}: measure more levels in between")
    if not found.cut:
        return []
    if not options.monotone_range:
        raise ValueError(f"{writes.source}: {line}: leave the others out, or let the card be cut to that range")
    return [f"{line}: the card is cut to it, {len(writes.written) - (found.stop - found.start)} levels left out"]


def _zero(means: FloatArray, writes: Writes, options: FitOptions) -> tuple[float | None, int]:
    """The physical value of level 0 (None: the mean at the lowest drive), and 1 or -1 for the direction to level 1."""
    several = writes.time_s is not None and writes.reads > len(writes.value)
    at_0 = options.at_0
    if at_0 is None and (options.clamp_at_0 or several):
        at_0 = 0.0
    if at_0 is None:
        return None, 1 if means[-1] > means[0] else -1
    far = means[np.argmax(np.abs(means - at_0))]
    sign = 1 if far > at_0 else -1
    beyond = (means - at_0) * sign < -0.5 * abs(far - at_0)
    if beyond.any():
        raise ValueError(
            f"{writes.source}: level 0 at {at_0:g} lies amid the means from {means.min():g} to {means.max():g}, a "
            "level counts from one side: pass at_0 at or beyond one end"
        )
    return at_0, sign


def _residuals(writes: Writes, at_0: float | None, sign: int, options: FitOptions) -> Normality:
    """Residuals of the writes about their device's mean at each level; clamped levels are left out."""
    group = np.zeros(len(writes.value), dtype=np.int64)
    kept = np.ones(len(writes.value), dtype=bool)
    for i in range(len(writes.written)):
        own = writes.level == i
        values, devices = writes.value[own], writes.group(i)
        if len(values) == devices.max() + 1:  # one write a device: nothing within a device
            devices = np.zeros_like(devices)
        group[own] = group.max() + 1 + devices
        height = (values.mean() - (at_0 or 0.0)) * sign
        kept[own] = not options.clamp_at_0 or height > CLAMP_REACH * values.std()
    if not kept.any():
        kept[:] = True
    numbered = np.unique(group[kept], return_inverse=True)[1].astype(np.int64)
    return normality(writes.value[kept], numbered, writes.level[kept], options.seed)


def _device_share(levels: list[LevelFit]) -> float | None:
    apart = [level for level in levels if level.device_sd is not None]
    if not apart:
        return None
    between = sum(level.device_sd.value**2 for level in apart if level.device_sd is not None)
    return between / max(sum(level.sd.value**2 for level in apart), 1e-300)
