"""The ledger of a run: trials appended to a CSV as they end, so that a killed run resumes where it stopped.

Format 2 (`FORMAT`), UTF-8, CSV as of RFC 4180 with a line feed at the end of each line:
    first line     the names of the columns: those of the study's kind, then `metrics`
    further lines  one trial each: texts as they are, numbers so that they read back exactly, nothing where a number is
                   missing; last, what was found, a JSON object by name of metric
A line counts once its line feed is on disk, which `append` waits for. What follows the last line feed was half-written
by a killed run and is dropped when the file is opened. A line that says again what another says is not counted again;
lines that say different metrics of one trial are refused. A new metric is a new name in the JSON object: older ledgers
stay readable. A change of what is said here is a new number, and runs of other formats are refused (`runs.claim`).
"""

import csv
import io
import json
import math
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
        numbers: metrics that every trial has, as finite numbers.

    Raises:
        ValueError: the file is another kind of CSV, a line within it is damaged, or a trial has two results.
    """

    def __init__(self, path: Path, key: type[Key], numbers: Collection[str] = ()) -> None:
        self.path, self.numbers = path, numbers
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
        self.entries = self._read(whole)

    def append(self, entry: Entry[Key]) -> None:
        """Add a trial; it is on disk when this returns.

        Raises:
            ValueError: its metrics are none that could be read back; nothing is written.
        """
        text = json.dumps(entry.metrics)
        try:
            self._metrics(text)
        except ValueError as error:
            raise ValueError(f"{self.path}: {entry.key}: {error}; nothing was written of this trial") from None
        values = ("" if value is None else value for value in entry.key)
        with self.path.open("a") as file:
            file.write(_line((*values, text)))
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

    def _read(self, whole: str) -> list[Entry[Key]]:
        entries: dict[Key, Entry[Key]] = {}
        reader = csv.DictReader(io.StringIO(whole))
        try:
            for line in reader:
                entry = self._entry(line)
                known = entries.setdefault(entry.key, entry)
                if known.metrics != entry.metrics:
                    raise ValueError(f"says other metrics of {entry.key} than a line before it; remove one of the two")
        except (ValueError, csv.Error, OverflowError, RecursionError) as error:
            raise ValueError(f"{self.path}, line {reader.line_num}: {_one_line(error)}") from None
        return list(entries.values())

    def _entry(self, line: dict[str, Any]) -> Entry[Key]:
        try:
            if None in line or None in line.values():
                raise ValueError("another number of values than columns")
            key = self.key(*(self._value(name, line[name]) for name in self.types))
            return Entry(key, self._metrics(line[METRICS]))
        except (ValueError, OverflowError, RecursionError) as error:
            raise ValueError(
                f"damaged ({_one_line(error)}); remove the line, and what it says is measured again"
            ) from None

    def _value(self, name: str, text: str) -> Any:
        kind, missing = self.types[name]
        if missing and text == "":
            return None
        value = kind(text)
        if (kind is float and not math.isfinite(value)) or (kind is int and not -(2**63) <= value < 2**63):
            raise ValueError(f"{name} is no finite number of 64 bits, got {text}")
        return value

    def _metrics(self, text: str) -> dict[str, Any]:
        metrics = json.loads(text)
        if not isinstance(metrics, dict) or not metrics:
            raise ValueError(f"metrics are a JSON object with a name and a value or more, got {text}")
        if missing := [name for name, value in metrics.items() if isinstance(value, float) and math.isnan(value)]:
            raise ValueError(f"the metric {missing[0]} is NaN, no number")
        if taken := [name for name in metrics if name in self.types]:
            raise ValueError(f"the metric {taken[0]} has the name of a column")
        for name in self.numbers:
            value = metrics.get(name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"the metric {name} is a finite number, got {value!r}")
        return metrics


def _type(hint: Any) -> tuple[Any, bool]:
    """The type of a field, and whether its value may be None."""
    kinds = [part for part in get_args(hint) or (hint,) if part is not type(None)]
    return kinds[0], type(None) in get_args(hint)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _line(values: Any) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(values)
    return out.getvalue()
