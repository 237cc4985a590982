"""Figures of a run, from its summary alone."""

import re
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from devices.files import replacing
from simulations.engine import JOINT, UNCOUPLED

# Okabe and Ito's palette, told apart by the colour-blind (jfly.uni-koeln.de/color, 2008).
BLACK, ORANGE, SKY, GREEN, BLUE, RED, PURPLE = (
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
)
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
        summary: as `simulations.summary.summarize` makes it.
        folder: where `accuracy-vs-cells.png` and `.svg` go.

    Returns:
        The paths written.
    """
    cards = [summary, *summary["further_cards"]]
    with mpl.rc_context({"font.size": 9, "svg.hashsalt": "physcomp", "axes.spines.top": False}):
        figure = Figure(figsize=(4.6 * len(cards) + 0.4, 4.4), layout="constrained")
        axes = figure.subplots(1, len(cards), squeeze=False, sharey=True)[0]
        for axis, card in zip(axes, cards, strict=True):
            _panel(axis, card, summary["clean_accuracy"])
        axes[0].set_ylabel("accuracy after read-back (%)")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=min(4, -(-len(labels) // 3)) if len(cards) == 1 else 4,
            frameon=False,
        )
        figure.suptitle(
            f"{summary['network']['name']}: {summary['network']['weights']:,} weights, "
            f"{summary['test_images']:,} test images, {summary['trials']} chips a plan (bars: ± 1 sd)"
        )
        return save_figure(figure, folder, "accuracy-vs-cells")


def save_figure(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write a figure as PNG and SVG, the same bytes for the same input; the paths written."""
    paths = []
    for ending, options in (("png", {"dpi": 160}), ("svg", {"metadata": {"Date": None}})):
        path = folder / f"{name}.{ending}"
        with replacing(path) as temporary:
            figure.savefig(temporary, **options)
        paths.append(path)
    return paths


def _panel(axis: Axes, card: dict[str, Any], clean: float) -> None:
    axis.axhline(100 * clean, color="0.55", linewidth=1)
    axis.text(
        0.99,
        100 * clean + 0.4,
        f"clean network {100 * clean:.2f} %",
        transform=axis.get_yaxis_transform(),
        ha="right",
        color="0.35",
        fontsize=8,
    )
    for method, (color, marker, style, label) in LINES.items():
        points = [r for r in card["results"] if r["method"] == method]
        _points(axis, points, color=color, marker=marker, linestyle=style, label=label)
    parts = [m for m in dict.fromkeys(r["method"] for r in card["results"]) if m not in LINES and "uniform" not in m]
    for method, (color, marker) in zip(parts, cycle(PART_LOOKS), strict=False):
        points = [r for r in card["results"] if r["method"] == method]
        _points(axis, points, color=color, marker=marker, linestyle="--", label=method)
    families = _families(card["results"])
    several = len(families) > 2  # a study of strategies: each is a line of its own
    for (family, points), (color, marker) in zip(families.items(), cycle(PART_LOOKS), strict=False):
        if several:
            _points(axis, points, color=color, marker=marker, linestyle=":", label=family)
        else:
            marker, label = ("x", "unprotected") if "plain" in family else ("P", "sign protected")
            _points(axis, points, color=RED, marker=marker, linestyle="none", label=f"uniform analog, {label}")
    for start, color, marker, label in UNIFORM:
        points = [r for r in card["results"] if r["method"].startswith(start)]
        _points(axis, points, color=color, marker=marker, linestyle="none", label=label)
    axis.set_xscale("log")
    ticks = [0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.set_xlabel("cells per weight, everything stored counted")
    when = f"read {_time(card['read_time_s'])}"
    axis.set_title(f"{card['card']}, {when}\n{card['bits_per_cell']:.2f} reliable bits a cell", fontsize=9)
    # Every joint plan is shown; ruins of other methods may lie below.
    lowest = min((100 * r["accuracy_mean"] for r in card["results"] if r["method"] == JOINT), default=100.0)
    axis.set_ylim(min(40.0, 100 * clean - 5, lowest - 4), 100 * clean + 3)
    axis.grid(axis="y", color="0.92")


def _families(results: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Uniform analog codes by what they are but for the number of cells, r."""
    found: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        if result["method"].startswith("uniform analog"):
            found.setdefault(re.sub(r"\([\d.]+", "(r", result["method"]), []).append(result)
    return found


def _points(axis: Axes, results: list[dict[str, Any]], **look: Any) -> None:
    if not results:
        return
    results = sorted(results, key=lambda r: r["cells_per_weight"])
    axis.errorbar(
        [r["cells_per_weight"] for r in results],
        [100 * r["accuracy_mean"] for r in results],
        yerr=[100 * r["accuracy_sd"] for r in results],
        markersize=5,
        linewidth=1.3,
        capsize=2,
        **look,
    )


def _time(seconds: float) -> str:
    for unit, length in (("day", 86400), ("h", 3600)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g} {unit} after programming"
    return "at once" if seconds == 0 else f"{seconds:g} s after programming"
