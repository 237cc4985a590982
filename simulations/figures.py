"""Figures of a run, from its summary alone."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from devices.files import replacing
from simulations.engine import JOINT, PARTS, UNCOUPLED

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
    PARTS["digital"]: (GREEN, "^", "--", "digital codes only"),
    PARTS["analog"]: (ORANGE, "v", "--", "analog codes only"),
}
UNIFORM = (
    ("uniform digital", GREEN, "D", "uniform digital, 2 to 8 bits"),
    ("uniform analog", RED, "P", "uniform analog, sign protected"),
    ("uniform float32", BLACK, "*", "32-bit floats"),
)
PLAIN = (RED, "x", "uniform analog, unprotected")


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
        figure.legend(handles, labels, loc="outside lower center", ncols=4 if len(cards) > 1 else 2, frameon=False)
        figure.suptitle(
            f"{summary['network']['name']}: {summary['network']['weights']:,} weights, "
            f"{summary['test_images']:,} test images, {summary['trials']} chips a plan (bars: ± 1 sd)"
        )
        paths = []
        for ending, options in (("png", {"dpi": 160}), ("svg", {"metadata": {"Date": None}})):
            path = folder / f"accuracy-vs-cells.{ending}"
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
    for start, color, marker, label in UNIFORM:
        points = [r for r in card["results"] if r["method"].startswith(start) and "plain" not in r["method"]]
        _points(axis, points, color=color, marker=marker, linestyle="none", label=label)
    color, marker, label = PLAIN
    plain = [r for r in card["results"] if "plain" in r["method"]]
    _points(axis, plain, color=color, marker=marker, linestyle="none", label=label)
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


def _points(axis: Axes, results: list[dict[str, Any]], **look: Any) -> None:
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
