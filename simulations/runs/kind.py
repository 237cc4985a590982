"""A kind of study: what its file says, its tasks, and what is measured, tabled and drawn of them.

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
    """A part of what is printed: a title, a table and sentences, each of which may be empty.

    Args:
        title: above the table, in bold; `subtitle` goes on behind it.
        columns: heads of the table.
        rows: its rows.
        lines: what it shows, in sentences.
        names: how many columns at the left are texts.
        tight: blanks on one side of a column only, for tables of many columns.
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
    """What a study found.

    Args:
        summary: everything in numbers, the content of `summary.json`.
        sections: what is printed.
        frames: tables written as CSV, by the name of the file without its ending.
        texts: texts that are written, by the name of the file.
    """

    summary: dict[str, Any]
    sections: Sequence[Section]
    frames: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)


class Kind(ABC, Generic[AnyStudy, Key]):
    """A study of one kind on its way: tasks → measure → tables → figures, in this order.

    Args:
        study: what is run.
        folder: where its results go; not to be written to before `tasks`.
        progress: told what is being done.

    Raises:
        ValueError: something that the study names is missing or does not fit.
    """

    model: ClassVar[type[Any]]
    """What the study file says, a subclass of `Study`."""
    key: ClassVar[type[Any]]
    """The named tuple that says what a trial is: the columns of the ledger."""
    leaves: ClassVar[tuple[str, ...]] = ()
    """Patterns of files in the folder that `--fresh` removes, beside ledger and summary."""
    doing: ClassVar[str] = "measuring"
    """What the bar says while trials are measured."""
    in_turn: ClassVar[bool] = False
    """Whether trials are measured one after the other, for clocks, and not in threads."""

    def __init__(self, study: AnyStudy, folder: Path, progress: Progress) -> None:
        self.study, self.folder, self.progress = study, folder, progress

    def fingerprints(self) -> dict[str, str]:
        """What must be the same for a run to be resumed, by name."""
        return {"study": self.study.sha256}

    @abstractmethod
    def tasks(self) -> Iterable[Sequence[Key]]:
        """All tasks in the order of the ledger, each the keys of the trials that are measured together."""

    def begin(self, left: Sequence[Sequence[Key]]) -> None:
        """Whatever only measuring needs; called once, with the tasks that are left, if any are."""

    @abstractmethod
    def measure(self, keys: Sequence[Key]) -> Sequence[Mapping[str, Any] | None]:
        """The metrics of some trials of one task, or None for one that cannot be measured."""

    @abstractmethod
    def tables(self, trials: pl.DataFrame) -> Tables:
        """What the trials show. `trials` has a row each: the key's fields, then the metrics."""

    def figures(self, trials: pl.DataFrame, summary: dict[str, Any]) -> Iterable[Path]:
        """Draw the trials, and what `tables` said of them; the paths written."""
        return ()
