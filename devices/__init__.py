"""devices: memory cells that forget a little. Cards describe them; levels are programmed, aged and read back.

>>> import devices
>>> cells = devices.program("pcm-zarcone", [0.2, 0.8], seed=0)
>>> bool(abs(cells.read(time_s=0.0) - cells.levels).max() < 0.3)
True
"""

from typing import TYPE_CHECKING, Any

from devices.cards.card import Card
from devices.cards.drift import Drift
from devices.cards.library import card_names, load_card
from devices.cards.parts import Drive, Level, Source, Stuck, Temperature, Times
from devices.cards.read_noise import ReadNoise
from devices.cards.relaxation import Relaxation
from devices.cells.cells import Cells, program
from devices.cells.drift_compensation import drift_compensation
from devices.cells.moments import Response, response
from devices.cells.weights import StoredWeights, program_weights
from devices.channel.bch import PracticalCode, practical_bits
from devices.channel.capacity import (
    Capacity,
    CapacityPoint,
    LevelsRow,
    capacity,
    capacity_study,
    reliable_bits,
    save_points,
)
from devices.check import CardCheck, check_card

if TYPE_CHECKING:
    from devices.fitting.card_text import CardLabels
    from devices.fitting.fit import Fit, fit_card
    from devices.fitting.measurements import Measurements, read_measurements
    from devices.fitting.options import FitOptions
    from devices.fitting.report import FitReport

__all__ = [
    "Capacity",
    "CapacityPoint",
    "Card",
    "CardCheck",
    "CardLabels",
    "Cells",
    "Drift",
    "Drive",
    "Fit",
    "FitOptions",
    "FitReport",
    "Level",
    "LevelsRow",
    "Measurements",
    "PracticalCode",
    "ReadNoise",
    "Relaxation",
    "Response",
    "Source",
    "StoredWeights",
    "Stuck",
    "Temperature",
    "Times",
    "capacity",
    "capacity_study",
    "card_names",
    "check_card",
    "drift_compensation",
    "fit_card",
    "load_card",
    "practical_bits",
    "program",
    "program_weights",
    "read_measurements",
    "reliable_bits",
    "response",
    "save_points",
]

_FITTING = {
    "CardLabels": "devices.fitting.card_text",
    "Fit": "devices.fitting.fit",
    "FitOptions": "devices.fitting.fit",
    "FitReport": "devices.fitting.report",
    "Measurements": "devices.fitting.measurements",
    "fit_card": "devices.fitting.fit",
    "read_measurements": "devices.fitting.measurements",
}


def __getattr__(name: str) -> Any:
    """Fitting, loaded on first use: scipy.stats alone takes longer to import than the rest of the room."""
    if name not in _FITTING:
        raise AttributeError(f"module 'devices' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_FITTING[name]), name)
