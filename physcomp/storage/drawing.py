"""Parts of drawings for notebooks: tables, stacked bars and histograms as plain HTML and SVG, with all text escaped.

Everything is well-formed XML without scripts and links. Text takes the colour of the page around it.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import ArrayLike

WIDTH, LABEL, HEIGHT = 640, 200, 18  # of a bar and of the label before it, in pixels
FONT = "font-family:sans-serif;font-size:12px;"
CELL = "padding:1px 8px;text-align:"
# Hue and saturation by the first word of a code's name: shades of one hue are codes of one kind. Our choice.
HUES = {
    "pruned": (0, 0), "digital": (210, 70), "coded": (235, 60), "codebook": (260, 50), "float32": (0, 0),
    "sparse": (140, 50), "analog": (32, 85), "hybrid": (345, 60), "mixed": (310, 45),
}  # fmt: skip
OTHER_HUE = (180, 40)
# The palette of Okabe and Ito without black, which the colour-blind can distinguish (jfly.uni-koeln.de/color, 2008).
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")


def page(title: str, *parts: str) -> str:
    """Parts below each other, with a title."""
    return f'<div style="{FONT}line-height:1.5"><b>{escape(title)}</b>{"".join(parts)}</div>'


def lines(texts: Iterable[str]) -> str:
    """Lines of text."""
    return "".join(f"<div>{escape(text)}</div>" for text in texts)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], left: int) -> str:
    """A table that scrolls if it is long; the first `left` columns are text, the others numbers."""

    def cells(row: Sequence[str], tag: str) -> str:
        sides = ["left" if column < left else "right" for column in range(len(row))]
        made = zip(row, sides, strict=True)
        return "".join(f'<{tag} style="{CELL}{side};white-space:nowrap">{escape(text)}</{tag}>' for text, side in made)

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return (
        '<div style="max-height:32em;overflow:auto;margin:6px 0">'
        f'<table style="border-collapse:collapse;font-size:inherit"><thead><tr>{cells(head, "th")}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def colours_of_codes(names: Sequence[str]) -> dict[str, str]:
    """A colour for each code: shades of one hue for those of one kind, darker from the first to the last."""
    kinds = [name.partition("(")[0] for name in names]
    found = {}
    for place, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        hue, saturation = HUES.get(kind, OTHER_HUE)
        count, rank = kinds.count(kind), kinds[:place].count(kind)
        lightness = 60.0 if count == 1 else 80 - 45 * rank / (count - 1)
        found[name] = f"hsl({hue},{saturation}%,{lightness:.0f}%)"
    return found


def colours_of(names: Iterable[str]) -> dict[str, str]:
    """A colour for each of a few names."""
    return {name: PALETTE[place % len(PALETTE)] for place, name in enumerate(names)}


def stacked(bars: Sequence[tuple[str, Mapping[str, float]]], colours: Mapping[str, str]) -> str:
    """Bars of equal length, each split into shares, with a legend of the names that occur.

    Args:
        bars: label of each bar, and its shares by name, which add up to 1.
        colours: the colour of each name; the order of the names is that of the colours.
    """
    drawn = []
    for number, (label, shares) in enumerate(bars):
        top, start = number * (HEIGHT + 3), float(LABEL)
        drawn.append(
            f'<text x="{LABEL - 6}" y="{top + 13}" text-anchor="end" fill="currentColor">{escape(label)}</text>'
        )
        for name in colours:
            if share := shares.get(name, 0.0):
                drawn.append(
                    f'<rect x="{start:.2f}" y="{top}" width="{share * WIDTH:.2f}" height="{HEIGHT}" '
                    f'fill="{colours[name]}"><title>{escape(f"{label}: {name} {share:.1%}")}</title></rect>'
                )
                start += share * WIDTH
    return _svg(drawn, len(bars) * (HEIGHT + 3)) + _legend(
        {name: colour for name, colour in colours.items() if any(shares.get(name) for _, shares in bars)}
    )


def histogram(series: Mapping[str, ArrayLike], label: str, bins: int = 60, height: int = 90) -> str:
    """Histograms of several sets of numbers, mostly between 0 and 1, over one axis, with a legend.

    Each is as tall as the drawing at its highest bin.
    """
    arrays = {name: np.asarray(values, np.float64).ravel() for name, values in series.items()}
    low = min(0.0, *(float(values.min()) for values in arrays.values()))
    high = max(1.0, *(float(values.max()) for values in arrays.values()))
    edges = np.linspace(low, high, bins + 1)
    colours, drawn = colours_of(arrays), []
    for name, values in arrays.items():
        counts = np.histogram(values, edges)[0]
        for place, count in enumerate(counts):
            if count:
                tall = max(1.0, height * count / counts.max())
                drawn.append(
                    f'<rect x="{LABEL + place * WIDTH / bins:.2f}" y="{height - tall:.2f}" '
                    f'width="{WIDTH / bins:.2f}" height="{tall:.2f}" fill="{colours[name]}" fill-opacity="0.6">'
                    f"<title>{escape(name)}: {count}</title></rect>"
                )
    drawn.append(f'<line x1="{LABEL}" x2="{LABEL + WIDTH}" y1="{height}" y2="{height}" stroke="currentColor"></line>')
    drawn.append(f'<text x="{LABEL - 6}" y="{height}" text-anchor="end" fill="currentColor">{escape(label)}</text>')
    for value in (0.0, 0.5, 1.0):
        x = LABEL + WIDTH * (value - low) / (high - low)
        drawn.append(f'<text x="{x:.1f}" y="{height + 14}" text-anchor="middle" fill="currentColor">{value:g}</text>')
    return _svg(drawn, height + 20) + _legend(colours)


def _svg(parts: Iterable[str], height: int) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LABEL + WIDTH + 20}" height="{height}" '
        f'style="display:block;margin-top:6px;{FONT}">{"".join(parts)}</svg>'
    )


def _legend(colours: Mapping[str, str]) -> str:
    box = "display:inline-block;width:10px;height:10px;margin:0 4px 0 0"
    entries = "".join(
        f'<span style="margin-right:14px;white-space:nowrap"><span style="{box};background:{colour}"></span>'
        f"{escape(name)}</span>"
        for name, colour in colours.items()
    )
    return f'<div style="margin:2px 0 8px {LABEL}px;max-width:{WIDTH}px">{entries}</div>'
