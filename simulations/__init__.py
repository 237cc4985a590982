"""simulations: read networks back from cells, run studies, and draw what is left."""

from simulations.readback import Spread, Trial, read_back, spread
from simulations.study import Study, Target, load_study

__all__ = ["Spread", "Study", "Target", "Trial", "load_study", "read_back", "spread"]
