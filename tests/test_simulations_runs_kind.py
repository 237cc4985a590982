"""A further kind of study, as its author writes it, run from its file to its files, and again after a kill."""

import math
import os
import signal
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, NamedTuple

import polars as pl
import pytest

from simulations.kinds import KINDS, Kinds, load_study, run_study
from simulations.runs.engine import report
from simulations.runs.fields import Count
from simulations.runs.kind import Kind, Section, Tables
from simulations.runs.study import Study


class RootStudy(Study):
    kind: Literal["roots"] = "roots"
    numbers: tuple[Count, ...]


class Root(NamedTuple):
    number: int


class Roots(Kind[RootStudy, Root]):
    model, key = RootStudy, Root

    def tasks(self) -> list[list[Root]]:
        return [[Root(number)] for number in self.study.numbers]

    def measure(self, keys: Sequence[Root]) -> list[dict[str, Any]]:
        return [{"root": math.sqrt(key.number)} for key in keys]

    def tables(self, trials: pl.DataFrame) -> Tables:
        total = {"sum": trials["root"].sum()}
        return Tables(total, [Section(lines=[f"sum {total['sum']:g}"])], {"roots": trials})


ROOTS: Kinds = {**KINDS, "roots": Roots}


@pytest.fixture
def asked(tmp_path: Path) -> Study:
    (tmp_path / "roots.toml").write_text('name = "roots"\nkind = "roots"\nnumbers = [1, 4, 9, 16, 25]\n')
    return load_study(tmp_path / "roots.toml", kinds=ROOTS)


def test_a_further_kind_is_one_class_and_its_file(asked: Study, tmp_path: Path) -> None:
    shown = report(run_study(asked, tmp_path / "run", kinds=ROOTS))
    assert [section.lines for section in shown.sections] == [["sum 15"]]
    assert shown.files == ["roots.csv", "summary.json", "trials.csv"]
    assert (tmp_path / "run" / "roots.csv").read_text().splitlines()[:2] == ["number,root", "1,1.0"]
    with pytest.raises(ValueError, match=r"kind is one of storage, .*, got 'roots'"):
        load_study(tmp_path / "roots.toml")


def run_until_killed(path: Path, folder: Path) -> None:
    """Kills its own process when the fourth trial is due."""

    class Dying(Roots):
        in_turn = True

        def measure(self, keys: Sequence[Root]) -> list[dict[str, Any]]:
            if keys[0].number > 9:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().measure(keys)

    kinds = {**KINDS, "roots": Dying}
    run_study(load_study(path, kinds=kinds), folder, kinds=kinds)


def test_a_killed_run_of_a_further_kind_resumes_to_the_same_ledger(asked: Study, tmp_path: Path) -> None:
    run_study(asked, tmp_path / "undisturbed", kinds=ROOTS)
    killed = tmp_path / "killed"
    process = get_context("spawn").Process(target=run_until_killed, args=(tmp_path / "roots.toml", killed))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    whole = (tmp_path / "undisturbed" / "trials.csv").read_bytes()
    assert (killed / "trials.csv").read_bytes() == b"".join(whole.splitlines(keepends=True)[:4])
    (killed / "trials.csv").write_bytes(whole[:-3])  # and half of the last line
    assert run_study(asked, killed, kinds=ROOTS).trials["root"].to_list() == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert (killed / "trials.csv").read_bytes() == whole
