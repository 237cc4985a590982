"""Studies of kind `protection`: accuracy of strategies that protect analog weights, against that of the joint choice.

The table is that of Isik et al. (2023, doi 10.1145/3588436): one row for each strategy, given to all groups alike, and
one column for each number of analog cells per weight. Signs, scales, masks and biases take further cells, so each entry
states its total. The joint choice has the column's number of cells for everything: it never takes more cells than the
strategies in the same column.
"""

from itertools import cycle
from pathlib import Path
from typing import Annotated, Any, Literal

import polars as pl
from matplotlib.axes import Axes
from pydantic import AfterValidator, ValidationInfo

from simulations.comparison.figures import draw_cards, frame, points
from simulations.comparison.plans import JOINT, UNCOUPLED, MethodName, StoredStudy
from simulations.comparison.results import POINTS, at, by_plan, summarize
from simulations.comparison.storage import section
from simulations.comparison.stored import StoredKind
from simulations.runs import fields
from simulations.runs.kind import Tables
from simulations.runs.quality import axis_of
from simulations.runs.style import BLACK, BLUE, GREEN, ORANGE, PURPLE, RED, SKY

COLUMNS = ("method", "cells_per_weight", "accuracy_mean", "accuracy_sd", "loss_mean", "trials")
LOOKS = ((BLACK, "x"), (PURPLE, "s"), (ORANGE, "v"), (RED, "^"), (SKY, "D"), (GREEN, "P"), ("0.5", "h"))


def _fits_budgets(strategies: dict[str, tuple[str, ...]], info: ValidationInfo) -> dict[str, tuple[str, ...]]:
    budgets = len(info.data.get("budgets", ()))
    for row, codes in strategies.items():
        if len(codes) != budgets:
            raise ValueError(f"'{row}' needs a code for each of {budgets} budgets, got {len(codes)}; correct it")
    return strategies


def _apart(strategies: dict[str, tuple[str, ...]], info: ValidationInfo) -> dict[str, tuple[str, ...]]:
    if both := [row for row in strategies if row in info.data.get("parts", ())]:
        raise ValueError(f"'{both[0]}' is also the name of a method in parts; rename one")
    return strategies


class ProtectionStudy(StoredStudy):
    """The fields of a study of kind `protection`, besides those of `StoredStudy`.

    Args:
        strategies: the rows of the table: for each name one code per budget, given to all groups.
    """

    kind: Literal["protection"] = "protection"
    strategies: Annotated[
        dict[MethodName, tuple[fields.CodeName, ...]],
        fields.AtLeastOne,
        AfterValidator(_fits_budgets),
        AfterValidator(_apart),
    ]

    @property
    def compared(self) -> tuple[str, ...]:
        """The names of the codes of strategies, and those of `uniform`."""
        return tuple(dict.fromkeys((*self.uniform, *(code for codes in self.strategies.values() for code in codes))))


class Protection(StoredKind[ProtectionStudy]):
    """A table of accuracy by cells per weight: strategies, and methods that choose."""

    model = ProtectionStudy

    def tables(self, trials: pl.DataFrame) -> Tables:
        """Tables of accuracy, one for each card and all in `protection.csv`."""
        results = by_plan(self, trials)
        table = self.entries(results)
        summary = summarize(self, results)
        sections = []
        for place, card in enumerate(summary["cards"]):
            entries = at(table, place)
            card["table"] = entries.to_dicts()
            cells = entries["cells"].unique(maintain_order=True).to_list()
            columns = (
                f"{axis_of(summary['metric'])} ± sd (cells/weight)",
                *(f"{count:g} cell{'s' * (count != 1)}" for count in cells),
            )
            lines = findings(entries, cells, summary["clean_accuracy"])
            sections.append(section(summary, card, columns, table_rows(entries), lines))
        return Tables(summary, sections, {"protection": self.with_cards(table)})

    def draw(self, trials: pl.DataFrame, summary: dict[str, Any]) -> list[Path]:
        """Draw accuracy after read-back against cells per weight, one line per strategy, one panel per card."""
        return draw_cards(summary, self.entries(by_plan(self, trials)), self.folder, "protection", _panel)

    def entries(self, results: pl.DataFrame) -> pl.DataFrame:
        """One entry for each card, strategy or method, and budget, in the order of the table."""
        entries = []
        for place, _ in enumerate(self.placed):
            here = at(results, place).to_dicts()
            fixed = {row["method"]: row for row in here if row["budget_cells_per_weight"] is None}
            chosen = [row for row in here if row["method"] not in (UNCOUPLED, *fixed)]
            methods = dict.fromkeys(row["method"] for row in sorted(chosen, key=lambda row: row["method"] == JOINT))
            found = [
                (strategy, cells, fixed[f"uniform {code}"])
                for strategy, codes in self.study.strategies.items()
                for cells, code in zip(self.study.budgets, codes, strict=True)
            ]
            found += [
                (name, row["budget_cells_per_weight"], row)
                for name in methods
                for row in chosen
                if row["method"] == name
            ]
            for strategy, cells, row in found:
                values = {name: row[name] for name in COLUMNS}
                entries.append({"place": place, "strategy": strategy, "cells": cells, **values})
        return pl.DataFrame(entries, infer_schema_length=None)


def table_rows(table: pl.DataFrame) -> list[tuple[str, ...]]:
    """The table of a card as text, one row per strategy, each entry with its total of cells."""
    rows: dict[str, list[str]] = {}
    for entry in table.to_dicts():
        accuracy = f"{100 * entry['accuracy_mean']:.2f} ± {100 * entry['accuracy_sd']:.2f}"
        rows.setdefault(entry["strategy"], []).append(f"{accuracy} ({entry['cells_per_weight']:.2f})")
    return [(row, *entries) for row, entries in rows.items()]


def findings(table: pl.DataFrame, cells: list[float], clean: float) -> list[str]:
    """The findings on a card, in sentences."""
    uniform = table.filter(pl.col("method").str.starts_with("uniform "))
    lines = []
    for count in cells:
        joint = table.row(by_predicate=(pl.col("strategy") == JOINT) & (pl.col("cells") == count), named=True)
        column = uniform.filter(pl.col("cells") == count)
        best = column.sort("accuracy_mean", descending=True, maintain_order=True).row(0, named=True)
        lines.append(
            f"{count:g} cell{'s' * (count != 1)}: the joint choice, at {joint['cells_per_weight']:.3f} "
            f"cells/weight, is {100 * (joint['accuracy_mean'] - best['accuracy_mean']):+.2f} points from the "
            f"best strategy ({best['strategy']}, at {best['cells_per_weight']:.3f}); no strategy of this column takes "
            f"fewer than {min(column['cells_per_weight']):.3f}."
        )
    close = uniform.filter(clean - pl.col("accuracy_mean") <= POINTS)
    if close.is_empty():
        return [*lines, "No strategy is within half a point of the clean network."]
    least = close.sort("cells_per_weight", maintain_order=True).row(0, named=True)
    return [
        *lines,
        f"The cheapest strategy within half a point of the clean network is {least['strategy']} at "
        f"{least['cells_per_weight']:.3f} cells/weight.",
    ]


def _panel(axis: Axes, card: dict[str, Any], table: pl.DataFrame) -> None:
    uniform = set(table.filter(pl.col("method").str.starts_with("uniform "))["strategy"])
    looks, styles = cycle(LOOKS), cycle(("-.", "--"))
    for row in table["strategy"].unique(maintain_order=True):
        of = table.filter(pl.col("strategy") == row)
        if row == JOINT:
            points(axis, of, color=BLUE, marker="o", linestyle="-", label="joint choice", linewidth=1.8)
        elif row in uniform:
            color, marker = next(looks)
            points(axis, of, color=color, marker=marker, linestyle=":", label=row)
        else:
            points(axis, of, color="0.45", marker="", linestyle=next(styles), label=row)
    frame(axis, card, (1, 1.5, 2, 3, 5, 7, 10))
    clean, lowest = 100 * card["clean_accuracy"], 100 * min(table["accuracy_mean"])
    axis.set_ylim(min(clean - 5, lowest - 2), clean + 2)
