"""The ledger of solver runs: as other ledgers, with the course of a run in one field."""

from pathlib import Path
from typing import Any, get_args

from qubo.solution import Kind
from simulations.annealing.trials import SolverRun
from simulations.runs.ledger import Ledger


class RunLedger(Ledger[SolverRun]):
    """Append-only CSV of solver runs, one a line; the course as "seconds:energy" pairs, blanks between."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, SolverRun)

    def text(self, name: str, value: Any) -> Any:
        """What the file says for the value of a field."""
        if name == "course":
            return " ".join(f"{seconds:.6g}:{energy!r}" for seconds, energy in value)
        return super().text(name, value)

    def value(self, name: str, text: str) -> Any:
        """The value of a field from what the file says; ValueError where it cannot be."""
        if name == "course":
            pairs = (pair.split(":") for pair in text.split())
            return tuple((float(seconds), float(energy)) for seconds, energy in pairs)
        if name == "kind" or not text:
            if name in ("problem", "family", "solver") or (name == "kind" and text not in get_args(Kind)):
                raise ValueError
            return text if name == "kind" else super().value(name, text)
        return super().value(name, text)
