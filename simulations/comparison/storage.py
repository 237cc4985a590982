"""Studies of kind `storage`: accuracy after read-back against cells, by every method; used by `physcomp demo`."""

from collections.abc import Iterable, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, Literal

import polars as pl
from matplotlib.axes import Axes

from simulations.comparison.figures import PART_LOOKS, draw_cards, families, frame, points
from simulations.comparison.plans import JOINT, UNCOUPLED, StoredStudy
from simulations.comparison.results import at, by_plan, summarize
from simulations.comparison.stored import StoredKind
from simulations.runs.kind import Section, Tables
from simulations.runs.metrics import ALWAYS
from simulations.runs.quality import axis_of, said
from simulations.runs.style import BLACK, BLUE, GREEN, RED, SKY

COLUMNS = (
    "method",
    "cells per weight",
    "metric",
    "loss",
    "predicted rise",
    "measured rise",
    "energy",
    "bound",
)


class StorageStudy(StoredStudy):
    """The fields of a study of kind `storage`: those of `StoredStudy`."""

    kind: Literal["storage"] = "storage"


class Storage(StoredKind[StorageStudy]):
    """Accuracy of every method over cells per weight."""

    model = StorageStudy

    def tables(self, trials: pl.DataFrame) -> Tables:
        """A table of all results for each card, and findings."""
        results = by_plan(self, trials)
        summary = summarize(self, results)
        sections = [
            section(
                summary,
                card,
                (*columns_of(summary), *(f"{name} ± sd" for name in self.study.metrics if name not in ALWAYS)),
                table_rows(at(results, place), self.study.metrics),
                findings(card, summary["trials"]),
            )
            for place, card in enumerate(summary["cards"])
        ]
        return Tables(summary, sections)

    def draw(self, trials: pl.DataFrame, summary: dict[str, Any]) -> list[Path]:
        """Draw accuracy after read-back against cells per weight, one panel per card."""
        return draw_cards(summary, by_plan(self, trials), self.folder, "accuracy-vs-cells", _panel)


def columns_of(summary: dict[str, Any]) -> tuple[str, ...]:
    """The heads of the columns, with that of the task's metric."""
    return tuple(f"{axis_of(summary['metric'])} ± sd" if name == "metric" else name for name in COLUMNS)


def section(
    summary: dict[str, Any],
    card: dict[str, Any],
    columns: Sequence[str],
    rows: Sequence[tuple[str, ...]],
    lines: list[str],
) -> Section:
    """The section to print for a card: its table and findings, with network, card and times as title."""
    chosen = ""
    if card["read_times_s"]:
        chosen = f", chosen for the {card['over']} over {', '.join(f'{time:g}' for time in card['read_times_s'])} s"
    when = f"read {card['read_time_s']:g} s after programming{chosen}"
    return Section(
        title=f"{summary['network']['name']} on {card['card']}, {when}.",
        subtitle=f"Clean network: {said(summary['metric'], summary['clean_accuracy'])}, loss "
        f"{summary['clean_loss']:.4f}, on {summary['test_images']:,} test samples.",
        columns=tuple(columns),
        rows=rows,
        lines=[*(f"Warning: {remark}." for remark in summary["remarks"]), *lines],
    )


def table_rows(results: pl.DataFrame, metrics: Iterable[str] = ()) -> list[tuple[str, ...]]:
    """The rows of a card's table as text: the joint choice first, fixed plans last, budgets ascending."""
    order = [JOINT, UNCOUPLED]

    def rank(row: dict[str, Any]) -> tuple[Any, ...]:
        fixed, method = row["budget_cells_per_weight"] is None, row["method"]
        place = order.index(method) if method in order else len(order)
        return fixed, place, "" if fixed else method, row["cells_per_weight"]

    return [
        (
            row["method"],
            f"{row['cells_per_weight']:.3f}",
            f"{100 * row['accuracy_mean']:.2f} ± {100 * row['accuracy_sd']:.2f}",
            f"{row['loss_mean']:.4f}",
            f"{row['predicted_loss_increase']:.4f}",
            f"{row['measured_loss_increase']:.4f}",
            f"{row['energy']:.4f}",
            "" if row["lower_bound"] is None else f"{row['lower_bound']:.4f}",
            *(f"{row[f'{name}_mean']:.4f} ± {row[f'{name}_sd']:.4f}" for name in metrics if name not in ALWAYS),
        )
        for row in sorted(results.to_dicts(), key=rank)
    ]


def findings(card: dict[str, Any], trials: int) -> list[str]:
    """The findings on a card, in sentences."""
    joint = card["joint"]
    solvers = sorted({f"{r['solver']} ({r['solver_kind']})" for r in card["results"] if r["solver_kind"] != "none"})
    lines = [
        f"Means over {trials} chips; plans without analog cells read back alike on every chip. Chosen by "
        f"{', '.join(solvers)}: energy is the loss rise it minimised, and no choice within the budget goes below bound."
    ]
    if card["rank_correlation"] is not None:
        lines.append(
            f"Predicted and measured loss rise over all plans: rank correlation {card['rank_correlation']:.3f}. "
            "Each joint plan is the one of least held-out loss among several shrinkages, parts of the menu and, where "
            "a plan lost more than predicted, a loss model built again on the way to it."
        )
    for against in joint["against_others"]:
        lines.append(
            f"At {against['budget_cells_per_weight']:g} cells/weight the joint choice has "
            f"{against['loss_ratio']:.3f} × the loss of the best other method ({against['best_other']}) and "
            f"{100 * against['accuracy_minus_best_other']:+.2f} points to the most accurate."
        )
    lost = ", ".join(f"{points:.2f} at {budget}" for budget, points in joint["points_lost"].items())
    lines.append(f"Points lost by the joint choice, without retraining: {lost}.")
    if joint["cheapest_within_half_a_point"] is None:
        lines.append("No joint plan is within half a point of the clean network.")
    if joint["float32_over_cheapest"] is not None:
        lines.append(
            f"A 32-bit digital copy costs {joint['float32_over_cheapest']:.1f} × the cells of the cheapest joint plan "
            f"within half a point of the clean network ({joint['cheapest_within_half_a_point']:.3f})."
        )
    return lines


LINES = {
    JOINT: (BLUE, "o", "-", "joint choice"),
    UNCOUPLED: (SKY, "s", "--", "joint choice without couplings"),
}
UNIFORM = (
    ("uniform digital", GREEN, "D", "uniform digital"),
    ("uniform coded", GREEN, "s", "uniform digital, entropy-coded"),
    ("uniform float32", BLACK, "*", "32-bit floats"),
)


def _panel(axis: Axes, card: dict[str, Any], results: pl.DataFrame) -> None:
    methods = results["method"].unique(maintain_order=True)
    for method, (color, marker, style, label) in LINES.items():
        of = results.filter(pl.col("method") == method)
        points(axis, of, color=color, marker=marker, linestyle=style, label=label)
    parts = [method for method in methods if method not in LINES and not method.startswith("uniform ")]
    for method, (color, marker) in zip(parts, cycle(PART_LOOKS), strict=False):
        of = results.filter(pl.col("method") == method)
        points(axis, of, color=color, marker=marker, linestyle="--", label=method)
    found = families(results)
    several = len(found) > 2  # in a study of strategies each has its own line
    for (family, of), (color, marker) in zip(found.items(), cycle(PART_LOOKS), strict=False):
        if several:
            points(axis, of, color=color, marker=marker, linestyle=":", label=family)
        else:
            marker, label = ("x", "unprotected") if "plain" in family else ("P", "sign protected")
            points(axis, of, color=RED, marker=marker, linestyle="none", label=f"uniform analog, {label}")
    for start, color, marker, label in UNIFORM:
        of = results.filter(pl.col("method").str.starts_with(start))
        points(axis, of, color=color, marker=marker, linestyle="none", label=label)
    frame(axis, card, [0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10])
    # The axis shows all joint plans; very bad plans of other methods may be below it.
    lowest = min(100 * results.filter(pl.col("method") == JOINT)["accuracy_mean"], default=100.0)
    clean = 100 * card["clean_accuracy"]
    axis.set_ylim(min(40.0, clean - 5, lowest - 4), clean + 3)
