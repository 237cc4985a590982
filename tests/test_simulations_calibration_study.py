"""The calibration study: every plan once, resumed to the same rows, and answers that count what the rows say."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from simulations.calibration import study as calibration
from simulations.calibration.figure import predicted_vs_measured
from simulations.calibration.study import CHOSEN, RANDOM, Row
from simulations.runs.ledger import Ledger
from simulations.runs.progress import Progress
from simulations.runs.study import load_study

Write = Callable[..., Path]
CHANGES = {
    "kind": '"calibration"',
    "image_counts": "[16, 64]",
    "solvers": '["random", "lagrangian", "annealer"]',
    "budgets": "[1.5, 3.0]",
    "trials": "6",
    "parts": None,
}


@pytest.fixture
def study_file(write_study: Write) -> Path:
    return write_study(**CHANGES)


def test_every_plan_is_measured_once_and_a_cut_ledger_is_completed_to_the_same_rows(
    study_file: Path, tmp_path: Path
) -> None:
    study = load_study(study_file)
    folder = tmp_path / "run"
    summary = calibration.run_calibration(study, folder, Progress(None))
    rows = Ledger(folder / "plans.csv", Row).rows
    assert len(rows) == len({row.key for row in rows}) == 2 * 6 + 2 * 2 * 2 * 3
    content = (folder / "plans.csv").read_text()
    (folder / "plans.csv").write_text("".join(content.splitlines(keepends=True)[:20]) + "random,3")
    assert calibration.run_calibration(study, folder, Progress(None)) == summary
    assert (folder / "plans.csv").read_text() == content
    assert json.loads((folder / "summary.json").read_text()) == summary
    for row in rows:
        assert (row.lower_bound is None) == (row.plan == RANDOM)
        if row.lower_bound is not None:
            assert row.lower_bound <= row.energy * (1 + 1e-9)
    assert {path.name for path in predicted_vs_measured(summary, folder)} == {"calibration.png", "calibration.svg"}
    assert any("12 random plans" in line for line in calibration.findings(summary))


def test_random_plans_keep_to_the_cells_of_the_plan_they_were_drawn_from(study_file: Path) -> None:
    study = load_study(study_file)
    network, images, _, _ = calibration.find_parts(study)
    model = calibration.physcomp.build_model(network, images, card="pcm-zarcone", menu=study.menu)
    selection = model.selection(2.0)
    for number in range(8):
        choice = calibration._random_choice(selection, number, 5)
        assert selection.total_cost(choice) <= selection.budget * (1 + 1e-9)


def chosen(shrinkage: float, solver: str, energy: float, measured: float) -> Row:
    return Row(CHOSEN, 0, 1.5, 64, shrinkage, solver, energy, 0.0, 0.1, 0.1, measured)


def test_pairs_of_solutions_are_counted_as_the_rows_say(study_file: Path) -> None:
    study = load_study(study_file)
    rows = [
        chosen(0.0, "random", 3.0, 9.0),
        chosen(0.0, "lagrangian", 2.0, 1.0),
        chosen(0.0, "annealer", 1.0, 2.0),
        chosen(0.5, "random", 1.0, 1.0),
        chosen(0.5, "annealer", 1.0, 5.0),  # the same energy: no pair
    ]
    found = {(of["images"], of["shrinkage"]): of for of in calibration._better_solved(study, rows)}
    assert (found[64, 0.0]["pairs"], found[64, 0.0]["better_too"]) == (3, 2)
    assert found[64, 0.5]["pairs"] == found[16, 0.0]["pairs"] == 0
    by = {tuple(of["solvers"]): (of["pairs"], of["better_too"]) for of in calibration._by_solvers(study, rows)}
    expected = {("annealer", "lagrangian"): (1, 0), ("lagrangian", "random"): (1, 1), ("annealer", "random"): (1, 1)}
    assert {tuple(sorted(solvers)): counts for solvers, counts in by.items()} == expected


def test_calibration_measures_ranks_and_ratios() -> None:
    rows = [chosen(0.0, "annealer", 1.0, measured) for measured in (0.2, 0.4, 0.8, 1.6)]
    found = calibration._calibration([0.1, 0.2, 0.4, 0.8], rows)
    assert found["rank_correlation"] == pytest.approx(1.0)
    assert found["measured_over_predicted_quartiles"] == pytest.approx([2.0, 2.0, 2.0])
    assert calibration._calibration([0.8, 0.4, 0.2, 0.1], rows)["rank_correlation"] == pytest.approx(-1.0)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kind": '"curing"'}, "kind is one of"),
        ({"image_counts": "[100]"}, "image_counts are whole numbers up to calibration, 64"),
        ({"solvers": '["anneal"]'}, "solver is one of"),
        ({"parts": '{"mine" = 3}'}, "parts name a part of the menu"),
        ({"parts": '{"mine" = "digitl"}'}, "is no part of it"),
    ],
)
def test_a_flawed_calibration_study_is_refused_in_one_line(
    write_study: Write, changes: dict[str, str], told: str
) -> None:
    with pytest.raises(ValueError, match=told) as caught:
        load_study(write_study(**{**CHANGES, **changes}))
    assert "\n" not in str(caught.value)


def test_the_quick_variant_lays_its_table_over_the_study(write_study: Write) -> None:
    path = write_study(**CHANGES)
    with pytest.raises(ValueError, match="has no table"):
        load_study(path, quick=True)
    path.write_text(path.read_text() + "[quick]\ntrials = 2\n")
    assert (load_study(path).trials, load_study(path, quick=True).trials) == (6, 2)
    assert load_study(path).sha256 != load_study(path, quick=True).sha256
