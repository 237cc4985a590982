"""The protection study: its table holds what was measured, and what was chosen keeps to the column's cells."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from simulations.cli import app
from simulations.comparison.plans import JOINT, StoredStudy
from simulations.kinds import load_study

Write = Callable[..., Path]
STRATEGIES = {
    "none": ["analog(1,plain)", "analog(3,plain)"],
    "sign": ["analog(1)", "analog(3)"],
    "sign + adaptive": ["analog(1,split)", "analog(3,split)"],
    "+ sensitive": ["analog(1.5,sensitive,split)", "analog(3,split,sensitive)"],
}
CHANGES = {
    "kind": '"protection"',
    "shrinkages": "[0.0]",
    "budgets": "[1.0, 3.0]",
    "uniform": None,
    "menu": '["pruned", "digital(1)", "digital(2)", "digital(4)", "analog(1)"]',
    "parts": '{digits = "digital", adaptive = "strategy:sign+adaptive"}',
    "cards": '[{card = "pcm-zarcone"}, {card = "pcm-nandakumar", read_time_s = 3600}]',
    "strategies": "{"
    + ", ".join(f"{json.dumps(name)} = {json.dumps(codes)}" for name, codes in STRATEGIES.items())
    + "}",
}


@pytest.fixture(scope="module")
def finished(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run from the command line, with what it printed. Not to be changed."""
    folder = tmp_path_factory.mktemp("protection")
    values = dict(line.split(" = ", 1) for line in (tiny_folder / "study.toml").read_text().splitlines()) | CHANGES
    values |= {"network": f'"{tiny_folder / "net.toml"}"', "images": f'"{tiny_folder / "images"}"'}
    (folder / "own.toml").write_text("".join(f"{name} = {value}\n" for name, value in values.items() if value))
    arguments = ["run", str(folder / "own.toml"), "--out", str(folder), "--quiet"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    (folder / "printed.txt").write_text(done.stdout)
    return folder


@pytest.fixture(scope="module")
def cards(finished: Path) -> list[dict[str, Any]]:
    return list(json.loads((finished / "summary.json").read_text())["cards"])


def test_the_table_has_an_entry_for_each_strategy_and_choice_in_each_column(cards: list[dict[str, Any]]) -> None:
    rows = [*STRATEGIES, "digits", "adaptive", JOINT]
    for card in cards:
        assert [(entry["strategy"], entry["cells"]) for entry in card["table"]] == [
            (row, cells) for row in rows for cells in (1.0, 3.0)
        ]


def test_an_entry_is_the_result_of_its_code(cards: list[dict[str, Any]]) -> None:
    for card in cards:
        fixed = {r["method"]: r for r in card["results"] if r["budget_cells_per_weight"] is None}
        entries = {(e["strategy"], e["cells"]): e for e in card["table"]}
        for (strategy, cells), method in {
            ("none", 1.0): "uniform analog(1,plain)",
            ("sign", 3.0): "uniform analog(3)",
            ("+ sensitive", 3.0): "uniform analog(3,sensitive,split)",  # by its own name
        }.items():
            entry = entries[strategy, cells]
            assert {name: entry[name] for name in entry if name in fixed[method]} == {
                name: value for name, value in fixed[method].items() if name in entry
            }


def test_what_is_chosen_takes_no_more_cells_than_any_strategy_of_its_column(cards: list[dict[str, Any]]) -> None:
    for card in cards:
        for cells in (1.0, 3.0):
            column = [entry for entry in card["table"] if entry["cells"] == cells]
            taken = [e["cells_per_weight"] for e in column if e["method"].startswith("uniform ")]
            chosen = [e["cells_per_weight"] for e in column if not e["method"].startswith("uniform ")]
            assert len(taken) == 4
            assert max(chosen) <= cells * (1 + 1e-9) < min(taken)


def test_the_table_is_printed_and_written_with_the_cells_really_taken(
    finished: Path, cards: list[dict[str, Any]]
) -> None:
    printed = (finished / "printed.txt").read_text()
    with (finished / "protection.csv").open() as file:
        lines = list(csv.DictReader(file))
    entries = [entry for card in cards for entry in card["table"]]
    assert [float(line["accuracy_mean"]) for line in lines] == [entry["accuracy_mean"] for entry in entries]
    assert {line["card"] for line in lines} == {"pcm-zarcone:one-device", "pcm-nandakumar"}
    for entry in entries:
        accuracy = f"{100 * entry['accuracy_mean']:.2f} ± {100 * entry['accuracy_sd']:.2f}"
        assert f"{accuracy} ({entry['cells_per_weight']:.2f})" in printed
    for ending in ("png", "svg"):
        assert (finished / f"protection.{ending}").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"strategies": None}, "the study lacks strategies"),
        ({"strategies": '{none = ["analog(1)"]}'}, "'none' needs a code for each of 2 budgets, got 1"),
        ({"strategies": '{none = ["analog(1)", "analogue(3)"]}'}, "code 'analogue"),
        ({"strategies": "{none = [1, 2]}"}, r"strategies.none\[0\] should be a text, got 1"),
        ({"strategies": '["analog(1)"]'}, "strategies should be a table"),
        ({"kind": '"storage"'}, "unknown field strategies; remove it"),
        ({"parts": '{mine = "strategy:levels"}'}, "is no part of it"),
        ({"strategies": '{joint = ["analog(1)", "analog(3)"]}'}, "not of another method"),
        ({"strategies": '{digits = ["analog(1)", "analog(3)"]}'}, "'digits' is also the name of a method in parts"),
    ],
)
def test_a_flawed_protection_study_is_refused_in_one_line(
    write_study: Write, changes: dict[str, str | None], told: str
) -> None:
    with pytest.raises(ValueError, match=told) as caught:
        load_study(write_study(**{**CHANGES, **changes}))
    assert "\n" not in str(caught.value)


def test_codes_stand_under_their_own_names_however_their_options_are_ordered(write_study: Write) -> None:
    study = load_study(write_study(uniform='["analog(2,clip,plain)"]'))
    assert isinstance(study, StoredStudy)
    assert study.uniform == study.compared == ("analog(2,plain,clip)",)
    with pytest.raises(ValueError, match="uniform: holds the same twice"):
        load_study(write_study(uniform='["analog(2,clip,plain)", "analog(2,plain,clip)"]'))
