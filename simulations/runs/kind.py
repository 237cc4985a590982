"""The interface of a kind of study: the fields of its file, its tasks, measurements, tables and figures.

A kind is one file: a subclass of `Study` with its fields, and a subclass of `Kind`. It is found by its entry in
`simulations.kinds.KINDS`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import polars as pl

from simulations.runs.progress import Progress
from simulations.runs.study import AnyStudy

Key = TypeVar("Key", bound=tuple[Any, ...])


@dataclass(frozen=True)
class Section:
    """A section of the report: a title, a table and sentences, each of which may be empty.

    Args:
        title: the title, in bold; `subtitle` follows it.
        columns: heads of the columns.
        rows: rows of the table.
        lines: findings, in sentences.
        names: number of columns at the left that hold text.
        tight: narrower columns, for tables with many of them.
    """

    title: str = ""
    columns: tuple[str, ...] = ()
    rows: Sequence[tuple[str, ...]] = ()
    lines: Sequence[str] = ()
    subtitle: str = ""
    names: int = 1
    tight: bool = False


@dataclass(frozen=True)
class Tables:
    """The results of a study: summary, sections to print, and tables to write.

    Args:
        summary: all results in numbers, the content of `summary.json`.
        sections: the sections to print.
        frames: tables to write as CSV, by name of the file without ending.
        texts: texts to write, by name of the file.
    """

    summary: dict[str, Any]
    sections: Sequence[Section]
    frames: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)


class Kind(ABC, Generic[AnyStudy, Key]):
    """A study in progress; methods are called in the order tasks → measure → tables → figures.

    Args:
        study: the study.
        folder: folder for its results; nothing is written there before `tasks`.
        progress: shows what is being done.

    Raises:
        ValueError: something that the study names is missing or does not fit.
    """

    model: ClassVar[type[Any]]
    """The fields of the study file: a subclass of `Study`."""
    key: ClassVar[type[Any]]
    """The key of a trial, a named tuple: the first columns of the ledger."""
    leaves: ClassVar[tuple[str, ...]] = ()
    """Patterns of files that `--fresh` removes besides ledger and summary."""
    doing: ClassVar[str] = "measuring"
    """The text of the progress bar while trials are measured."""
    in_turn: ClassVar[bool] = False
    """Whether trials are measured one after the other, since they are timed; otherwise in threads."""

    def __init__(self, study: AnyStudy, folder: Path, progress: Progress) -> None:
        self.study, self.folder, self.progress = study, folder, progress

    @property
    def numbers(self) -> tuple[str, ...]:
        """Names of metrics that every trial has, as finite numbers; a line of the ledger without them is damaged."""
        return ()

    def fingerprints(self) -> dict[str, str]:
        """Fingerprints, by name, that must be equal for a run to be resumed."""
        return {"study": self.study.sha256}

    @abstractmethod
    def tasks(self) -> Iterable[Sequence[Key]]:
        """All tasks, in the order of the ledger; a task is the keys of trials that are measured together."""

    def begin(self, left: Sequence[Sequence[Key]]) -> None:
        """Prepare for measuring; called once, with the tasks that are left, if there are any."""

    @abstractmethod
    def measure(self, keys: Sequence[Key]) -> Sequence[Mapping[str, Any] | None]:
        """Measure trials of one task: their metrics, or None for a trial that cannot be measured."""

    @abstractmethod
    def tables(self, trials: pl.DataFrame) -> Tables:
        """Evaluate the trials; `trials` has one row each: the fields of the key, then the metrics."""

    def figures(self, trials: pl.DataFrame, summary: dict[str, Any]) -> Iterable[Path]:
        """Draw the trials, with the summary from `tables`; returns the paths written."""
        return ()
