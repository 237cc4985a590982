"""The noise atlas: a figure of the noise of many cards on one pair of axes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from devices.cards.card import Card
from devices.cards.library import as_card, card_names
from devices.cells.moments import response
from devices.figures.style import DOUBLE_MM, below, duration, label_lines, looks, new_figure, paper, save
from devices.figures.times import split_by_time

__all__ = ["noise_atlas"]


def noise_atlas(
    cards: Sequence[Card | str] | None = None,
    folder: Path | str = ".",
    *,
    time_s: float | None = None,
    name: str = "noise-atlas",
) -> list[Path]:
    """Draw the noise of cards on one pair of axes: standard deviation of a read, in % of the range read, by level.

    Args:
        cards: None for all built-in ones; cards without noise are left out, the axis being logarithmic.
        folder: made if need be.
        time_s: seconds since the reference read; None for the earliest each card holds at. Cards that do not
            hold at this time are named below the figure instead of drawn.
        name: of the files, without ending.

    Raises:
        ValueError: unknown card, or none that holds at the time or has noise.
    """
    devices = [as_card(card) for card in (card_names() if cards is None else cards)]
    drawn, left_out = split_by_time(devices, time_s)
    noisy = [(card, at) for card, at in drawn if response(card, at).variance_table.any()]
    if not noisy:
        raise ValueError(f"noise atlas: none of {', '.join(c.name for c, _ in drawn)} has noise: name a card that has")
    with paper():
        figure = new_figure(DOUBLE_MM, max(80.0, 34.0 + 3.1 * len(noisy)))
        axis = figure.subplots()
        ends, least = [], []
        faces = looks([card.name for card, _ in noisy])
        for card, at in noisy:
            seen = response(card, at)
            x = np.array(card.written_levels) if card.written_levels else np.linspace(0.0, 1.0, 1001)
            percent = 100.0 * np.sqrt(seen.variance(x)) / (seen.high - seen.low)
            look = faces[card.name]
            style: dict[str, Any] = (
                {"marker": look.marker, "linewidth": 0.5, "clip_on": False, "zorder": 3} if card.written_levels else {}
            )
            axis.plot(x, percent, color=look.colour, linestyle=look.dashes, **style)
            when = f", {duration(at)}" if time_s is None and at > 0.0 else ""
            least.append(float(percent[x >= 0.05].min()))
            ends.append((float(percent[-1]), card.name + when, look))
        axis.set_yscale("log")
        axis.set_ylim(0.7 * min(least), None)  # a few cards are far quieter at level 0 alone
        _plain_ticks(axis)
        axis.set_xlim(0, 1)
        axis.set_xlabel(below("level written", left_out, time_s, width=90))
        axis.set_ylabel("sd of one read (% of range read)")
        axis.set_title("Cells as first read" if time_s is None else f"Cells read {duration(time_s)} after programming")
        axis.grid(axis="y", which="both")
        figure.draw_without_rendering()  # gives the axis its height, which labels need
        label_lines(axis, ends)
        return save(figure, folder, name)


def _plain_ticks(axis: Axes) -> None:
    """Label a logarithmic axis of percentages at 1, 2 and 5 of each decade."""
    low, high = axis.get_ylim()
    ticks = [tick * 10.0**power for power in range(-4, 3) for tick in (1, 2, 5) if low <= tick * 10.0**power <= high]
    axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
