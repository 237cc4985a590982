"""The ledger of a run: rows appended to a CSV as they end, so that a killed run resumes where it stopped."""

import csv
import io
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args, get_type_hints

from devices.files import replacing


@dataclass(frozen=True)
class Row:
    """One trial of one plan.

    Args:
        card: name of the card with its variant.
        read_time_s: time of the read in seconds since programming.
        method: what made the plan.
        budget: cells per weight it was allowed; empty for a fixed plan.
        cells_per_weight: what it takes, all overheads counted.
        plan: the first twelve hex digits of its fingerprint.
        trial: number of the chip, from 0.
        seed: of its programming.
        loss: mean cross-entropy in nats.
        accuracy: share of images classified as labelled.

    It holds nothing that differs between two runs of the same study, such as seconds.
    """

    card: str
    read_time_s: float
    method: str
    budget: float | None
    cells_per_weight: float
    plan: str
    trial: int
    seed: int
    loss: float
    accuracy: float

    @property
    def key(self) -> tuple[str, float, str, str, int]:
        """What makes a line the same line."""
        return self.card, self.read_time_s, self.method, self.plan, self.trial


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
