"""Level response: figures of the mean read against the level written, and of the parts of its noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from devices.cards.card import Card
from devices.cards.curves import FloatArray
from devices.cards.library import as_card
from devices.cells.cells import program
from devices.cells.moments import response
from devices.figures.style import BLACK, BLUE, COLUMNS, GREEN, ORANGE, RED, below, duration, panels, paper, save
from devices.figures.times import split_by_time

__all__ = ["NoiseParts", "level_response", "noise_parts"]

GRID_LEVELS = 41
PARTS_SHOWN = (
    "mean read",
    "± 1 sd",
    "± 2 sd",
    "read = written",
    "total sd, closed form",
    "programming",
    "drift, relaxation",
    "read noise",
)
X_LIMITS = (-0.02, 1.02)
CELLS_A_BIN = 500
READS = 16  # reads of the same cells, which separate read noise from what a cell keeps


class NoiseParts(NamedTuple):
    """Mean of a read and the parts of its standard deviation, in levels, shape (levels,) each.

    The squares of `programming`, `drift` and `read` add up to that of `total`.
    """

    mean: FloatArray
    total: FloatArray
    programming: FloatArray
    drift: FloatArray
    read: FloatArray


def noise_parts(
    card: Card | str, levels: Sequence[float] | FloatArray, time_s: float, *, cells: int = 20_000, seed: int = 0
) -> NoiseParts:
    """Split the spread of a read into its parts: programming, drift that differs between cells, and read noise.

    Cells are simulated and read 16 times at one time. Read noise is the variance between reads of one cell, together
    with the slow part of 1/f noise that all its reads share (as the card states). Of the variance between the means of
    cells, the part that depends on the programmed level counts as programming, and the rest as drift or relaxation that
    differs from cell to cell. On a card that states only the correlation of reads, all that reads of a cell share
    counts as programming.

    Args:
        card: a card, or the name or path of one.
        levels: targets in [0, 1], shape (levels,).
        time_s: seconds since the reference read.
        cells: simulated a level; a part is accurate to 1/√(2 cells), 0.5 % at 20,000. Smaller drift is given as 0.
        seed: of the cells.

    Raises:
        ValueError: unknown card, level or time outside its range.

    >>> parts = noise_parts("pcm-zarcone", [0.5], 0.0)
    >>> parts.drift.tolist(), bool(abs(parts.total[0] - 0.0567) < 0.001)
    ([0.0], True)
    """
    device, targets = as_card(card), np.asarray(levels, dtype=np.float32)
    bins = max(1, cells // CELLS_A_BIN)
    chip = program(device, np.repeat(targets, cells), seed=seed)
    shape = (len(targets), cells)
    start = chip.programmed.reshape(shape).astype(np.float64)
    reads = np.stack([chip.read(time_s=time_s, read=k).reshape(shape) for k in range(READS)]).astype(np.float64)
    own = reads.mean(axis=0)
    fresh = reads.var(axis=0, ddof=1).mean(axis=1)
    kept = np.maximum(own.var(axis=1) - fresh / READS, 0.0)
    if device.drift is None and device.relaxation is None and device.read_noise is None:
        programming, drift, read = kept, np.zeros_like(kept), fresh
    else:
        common = device.read_noise.common(time_s + device.t0_s) if device.read_noise else 0.0
        read = fresh / (1.0 - common)
        rest = _unexplained(own, start, bins)
        programming = np.maximum(own.var(axis=1) - rest, 0.0)
        drift = kept - programming - common * read
        chance = 4.0 * math.sqrt(2.0 / cells) * rest + 1e-6 * own.var(axis=1)  # four errors, and rounding
        drift[drift < chance] = 0.0
    total = programming + drift + read
    return NoiseParts(own.mean(axis=1), *(np.sqrt(part) for part in (total, programming, drift, read)))


def _unexplained(y: FloatArray, x: FloatArray, bins: int) -> FloatArray:
    """Variance of y, row by row, that x does not explain: about a straight line in each of `bins` equal bins of x."""
    order = np.argsort(x, axis=1, kind="stable")
    pieces = [np.take_along_axis(array, order, axis=1) for array in (y, x)]
    rest: FloatArray = np.zeros(len(y))
    for part_y, part_x in zip(*(np.array_split(piece, bins, axis=1) for piece in pieces), strict=True):
        about_y, about_x = (part - part.mean(axis=1, keepdims=True) for part in (part_y, part_x))
        square = (about_x**2).sum(axis=1)
        slope = np.divide((about_x * about_y).sum(axis=1), square, out=np.zeros(len(y)), where=square > 0.0)
        rest += ((about_y - slope[:, None] * about_x) ** 2).sum(axis=1)
    return np.asarray(rest / max(1, y.shape[1] - 2 * bins), dtype=np.float64)  # a line takes two of each bin


def level_response(
    cards: Sequence[Card | str],
    folder: Path | str,
    *,
    time_s: float | None = None,
    cells: int = 20_000,
    seed: int = 0,
    name: str = "level-response",
) -> list[Path]:
    """Draw the mean read against the level written with bands of 1 and 2 sd, and below it the parts of the noise.

    Args:
        cards: 1 to 6 cards, a pair of panels each.
        folder: made if need be.
        time_s: seconds since the reference read; None for the earliest each card holds at. Cards that do not
            hold at this time are named below the figure instead of drawn.
        cells: simulated a level for the parts of the noise.
        seed: of these cells.
        name: of the files, without ending.

    Raises:
        ValueError: unknown card, more than 6, or none that holds at the time.
    """
    timed, left_out = split_by_time([as_card(card) for card in cards], time_s)
    with paper():
        figure, drawn = panels([card for card, _ in timed], "level response", row_mm=80.0, heights=(1.5, 1.0))
        for (card, at), (_, (upper, lower)) in zip(timed, drawn, strict=True):
            _mean_and_bands(upper, card, at)
            _parts(lower, card, at, cells, seed)
        for _, (upper, lower) in drawn[::COLUMNS]:
            lower.set_ylim(0, None)
            upper.set_ylabel("mean read (level)")
            lower.set_ylabel("sd (% of range read)")
        if len(drawn) == 1:
            _in_unit(drawn[0][1][0], drawn[0][0])
        handles = _once([axis for _, axes in drawn for axis in axes])
        columns, width = (3, 60) if len(drawn) == 1 else (4, 120)
        note = below("", left_out, time_s, width=width).strip()
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns, title=note or None)
        return save(figure, folder, name)


def _once(axes: Sequence[Axes]) -> dict[str, Any]:
    """Labels and handles of everything drawn, each once."""
    found: dict[str, Any] = {}
    for axis in axes:
        handles, labels = axis.get_legend_handles_labels()
        found = dict(zip(labels, handles, strict=True)) | found
    return {label: found[label] for label in PARTS_SHOWN if label in found}


def _in_unit(axis: Axes, card: Card) -> None:
    """Add a second scale for the read, in the unit of the device."""
    level = card.level
    span = level.at_1 - level.at_0

    def in_unit(x: Any) -> Any:
        return level.at_0 + span * x

    def in_levels(value: Any) -> Any:
        return (value - level.at_0) / span

    second = axis.secondary_yaxis("right", functions=(in_unit, in_levels))
    second.set_ylabel(f"{level.quantity} ({level.unit})" if level.unit != "1" else level.quantity)


def _mean_and_bands(axis: Axes, card: Card, time_s: float) -> None:
    """Bands over all levels, or bars at the few levels of a card that has only these."""
    x = np.array(card.written_levels) if card.written_levels else np.linspace(0.0, 1.0, 401)
    seen = response(card, time_s)
    mean, sd = seen.mean(x), np.sqrt(seen.variance(x))
    axis.plot([0, 1], [0, 1], color="0.6", linewidth=0.6, linestyle=(0, (4, 3)), label="read = written")
    if card.written_levels:
        axis.vlines(x, mean - 2 * sd, mean + 2 * sd, color=BLUE, alpha=0.3, linewidth=4, label="± 2 sd")
        axis.vlines(x, mean - sd, mean + sd, color=BLUE, alpha=0.5, linewidth=4, label="± 1 sd")
        axis.plot(x, mean, "o", color=BLUE, markersize=2, label="mean read")
    else:
        axis.fill_between(x, mean - 2 * sd, mean + 2 * sd, color=BLUE, alpha=0.18, linewidth=0, label="± 2 sd")
        axis.fill_between(x, mean - sd, mean + sd, color=BLUE, alpha=0.32, linewidth=0, label="± 1 sd")
        axis.plot(x, mean, color=BLUE, label="mean read")
    axis.set_title(f"{card.name}, {duration(time_s)}")
    axis.set_xlim(*X_LIMITS)
    axis.tick_params(labelbottom=False)


def _parts(axis: Axes, card: Card, time_s: float, cells: int, seed: int) -> None:
    """The sd in closed form, and its parts from simulated cells."""
    seen = response(card, time_s)
    scale = 100.0 / (seen.high - seen.low)
    few = np.array(card.written_levels)
    x, levels = (few, few) if few.size else (np.linspace(0.0, 1.0, 401), np.linspace(0.0, 1.0, GRID_LEVELS))
    dashes: dict[str, Any] = {"marker": "_", "markersize": 8} if few.size else {}
    axis.plot(x, scale * np.sqrt(seen.variance(x)), color=BLACK, label="total sd, closed form", **dashes)
    parts = noise_parts(card, levels, time_s, cells=cells, seed=seed)
    for part, colour, marker, label in (
        (parts.programming, ORANGE, "o", "programming"),
        (parts.drift, GREEN, "s", "drift, relaxation"),
        (parts.read, RED, "^", "read noise"),
    ):
        if part.any():
            axis.plot(levels, scale * part, color=colour, marker=marker, markersize=2, linewidth=0.8, label=label)
    axis.set_xlabel("level written")
    axis.set_xlim(*X_LIMITS)
    axis.grid(axis="y")
