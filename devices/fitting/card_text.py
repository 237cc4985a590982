"""Writing a fit as a card: TOML text (card format 1) with all choices, and the error of each number beside it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from devices.fitting.report import FitReport
from devices.fitting.shape import Shape
from devices.fitting.spread import Estimate
from devices.fitting.writes import Writes

if TYPE_CHECKING:
    from devices.fitting.options import FitOptions

__all__ = ["CardLabels", "card_text"]

FloatArray = NDArray[np.float64]

DIGITS = 7  # of the level range: more than any measurement has, and knots never coincide


@dataclass(frozen=True)
class CardLabels:
    """Texts of a fitted card: its title, the names and units of what was measured, and the source of the data.

    Attributes:
        title: one line about the device; "" makes one from the card's name.
        quantity, unit: of the reads, "conductance" in "µS" for example.
        drive_quantity, drive_unit: of what was applied, "write voltage" in "V" for example.
        source: paper or lab book; "" names the file of the measurements.
        doi: of the source, or "none".
        licence: of the data.
    """

    title: str = ""
    quantity: str = "conductance"
    unit: str = "µS"
    drive_quantity: str = "write voltage"
    drive_unit: str = "V"
    source: str = ""
    doi: str = "none"
    licence: str = "not stated"


def card_text(
    name: str, labels: CardLabels, options: FitOptions, writes: Writes, shape: Shape, report: FitReport
) -> str:
    """Write the TOML text of a fitted card, in format 1."""
    span = abs(float(shape.at[-1] - shape.at[0]))
    decimals = max(DIGITS - math.floor(math.log10(span)), 0)

    def physical(values: FloatArray) -> list[str]:
        return [_toml(float(round(value, decimals))) for value in values]

    at = physical(shape.at)
    lines = [
        *_head(name, labels, options, writes, shape, report),
        "",
        "[level]",
        f"quantity = {_quoted(labels.quantity)}",
        f"unit = {_quoted(labels.unit)}",
        f"at_0 = {at[0]}",
        f"at_1 = {at[-1]}",
        f"clamp_at_0 = {'true' if options.clamp_at_0 else 'false'}",
        "",
        "[time]",
        f"t0_s = {_toml(writes.t0_s)}",
        f"max_s = {_toml(_max_s(options, writes, shape))}",
    ]
    if not shape.nominal:
        lines += [
            "",
            "[drive] # the mean response",
            f"quantity = {_quoted(f'target {labels.quantity}' if writes.is_target else labels.drive_quantity)}",
            f"unit = {_quoted(labels.unit if writes.is_target else labels.drive_unit)}",
            f"values = [{', '.join(_toml(float(f'{value:.9g}')) for value in shape.drives)}]",
            f"means = [{', '.join(physical(shape.means))}]",
        ]
    parts = [("variants.any-device.", shape.sd), ("variants.one-device.", shape.cycle_sd)]
    for prefix, sds in parts if shape.separated else [("", shape.sd)]:
        lines += ["", f"[{prefix}programming.sd] # ± standard error", *_points(labels.unit, at, sds)]
    return "\n".join(lines + _time_lines(options, shape, at)) + "\n"


def _head(
    name: str, labels: CardLabels, options: FitOptions, writes: Writes, shape: Shape, report: FitReport
) -> list[str]:
    """Name, choices and sources."""
    count = sum(level.writes for level in report.levels)
    return [
        f"# Fitted to {report.reads} reads of {count} writes in {' '.join(writes.source.split())}",
        "format = 1",
        f"name = {_quoted(name)}",
        f"title = {_quoted(labels.title or f'{name}: fitted to measurements')}",
        *(['default_variant = "any-device"'] if shape.separated else []),
        "choices = [",
        *(f"  {_quoted(choice)}," for choice in _choices(options, shape, report)),
        "]",
        "",
        "[[sources]]",
        'gives = "the measurements that every number was fitted to"',
        f"paper = {_quoted(labels.source or f'measurements in {writes.source}')}",
        'figure = "none"',
        f"doi = {_quoted(labels.doi)}",
        f"licence = {_quoted(labels.licence)}",
    ]


def _time_lines(options: FitOptions, shape: Shape, at: list[str]) -> list[str]:
    """The tables of drift and read noise."""
    if shape.drift is None:
        return []
    mean, sd, q = shape.drift
    lines = []
    if _any(mean):
        lines += ["", "[drift.exponent_mean] # ± standard error", *_points("1", at, mean)]
        lines += ["", "[drift.exponent_sd] # ± standard error", *_points("1", at, sd)]
    if _any(q):
        lines += ["", "[read_noise]", f"t_read_s = {_toml(options.t_read_s)}", f"apart_s = {_toml(options.apart_s)}"]
        lines += ["", "[read_noise.q] # ± standard error", *_points("1", at, q)]
    return lines


def _any(values: tuple[Estimate, ...]) -> bool:
    return any(e.value > 0.0 for e in values)


def _points(unit: str, at: list[str], values: tuple[Estimate, ...]) -> list[str]:
    """The lines of a curve of kind "points", with the standard error of each value as a comment."""
    return [
        'kind = "points"',
        f"unit = {_quoted(unit)}",
        f"at = [{', '.join(at)}]",
        "values = [",
        *(f"  {_toml(float(f'{e.value:.5g}'))}, # ± {e.error:.2g}" for e in values),
        "]",
    ]


def _choices(options: FitOptions, shape: Shape, report: FitReport) -> list[str]:
    """Sentences for the card about what was fitted and how."""
    response = (
        "the targets themselves, which the means equal within their errors"
        if shape.nominal
        else "isotonic regression of the means, "
        + ("a monotone cubic through them" if options.curve == "smooth" else "straight lines")
    )
    z = report.normality
    choices = [
        f"mean response: {response}; usable from {report.usable[0]:g} to {report.usable[1]:g}.",
        "sd: restricted maximum likelihood, one-way random effects of devices; any-device is a write on a device drawn "
        "at random, one-device a write on one whose own mean response is known."
        if shape.separated
        else "sd: of all writes of a level about its mean, straight lines between the levels.",
        f"noise: normal; the residuals have skew {z.skew:+.2f}, excess kurtosis {z.excess_kurtosis:+.2f} and a KS "
        f"distance of {z.ks_distance:.3f} (p {z.ks_p:.3f}), which this leaves out.",
    ]
    if shape.drift is not None:
        choices.append(
            "drift and read noise: a power law a cell by quasi-likelihood; the exponents' sd is less what read noise "
            "adds; q from the residuals; both taken out of the programming sd."
        )
        choices.append(
            f"read time: {options.t_read_s:g} s, which scales q; reads of one time are {options.apart_s:g} s apart; of "
            "two reads, noise slower than their distance is common."
        )
    else:
        choices.append("time: neither drift nor read noise was fitted; all spread counts as programming.")
    if options.max_s is not None:
        choices.append(f"time: held until {options.max_s:g} s, as stated by the user and not measured here.")
    return [*choices, *(f"{note}." for note in report.notes)]


def _max_s(options: FitOptions, writes: Writes, shape: Shape) -> float:
    if options.max_s is not None:
        return options.max_s
    drifts = shape.drift is not None and _any(shape.drift[0])
    return float(writes.time_s.max()) - writes.t0_s if drifts and writes.time_s is not None else 0.0


def _toml(value: float) -> str:
    """Write a float in TOML: always with a point or exponent, and 0.0 for -0.0."""
    return repr(value + 0.0)


def _quoted(text: str) -> str:
    """A TOML string on one line."""
    return json.dumps(" ".join(text.split()), ensure_ascii=False).replace("\x7f", "")
