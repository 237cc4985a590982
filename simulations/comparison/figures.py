"""Figures of a run, from its summary alone."""

import re
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simulations.runs.engine import JOINT, UNCOUPLED
from simulations.runs.style import BLACK, BLUE, GREEN, ORANGE, PURPLE, RED, SKY, save_figure

LINES = {
    JOINT: (BLUE, "o", "-", "joint choice"),
    UNCOUPLED: (SKY, "s", "--", "joint choice without couplings"),
}
# Methods that were offered a part of the menu, in the order of the results.
PART_LOOKS = ((GREEN, "^"), (ORANGE, "v"), (PURPLE, "<"), (RED, ">"), (BLACK, "h"), ("0.5", "d"))
UNIFORM = (
    ("uniform digital", GREEN, "D", "uniform digital"),
    ("uniform coded", GREEN, "s", "uniform digital, entropy-coded"),
    ("uniform float32", BLACK, "*", "32-bit floats"),
)


def accuracy_vs_cells(summary: dict[str, Any], folder: Path) -> list[Path]:
    """Draw accuracy after read-back against cells per weight, a panel a card, as PNG and SVG.

    Args:
        summary: as `simulations.comparison.summary.summarize` makes it.
        folder: where `accuracy-vs-cells.png` and `.svg` go.

    Returns:
        The paths written.
    """
    return draw_cards(summary, folder, "accuracy-vs-cells", _panel)


def draw_cards(
    summary: dict[str, Any], folder: Path, name: str, panel: Callable[[Axes, dict[str, Any]], None]
) -> list[Path]:
    """Draw a panel for each card side by side, with one legend below, as PNG and SVG.

    Args:
        summary: as `simulations.comparison.summary.summarize` makes it.
        folder: where the files go.
        name: theirs.
        panel: draws a card's results on its axes.

    Returns:
        The paths written.
    """
    cards = [summary, *summary["further_cards"]]
    with mpl.rc_context({"font.size": 9, "svg.hashsalt": "physcomp", "axes.spines.top": False}):
        figure = Figure(figsize=(max(6.4, 4.6 * len(cards) + 0.4), 4.4), layout="constrained")
        axes = figure.subplots(1, len(cards), squeeze=False, sharey=True)[0]
        for axis, card in zip(axes, cards, strict=True):
            panel(axis, card)
        axes[0].set_ylabel("accuracy after read-back (%)")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=3 if len(cards) == 1 else 4,
            columnspacing=1.2,
            fontsize=8,
            frameon=False,
        )
        figure.suptitle(
            f"{summary['network']['name']}: {summary['network']['weights']:,} weights, "
            f"{summary['test_images']:,} test images, {summary['trials']} chips a plan (bars: ± 1 sd)",
            fontsize=9 if len(cards) == 1 else None,
        )
        return save_figure(figure, folder, name)


def frame(axis: Axes, card: dict[str, Any], ticks: Sequence[float]) -> None:
    """The clean network's line, a logarithmic axis of cells, and the card with its time as title; after all points."""
    clean = card["clean_accuracy"]
    axis.axhline(100 * clean, color="0.55", linewidth=1, zorder=1)
    axis.text(
        0.99,
        100 * clean + 0.4,
        f"clean network {100 * clean:.2f} %",
        transform=axis.get_yaxis_transform(),
        ha="right",
        color="0.35",
        fontsize=8,
    )
    axis.set_xscale("log")
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.set_xlabel("cells per weight, everything stored counted")
    span = f", chosen for the {card['over']} of {len(card['read_times_s'])} times" if card["read_times_s"] else ""
    when = f"read {_time(card['read_time_s'])}{span}"
    axis.set_title(f"{card['card']}, {when}\n{card['bits_per_cell']:.2f} reliable bits a cell", fontsize=9)
    axis.grid(axis="y", color="0.92")


def _panel(axis: Axes, card: dict[str, Any]) -> None:
    for method, (color, marker, style, label) in LINES.items():
        of = [r for r in card["results"] if r["method"] == method]
        points(axis, of, color=color, marker=marker, linestyle=style, label=label)
    parts = [m for m in dict.fromkeys(r["method"] for r in card["results"]) if m not in LINES and "uniform" not in m]
    for method, (color, marker) in zip(parts, cycle(PART_LOOKS), strict=False):
        of = [r for r in card["results"] if r["method"] == method]
        points(axis, of, color=color, marker=marker, linestyle="--", label=method)
    found = families(card["results"])
    several = len(found) > 2  # a study of strategies: each is a line of its own
    for (family, of), (color, marker) in zip(found.items(), cycle(PART_LOOKS), strict=False):
        if several:
            points(axis, of, color=color, marker=marker, linestyle=":", label=family)
        else:
            marker, label = ("x", "unprotected") if "plain" in family else ("P", "sign protected")
            points(axis, of, color=RED, marker=marker, linestyle="none", label=f"uniform analog, {label}")
    for start, color, marker, label in UNIFORM:
        of = [r for r in card["results"] if r["method"].startswith(start)]
        points(axis, of, color=color, marker=marker, linestyle="none", label=label)
    frame(axis, card, [0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10])
    # Every joint plan is shown; ruins of other methods may lie below.
    lowest = min((100 * r["accuracy_mean"] for r in card["results"] if r["method"] == JOINT), default=100.0)
    clean = 100 * card["clean_accuracy"]
    axis.set_ylim(min(40.0, clean - 5, lowest - 4), clean + 3)


def families(results: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Results of uniform analog codes by what these are but for the number of cells, r."""
    found: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        if result["method"].startswith("uniform analog"):
            found.setdefault(re.sub(r"\([\d.]+", "(r", result["method"]), []).append(result)
    return found


def points(axis: Axes, results: Sequence[dict[str, Any]], *, count: str = "cells_per_weight", **look: Any) -> None:
    """Mean and standard deviation of results over the cells they take, in ascending order; nothing without results."""
    if not results:
        return
    results = sorted(results, key=lambda r: r[count])
    axis.errorbar(
        [r[count] for r in results],
        [100 * r["accuracy_mean"] for r in results],
        yerr=[100 * r["accuracy_sd"] for r in results],
        capsize=2,
        **{"markersize": 5, "linewidth": 1.3, **look},
    )


def _time(seconds: float) -> str:
    for unit, length in (("day", 86400), ("h", 3600)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g} {unit} after programming"
    return "at once" if seconds == 0 else f"{seconds:g} s after programming"
