"""The ledger of solver runs: appended to a CSV as they end, so that a killed experiment resumes where it stopped."""

import csv
import io
import os
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

from devices.files import replacing
from qubo.experiment import Trial
from qubo.solution import Kind

COLUMNS = tuple(field.name for field in fields(Trial))
NUMBERS: dict[str, type] = {"size": int, "repeat": int, "seed": int, "evaluations": int}
TEXTS = ("problem", "family", "solver", "kind")


class RunLedger:
    """Append-only CSV of solver runs, one a line; the course as "seconds:energy" pairs, blanks between.

    Opening it drops a last line that a killed experiment left half-written.

    Args:
        path: the CSV; made with its header if it is not there.

    Raises:
        ValueError: the file is another kind of CSV, or a line within it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        header = _line(COLUMNS)
        try:
            content = path.read_text() if path.exists() else ""
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: not text ({error}); move it away") from None
        whole = content[: content.rfind("\n") + 1]
        if whole and not whole.startswith(header):
            raise ValueError(f"{path}: not a ledger of solver runs (its first line differs); move it away")
        if whole != content or not whole:
            with replacing(path) as temporary:
                temporary.write_text(whole or header)
        self.trials = [_trial(path, line) for line in csv.DictReader(io.StringIO(whole))]

    def append(self, trial: Trial) -> None:
        """Add a run and have it on disk before returning."""
        values = [_text(name, getattr(trial, name)) for name in COLUMNS]
        with self.path.open("a") as file:
            file.write(_line(values))
            file.flush()
            os.fsync(file.fileno())
        self.trials.append(trial)


def _text(name: str, value: Any) -> str:
    if name == "course":
        return " ".join(f"{seconds:.6g}:{energy!r}" for seconds, energy in value)
    return "" if value is None else str(value)


def _value(name: str, text: str) -> Any:
    if name == "course":
        pairs = (pair.split(":") for pair in text.split())
        return tuple((float(seconds), float(energy)) for seconds, energy in pairs)
    if name in TEXTS:
        if not text or (name == "kind" and text not in get_args(Kind)):
            raise ValueError
        return text
    if name in NUMBERS:
        return int(text)
    if not text and name in ("feasible_before_repair", "accuracy", "loss"):
        return None
    return float(text)


def _trial(path: Path, line: dict[str, Any]) -> Trial:
    try:
        if None in line or None in line.values():
            raise ValueError
        return Trial(**{name: _value(name, line[name]) for name in COLUMNS})
    except (TypeError, ValueError):
        shown = {name: line.get(name) for name in ("problem", "solver", "repeat")}
        raise ValueError(f"{path}: the line of {shown} is damaged; remove it, and it is measured again") from None


def _line(values: Any) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(values)
    return out.getvalue()
