"""The figure of a calibration study, from its rows and its summary."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simulations.calibration.study import RANDOM, Row
from simulations.runs.ledger import Ledger
from simulations.runs.style import BLACK, BLUE, GREEN, ORANGE, PURPLE, RED, SKY, save_figure

COLOURS = (SKY, GREEN, BLUE, ORANGE, RED, PURPLE, BLACK)
FLOOR = 1e-4  # nats: below, a measured rise is noise of the images


def predicted_vs_measured(summary: dict[str, Any], folder: Path) -> list[Path]:
    """Draw predictions against measurements, and what shrinkage, images and better solutions are worth.

    Args:
        summary: as `simulations.calibration.study.run_calibration` returns it.
        folder: holds `plans.csv`; `calibration.png` and `.svg` go there.
    """
    rows = Ledger(folder / "plans.csv", Row).rows
    with mpl.rc_context({"font.size": 9, "svg.hashsalt": "physcomp", "axes.spines.top": False}):
        figure = Figure(figsize=(12.6, 3.9), layout="constrained")
        axes = figure.subplots(1, 3)
        _scatter(axes[0], [row for row in rows if row.plan == RANDOM])
        _shrinkage(axes[1], [row for row in rows if row.solver == "annealer"])
        _solved(axes[2], [row for row in rows if row.plan != RANDOM])
        drawn = sum(row.plan == RANDOM for row in rows)
        figure.suptitle(
            f"{summary['network']['name']} on {summary['card']}, {summary['test_images']:,} test images: "
            f"{drawn} random and {len(rows) - drawn} chosen plans"
        )
        return save_figure(figure, folder, "calibration")


def _scatter(axis: Axes, rows: list[Row]) -> None:
    measured = [max(row.measured, FLOOR) for row in rows]
    for name, colour, marker in (("plain", SKY, "o"), ("coupled", RED, "x")):
        label = "without couplings" if name == "plain" else "with couplings"
        axis.scatter(
            [getattr(row, name) for row in rows], measured, s=14, c=colour, marker=marker, label=label, alpha=0.7
        )
    ends = [max(FLOOR, 0.5 * min([*measured, *(row.plain for row in rows)])), max([*measured, 1.0])]
    axis.plot(ends, ends, color="0.55", linewidth=1)
    axis.set(xscale="log", yscale="log", xlabel="predicted loss rise (nats)", ylabel="measured loss rise (nats)")
    axis.set_title("random plans\nline: as predicted", fontsize=9)
    axis.legend(frameon=False, fontsize=8)


def _shrinkage(axis: Axes, rows: list[Row]) -> None:
    """Measured rise of the annealer's plan, over that of the plan without couplings and all images."""
    counts = sorted({row.images for row in rows})
    budgets = sorted({row.budget for row in rows})
    for colour, count in zip(COLOURS, counts, strict=False):
        shrinkages = sorted({row.shrinkage for row in rows})
        means = []
        for shrinkage in shrinkages:
            of = {(r.budget): r.measured for r in rows if (r.images, r.shrinkage) == (count, shrinkage)}
            base = {(r.budget): r.measured for r in rows if (r.images, r.shrinkage) == (counts[-1], 0.0)}
            ratios = [max(of[b], FLOOR) / max(base[b], FLOOR) for b in budgets if b in of and b in base]
            means.append(float(mpl.cbook.boxplot_stats(ratios)[0]["med"]) if ratios else float("nan"))
        axis.plot(shrinkages, means, color=colour, marker="o", markersize=4, label=f"{count:,} images")
    axis.axhline(1, color="0.55", linewidth=1)
    axis.set(xlabel="factor on the couplings", ylabel="measured rise over that without couplings", yscale="log")
    axis.set_title(f"annealer's plans\nmedian of {len(budgets)} budgets", fontsize=9)
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter("")
    axis.legend(frameon=False, fontsize=8)


def _solved(axis: Axes, rows: list[Row]) -> None:
    """Energy over its bound against measured rise over the best of the same budget, for the largest model."""
    images = max(row.images for row in rows)
    for marker, solver in zip("vso", ("random", "lagrangian", "annealer"), strict=True):
        for colour, shrinkage in zip(COLOURS, sorted({row.shrinkage for row in rows}), strict=False):
            of = [r for r in rows if (r.images, r.solver, r.shrinkage) == (images, solver, shrinkage)]
            if not of:
                continue
            axis.scatter(
                [max(r.energy, FLOOR) for r in of],
                [max(r.measured, FLOOR) for r in of],
                s=18,
                marker=marker,
                facecolors="none" if solver != "annealer" else colour,
                edgecolors=colour,
                label=f"couplings × {shrinkage:g}" if solver == "annealer" else None,
            )
    axis.set(xscale="log", yscale="log", xlabel="energy of the solution (nats)", ylabel="measured loss rise (nats)")
    axis.set_title(f"solved at random (▽), by Lagrangian (□), annealed (●)\nmodel of {images:,} images", fontsize=9)
    axis.legend(frameon=False, fontsize=8)
