"""Studies of kind `footprint`: the fewest cells per weight with which each method stays close to the clean network.

Methods are the joint choice, with and without training, parts of the menu, digital storage (32-bit floats, integers,
entropy-coded integers) and analog codes given to every group alike. Digital bits are counted in cells at the bound of
any code, and once more with a BCH code that exists (`devices.reliable_bits`, `devices.practical_bits`); plans are those
chosen at the bound. Only plans that were measured count: nothing is interpolated.
"""

from pathlib import Path
from typing import Any, Literal

import polars as pl
from matplotlib.axes import Axes

from simulations.comparison.figures import draw_cards, families, frame, points
from simulations.comparison.plans import JOINT, TRAINED, UNCOUPLED, StoredStudy
from simulations.comparison.results import at, by_plan, summarize
from simulations.comparison.storage import section
from simulations.comparison.stored import StoredKind
from simulations.comparison.trained import Trained, find_trained
from simulations.runs import fields
from simulations.runs.kind import Tables
from simulations.runs.style import BLACK, BLUE, GREEN, ORANGE, PURPLE, RED, SKY

LOST = (0.005, 0.01)  # accuracy that may be lost: half a percentage point, and one
COUNTS = {"bound": "cells_per_weight", "bch": "cells_per_weight_bch"}
SCHEMA = {
    "points_lost_at_most": pl.Float64,
    "count": pl.String,
    "method": pl.String,
    "cells_per_weight": pl.Float64,
    "accuracy_mean": pl.Float64,
    "over_joint": pl.Float64,
    "over_trained": pl.Float64,
}
SHOWN = 6.5  # percentage points below the clean network that the figure shows; the summary has all results


class FootprintStudy(StoredStudy):
    """The fields of a study of kind `footprint`, besides those of `StoredStudy`.

    Args:
        trained: folders made by `physcomp finetune`, or patterns with `*`.
    """

    kind: Literal["footprint"] = "footprint"
    trained: tuple[fields.FilePath, ...] = ()


class Footprint(StoredKind[FootprintStudy]):
    """The fewest cells per weight of every method."""

    model = FootprintStudy

    def find_trained(self) -> tuple[Trained, ...]:
        """The trained plans that the study names."""
        return find_trained(self.study.trained, self.study.cards, self.network)

    def tables(self, trials: pl.DataFrame) -> Tables:
        """Tables of the fewest cells, one for each card and all in `footprint.csv`."""
        results = by_plan(self, trials)
        summary = summarize(self, results)
        found, sections = [], []
        for place, card in enumerate(summary["cards"]):
            here = at(results, place)
            table = fewest(here, summary["clean_accuracy"])
            card["footprint"] = table.to_dicts()
            found.append(table.select(pl.lit(place, pl.Int64).alias("place"), pl.all()))
            columns = [f"≤ {100 * lost:g} lost: cells|BCH|× joint|× trained".split("|") for lost in LOST]
            lines = findings(card, here, summary["clean_accuracy"])
            sections.append(section(summary, card, ("method", *columns[0], *columns[1]), table_rows(table), lines))
        return Tables(summary, sections, {"footprint": self.with_cards(pl.concat(found))})

    def draw(self, trials: pl.DataFrame, summary: dict[str, Any]) -> list[Path]:
        """Draw accuracy after read-back against cells per weight, counted in both ways, one panel per card."""
        return draw_cards(summary, by_plan(self, trials), self.folder, "frontier", _panel)


def methods(results: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """The results of each method; uniform analog codes that differ only in their number of cells are one method."""
    analog = families(results)
    found = {name: results.filter(pl.col("method") == name) for name in (TRAINED, JOINT)}
    for name in results["method"].unique(maintain_order=True):
        family = next((family for family, of in analog.items() if name in of["method"]), None)
        found[family or name] = analog[family] if family else results.filter(pl.col("method") == name)
    return {name: of for name, of in found.items() if not of.is_empty() and name != UNCOUPLED}


def fewest(results: pl.DataFrame, clean: float) -> pl.DataFrame:
    """The fewest cells for each loss of accuracy, way of counting and method; and their ratio to the joint choice."""
    entries = []
    for lost in LOST:
        for count, column in COUNTS.items():
            best = {}
            for method, of in methods(results).items():
                close = of.filter(pl.col("accuracy_mean") >= clean - lost - 1e-12, pl.col(column).is_not_null())
                least = close.sort(column, maintain_order=True).head(1)
                best[method] = least.select(column, "accuracy_mean").row(0) if len(least) else (None, None)
            for method, (cells, accuracy) in best.items():
                over = [
                    cells / base if cells is not None and (base := best.get(name, (None,))[0]) is not None else None
                    for name in (JOINT, TRAINED)
                ]
                entries.append((100 * lost, count, method, cells, accuracy, *over))
    return pl.DataFrame(entries, schema=SCHEMA, orient="row")


def table_rows(table: pl.DataFrame) -> list[tuple[str, ...]]:
    """The table of a card as text, one row per method."""
    rows: dict[str, list[str]] = {}
    for lost in LOST:
        bound, bch = (
            table.filter(pl.col("points_lost_at_most") == 100 * lost, pl.col("count") == count).to_dicts()
            for count in COUNTS
        )
        for entry, practical in zip(bound, bch, strict=True):
            rows.setdefault(entry["method"], []).extend(
                (
                    _text(entry["cells_per_weight"], 3),
                    _text(practical["cells_per_weight"], 3),
                    _text(entry["over_joint"], 1),
                    _text(entry["over_trained"], 1),
                )
            )
    return [(method, *texts) for method, texts in rows.items()]


def _text(value: float | None, places: int) -> str:
    return "–" if value is None else f"{value:.{places}f}"


def findings(card: dict[str, Any], results: pl.DataFrame, clean: float) -> list[str]:
    """The findings on a card, in sentences; ratios are of cells counted at the bound."""
    practical = card["bits_per_cell_bch"]
    lines = [
        f"A cell holds {card['bits_per_cell']:.3f} bits at the bound of any code"
        + (", no BCH code is strong enough." if practical is None else f", {practical:.3f} with a BCH code.")
        + " Fewest cells a weight of all that was measured, everything stored counted; – where nothing came close."
    ]
    for method, name in ((JOINT, "without training"), (TRAINED, "trained")):
        of = results.filter(pl.col("method") == method).sort("cells_per_weight", maintain_order=True)
        lost = [
            f"{100 * (clean - accuracy):.2f} at {cells:.3f}"
            for accuracy, cells in of.select("accuracy_mean", "cells_per_weight").iter_rows()
        ]
        if lost:
            lines.append(f"Points lost by the joint choice, {name}, by cells/weight: {', '.join(lost)}.")
    return lines


# Methods with digital bits: name up to a bracket, colour, marker, line, label.
DIGITAL = (
    (TRAINED, RED, "*", "none", "joint choice, trained"),
    (JOINT, BLUE, "o", "-", "joint choice, not trained"),
    ("uniform digital", GREEN, "D", "none", "integers (8 and 4 bits)"),
    ("uniform coded", ORANGE, "s", "none", "integers, entropy-coded"),
    ("uniform float32", BLACK, "*", "none", "32-bit floats"),
)


def _panel(axis: Axes, card: dict[str, Any], results: pl.DataFrame) -> None:
    """Draw one card: filled markers for bits counted at the bound, open ones for bits in a BCH code."""
    named = methods(results)
    for start, color, marker, line, label in DIGITAL:
        size = 9 if marker == "*" else 5
        of = pl.concat([results.head(0), *(of for name, of in named.items() if name.split("(")[0] == start)])
        points(axis, of, color=color, marker=marker, markersize=size, linestyle=line, label=label)
        practical = of.filter(pl.col(COUNTS["bch"]).is_not_null())
        look = {"color": color, "marker": marker, "markersize": size, "markerfacecolor": "white", "linewidth": 0.8}
        points(axis, practical, count=COUNTS["bch"], linestyle=":" if line == "-" else "none", **look)
    for (family, of), color in zip(families(results).items(), (PURPLE, SKY, "0.5"), strict=False):
        label = "analog, unprotected" if "plain" in family else "analog, sign protected"
        points(axis, of, color=color, marker="x", linestyle=":", label=label)
    axis.errorbar(
        [], [], color="0.4", marker="o", linestyle="none", markerfacecolor="white", label="open: bits in a BCH code"
    )
    frame(axis, card, (0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20))
    clean = 100 * card["clean_accuracy"]
    for lost in LOST:
        axis.axhline(clean - 100 * lost, color="0.7", linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
        axis.text(0.995, clean - 100 * lost, f" −{100 * lost:g}", transform=axis.get_yaxis_transform(), ha="left",
                  va="center", color="0.4", fontsize=8)  # fmt: skip
    axis.set_ylim(clean - SHOWN, clean + 1.2)
