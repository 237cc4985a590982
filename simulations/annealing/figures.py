"""Figures of annealing studies: energy over time, time to target, gap against size, feasibility, accuracy.

Each solver has a colour of its own from the palette of Okabe and Ito, which the colour-blind can distinguish
(jfly.uni-koeln.de/color, 2008). Classical solvers have circles, quantum-inspired ones squares and dashed lines, quantum
ones diamonds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter
from numpy.typing import NDArray

from qubo.solution import Kind
from qubo.solvers.registry import find
from simulations.annealing.time_to_target import SolverScore
from simulations.annealing.trials import SolverRun
from simulations.runs.quality import label_of, said
from simulations.runs.style import save_figure

MARKERS: dict[Kind, str] = {"classical": "o", "quantum-inspired": "s", "quantum": "D", "hybrid": "D"}
FLOOR_PERCENT = 0.01
"""Gaps below this, in per cent, are drawn on a linear scale down to the bound itself."""
STYLE: Any = {
    "font.size": 9,
    "svg.hashsalt": "physcomp",
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def energy_over_time(trials: Sequence[SolverRun], folder: Path, *, bounds: Mapping[str, float]) -> list[Path]:
    """Draw energy above the lower bound against seconds: median and range over runs, one panel per problem.

    Args:
        trials: the runs.
        folder: folder for `energy-over-time.png` and `.svg`.
        bounds: lower bound of each problem, which is at zero.

    Returns:
        The paths written.
    """
    names = list(dict.fromkeys(trial.problem for trial in trials))
    figure, axes = _panels(len(names), 3.1, 3.0)
    for axis, name in zip(axes, names, strict=True):
        _energies(axis, [trial for trial in trials if trial.problem == name], bounds[name])
        axis.set_title(_title(name), fontsize=9)
        axis.set_xlabel("seconds, one thread")
    axes[0].set_ylabel("energy above the lower bound (%)")
    _legend(figure, {trial.solver: trial.kind for trial in trials})
    return _save(figure, folder, "energy-over-time")


def times_to_target(found: Sequence[SolverScore], folder: Path) -> list[Path]:
    """Draw time to target with its bootstrap interval, one panel per problem: `time-to-target.png` and `.svg`."""
    names = list(dict.fromkeys(score.problem for score in found))
    figure, axes = _panels(len(names), 3.1, 3.0)
    for axis, name in zip(axes, names, strict=True):
        _times(axis, [score for score in found if score.problem == name], labels=True)
        axis.set_title(_title(name), fontsize=9)
    return _save(figure, folder, "time-to-target")


def overview(
    trials: Sequence[SolverRun],
    found: Sequence[SolverScore],
    folder: Path,
    *,
    bounds: Mapping[str, float],
    name: str = "overview",
) -> list[Path]:
    """Draw energy over time (above) and time to target (below), one column per problem."""
    names = list(dict.fromkeys(trial.problem for trial in trials))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.55 * len(names) + 1.6, 5.9), layout="constrained")
        rows = figure.subplots(2, len(names), squeeze=False)
        order = list(dict.fromkeys(score.solver for score in found))
        for column, problem in enumerate(names):
            upper, lower = rows[0][column], rows[1][column]
            _energies(upper, [trial for trial in trials if trial.problem == problem], bounds[problem])
            upper.set_title(_title(problem), fontsize=9)
            upper.set_xlabel("seconds")
            _times(lower, [s for s in found if s.problem == problem], labels=column == 0, order=order)
        rows[0][0].set_ylabel("energy above the lower bound (%)")
    _legend(figure, {trial.solver: trial.kind for trial in trials})
    return _save(figure, folder, name)


def gaps_against_size(found: Sequence[SolverScore], folder: Path) -> list[Path]:
    """Draw the median gap against the number of groups, one panel per family with several sizes, if there is any."""
    families = [
        family
        for family in dict.fromkeys(score.family for score in found)
        if len({score.size for score in found if score.family == family}) > 1
    ]
    if not families:
        return []
    figure, axes = _panels(len(families), 3.4, 3.0)
    for axis, family in zip(axes, families, strict=True):
        of_family = [score for score in found if score.family == family]
        for solver in dict.fromkeys(score.solver for score in of_family):
            line = sorted((s for s in of_family if s.solver == solver), key=lambda s: s.size)
            gap = np.array([[100 * max(0.0, share) for share in s.gap] for s in line])
            axis.errorbar(
                [s.size for s in line], gap[:, 1], yerr=[gap[:, 1] - gap[:, 0], gap[:, 2] - gap[:, 1]],
                marker=MARKERS[line[0].kind], **_look(solver, line[0].kind), markersize=4, capsize=2,
            )  # fmt: skip
        axis.set_xscale("log")
        sizes = sorted({score.size for score in of_family})
        axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axis.minorticks_off()
        _percent_axis(axis)
        axis.set_title(f"family {family}", fontsize=9)
        axis.set_xlabel("groups")
    axes[0].set_ylabel("gap to the lower bound (%)")
    _legend(figure, {score.solver: score.kind for score in found})
    return _save(figure, folder, "gap-against-size")


def feasibility(found: Sequence[SolverScore], folder: Path) -> list[Path]:
    """Draw the share of raw samples that met all constraints before repair, for solvers that may violate them."""
    samplers = [score for score in found if score.feasible_before_repair is not None]
    if not samplers:
        return []
    names = list(dict.fromkeys(score.problem for score in samplers))
    kinds = {score.solver: score.kind for score in reversed(samplers)}
    figure, axes = _panels(len(names), 2.6, 0.8 + 0.36 * len(kinds))
    for number, (axis, name) in enumerate(zip(axes, names, strict=True)):
        for place, solver in enumerate(kinds):
            for score in (s for s in samplers if (s.problem, s.solver) == (name, solver)):
                share = 100 * (score.feasible_before_repair or 0.0)
                axis.barh(place, share, color=find(solver).colour, height=0.6)
                axis.text(share + 1.5, place, f"{share:.2g} %", va="center", fontsize=8)
        labels = [_label(s, kind).replace(" (", "\n(") if number % 4 == 0 else "" for s, kind in kinds.items()]
        axis.set_yticks(range(len(kinds)), labels)
        axis.set_xlim(0, 118)
        axis.set_xticks([0, 50, 100])
        axis.set_xlabel("raw samples feasible (%)")
        axis.set_title(_title(name), fontsize=9)
    return _save(figure, folder, "feasible-before-repair")


def accuracy_against_energy(
    trials: Sequence[SolverRun], folder: Path, *, clean: float | None = None, metric: str = "accuracy"
) -> list[Path]:
    """Draw the task's metric after read-back against energy, one point per run, if a network's selection was solved."""
    measured = [trial for trial in trials if trial.accuracy is not None]
    if not measured:
        return []
    figure, axes = _panels(1, 5.4, 3.6)
    axis = axes[0]
    for solver in dict.fromkeys(trial.solver for trial in measured):
        runs = [trial for trial in measured if trial.solver == solver]
        axis.plot(
            [t.energy for t in runs], [100 * (t.accuracy or 0.0) for t in runs], linestyle="none",
            marker=MARKERS[runs[0].kind], markersize=5, color=find(solver).colour, alpha=0.8,
        )  # fmt: skip
    if clean is not None:
        axis.axhline(100 * clean, color="0.55", linewidth=1)
        axis.text(0.99, 100 * clean, f"clean network {said(metric, clean)}", transform=axis.get_yaxis_transform(),
                  ha="right", va="bottom", fontsize=8, color="0.35")  # fmt: skip
        axis.set_ylim(top=100 * clean + 6)
    bound = max(trial.lower_bound for trial in measured)
    if bound > 0:
        axis.axvline(bound, color="0.55", linewidth=1, linestyle="--")
        axis.text(bound, 0.02, " lower bound", transform=axis.get_xaxis_transform(), fontsize=8, color="0.35")
        axis.set_xscale("log")
        low, high = axis.get_xlim()
        ticks = [digit * 10.0**power for power in range(-6, 7) for digit in (1, 2, 5)]
        shown = [tick for tick in ticks if low <= tick <= high]
        axis.set_xticks(shown, [f"{tick:g}" for tick in shown])
        axis.minorticks_off()
    axis.set_xlabel("energy: predicted loss increase (nats)")
    axis.set_ylabel(label_of(metric))
    axis.grid(axis="y", color="0.92")
    _legend(figure, {trial.solver: trial.kind for trial in measured})
    return _save(figure, folder, "accuracy-against-energy")


def _panels(count: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of panels, at most four per row; superfluous ones are hidden."""
    columns = min(4, count)
    rows = math.ceil(count / columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width * columns + 0.4, height * rows + 0.5), layout="constrained")
        axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for axis in axes[count:]:
        axis.set_visible(False)
    return figure, axes[:count]


def _energies(axis: Axes, trials: Sequence[SolverRun], bound: float) -> None:
    """Draw the median and the range of energies over the runs on one problem."""
    finite = [seconds for trial in trials for seconds, _ in trial.course]
    first, last = max(1e-4, 0.7 * min(finite)), 1.1 * max(trial.seconds for trial in trials)
    at = np.geomspace(first, max(last, 2 * first), 300)
    for solver in dict.fromkeys(trial.solver for trial in trials):
        runs = [trial for trial in trials if trial.solver == solver]
        above = np.array([_above(trial, at, bound) for trial in runs])
        look = _look(solver, runs[0].kind)
        low, middle, high = above.min(axis=0), _median(above), above.max(axis=0)
        axis.plot(at, np.where(np.isfinite(middle), middle, np.nan), **look)
        drawn = np.isfinite(high)
        axis.fill_between(at[drawn], low[drawn], high[drawn], color=look["color"], alpha=0.15, linewidth=0)
        # A solver that has ended keeps its answer until the end of the axis; a dot marks where its line begins.
        known = np.flatnonzero(np.isfinite(middle))
        if known.size:
            start = known[0]
            axis.plot(at[start], middle[start], marker=MARKERS[runs[0].kind], markersize=3.5, color=look["color"])
    axis.axhline(0, color="0.35", linewidth=1)
    axis.text(at[-1], 0, "lower bound", ha="right", va="bottom", fontsize=7.5, color="0.35")
    axis.set_xscale("log")
    axis.set_xlim(first, at[-1])
    _plain_times(axis)
    _percent_axis(axis)


def _plain_times(axis: Axes) -> None:
    """Label a logarithmic axis of seconds with plain numbers, over at least one decade so that some appear."""
    low, high = axis.get_xlim()
    if high < 12 * low:
        middle = math.sqrt(low * high)
        axis.set_xlim(middle / 3.5, middle * 3.5)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())


def _above(trial: SolverRun, at: NDArray[np.float64], bound: float) -> NDArray[np.float64]:
    """Per cent above the bound at given times; inf before the first energy."""
    seconds = np.array([second for second, _ in trial.course])
    energies = np.array([math.inf, *(energy for _, energy in trial.course)])
    excess = (energies[np.searchsorted(seconds, at, side="right")] - bound) / max(abs(bound), 1e-300)
    return np.asarray(100 * np.maximum(excess, 0.0))


def _median(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median of columns; of two middle values the upper one if either is infinite."""
    ordered = np.sort(rows, axis=0)
    n = len(ordered)
    with np.errstate(invalid="ignore"):
        return np.asarray(0.5 * (ordered[(n - 1) // 2] + ordered[n // 2]))


def _percent_axis(axis: Axes) -> None:
    """Make an axis logarithmic from `FLOOR_PERCENT` up and linear below, down to zero."""
    axis.set_yscale("symlog", linthresh=FLOOR_PERCENT, linscale=0.5)
    axis.set_ylim(bottom=0)
    top = max(axis.get_ylim()[1], 1.0)
    ticks = [0.0, *(float(10**power) for power in range(-2, 6) if 10**power <= 1.01 * top)]
    axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.set_ylim(0, 1.2 * top)
    axis.grid(axis="y", color="0.92")


def _times(axis: Axes, found: Sequence[SolverScore], *, labels: bool, order: Sequence[str] = ()) -> None:
    """Draw times to target on one problem, one row per solver; an arrow for a solver that never reached it."""
    solvers = list(order) or [score.solver for score in found]
    rows = {solver: len(solvers) - place for place, solver in enumerate(solvers)}
    for score in found:
        colour, time, row = find(score.solver).colour, score.to_target, rows[score.solver]
        if math.isfinite(time.seconds):
            high = time.high if math.isfinite(time.high) else 30 * time.seconds
            axis.plot([time.low, high], [row, row], color=colour, linewidth=1.6, solid_capstyle="butt")
            axis.plot(time.seconds, row, marker=MARKERS[score.kind], color=colour, markersize=5.5)
        else:
            axis.plot(score.seconds, row, marker=">", color=colour, markersize=5.5, fillstyle="none")
    axis.set_xscale("log")
    axis.set_ylim(0.3, len(solvers) + 0.7)
    kinds = {score.solver: score.kind for score in found}
    names = list(solvers) if order else [_label(s, kinds[s]).replace(" (", "\n(") for s in solvers]
    axis.set_yticks(list(rows.values()), names if labels else [""] * len(names))
    _plain_times(axis)
    axis.grid(axis="x", color="0.92")
    aim = found[0].target
    reference = "the bound" if aim.proven else "the best met"
    percent = 100 * (aim.energy - aim.reference) / max(abs(aim.reference), 1e-300)
    missed = "; ▷ not reached" if any(not math.isfinite(score.to_target.seconds) for score in found) else ""
    axis.set_xlabel(f"TTS99 (s) to {percent:.3g} %\nabove {reference}{missed}", fontsize=8.5)


def _look(solver: str, kind: Kind) -> dict[str, Any]:
    facts = find(solver)
    style = facts.dashes or ("--" if kind == "quantum-inspired" else "-")
    return {"color": facts.colour, "linestyle": style, "linewidth": 1.4}


def _label(solver: str, kind: Kind) -> str:
    return solver if kind == "classical" else f"{solver} ({kind})"


def _title(problem: str) -> str:
    named = {"network": "network, selection", "magnitude": "network, magnitude"}
    return named.get(problem, Path(problem).name)


def _legend(figure: Figure, kinds: Mapping[str, Kind]) -> None:
    lines = [
        Line2D([], [], **_look(solver, kind), marker=MARKERS[kind], markersize=4) for solver, kind in kinds.items()
    ]
    names = [_label(solver, kind) for solver, kind in kinds.items()]
    columns = max(2, int(figure.get_figwidth() / 2.2))
    figure.legend(lines, names, loc="outside lower center", ncols=columns, frameon=False, fontsize=8)


def _save(figure: Figure, folder: Path, name: str) -> list[Path]:
    with mpl.rc_context(STYLE):
        return save_figure(figure, folder, name)
