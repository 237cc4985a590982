"""The calibration study: every plan once, resumed to the same rows, and answers that count what the rows say."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import physcomp
from simulations.calibration import study
from simulations.calibration.study import CHOSEN, RANDOM, CalibrationStudy, PlanTrial
from simulations.kinds import load_study, run_study
from simulations.runs.engine import report
from simulations.runs.ledger import Ledger

Write = Callable[..., Path]
CHANGES = {
    "kind": '"calibration"',
    "card": '"pcm-zarcone"',
    "image_counts": "[16, 64]",
    "solvers": '["random", "lagrangian", "annealer"]',
    "budgets": "[1.5, 3.0]",
    "trials": "6",
    **dict.fromkeys(("cards", "heldout", "uniform")),
}


@pytest.fixture
def asked(write_study: Write) -> CalibrationStudy:
    found = load_study(write_study(**CHANGES))
    assert isinstance(found, CalibrationStudy)
    return found


def test_every_plan_is_measured_once_and_a_cut_ledger_is_completed_to_the_same_lines(
    asked: CalibrationStudy, tmp_path: Path
) -> None:
    shown = report(run_study(asked, tmp_path))
    trials = Ledger(tmp_path / "trials.csv", PlanTrial).entries
    assert len(trials) == len({trial.key for trial in trials}) == 2 * 6 + 2 * 2 * 2 * 3
    content, summary = (tmp_path / "trials.csv").read_text(), (tmp_path / "summary.json").read_text()
    (tmp_path / "trials.csv").write_text("".join(content.splitlines(keepends=True)[:20]) + "random,3")
    assert report(run_study(asked, tmp_path)) == shown
    assert (tmp_path / "trials.csv").read_text() == content
    assert (tmp_path / "summary.json").read_text() == summary
    for trial in trials:
        assert (trial.metrics["lower_bound"] is None) == (trial.key.plan == RANDOM)
        if trial.metrics["lower_bound"] is not None:
            assert trial.metrics["lower_bound"] <= trial.metrics["energy"] * (1 + 1e-9)
    assert shown.files == ["calibration.png", "calibration.svg", "summary.json", "trials.csv"]
    (section,) = shown.sections
    assert any("12 random plans" in line for line in section.lines)


def test_random_plans_keep_to_the_cells_of_the_plan_they_were_drawn_from(asked: CalibrationStudy) -> None:
    network = physcomp.load_network(asked.network)
    images = physcomp.load_images(asked.images, "calibration")
    model = physcomp.build_model(network, images, card="pcm-zarcone", menu=asked.menu)
    selection = model.selection(2.0)
    for number in range(8):
        choice = study.random_choice(selection, number, 5)
        assert selection.total_cost(choice) <= selection.budget * (1 + 1e-9)


def chosen(shrinkage: float, solver: str, energy: float, measured: float) -> dict[str, Any]:
    key = PlanTrial(CHOSEN, 0, 1.5, 64, shrinkage, solver)
    return {**key._asdict(), "energy": energy, "lower_bound": 0.0, "plain": 0.1, "coupled": 0.1, "measured": measured}


def test_pairs_of_solutions_are_counted_as_the_trials_say(asked: CalibrationStudy) -> None:
    trials = pl.DataFrame(
        [
            chosen(0.0, "random", 3.0, 9.0),
            chosen(0.0, "lagrangian", 2.0, 1.0),
            chosen(0.0, "annealer", 1.0, 2.0),
            chosen(0.5, "random", 1.0, 1.0),
            chosen(0.5, "annealer", 1.0, 5.0),  # the same energy: no pair
        ]
    )
    found = {(of["images"], of["shrinkage"]): of for of in study.better_solved(asked, trials)}
    assert (found[64, 0.0]["pairs"], found[64, 0.0]["better_too"]) == (3, 2)
    assert found[64, 0.5]["pairs"] == found[16, 0.0]["pairs"] == 0
    by = {tuple(of["solvers"]): (of["pairs"], of["better_too"]) for of in study.better_solved_by(asked, trials)}
    expected = {("annealer", "lagrangian"): (1, 0), ("lagrangian", "random"): (1, 1), ("annealer", "random"): (1, 1)}
    assert {tuple(sorted(solvers)): counts for solvers, counts in by.items()} == expected


def test_calibration_measures_ranks_and_ratios() -> None:
    measured = pl.Series([0.2, 0.4, 0.8, 1.6])
    found = study.calibration(pl.Series([0.1, 0.2, 0.4, 0.8]), measured)
    assert found["rank_correlation"] == pytest.approx(1.0)
    assert found["measured_over_predicted_quartiles"] == pytest.approx([2.0, 2.0, 2.0])
    assert study.calibration(pl.Series([0.8, 0.4, 0.2, 0.1]), measured)["rank_correlation"] == pytest.approx(-1.0)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"image_counts": "[100]"}, "image_counts go up to calibration, 64, got 100"),
        ({"solvers": '["anneal"]'}, r"solvers\[0\]: one of annealer, .*, got 'anneal'; correct it"),
        ({"card": '"pcm-nandakuma"'}, "pcm-nandakumar"),
        ({"read_time_s": "86400"}, "86400"),
        ({"parts": '{"mine" = "digital"}'}, "unknown field parts; remove it"),
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
    full, fast = load_study(path), load_study(path, quick=True)
    assert isinstance(full, CalibrationStudy)
    assert isinstance(fast, CalibrationStudy)
    assert (full.trials, fast.trials) == (6, 2)
    assert fast.folder == Path("runs/stripes-quick")
    assert load_study(path).sha256 != load_study(path, quick=True).sha256
