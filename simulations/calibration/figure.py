"""The figure of a calibration study: predicted against measured loss increase."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import polars as pl

mpl.use("Agg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simulations.runs.style import BLACK, BLUE, GREEN, ORANGE, PURPLE, RED, SKY, save_figure

COLOURS = (SKY, GREEN, BLUE, ORANGE, RED, PURPLE, BLACK)
FLOOR = 1e-4  # nats; a measured increase below this is noise from the choice of images


def predicted_vs_measured(trials: pl.DataFrame, summary: dict[str, Any], folder: Path) -> list[Path]:
    """Draw predictions against measurements, and the effect of shrinkage, number of images and better solutions.

    Args:
        trials: one row per plan.
        summary: the result of `simulations.calibration.study.summarize`.
        folder: folder for `calibration.png` and `.svg`.
    """
    random, chosen = (trials.filter(pl.col("plan") == plan) for plan in ("random", "chosen"))
    with mpl.rc_context({"font.size": 9, "svg.hashsalt": "physcomp", "axes.spines.top": False}):
        figure = Figure(figsize=(12.6, 3.9), layout="constrained")
        axes = figure.subplots(1, 3)
        _scatter(axes[0], random)
        _shrinkage(axes[1], chosen.filter(pl.col("solver") == "annealer"))
        _solved(axes[2], chosen)
        figure.suptitle(
            f"{summary['network']['name']} on {summary['card']}, {summary['test_images']:,} test images: "
            f"{len(random)} random and {len(chosen)} chosen plans"
        )
        return save_figure(figure, folder, "calibration")


def _scatter(axis: Axes, random: pl.DataFrame) -> None:
    measured = random["measured"].clip(FLOOR)
    for name, colour, marker in (("plain", SKY, "o"), ("coupled", RED, "x")):
        label = "without couplings" if name == "plain" else "with couplings"
        axis.scatter(random[name], measured, s=14, c=colour, marker=marker, label=label, alpha=0.7)
    ends = [max(FLOOR, 0.5 * min(*measured, *random["plain"])), max(*measured, 1.0)]
    axis.plot(ends, ends, color="0.55", linewidth=1)
    axis.set(xscale="log", yscale="log", xlabel="predicted loss rise (nats)", ylabel="measured loss rise (nats)")
    axis.set_title("random plans\nline: as predicted", fontsize=9)
    axis.legend(frameon=False, fontsize=8)


def _shrinkage(axis: Axes, chosen: pl.DataFrame) -> None:
    """Draw the annealer's measured loss increase, over that of the plan from all images without couplings."""
    most = pl.col("images") == pl.col("images").max()
    base = chosen.filter(most & (pl.col("shrinkage") == 0.0)).select("budget", base="measured")
    over = pl.col("measured").clip(FLOOR) / pl.col("base").clip(FLOOR)
    medians = chosen.join(base, on="budget").group_by("images", "shrinkage").agg(over.median()).sort("shrinkage")
    for colour, count in zip(COLOURS, sorted(chosen["images"].unique()), strict=False):
        of = medians.filter(pl.col("images") == count)
        axis.plot(of["shrinkage"], of["measured"], color=colour, marker="o", markersize=4, label=f"{count:,} images")
    axis.axhline(1, color="0.55", linewidth=1)
    axis.set(xlabel="factor on the couplings", ylabel="measured rise over that without couplings", yscale="log")
    axis.set_title(f"annealer's plans\nmedian of {chosen['budget'].n_unique()} budgets", fontsize=9)
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter("")
    axis.legend(frameon=False, fontsize=8)


def _solved(axis: Axes, chosen: pl.DataFrame) -> None:
    """Draw energy against measured loss increase, for the model with the most images."""
    largest = chosen.filter(pl.col("images") == pl.col("images").max())
    for marker, solver in zip("vso", ("random", "lagrangian", "annealer"), strict=True):
        for colour, shrinkage in zip(COLOURS, sorted(chosen["shrinkage"].unique()), strict=False):
            of = largest.filter(pl.col("solver") == solver, pl.col("shrinkage") == shrinkage)
            if of.is_empty():
                continue
            axis.scatter(
                of["energy"].clip(FLOOR),
                of["measured"].clip(FLOOR),
                s=18,
                marker=marker,
                facecolors="none" if solver != "annealer" else colour,
                edgecolors=colour,
                label=f"couplings × {shrinkage:g}" if solver == "annealer" else None,
            )
    axis.set(xscale="log", yscale="log", xlabel="energy of the solution (nats)", ylabel="measured loss rise (nats)")
    images = max(chosen["images"])
    axis.set_title(f"solved at random (▽), by Lagrangian (□), annealed (●)\nmodel of {images:,} images", fontsize=9)
    axis.legend(frameon=False, fontsize=8)
