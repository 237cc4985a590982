"""Figures of device cards, ready for print: level response, noise of all cards, drift over time, capacity.

Each function draws one figure and writes it as PNG, SVG and PDF in one style (`devices.figures.style`). Points and
bands of quantiles come from simulated cells, lines called "closed form" from `devices.cells.moments`, so that a figure
shows whether the two agree.

>>> import tempfile
>>> with tempfile.TemporaryDirectory() as folder:
...     [path.name for path in noise_atlas(["pcm-zarcone"], folder)]
['noise-atlas.png', 'noise-atlas.svg', 'noise-atlas.pdf']
"""

from devices.figures.atlas import noise_atlas
from devices.figures.capacity import capacity_against_levels, capacity_against_time
from devices.figures.drift import drift_fan
from devices.figures.response import NoiseParts, level_response, noise_parts

__all__ = [
    "NoiseParts",
    "capacity_against_levels",
    "capacity_against_time",
    "drift_fan",
    "level_response",
    "noise_atlas",
    "noise_parts",
]
