"""The common style of figures of studies: colours, and how files are written."""

from pathlib import Path

from matplotlib.figure import Figure

from devices.files import replacing

# The palette of Okabe and Ito, which the colour-blind can distinguish (jfly.uni-koeln.de/color, 2008).
BLACK, ORANGE, SKY, GREEN, BLUE, RED, PURPLE = (
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
)


def save_figure(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write a figure as PNG and SVG, with the same bytes for the same input; returns the paths written."""
    paths = []
    for ending, options in (("png", {"dpi": 160}), ("svg", {"metadata": {"Date": None}})):
        path = folder / f"{name}.{ending}"
        with replacing(path) as temporary:
            figure.savefig(temporary, **options)
        paths.append(path)
    return paths
