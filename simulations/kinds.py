"""The kinds of studies. A new kind is one file, and one entry here."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simulations.annealing.study import Annealing
from simulations.calibration.study import Calibration
from simulations.comparison.footprint import Footprint
from simulations.comparison.networks import Networks
from simulations.comparison.protection import Protection
from simulations.comparison.storage import Storage
from simulations.runs import engine, study
from simulations.runs.engine import Run
from simulations.runs.kind import Kind
from simulations.runs.progress import Progress
from simulations.runs.study import Study

Kinds = Mapping[str, type[Kind[Any, Any]]]
KINDS: Kinds = {
    "storage": Storage,
    "protection": Protection,
    "footprint": Footprint,
    "networks": Networks,
    "calibration": Calibration,
    "annealing": Annealing,
}


def load_study(path: Path | str, *, quick: bool = False, kinds: Kinds = KINDS) -> Study:
    """Read and check a study file of any kind; see `simulations.runs.study.load_study`."""
    return study.load_study(path, {name: kind.model for name, kind in kinds.items()}, quick=quick)


def run_study(
    asked: Study, folder: Path, progress: Progress | None = None, *, fresh: bool = False, kinds: Kinds = KINDS
) -> Run:
    """Run a study of any kind; see `simulations.runs.engine.run_study`."""
    return engine.run_study(kinds[asked.kind], asked, folder, progress or Progress(), fresh=fresh)
