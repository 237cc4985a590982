"""Common parts of the figures of these studies: one panel per card, its axes, and points with error bars."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import polars as pl

mpl.use("Agg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simulations.runs.quality import label_of, said
from simulations.runs.style import BLACK, GREEN, ORANGE, PURPLE, RED, save_figure

# Methods that choose from a part of the menu, in the order of the results.
PART_LOOKS = ((GREEN, "^"), (ORANGE, "v"), (PURPLE, "<"), (RED, ">"), (BLACK, "h"), ("0.5", "d"))


def draw_cards(
    summary: dict[str, Any],
    results: pl.DataFrame,
    folder: Path,
    name: str,
    panel: Callable[[Axes, dict[str, Any], pl.DataFrame], None],
) -> list[Path]:
    """Draw one panel per card, side by side, with one legend below, as PNG and SVG.

    Args:
        summary: the result of `simulations.comparison.results.summarize`.
        results: results on all cards; the column `place` is the number of the card.
        folder: folder for the files.
        name: their name without ending.
        panel: draws the results of one card on its axes, given the card's part of the summary with `clean_accuracy` and
            `metric`.

    Returns:
        The paths written.
    """
    cards = [{**card, **{name: summary[name] for name in ("clean_accuracy", "metric")}} for card in summary["cards"]]
    with mpl.rc_context({"font.size": 9, "svg.hashsalt": "physcomp", "axes.spines.top": False}):
        figure = Figure(figsize=(max(6.4, 4.6 * len(cards) + 0.4), 4.4), layout="constrained")
        axes = figure.subplots(1, len(cards), squeeze=False, sharey=True)[0]
        for place, (axis, card) in enumerate(zip(axes, cards, strict=True)):
            panel(axis, card, results.filter(pl.col("place") == place))
        axes[0].set_ylabel(label_of(summary["metric"]))
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
            f"{summary['network']['name']}: {summary['network']['parameters']:,} parameters, "
            f"{summary['test_images']:,} test samples, {summary['trials']} chips a plan (bars: ± 1 sd)",
            fontsize=9 if len(cards) == 1 else None,
        )
        return save_figure(figure, folder, name)


def frame(axis: Axes, card: dict[str, Any], ticks: Sequence[float]) -> None:
    """Add the line of the clean network, the logarithmic axis of cells and the title; to be called after all points."""
    clean = card["clean_accuracy"]
    axis.axhline(100 * clean, color="0.55", linewidth=1, zorder=1)
    axis.text(
        0.99,
        100 * clean + 0.4,
        f"clean network {said(card['metric'], clean)}",
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


def families(results: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Results of uniform analog codes, grouped by the name of the code with `r` for its number of cells."""
    analog = results.filter(pl.col("method").str.starts_with("uniform analog"))
    named = analog.with_columns(family=pl.col("method").str.replace(r"\([\d.]+", "(r"))
    groups = named.partition_by("family", as_dict=True, maintain_order=True, include_key=False)
    return {family: of for (family,), of in groups.items()}


def points(axis: Axes, results: pl.DataFrame, *, count: str = "cells_per_weight", **look: Any) -> None:
    """Cells, mean and standard deviation of results, by ascending cells; empty without results."""
    if results.is_empty():
        return
    results = results.sort(count, maintain_order=True)
    axis.errorbar(
        results[count].to_list(),
        [100 * accuracy for accuracy in results["accuracy_mean"]],
        yerr=[100 * sd for sd in results["accuracy_sd"]],
        capsize=2,
        **{"markersize": 5, "linewidth": 1.3, **look},
    )


def _time(seconds: float) -> str:
    for unit, length in (("day", 86400), ("h", 3600)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g} {unit} after programming"
    return "at once" if seconds == 0 else f"{seconds:g} s after programming"
