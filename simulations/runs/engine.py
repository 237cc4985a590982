"""The engine: runs a study of any kind, from its tasks to its tables and figures, and resumes killed runs.

In the folder of a run:
    study.toml     the study as it was run (`runs.claim`)
    trials.csv     one line per trial, appended when it ends (`runs.ledger`)
    summary.json   all results in numbers
    and the figures, tables and other files of the kind of study
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch

from devices.files import replacing
from physcomp.threads import in_threads
from simulations.runs.claim import LEDGER, SUMMARY, claim
from simulations.runs.kind import Kind, Section
from simulations.runs.ledger import Entry, Ledger
from simulations.runs.progress import Progress
from simulations.runs.study import Study


@dataclass(frozen=True, eq=False)
class Run:
    """A study with all trials measured.

    Args:
        kind: the study, ready for tables and figures.
        folder: folder of its results.
        trials: one row per trial: the fields of the key, then the metrics.
    """

    kind: Kind[Any, Any]
    folder: Path
    trials: pl.DataFrame


@dataclass(frozen=True)
class Report:
    """The report of a run: sections to print, and the names of the files written."""

    sections: Sequence[Section]
    files: Sequence[str]


def run_study(
    kind: type[Kind[Any, Any]], study: Study, folder: Path, progress: Progress, *, fresh: bool = False
) -> Run:
    """Measure all trials of a study, except those already in the folder.

    Args:
        kind: the kind of the study.
        study: a study from `load_study`.
        folder: folder for the results.
        progress: shows what is being done.
        fresh: remove results of an earlier run there.

    Raises:
        ValueError: the folder holds the results of another study, or the study cannot be run.
    """
    torch.set_num_threads(1)  # trials run in parallel instead; results then do not depend on the number of processors
    opened = kind(study, folder, progress)
    claim(folder, study.text, opened.fingerprints(), fresh=fresh, results=kind.leaves)
    tasks = list(opened.tasks())
    ledger: Ledger[Any] = Ledger(folder / LEDGER, kind.key, opened.numbers)
    done = {entry.key for entry in ledger.entries}
    left = [keys for task in tasks if (keys := [key for key in task if key not in done])]
    if left:
        opened.begin(left)
        with progress.bar(f"{kind.doing} ({len(left)} trials)") as bar:
            for count, (keys, found) in enumerate(zip(left, _measured(opened, left), strict=True), start=1):
                for key, metrics in zip(keys, found, strict=True):
                    if metrics is not None:
                        ledger.append(Entry(key, metrics))
                bar(count / len(left))
    return Run(opened, folder, ledger.frame({key for task in tasks for key in task}))


def _measured(kind: Kind[Any, Any], left: list[list[Any]]) -> Iterator[Sequence[Mapping[str, Any] | None]]:
    return map(kind.measure, left) if kind.in_turn else in_threads(kind.measure, left)


def report(run: Run) -> Report:
    """Write the tables, the summary and the figures of a run, and return its report."""
    tables = run.kind.tables(run.trials)
    files = [LEDGER, SUMMARY]
    for name, frame in tables.frames.items():
        files.append(f"{name}.csv")
        with replacing(run.folder / files[-1]) as temporary:
            frame.write_csv(temporary)
    for name, text in tables.texts.items():
        files.append(name)
        with replacing(run.folder / name) as temporary:
            temporary.write_text(text)
    write_json(run.folder / SUMMARY, tables.summary)
    files += [path.name for path in run.kind.figures(run.trials, tables.summary)]
    counted = [(pattern, len(list(run.folder.glob(pattern)))) for pattern in run.kind.leaves if "/" not in pattern]
    return Report(tables.sections, [*sorted(files), *(f"{count} {pattern}" for pattern, count in counted)])


def write_json(path: Path, content: object) -> None:
    """Write a JSON file; a crash leaves no half-written file."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")
