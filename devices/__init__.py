"""devices: memory cells that forget a little. Cards describe them; levels are programmed, aged and read back.

>>> import devices
>>> cells = devices.program("pcm-zarcone", [0.2, 0.8], seed=0)
>>> bool(abs(cells.read(time_s=0.0) - cells.levels).max() < 0.3)
True
"""

from typing import TYPE_CHECKING, Any

from devices.bch import PracticalCode, practical_bits
from devices.capacity import Capacity, CapacityPoint, LevelsRow, capacity, capacity_study, reliable_bits, save_points
from devices.card import Card
from devices.cells import Cells, program
from devices.check import CardCheck, check_card
from devices.compensation import drift_compensation
from devices.drift import Drift
from devices.library import card_names, load_card
from devices.parts import Drive, Level, Source, Stuck, Temperature, Times
from devices.read_noise import ReadNoise
from devices.relaxation import Relaxation
from devices.response import Response, response
from devices.weights import StoredWeights, program_weights

if TYPE_CHECKING:
    from devices.fitting.fit import Fit, FitOptions, fit_card
    from devices.fitting.measurements import Measurements, read_measurements
    from devices.fitting.report import FitReport
    from devices.fitting.text import CardLabels

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
    "CardLabels": "devices.fitting.text",
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
