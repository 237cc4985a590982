"""The figure of studies of several networks: what is lost against bits per weight, one panel a network."""

import math
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simulations.comparison.plans import JOINT, TRAINED
from simulations.runs.style import BLUE, GREEN, ORANGE, RED, SKY, save_figure

ACROSS = 3  # panels in a row, at most
MOST = 8.0  # points lost that a panel shows; the tables have all results
TICKS = (0.2, 0.5, 1, 2, 4, 8, 16)
LOOKS = (
    (JOINT, BLUE, "o", "-", "joint choice"),
    (TRAINED, RED, "*", "none", "joint choice, trained"),
    ("uniform coded", ORANGE, "s", ":", "every filter alike, entropy-coded"),
    ("uniform stepped", SKY, "^", ":", "every filter alike, stepped"),
    ("uniform digital", GREEN, "D", ":", "every filter alike, integers"),
)


def draw_networks(summary: dict[str, Any], folder: Path) -> list[Path]:
    """Draw the networks that have results; returns the paths written."""
    networks = {name: of for name, of in summary["networks"].items() if of["results"]}
    across = min(ACROSS, len(networks))
    down = math.ceil(len(networks) / across) if networks else 0
    if not networks:
        return []
    with mpl.rc_context({"font.size": 9, "svg.hashsalt": "physcomp", "axes.spines.top": False}):
        figure = Figure(figsize=(max(5.0, 3.6 * across), 3.0 * down + 0.6), layout="constrained")
        axes = figure.subplots(down, across, squeeze=False).flatten()
        seen: dict[str, Any] = {}
        for axis, (name, of) in zip(axes, networks.items(), strict=False):
            _panel(axis, name, of)
            seen |= dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
        for axis in axes[len(networks) :]:
            axis.set_visible(False)
        figure.legend(
            list(seen.values()), list(seen), loc="outside lower center", ncols=min(1 + across, 3, len(seen)),
            frameon=False, fontsize=8,
        )  # fmt: skip
        return save_figure(figure, folder, "networks")


def _panel(axis: Axes, name: str, of: dict[str, Any]) -> None:
    """Draw one network: means over draws, bars of one standard deviation."""
    digital = [row for row in of["results"] if row["bits_per_weight"] is not None]
    for start, color, marker, line, label in LOOKS:
        rows = sorted((row for row in digital if _is(row["method"], start)), key=lambda row: row["bits_per_weight"])
        if rows:
            axis.errorbar(
                [row["bits_per_weight"] for row in rows],
                [row["lost"] for row in rows],
                yerr=[row["lost_sd"] or 0.0 for row in rows],
                color=color, marker=marker, linestyle=line, label=label, capsize=2, linewidth=1.2,
                markersize=9 if marker == "*" else 4.5,
            )  # fmt: skip
    axis.axhline(0, color="0.55", linewidth=1, zorder=1)
    for most in (0.5, 1.0):
        axis.axhline(most, color="0.75", linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    axis.set_xscale("log", base=2)
    bits = [row["bits_per_weight"] for row in digital] or [1.0]
    ticks = [tick for tick in TICKS if min(bits) / 1.5 <= tick <= 1.5 * max(bits)]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    ends = [row["lost"] + sign * (row["lost_sd"] or 0.0) for row in digital for sign in (-1, 1)]
    axis.set_ylim(min([-0.3, *ends]) - 0.2, min(MOST, max([1.5, *ends]) + 0.3))
    axis.set_xlabel("bits per weight, everything stored counted")
    axis.set_ylabel("perplexity gained (%)" if of["metric"] == "perplexity" else "points lost")
    draws = "" if of["draws"] == 1 else f", {of['draws']} draws (bars: ± 1 sd)"
    clean = f"{of['clean']:.2f}" + ("" if of["metric"] == "perplexity" else " %")
    axis.set_title(f"{name}: {of['parameters']:,} parameters\nclean {clean}{draws}", fontsize=9)
    axis.grid(axis="y", color="0.92")


def _is(method: str, start: str) -> bool:
    return method == start or (start.startswith("uniform") and method.startswith(start))
