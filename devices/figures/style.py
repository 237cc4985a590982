"""The style of all figures: widths of journal columns, type legible in print, colours safe for colour blindness.

The same input gives the same bytes: the font comes with matplotlib, identifiers in SVG are salted with a constant, and
no date is written.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from devices.cards.card import Card
from devices.cards.curves import FloatArray
from devices.cards.library import as_card
from devices.files import replacing

__all__ = [
    "DOUBLE_MM",
    "ENDINGS",
    "SINGLE_MM",
    "Look",
    "below",
    "duration",
    "label_lines",
    "letter",
    "looks",
    "new_figure",
    "panels",
    "paper",
    "save",
]

SINGLE_MM = 89.0  # width of one column, and of two, in the journals of Nature and IEEE within 2 mm
DOUBLE_MM = 183.0
ENDINGS = ("png", "svg", "pdf")

# Okabe and Ito's palette for colour-blind readers (jfly.uni-koeln.de/color, 2008), without its yellow; then
# four of Tol's muted one (personal.sron.nl/~pault, 2021), for figures of many cards.
BLUE, RED, GREEN, PURPLE, ORANGE, SKY, BLACK = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
)
WINE, OLIVE, INDIGO, GREY = "#882255", "#999933", "#332288", "#888888"
COLOURS = (BLUE, RED, GREEN, PURPLE, ORANGE, SKY, BLACK, WINE, OLIVE, INDIGO, GREY)
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1.2, 1, 1.2)), (0, (7, 1.5, 1, 1.5, 1, 1.5)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
MOST_PANELS = 6
COLUMNS = 3
LABELS_FROM = 1.05  # share of the axis' width at which labels begin
SEQUENCE = (
    "viridis"  # for quantities with an order, up to SEQUENCE_END; rises in lightness for every kind of colour vision
)
SEQUENCE_END = 0.82

STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 7,
    "axes.labelsize": 7,
    "axes.titlesize": 7.5,
    "axes.titlelocation": "left",
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "grid.color": "0.9",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.2,
    "legend.fontsize": 6.5,
    "legend.title_fontsize": 6.5,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "svg.hashsalt": "physcomp",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
    "savefig.dpi": 300,
}
METADATA: dict[str, dict[str, Any]] = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}


class Look(NamedTuple):
    """Colour, dashes and marker that distinguish one card from the others in a figure."""

    colour: str
    dashes: Any
    marker: str


def looks(names: Sequence[str]) -> dict[str, Look]:
    """Choose a look for each card: variants of a card share colour and marker and differ in dashes.

    Beyond eleven families the colours are used again, with other dashes.

    >>> a, b, c = looks(["pcm-zarcone:aligned", "pcm-zarcone:one-device", "ideal"]).values()
    >>> a.colour == b.colour != c.colour, a.dashes != b.dashes
    (True, True)
    """
    families = list(dict.fromkeys(name.partition(":")[0] for name in names))
    taken = dict.fromkeys(families, 0)
    found = {}
    for name in names:
        family = name.partition(":")[0]
        turn, colour = divmod(families.index(family), len(COLOURS))
        found[name] = Look(COLOURS[colour], DASHES[(turn + taken[family]) % len(DASHES)], MARKERS[colour])
        taken[family] += 1
    return found


def paper() -> AbstractContextManager[None]:
    """Context manager that applies the style and restores the caller's settings afterwards."""
    settings: dict[Any, Any] = {key: value for key, value in mpl.rcParamsDefault.items() if key != "backend"}
    settings.update(STYLE)
    context: AbstractContextManager[None] = mpl.rc_context(settings)
    return context


def new_figure(width_mm: float, height_mm: float) -> Figure:
    """Make an empty figure of a size in print, in millimetres."""
    return Figure(figsize=(width_mm / 25.4, height_mm / 25.4), layout="constrained")


def save(figure: Figure, folder: Path | str, name: str) -> list[Path]:
    """Write the figure as PNG (300 dpi), SVG and PDF; no file is ever half written.

    Raises:
        OSError: the folder cannot be made or written.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    paths = [target / f"{name}.{ending}" for ending in ENDINGS]
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out once, so alike in every format
    for path in paths:
        ending = path.suffix[1:]
        with replacing(path) as temporary:
            figure.savefig(temporary, format=ending, metadata=METADATA[ending])
    return paths


def panels(
    cards: Sequence[Card | str], what: str, *, row_mm: float, heights: Sequence[float] = (1.0,)
) -> tuple[Figure, list[tuple[Card, list[Axes]]]]:
    """Make a figure with one lettered column of axes for each card, three cards in a row.

    A single card takes the width of one journal column, without a letter.

    Args:
        cards: 1 to 6.
        what: the figure's name, for the error.
        row_mm: height of a row of cards.
        heights: of the axes of one card, from above, as shares. Axes beside each other share their y.

    Raises:
        ValueError: unknown card, none, or more than 6.
    """
    found = [as_card(card) for card in cards]
    if not 1 <= len(found) <= MOST_PANELS:
        raise ValueError(f"{what}: from 1 to {MOST_PANELS} cards a figure, not {len(found)}: draw them in parts")
    columns = min(COLUMNS, len(found))
    rows, each = -(-len(found) // columns), len(heights)
    figure = new_figure(SINGLE_MM if columns == 1 else DOUBLE_MM, 14 + row_mm * rows)
    grid = figure.subplots(each * rows, columns, squeeze=False, height_ratios=[*heights] * rows, sharey="row")
    taken = []
    for number in range(rows * columns):
        row, column = divmod(number, columns)
        own = list(grid[each * row : each * (row + 1), column])
        if number < len(found):
            taken.append((found[number], own))
        else:
            for axis in own:
                axis.axis("off")
        if 1 < len(found) > number:
            letter(own[0], "abcdef"[number])
    return figure, taken


def letter(axis: Axes, character: str) -> None:
    """Write the bold letter of a panel outside its upper left corner."""
    axis.annotate(
        character,
        (0.0, 1.0),
        xycoords="axes fraction",
        xytext=(-20, 7),
        textcoords="offset points",
        fontsize=8.5,
        fontweight="bold",
        va="center",
        ha="right",
    )


def duration(seconds: float) -> str:
    """Format a time in its largest unit of s, h, days and years.

    >>> [duration(s) for s in (0.0, 20.0, 3600.0, 86400.0, 31536000.0)]
    ['0 s', '20 s', '1 h', '1 day', '1 year']
    """
    for unit, length in (("year", 31_536_000.0), ("day", 86_400.0), ("h", 3600.0)):
        count = seconds / length
        if count >= 1.0:
            return f"{count:.3g} {unit}" + ("s" if unit != "h" and count != 1.0 else "")
    return f"{seconds:.3g} s"


def apart(wanted: Sequence[float], gap: float) -> FloatArray:
    """Move positions at least `gap` apart, in their order and as little as possible: for labels of lines.

    >>> apart([1.0, 1.1, 5.0], 1.0).tolist()
    [0.55, 1.55, 5.0]
    """
    order = np.argsort(np.asarray(wanted, dtype=np.float64), kind="stable")
    blocks: list[list[float]] = []  # centre of the first label that suits a block best, and its number of labels
    for place, index in enumerate(order):
        blocks.append([wanted[index] - place * gap, 1.0])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:  # isotonic regression, pooling neighbours
            (first, one), (second, other) = blocks[-2:]
            blocks[-2:] = [[(first * one + second * other) / (one + other), one + other]]
    centres = np.repeat([block[0] for block in blocks], [int(block[1]) for block in blocks])
    placed = np.empty(len(order))
    placed[order] = centres + gap * np.arange(len(order))
    return placed


def label_lines(axis: Axes, ends: Sequence[tuple[float, str, Look]], *, points: float = 7.5) -> None:
    """Write labels beside the right edge, each at the height where its line ends, without overlaps.

    Args:
        axis: with its final limits and size.
        ends: (y in data, text, look) a line.
        points: height of a label.
    """
    transform = axis.transData
    low, high = axis.get_ylim()
    bottom, top = (float(transform.transform((1.0, y))[1]) for y in (low, high))
    shares = [(float(transform.transform((1.0, y))[1]) - bottom) / (top - bottom) for y, _, _ in ends]
    figure = axis.get_figure(root=True)
    assert figure is not None
    gap = points / 72.0 * figure.dpi / (top - bottom)
    places = apart(shares, gap)
    if len(places):  # keep them beside the axis where they fit
        places -= max(0.0, float(places.max()) - 1.0)
        places += max(0.0, -float(places.min())) if len(ends) * gap < 1.0 else 0.0
    for (_, text, look), share, place in zip(ends, shares, places, strict=True):
        axis.annotate(
            text,
            (1.0, share),
            xycoords="axes fraction",
            xytext=(LABELS_FROM, place),
            textcoords="axes fraction",
            color=look.colour,
            fontsize=6.5,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": look.colour,
                "linestyle": look.dashes,
                "linewidth": 0.7,
                "shrinkA": 1,
                "shrinkB": 1,
                "relpos": (0.0, 0.5),
            },
        )


def below(label: str, left_out: Sequence[Card], time_s: float | None, *, width: int) -> str:
    """The label of an axis, and below it the cards left out, since they do not hold at `time_s`, wrapped at `width`."""
    if not left_out or time_s is None:
        return label
    names = f"not known at {duration(time_s)}: {', '.join(card.name for card in left_out)}"
    return "\n".join([label, *textwrap.wrap(names, width, break_on_hyphens=False)])
