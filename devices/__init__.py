"""devices: memory cells that forget a little. Cards describe them; levels are programmed, aged and read back.

>>> import devices
>>> cells = devices.program("pcm-zarcone", [0.2, 0.8], seed=0)
>>> bool(abs(cells.read(time_s=0.0) - cells.levels).max() < 0.3)
True
"""

from devices.capacity import Capacity, LevelsRow, capacity, reliable_bits
from devices.card import Card
from devices.cells import Cells, program
from devices.library import card_names, load_card
from devices.parts import Drift, Drive, Level, ReadNoise, Source
from devices.response import Response, response

__all__ = [
    "Capacity",
    "Card",
    "Cells",
    "Drift",
    "Drive",
    "Level",
    "LevelsRow",
    "ReadNoise",
    "Response",
    "Source",
    "capacity",
    "card_names",
    "load_card",
    "program",
    "reliable_bits",
    "response",
]
