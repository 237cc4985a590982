"""Figures of capacity: bits a cell against the number of levels, and over time and temperature."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from devices.cards.card import Card
from devices.cards.library import as_card
from devices.channel.capacity import Capacity, CapacityPoint, capacity, capacity_study, most_levels
from devices.figures.style import (
    DOUBLE_MM,
    SEQUENCE,
    SEQUENCE_END,
    Look,
    below,
    duration,
    label_lines,
    letter,
    looks,
    new_figure,
    paper,
    save,
)
from devices.figures.times import YEAR_S, holds, same_reads, split_by_time, times_of

__all__ = ["capacity_against_levels", "capacity_against_time"]

LEVELS = (2, 3, 4, 6, 8, 12, 16, 24, 32)
SOFT = 4  # soft reads distinguish four times as many levels as were written
LEAST_ERROR = 1e-6  # where the axis of symbol errors ends: the Gaussian tail is not to be believed below
TIMES = 16


def capacity_against_levels(
    cards: Sequence[Card | str],
    folder: Path | str,
    *,
    time_s: float | None = None,
    name: str = "capacity-levels",
) -> list[Path]:
    """Draw bits a cell against the number of levels, with hard and soft decisions, and the symbol errors beside it.

    Args:
        cards: one colour each; of each the Gaussian channel (`devices.capacity_study`) and its analog bound.
        folder: made if need be.
        time_s: seconds since the reference read; None for the earliest each card holds at. Cards that do not hold
            at this time are named below the figure instead of drawn.
        name: of the files, without ending.

    Raises:
        ValueError: unknown card, or none that holds at the time.
    """
    drawn, left_out = split_by_time([as_card(card) for card in cards], time_s)
    faces = looks([card.name for card, _ in drawn])
    with paper():
        figure = new_figure(DOUBLE_MM, 84 + 3.5 * -(-len(drawn) // 3))
        bits, errors = figure.subplots(1, 2, gridspec_kw={"wspace": 0.08})
        bits.plot(LEVELS, np.log2(LEVELS), color="0.6", linewidth=0.7, linestyle=(0, (4, 3)))
        ends = []
        for card, at in drawn:
            look = faces[card.name]
            bound = _levels(bits, errors, card, at, look)
            if math.isfinite(bound):
                bits.hlines(bound, 34, 44, color=look.colour, linewidth=1.6)
                ends.append((bound, f"{bound:.2f}", look))
        for axis, character in ((bits, "a"), (errors, "b")):
            axis.set_xscale("log", base=2)
            axis.set_xticks([2, 4, 8, 16, 32], ["2", "4", "8", "16", "32"])
            axis.minorticks_off()
            axis.set_xlabel("levels written, L")
            axis.grid(axis="y")
            letter(axis, character)
        bits.set_xlim(1.85, 44)
        bits.set_ylim(0, None)
        bits.set_ylabel("bits a cell")
        errors.set_yscale("log")
        errors.set_ylim(LEAST_ERROR, 1)
        errors.set_ylabel("symbol error, hard decisions, equal use")
        bits.legend(handles=_meanings(), loc="upper left")
        figure.suptitle("Cells as first read" if time_s is None else f"Cells read {duration(time_s)} after programming")
        handles, labels = errors.get_legend_handles_labels()
        note = below("", left_out, time_s, width=120).strip()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, title=note or None)
        figure.draw_without_rendering()
        label_lines(bits, ends)
        return save(figure, folder, name)


def _levels(bits: Axes, errors: Axes, card: Card, time_s: float, look: Look) -> float:
    """Draw the lines of one card; returns its analog bound in bits."""
    written = [levels for levels in LEVELS if levels <= most_levels(card)]
    hard: list[CapacityPoint] = []
    soft: list[CapacityPoint] = []
    for levels in written:
        both = capacity_study(card, levels_written=[levels], levels_read=[levels, SOFT * levels], times_s=[time_s])
        hard.append(both[0])
        soft.append(both[1])
    style: dict[str, Any] = {"color": look.colour, "linestyle": look.dashes}
    bits.plot(written, [point.bits for point in hard], marker=look.marker, **style)
    bits.plot(written, [point.bits for point in soft], linewidth=0.6, **style)
    shown = [point.symbol_error if point.symbol_error >= LEAST_ERROR / 1e3 else math.nan for point in hard]
    errors.plot(written, shown, marker=look.marker, label=card.name, **style)
    return hard[0].analog_bits


def _meanings() -> list[Line2D]:
    """Legend entries for the kinds of line, whatever their colour."""
    return [
        Line2D([], [], color="0.3", marker="o", label="hard decisions, L read"),
        Line2D([], [], color="0.3", linewidth=0.6, label=f"soft reads, {SOFT} L read"),
        Line2D([], [], color="0.3", linewidth=1.6, marker="_", linestyle="none", markersize=9, label="analog bound"),
        Line2D([], [], color="0.6", linewidth=0.7, linestyle=(0, (4, 3)), label="log$_2$ L"),
    ]


def capacity_against_time(
    cards: Sequence[Card | str],
    folder: Path | str,
    *,
    temperatures_k: Sequence[float] | None = None,
    name: str = "capacity-time",
) -> list[Path]:
    """Draw bits a cell over decades of time, at the best number of hard-decision levels and at the analog bound.

    Args:
        cards: each is drawn for as long as it holds; a card that holds at one time only is a point.
        folder: made if need be.
        temperatures_k: in kelvin, a line each, for cards with an activation energy; None: the cards' own.
        name: of the files, without ending.

    Raises:
        ValueError: unknown card, a card with neither noise nor `reliable_bits`, or one without an activation energy.
    """
    series = _series([as_card(card) for card in cards], temperatures_k)
    with paper():
        figure = new_figure(DOUBLE_MM, max(80.0, 36.0 + 3.1 * len(series)))
        axis = figure.subplots()
        ends, lasts = [], []
        for label, card, temperature_k, look in series:
            times, points = _over_time(card, temperature_k)
            style: dict[str, Any] = {"color": look.colour, "linestyle": look.dashes}
            marker = look.marker if len(times) < TIMES else None
            axis.plot(times, [found.reliable_bits for found in points], marker=marker, clip_on=False, **style)
            if math.isfinite(points[0].analog_bits):
                axis.plot(times, [found.analog_bits for found in points], linewidth=0.6, **style)
            lasts.append(times[-1])
            ends.append((points[-1].reliable_bits, label, look))
        axis.set_xscale("log")
        axis.set_xlim(1.0, max(10.0, *lasts))
        axis.set_ylim(0, None)
        for last_s, (bits, _, look) in zip(lasts, ends, strict=True):  # leads the eye from a line that ends early
            axis.plot([last_s, axis.get_xlim()[1]], [bits, bits], color=look.colour, linewidth=0.4, linestyle=":")
        axis.set_xlabel("time since programming (s)")
        axis.set_ylabel("bits a cell")
        axis.grid(axis="y")
        thick = Line2D([], [], color="0.3", label="best number of levels, hard decisions")
        thin = Line2D([], [], color="0.3", linewidth=0.6, label="analog bound")
        gone = Line2D([], [], color="0.3", linewidth=0.4, linestyle=":", label="not known this late")
        axis.legend(handles=[thick, thin, gone], loc="lower left")
        figure.draw_without_rendering()
        label_lines(axis, ends)
        return save(figure, folder, name)


def _series(
    cards: Sequence[Card], temperatures_k: Sequence[float] | None
) -> list[tuple[str, Card, float | None, Look]]:
    """Label, card, temperature and look of each line: a colour a card, or a colour a temperature and dashes a card."""
    faces = looks([card.name for card in cards])
    if temperatures_k is None:
        return [(card.name, card, None, faces[card.name]) for card in cards]
    warm = mpl.colormaps[SEQUENCE](np.linspace(0.0, SEQUENCE_END, len(temperatures_k)))
    return [
        (f"{card.name}, {kelvin:g} K", card, kelvin, faces[card.name]._replace(colour=mpl.colors.to_hex(colour)))
        for card in cards
        for kelvin, colour in zip(temperatures_k, warm, strict=True)
    ]


def _over_time(card: Card, temperature_k: float | None) -> tuple[list[float], list[Capacity]]:
    """Times since programming in seconds, above 0 for the logarithmic axis, and the capacity at each."""
    if temperature_k is None:
        times = times_of(card, TIMES)
        aged = times
    else:
        spaced = [0.0, *np.geomspace(1.0, 30 * YEAR_S, 2 * TIMES).tolist()]
        pairs = [(time_s, card.equivalent_time(time_s, temperature_k)) for time_s in spaced]
        held = [(time_s, older_s) for time_s, older_s in pairs if holds(card, older_s)]
        times, aged = [time_s for time_s, _ in held], [older_s for _, older_s in held]
    found: list[Capacity] = []
    for older_s in aged:
        before = found[-1].time_s if found else older_s
        found.append(found[-1] if found and same_reads(card, before, older_s) else capacity(card, older_s))
    return [max(time_s + card.t0_s, 1.0) for time_s in times], found
