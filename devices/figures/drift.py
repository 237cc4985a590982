"""Drift fans: figures of how the reads of many cells decay and spread over decades of time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from devices.cards.card import Card
from devices.cells.cells import program
from devices.cells.moments import response
from devices.figures.style import (
    BLACK,
    COLUMNS,
    SEQUENCE,
    SEQUENCE_END,
    Look,
    duration,
    label_lines,
    panels,
    paper,
    save,
)
from devices.figures.times import times_of

__all__ = ["drift_fan"]

FAN_LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
FAN_TIMES = 60
QUANTILES = (0.05, 0.25, 0.50, 0.75, 0.95)


def drift_fan(
    cards: Sequence[Card | str],
    folder: Path | str,
    *,
    levels: Sequence[float] = FAN_LEVELS,
    cells: int = 4000,
    seed: int = 0,
    name: str = "drift-fan",
) -> list[Path]:
    """Draw reads over decades of time: quantiles of many simulated cells, and the closed-form mean.

    Args:
        cards: 1 to 6 cards, a panel each, which hold at more than one time.
        folder: made if need be.
        levels: targets, a fan each; the nearest ones of a card with finite levels.
        cells: simulated a level; a 5 % quantile is then good to about 3 % of an sd at 4,000.
        seed: of the cells.
        name: of the files, without ending.

    Raises:
        ValueError: unknown card, a level outside [0, 1], or a card that holds at one time only.
    """
    with paper():
        figure, drawn = panels(cards, "drift fan", row_mm=62.0)
        ends = [_fan(axes[0], card, levels, cells, seed) for card, axes in drawn]
        for _, axes in drawn[::COLUMNS]:
            axes[0].set_ylabel("read (level)")
        handles, labels = drawn[0][1][0].get_legend_handles_labels()
        columns = 2 if len(drawn) == 1 else len(labels)
        figure.legend(handles, labels, loc="outside lower center", ncols=columns)
        figure.draw_without_rendering()  # gives the axes their height, which labels need
        for (_, axes), end in zip(drawn, ends, strict=True):
            label_lines(axes[0], end)
        return save(figure, folder, name)


def _fan(axis: Axes, card: Card, levels: Sequence[float], cells: int, seed: int) -> list[tuple[float, str, Look]]:
    """Draw the fans of one card; returns the last mean, the label and the look of each."""
    times = [time_s for time_s in times_of(card, FAN_TIMES) if time_s + card.t0_s > 0.0]  # the axis is logarithmic
    if len(times) < 2:
        raise ValueError(
            f"card '{card.name}' holds at {duration(card.first_s)} alone: take a card known at later times"
        )
    since = np.array(times) + card.t0_s
    if card.written_levels:
        levels = sorted({min(card.written_levels, key=lambda own: abs(own - level)) for level in levels})
    chip = program(card, np.repeat(np.asarray(levels, dtype=np.float32), cells), seed=seed)
    reads = np.stack([chip.read(time_s=time_s).reshape(len(levels), cells) for time_s in times])
    spread = np.quantile(reads, QUANTILES, axis=2)  # (quantiles, times, levels)
    means = np.stack([response(card, time_s).mean(levels) for time_s in times])
    faces = [
        Look(to_hex(colour), "-", "o") for colour in colormaps[SEQUENCE](np.linspace(0, SEQUENCE_END, len(levels)))
    ]
    every = max(1, len(times) // 8)
    for k, look in enumerate(faces):
        names = ("5 to 95 %", "25 to 75 %", "median of cells", "mean, closed form") if k == 0 else (None,) * 4
        fill: dict[str, Any] = {"color": look.colour, "linewidth": 0}
        axis.fill_between(since, spread[0, :, k], spread[4, :, k], alpha=0.18, label=names[0], **fill)
        axis.fill_between(since, spread[1, :, k], spread[3, :, k], alpha=0.36, label=names[1], **fill)
        axis.plot(since, spread[2, :, k], color=look.colour, label=names[2])
        mean = axis.plot(
            since, means[:, k], "o", color=BLACK, markersize=1.8, markevery=every, label=names[3], clip_on=False
        )
        mean[0].set_zorder(3)
    axis.set_xscale("log")
    axis.set_xlim(since[0], since[-1])
    axis.set_xlabel("time since programming (s)")
    axis.set_title(card.name)
    return [(float(means[-1, k]), f"x = {level:.2g}", faces[k]) for k, level in enumerate(levels)]
