"""simulations: read networks back from cells, run studies, and draw what is left."""

from simulations.runs.readback import Spread, Trial, read_back, spread
from simulations.runs.study import Study, Target, load_study

__all__ = ["Spread", "Study", "Target", "Trial", "load_study", "read_back", "spread"]
