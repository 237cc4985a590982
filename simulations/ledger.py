"""The ledger of a run: trials appended to a CSV as they end, so that a killed run resumes where it stopped."""

import csv
import io
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

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


COLUMNS = tuple(field.name for field in fields(Row))


class Ledger:
    """Append-only CSV of rows.

    Opening it drops a last line that a killed run left half-written.

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
            raise ValueError(f"{path}: not a ledger of trials (its first line differs); move it away")
        if whole != content or not whole:
            with replacing(path) as temporary:
                temporary.write_text(whole or header)
        self.rows = [_row(path, line) for line in csv.DictReader(io.StringIO(whole))]

    def append(self, row: Row) -> None:
        """Add a row and have it on disk before returning."""
        values = asdict(row)
        with self.path.open("a") as file:
            file.write(_line(["" if values[name] is None else values[name] for name in COLUMNS]))
            file.flush()
            os.fsync(file.fileno())
        self.rows.append(row)


def _row(path: Path, line: dict[str, Any]) -> Row:
    try:
        if None in line:
            raise ValueError
        return Row(
            card=line["card"],
            read_time_s=float(line["read_time_s"]),
            method=line["method"],
            budget=float(line["budget"]) if line["budget"] else None,
            cells_per_weight=float(line["cells_per_weight"]),
            plan=line["plan"],
            trial=int(line["trial"]),
            seed=int(line["seed"]),
            loss=float(line["loss"]),
            accuracy=float(line["accuracy"]),
        )
    except (TypeError, ValueError):
        raise ValueError(f"{path}: the line {line} is damaged; remove it, and its trial is measured again") from None


def _line(values: Any) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(values)
    return out.getvalue()
