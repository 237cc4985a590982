"""The footprint: the fewest cells a weight with which each method keeps close to the clean network.

Methods are the joint choice, with and without training, parts of the menu, digital storage (32-bit floats, integers,
entropy-coded integers) and analog codes given to every group alike. Digital bits are counted in cells at the bound of
any code, and once more with a BCH code that exists (`devices.reliable_bits`, `devices.practical_bits`); plans are those
chosen at the bound. Only plans that were measured count: nothing is interpolated.
"""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from simulations.comparison.figures import draw_cards, families, frame, points
from simulations.comparison.summary import Report, save_entries
from simulations.runs.engine import JOINT, TRAINED, UNCOUPLED
from simulations.runs.style import BLACK, BLUE, GREEN, ORANGE, PURPLE, RED, SKY

LOST = (0.005, 0.01)  # accuracy that may be lost: half a point and one
COUNTS = {"bound": "cells_per_weight", "bch": "cells_per_weight_bch"}
COLUMNS = ("points_lost_at_most", "count", "method", "cells_per_weight", "accuracy_mean", "over_joint", "over_trained")
SHOWN = 6.5  # points below the clean network down to which the figure goes; the summary has all


def complete(summary: dict[str, Any]) -> None:
    """Give every card of a summary its `footprint`: an entry for each method, allowed loss and way to count."""
    for card in (summary, *summary["further_cards"]):
        card["footprint"] = [
            entry
            for lost in LOST
            for count in COUNTS
            for entry in _compared(_fewest(card, lost, COUNTS[count]), lost, count)
        ]


def methods(card: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The results of each method; uniform analog codes of one kind are one method, whatever their number of cells."""
    analog = families(card["results"])
    of_family = {id(result): family for family, results in analog.items() for result in results}
    found: dict[str, list[dict[str, Any]]] = {TRAINED: [], JOINT: []}
    for result in card["results"]:
        found.setdefault(of_family.get(id(result), result["method"]), []).append(result)
    return {method: results for method, results in found.items() if results and method != UNCOUPLED}


def _fewest(card: dict[str, Any], lost: float, count: str) -> dict[str, dict[str, Any] | None]:
    """For each method its result of fewest cells among those that lose no more; None without one."""
    close = card["clean_accuracy"] - lost - 1e-12
    found = {}
    for method, results in methods(card).items():
        kept = [r for r in results if r[count] is not None and r["accuracy_mean"] >= close]
        found[method] = min(kept, key=lambda r: r[count]) if kept else None
    return found


def _compared(fewest: dict[str, dict[str, Any] | None], lost: float, count: str) -> list[dict[str, Any]]:
    """Entries for each method, with its cells over those of the joint choice, untrained and trained."""
    cells = {method: result[COUNTS[count]] if result else None for method, result in fewest.items()}

    def over(method: str, base: str) -> float | None:
        mine, of = cells[method], cells.get(base)
        return None if mine is None or of is None else mine / of

    return [
        {
            "points_lost_at_most": 100 * lost,
            "count": count,
            "method": method,
            "cells_per_weight": cells[method],
            "accuracy_mean": result["accuracy_mean"] if result else None,
            "over_joint": over(method, JOINT),
            "over_trained": over(method, TRAINED),
        }
        for method, result in fewest.items()
    ]


def report(card: dict[str, Any]) -> Report:
    """The table of fewest cells and what it shows, in sentences; ratios are of cells at the bound."""
    columns = ["method"]
    rows: dict[str, list[str]] = {}
    for lost in LOST:
        columns += [f"≤ {100 * lost:g} lost: cells", "BCH", "× joint", "× trained"]
        for entry, practical in zip(_entries(card, lost, "bound"), _entries(card, lost, "bch"), strict=True):
            rows.setdefault(entry["method"], []).extend(
                (
                    _text(entry["cells_per_weight"], 3),
                    _text(practical["cells_per_weight"], 3),
                    _text(entry["over_joint"], 1),
                    _text(entry["over_trained"], 1),
                )
            )
    return Report(tuple(columns), [(method, *texts) for method, texts in rows.items()], _findings(card))


def _entries(card: dict[str, Any], lost: float, kind: str) -> list[dict[str, Any]]:
    wanted = (100 * lost, kind)
    return [entry for entry in card["footprint"] if (entry["points_lost_at_most"], entry["count"]) == wanted]


def _text(value: float | None, places: int) -> str:
    return "–" if value is None else f"{value:.{places}f}"


def _findings(card: dict[str, Any]) -> list[str]:
    practical = card["bits_per_cell_bch"]
    lines = [
        f"A cell holds {card['bits_per_cell']:.3f} bits at the bound of any code"
        + (", no BCH code is strong enough." if practical is None else f", {practical:.3f} with a BCH code.")
        + " Fewest cells a weight of all that was measured, everything stored counted; – where nothing came close."
    ]
    for method, name in ((JOINT, "without training"), (TRAINED, "trained")):
        results = sorted(methods(card).get(method, []), key=lambda r: r["cells_per_weight"])
        lost = [
            f"{100 * (card['clean_accuracy'] - r['accuracy_mean']):.2f} at {r['cells_per_weight']:.3f}" for r in results
        ]
        if lost:
            lines.append(f"Points lost by the joint choice, {name}, at so many cells/weight: {', '.join(lost)}.")
    return lines


def save(summary: dict[str, Any], folder: Path) -> list[Path]:
    """Write the tables of all cards as `footprint.csv`, and the figure of the frontier; the paths written."""
    path = folder / "footprint.csv"
    save_entries(summary, "footprint", COLUMNS, path)
    return [path, *draw_cards(summary, folder, "frontier", _panel)]


# Methods whose bits may be stored with a BCH code: name up to a bracket, colour, marker, line, label.
DIGITAL = (
    (TRAINED, RED, "*", "none", "joint choice, trained"),
    (JOINT, BLUE, "o", "-", "joint choice, not trained"),
    ("uniform digital", GREEN, "D", "none", "integers (8 and 4 bits)"),
    ("uniform coded", ORANGE, "s", "none", "integers, entropy-coded"),
    ("uniform float32", BLACK, "*", "none", "32-bit floats"),
)


def _panel(axis: Axes, card: dict[str, Any]) -> None:
    """Filled markers where bits are counted at the bound, open ones with a BCH code."""
    for start, color, marker, line, label in DIGITAL:
        size = 9 if marker == "*" else 5
        of = [r for name, results in methods(card).items() if name.split("(")[0] == start for r in results]
        points(axis, of, color=color, marker=marker, markersize=size, linestyle=line, label=label)
        practical = [r for r in of if r["cells_per_weight_bch"] is not None]
        look = {"color": color, "marker": marker, "markersize": size, "markerfacecolor": "white", "linewidth": 0.8}
        points(axis, practical, count=COUNTS["bch"], linestyle=":" if line == "-" else "none", **look)
    for (family, of), color in zip(families(card["results"]).items(), (PURPLE, SKY, "0.5"), strict=False):
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
