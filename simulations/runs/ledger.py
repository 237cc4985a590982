"""The ledger of a run: trials appended to a CSV as they end, so that a killed run resumes where it stopped.

Format 2 (`FORMAT`), UTF-8, CSV as of RFC 4180 with a line feed at the end of each line:
    first line     the names of the columns: those of the study's kind, then `metrics`
    further lines  one trial each: texts as they are, numbers so that they read back exactly, nothing where a number is
                   missing; last, what was found, a JSON object by name of metric
A line counts once its line feed is on disk, which `append` waits for. What follows the last line feed was half-written
by a killed run and is dropped when the file is opened. A new metric is a new name in the JSON object: older ledgers
stay readable. A change of what is said here is a new number, and runs of other formats are refused (`runs.claim`).
"""

import csv
import io
import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args, get_type_hints

import polars as pl

from devices.files import replacing

FORMAT = 2
METRICS = "metrics"
TYPES = {str: pl.String, int: pl.Int64, float: pl.Float64}

Key = TypeVar("Key", bound=tuple[Any, ...])


@dataclass(frozen=True)
class Entry(Generic[Key]):
    """One trial of a study.

    Args:
        key: what was measured, a named tuple; no two trials of a ledger have the same key.
        metrics: the results by name: numbers, or other values that JSON can hold.

    It has no values that differ between two runs of the same study, such as seconds, unless the study is about them.
    """

    key: Key
    metrics: Mapping[str, Any]


class Ledger(Generic[Key]):
    """Append-only CSV of trials, in the format above.

    Args:
        path: the CSV file; it is made with its first line if it is missing.
        key: the named tuple of its keys, with fields of type `str`, `int`, `float`, or one of these or None.

    Raises:
        ValueError: the file is another kind of CSV, or a line within it is damaged.
    """

    def __init__(self, path: Path, key: type[Key]) -> None:
        self.path = path
        self.key: Any = key
        self.types = {name: _type(hint) for name, hint in get_type_hints(key).items()}
        header = _line((*self.types, METRICS))
        try:
            content = path.read_text() if path.exists() else ""
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: not text ({error}); move it away") from None
        whole = content[: content.rfind("\n") + 1]
        if whole and not whole.startswith(header):
            raise ValueError(f"{path}: not a ledger of these trials (its first line differs); move it away")
        if whole != content or not whole:
            with replacing(path) as temporary:
                temporary.write_text(whole or header)
        self.entries = [self._entry(line) for line in csv.DictReader(io.StringIO(whole))]

    def append(self, entry: Entry[Key]) -> None:
        """Add a trial; it is on disk when this returns."""
        values = ("" if value is None else value for value in entry.key)
        with self.path.open("a") as file:
            file.write(_line((*values, json.dumps(entry.metrics))))
            file.flush()
            os.fsync(file.fileno())
        self.entries.append(entry)

    def frame(self, wanted: Collection[Key]) -> pl.DataFrame:
        """A table of the trials wanted, in the order of the ledger: the fields of the key, then the metrics."""
        entries = [entry for entry in self.entries if entry.key in wanted]
        schema = {name: TYPES[kind] for name, (kind, _) in self.types.items()}
        keys = pl.DataFrame([tuple(entry.key) for entry in entries], schema=schema, orient="row")
        return pl.concat(
            [keys, pl.DataFrame([dict(entry.metrics) for entry in entries], infer_schema_length=None)], how="horizontal"
        )

    def _entry(self, line: dict[str, Any]) -> Entry[Key]:
        try:
            if None in line or None in line.values():
                raise ValueError
            values = (
                None if missing and line[name] == "" else kind(line[name])
                for name, (kind, missing) in self.types.items()
            )
            metrics = json.loads(line[METRICS])
            if not isinstance(metrics, dict):
                raise ValueError
            return Entry(self.key(*values), metrics)
        except ValueError:
            raise ValueError(
                f"{self.path}: the line {line} is damaged; remove it, and what it says is measured again"
            ) from None


def _type(hint: Any) -> tuple[Any, bool]:
    """The type of a field, and whether its value may be None."""
    kinds = [part for part in get_args(hint) or (hint,) if part is not type(None)]
    return kinds[0], type(None) in get_args(hint)


def _line(values: Any) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(values)
    return out.getvalue()
