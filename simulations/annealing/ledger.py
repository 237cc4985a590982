"""The ledger of solver runs: a CSV of rows appended as they end, with the course of a run in one field."""

import csv
import io
import os
from dataclasses import fields
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args, get_type_hints

from devices.files import replacing
from qubo.solution import Kind
from simulations.annealing.trials import SolverRun

AnyRow = TypeVar("AnyRow")


class Ledger(Generic[AnyRow]):
    """Append-only CSV of rows, each a dataclass of texts, numbers, and numbers that may be missing.

    Opening it drops a last line that a killed run left half-written.

    Args:
        path: the CSV; made with its header if it is not there.
        kind: the dataclass of its rows.

    Raises:
        ValueError: the file is another kind of CSV, or a line within it is damaged.
    """

    def __init__(self, path: Path, kind: type[AnyRow]) -> None:
        self.path, self.kind = path, kind
        self.hints = get_type_hints(kind)
        self.columns = tuple(field.name for field in fields(kind))  # type: ignore[arg-type]  # a dataclass, always
        header = _line(self.columns)
        try:
            content = path.read_text() if path.exists() else ""
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: not text ({error}); move it away") from None
        whole = content[: content.rfind("\n") + 1]
        if whole and not whole.startswith(header):
            raise ValueError(f"{path}: not a ledger of these rows (its first line differs); move it away")
        if whole != content or not whole:
            with replacing(path) as temporary:
                temporary.write_text(whole or header)
        self.rows = [self._row(line) for line in csv.DictReader(io.StringIO(whole))]

    def append(self, row: AnyRow) -> None:
        """Add a row and have it on disk before returning."""
        with self.path.open("a") as file:
            file.write(_line([self.text(name, getattr(row, name)) for name in self.columns]))
            file.flush()
            os.fsync(file.fileno())
        self.rows.append(row)

    def text(self, name: str, value: Any) -> Any:
        """What the file says for the value of a field."""
        return "" if value is None else value

    def value(self, name: str, text: str) -> Any:
        """The value of a field from what the file says; ValueError where it cannot be."""
        hint = self.hints[name]
        if type(None) in get_args(hint) and text == "":
            return None
        return next(part for part in (*get_args(hint), hint) if part is not type(None))(text)

    def _row(self, line: dict[str, Any]) -> AnyRow:
        try:
            if None in line or None in line.values():
                raise ValueError
            return self.kind(**{name: self.value(name, line[name]) for name in self.columns})
        except (TypeError, ValueError):
            raise ValueError(
                f"{self.path}: the line {line} is damaged; remove it, and what it says is measured again"
            ) from None


def _line(values: Any) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(values)
    return out.getvalue()


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
