"""The table of a protection study: accuracy by strategy and cells a weight, and beside it what was chosen.

As Isik et al. (2023, doi 10.1145/3588436) print theirs: a row for each strategy of analog storage, given to every
group alike, a column for each number of analog cells a weight. Signs, scales, masks and biases come on top, so that
each entry says how many cells it really takes. What is chosen has the column's cells for everything: its rows never
take more than any entry of the same column above them.
"""

from itertools import cycle
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from simulations.comparison.figures import draw_cards, frame, points
from simulations.comparison.summary import POINTS, Report, save_entries
from simulations.runs.engine import JOINT, UNCOUPLED
from simulations.runs.study import Study
from simulations.runs.style import BLACK, BLUE, GREEN, ORANGE, PURPLE, RED, SKY

COLUMNS = ("strategy", "cells", "method", "cells_per_weight", "accuracy_mean", "accuracy_sd", "loss_mean", "trials")
LOOKS = ((BLACK, "x"), (PURPLE, "s"), (ORANGE, "v"), (RED, "^"), (SKY, "D"), (GREEN, "P"), ("0.5", "h"))


def complete(study: Study, summary: dict[str, Any]) -> None:
    """Give every card of a summary its `table`: an entry for each strategy, or method that chose, and budget."""
    for card in (summary, *summary["further_cards"]):
        fixed = {r["method"]: r for r in card["results"] if r["budget_cells_per_weight"] is None}
        entries = [
            (row, budget, fixed[f"uniform {code}"])
            for row, codes in study.strategies
            for budget, code in zip(study.budgets, codes, strict=True)
        ]
        chosen = [r for r in card["results"] if r["method"] != UNCOUPLED and r["budget_cells_per_weight"] is not None]
        methods = dict.fromkeys(r["method"] for r in sorted(chosen, key=lambda r: r["method"] == JOINT))
        entries += [
            (method, r["budget_cells_per_weight"], r) for method in methods for r in chosen if r["method"] == method
        ]
        card["table"] = [
            {"strategy": row, "cells": cells, **{name: result[name] for name in COLUMNS[2:]}}
            for row, cells, result in entries
        ]


def report(card: dict[str, Any]) -> Report:
    """The table and what it shows, in sentences."""
    cells = list(dict.fromkeys(entry["cells"] for entry in card["table"]))
    rows: dict[str, list[str]] = {}
    for entry in card["table"]:
        accuracy = f"{100 * entry['accuracy_mean']:.2f} ± {100 * entry['accuracy_sd']:.2f}"
        rows.setdefault(entry["strategy"], []).append(f"{accuracy} ({entry['cells_per_weight']:.2f})")
    columns = ("accuracy % ± sd (cells/weight)", *(f"{count:g} cell{'s' * (count != 1)}" for count in cells))
    return Report(columns, [(row, *entries) for row, entries in rows.items()], _findings(card, cells))


def _findings(card: dict[str, Any], cells: list[float]) -> list[str]:
    table, clean = card["table"], card["clean_accuracy"]
    joint = {entry["cells"]: entry for entry in table if entry["strategy"] == JOINT}
    lines = []
    for count in cells:
        uniform = [e for e in table if e["cells"] == count and e["method"].startswith("uniform ")]
        best = max(uniform, key=lambda entry: entry["accuracy_mean"])
        least = min(entry["cells_per_weight"] for entry in uniform)
        lines.append(
            f"{count:g} cell{'s' * (count != 1)}: the joint choice, at {joint[count]['cells_per_weight']:.3f} "
            f"cells/weight, is {100 * (joint[count]['accuracy_mean'] - best['accuracy_mean']):+.2f} points from the "
            f"best strategy ({best['strategy']}, at {best['cells_per_weight']:.3f}); no strategy of this column takes "
            f"fewer than {least:.3f}."
        )
    close = [e for e in table if e["method"].startswith("uniform ") and clean - e["accuracy_mean"] <= POINTS]
    if close:
        least_close = min(close, key=lambda entry: entry["cells_per_weight"])
        lines.append(
            f"The cheapest strategy within half a point of the clean network is {least_close['strategy']} at "
            f"{least_close['cells_per_weight']:.3f} cells/weight."
        )
    else:
        lines.append("No strategy is within half a point of the clean network.")
    return lines


def save(summary: dict[str, Any], folder: Path) -> list[Path]:
    """Write the tables of all cards as `protection.csv`, and the figure; the paths written."""
    path = folder / "protection.csv"
    save_entries(summary, "table", COLUMNS, path)
    return [path, *draw_cards(summary, folder, "protection", _panel)]


def _panel(axis: Axes, card: dict[str, Any]) -> None:
    table = card["table"]
    rows = list(dict.fromkeys(entry["strategy"] for entry in table))
    uniform = {entry["strategy"] for entry in table if entry["method"].startswith("uniform ")}
    looks, styles = cycle(LOOKS), cycle(("-.", "--"))
    for row in rows:
        of = [entry for entry in table if entry["strategy"] == row]
        if row == JOINT:
            points(axis, of, color=BLUE, marker="o", linestyle="-", label="joint choice", linewidth=1.8)
        elif row in uniform:
            color, marker = next(looks)
            points(axis, of, color=color, marker=marker, linestyle=":", label=row)
        else:
            points(axis, of, color="0.45", marker="", linestyle=next(styles), label=row)
    frame(axis, card, (1, 1.5, 2, 3, 5, 7, 10))
    clean, lowest = 100 * card["clean_accuracy"], 100 * min(entry["accuracy_mean"] for entry in table)
    axis.set_ylim(min(clean - 5, lowest - 2), clean + 2)
