"""The engine: what a run leaves, and that neither kills nor threads nor other runs change a byte of its ledger."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

import physcomp
from simulations.comparison.stored import ChipTrial
from simulations.kinds import load_study, run_study
from simulations.runs.engine import report
from simulations.runs.ledger import Ledger
from simulations.runs.readback import read_back

Write = Callable[..., Path]
ROOT = Path(__file__).parent.parent
SECOND = "pcm-nandakumar-3600s"  # the second card of the tiny study, in names of files


def resume(study: Path, folder: Path, **options: bool) -> bytes:
    """Run what is left of a study; the ledger's bytes afterwards."""
    run_study(load_study(study), folder, **options)
    return (folder / "trials.csv").read_bytes()


def trials_of(folder: Path) -> list[Any]:
    """The trials of a ledger, what they are and what was found side by side."""
    trials = Ledger(folder / "trials.csv", ChipTrial).entries
    return [SimpleNamespace(**trial.key._asdict(), **trial.metrics) for trial in trials]


def cards_of(folder: Path) -> list[dict[str, Any]]:
    return list(json.loads((folder / "summary.json").read_text())["cards"])


@pytest.fixture
def started(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be damaged."""
    return Path(shutil.copytree(tiny_run, tmp_path / "copy"))


def test_a_run_leaves_its_study_plans_trials_chips_summary_and_figure(tiny_run: Path) -> None:
    names = {str(path.relative_to(tiny_run)) for path in tiny_run.rglob("*") if path.is_file()}
    per_budget = {f"{kind}-{card}{budget}.{ending}" for kind, ending in (("plan", "json"), ("chip", "h5"))
                  for card in ("", f"{SECOND}-") for budget in ("1.5", "3")}  # fmt: skip
    assert names == per_budget | {
        "study.toml",
        "trials.csv",
        "summary.json",
        "accuracy-vs-cells.png",
        "accuracy-vs-cells.svg",
        "plans/pcm-zarcone.json",
        f"plans/{SECOND}.json",
        "printed.txt",  # of the fixture
    }


def test_the_figure_is_a_png_and_an_svg_that_names_each_card(tiny_run: Path) -> None:
    assert (tiny_run / "accuracy-vs-cells.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    drawn = (tiny_run / "accuracy-vs-cells.svg").read_text()
    assert "</svg>" in drawn
    assert "pcm-zarcone:one-device" in drawn
    assert "pcm-nandakumar" in drawn


def test_the_summary_says_of_each_result_what_it_takes_and_what_is_left(tiny_run: Path) -> None:
    summary = json.loads((tiny_run / "summary.json").read_text())
    assert {"clean_accuracy", "test_images", "trials", "network", "cards"} <= set(summary)
    assert {"name", "parameters", "sha256"} <= set(summary["network"])
    # 4·1·3·3 + 6·4·3·3, and 3·6·2·2 after two poolings; 13 biases; 2·4 of the norm
    assert summary["network"]["parameters"] == 345
    for card in summary["cards"]:
        assert {"card", "read_time_s", "results"} <= set(card)
        assert len(card["results"]) == 2 * 4 + 4  # four methods at each budget, four uniform codes
        for result in card["results"]:
            assert {
                "method",
                "budget_cells_per_weight",
                "cells_per_weight",
                "accuracy_mean",
                "accuracy_sd",
                "loss_mean",
                "predicted_loss_increase",
                "energy",
                "lower_bound",
                "solver",
                "solver_kind",
                "seconds",
            } <= set(result)


def test_every_chosen_plan_keeps_its_budget_and_its_bound(tiny_run: Path) -> None:
    for card in cards_of(tiny_run):
        chosen = [r for r in card["results"] if r["budget_cells_per_weight"] is not None]
        assert len(chosen) == 8
        for result in chosen:
            assert result["cells_per_weight"] <= result["budget_cells_per_weight"] * (1 + 1e-9)
            assert result["lower_bound"] <= result["energy"] * (1 + 1e-9)
            assert result["cells_per_weight"] == pytest.approx(sum(result["ledger_cells"].values()) / 345)


def test_the_joint_choice_lost_least_of_all_on_the_held_out_images(tiny_run: Path) -> None:
    for card in cards_of(tiny_run):
        for budget in (1.5, 3.0):
            losses = {r["method"]: r["heldout_loss"] for r in card["results"] if r["budget_cells_per_weight"] == budget}
            assert losses["joint"] == min(losses.values())


def test_the_summary_averages_the_trials_of_the_ledger(tiny_run: Path) -> None:
    rows = trials_of(tiny_run)
    for card in cards_of(tiny_run):
        for result in card["results"]:
            mine = [
                r.loss
                for r in rows
                if (r.card, r.method, r.budget) == (card["card"], result["method"], result["budget_cells_per_weight"])
            ]
            noisy = result["ledger_cells"]["analog"] > 0
            assert len(mine) == result["trials"] == (3 if noisy else 1)
            assert result["loss_mean"] == pytest.approx(sum(mine) / len(mine))


def test_a_chip_of_the_run_reads_back_to_the_first_trial_of_the_ledger(tiny_run: Path, tiny_folder: Path) -> None:
    network = physcomp.load_network(tiny_folder / "net.toml")
    test = physcomp.load_images(tiny_folder / "images", "t10k")[:200]
    rows = trials_of(tiny_run)
    for prefix, card in (("", "pcm-zarcone:one-device"), (f"{SECOND}-", "pcm-nandakumar")):
        for budget in (1.5, 3.0):
            chip = physcomp.load_chip(tiny_run / f"chip-{prefix}{budget:g}.h5")
            assert chip.plan == physcomp.Plan.load(tiny_run / f"plan-{prefix}{budget:g}.json")
            (trial,) = read_back(chip, test.inputs, test.labels, network=network)
            (row,) = [r for r in rows if (r.card, r.method, r.budget, r.trial) == (card, "joint", budget, 0)]
            assert (trial.seed, trial.loss, trial.accuracy) == (row.seed, row.loss, row.accuracy)


def test_a_finished_run_is_read_and_not_measured_again(
    started: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("measured again")

    before = (started / "trials.csv").read_bytes()
    monkeypatch.setattr("physcomp.store", refuse)
    monkeypatch.setattr("physcomp.build_models", refuse)
    assert resume(tiny_folder / "study.toml", started) == before


def test_some_methods_of_the_tiny_study_share_trials_of_a_plan(tiny_run: Path) -> None:
    """Without such a plan the next test would not see whether they resume in order."""
    rows = trials_of(tiny_run)
    assert any(a.plan == b.plan and a.trial == b.trial for a in rows for b in rows if a.method != b.method)


def test_a_run_killed_after_any_line_resumes_to_the_same_ledger(started: Path, tiny_folder: Path) -> None:
    whole = (started / "trials.csv").read_bytes()
    lines = whole.splitlines(keepends=True)
    assert len(lines) > 40
    different = []
    for kept in range(24):  # the first card's
        half = lines[kept][: len(lines[kept]) // 2] if kept % 2 else b""
        (started / "trials.csv").write_bytes(b"".join(lines[:kept]) + half)
        if resume(tiny_folder / "study.toml", started) != whole:
            different.append(kept)
    assert different == [], "a kill after these lines changes their order"


@pytest.mark.parametrize("lost", ["plans", f"plans/{SECOND}.json", "plans/pcm-zarcone.json", "trials.csv"])
def test_a_run_killed_while_it_planned_resumes_to_the_same_ledger(started: Path, tiny_folder: Path, lost: str) -> None:
    whole = (started / "trials.csv").read_bytes()
    (started / "trials.csv").write_bytes(whole[:300])
    if (started / lost).is_dir():
        shutil.rmtree(started / lost)
    else:
        (started / lost).unlink()
    assert resume(tiny_folder / "study.toml", started) == whole


def test_a_run_that_is_really_killed_resumes_to_the_same_ledger(write_study: Write, tmp_path: Path) -> None:
    study = write_study(trials="60", cards='[{card = "pcm-zarcone"}]')
    whole = resume(study, tmp_path / "undisturbed")
    killed = tmp_path / "killed"
    command = [sys.executable, "-m", "simulations.cli", "run", str(study), "--out", str(killed), "--quiet"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    ledger = killed / "trials.csv"
    while process.poll() is None and not (ledger.exists() and ledger.read_bytes().count(b"\n") > 20):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    left = ledger.read_bytes()
    assert len(left) < len(whole), "the run ended before it was killed: give it more trials"
    assert whole.startswith(left)
    assert resume(study, killed) == whole


@pytest.mark.parametrize("processors", [1, 5])
def test_neither_the_folder_nor_the_number_of_threads_changes_the_ledger(
    tiny_run: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processors: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    found = resume(tiny_folder / "study.toml", tmp_path / "elsewhere")
    assert found == (tiny_run / "trials.csv").read_bytes()


def test_another_seed_is_another_ledger(tiny_run: Path, write_study: Write, tmp_path: Path) -> None:
    resume(write_study(seed="6"), tmp_path / "other")
    mine, theirs = (
        {row.loss for row in trials_of(folder) if row.method == "uniform analog(1)"}
        for folder in (tiny_run, tmp_path / "other")
    )
    # Seeds 5, 6, 7 against 6, 7, 8 of the chips: on each of two cards two of three are shared, if the plans are.
    assert mine != theirs


def test_a_folder_of_another_study_is_refused_and_left_as_it_is(started: Path, write_study: Write) -> None:
    before = (started / "trials.csv").read_bytes(), (started / "study.toml").read_bytes()
    with pytest.raises(ValueError, match="holds results of another study") as caught:
        resume(write_study(seed="6"), started)
    message = str(caught.value)
    assert str(started) in message
    assert "--out" in message
    assert "--fresh" in message
    assert "\n" not in message
    assert before == ((started / "trials.csv").read_bytes(), (started / "study.toml").read_bytes())


def test_a_folder_of_the_same_study_with_another_network_is_refused(
    started: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(tiny_folder, tmp_path / "other"))
    text = (other / "net.toml").read_text().replace("mean = 0.5", "mean = 0.4")
    (other / "net.toml").write_text(text.replace('"stripes"', '"bands"'))
    with pytest.raises(ValueError, match="its network changed"):
        resume(other / "study.toml", started)


def test_the_normalisation_of_a_network_is_part_of_its_identity(
    started: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    """Another mean of the pixels in the description is another network, though no weight changed."""
    other = Path(shutil.copytree(tiny_folder, tmp_path / "other"))
    (other / "net.toml").write_text((other / "net.toml").read_text().replace("mean = 0.5", "mean = 0.4"))
    with pytest.raises(ValueError, match="its network changed"):
        resume(other / "study.toml", started)


def test_fresh_starts_anew_and_forgets_the_other_study(started: Path, write_study: Write) -> None:
    study = write_study(budgets="[2.0]", cards='[{card = "ideal"}]', uniform="[]")
    resume(study, started, fresh=True)
    rows = trials_of(started)
    assert {row.card for row in rows} == {"ideal"}
    assert {row.budget for row in rows} == {2.0}
    assert not list(started.glob("plan-*.json"))
    assert not list(started.glob("chip-*.h5"))
    assert [path.name for path in (started / "plans").iterdir()] == ["ideal.json"]


def test_a_card_of_ones_own_runs_like_a_built_in_one(write_study: Write, tiny_run: Path, tmp_path: Path) -> None:
    """The same numbers under another name read back the same, but for what names and fingerprints change."""
    text = (ROOT / "devices" / "cards" / "built_in" / "pcm-nandakumar.toml").read_text()
    (tmp_path / "mine.toml").write_text(text.replace('name = "pcm-nandakumar"', 'name = "mine"'))
    resume(write_study(cards=f'[{{card = "{tmp_path / "mine.toml"}", read_time_s = 3600}}]'), tmp_path / "run")
    built_in = [r for r in trials_of(tiny_run) if r.card == "pcm-nandakumar"]
    mine = trials_of(tmp_path / "run")
    assert {row.card for row in mine} == {"mine"}
    assert {(r.method, r.budget, r.trial): r.loss for r in mine} == {
        (r.method, r.budget, r.trial): r.loss for r in built_in
    }


def test_two_times_of_one_card_are_kept_apart(write_study: Write, tmp_path: Path) -> None:
    cards = '[{card = "pcm-nandakumar", read_time_s = 60}, {card = "pcm-nandakumar", read_time_s = 3600}]'
    run = run_study(load_study(write_study(cards=cards, budgets="[2.0]")), tmp_path / "run")
    for of, time_s in zip(run.kind.planned, (60, 3600), strict=True):
        assert {plan.read_time_s for plan in of.plans} == {time_s}
        shas = [plan.sha256[:12] for plan in of.plans]
        assert set(run.trials.filter(pl.col("plan").is_in(shas))["read_time_s"]) == {time_s}


def test_two_variants_of_a_card_file_are_kept_apart(write_study: Write, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text((ROOT / "devices" / "cards" / "built_in" / "pcm-zarcone.toml").read_text())
    names = [f"{tmp_path / 'mine.toml'}:{variant}" for variant in ("one-device", "aligned")]
    cards = ", ".join(f'{{card = "{name}"}}' for name in names)
    run = run_study(load_study(write_study(cards=f"[{cards}]", budgets="[2.0]")), tmp_path / "run")
    assert [{plan.card for plan in of.plans} for of in run.kind.planned] == [
        {"pcm-zarcone:one-device"},
        {"pcm-zarcone:aligned"},
    ]


def test_an_infeasible_budget_is_refused_with_the_smallest_feasible_one(write_study: Write, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"takes at least \d\.\d+ cells/weight, got 0\.01"):
        resume(write_study(budgets="[2.0, 0.01]"), tmp_path / "run")


def test_a_card_of_several_times_has_one_plan_for_all_and_results_at_each(write_study: Write, tmp_path: Path) -> None:
    cards = (
        '[{card = "pcm-nandakumar", read_time_s = 60, read_times_s = [60, 2592000], over = "worst"}, '
        '{card = "pcm-nandakumar", read_time_s = 60}]'
    )
    study = load_study(write_study(cards=cards, budgets="[1.5]", uniform='["analog(1)", "digital(4)"]'))
    run = run_study(study, tmp_path / "run")
    whole = (tmp_path / "run" / "trials.csv").read_bytes()
    both, alone = run.kind.planned
    assert both.plans != alone.plans
    assert {(plan.read_times_s, plan.over) for plan in both.plans} == {((60.0, 2592000.0), "worst")}
    assert {plan.read_times_s for plan in alone.plans} == {()}
    (plan,) = [plan for plan in both.plans if plan.method == "uniform analog(1)"]
    test = physcomp.load_images(study.images, "t10k")[: study.test_images]
    network = physcomp.load_network(study.network)
    trials = read_back(plan, test.inputs, test.labels, network=network, trials=3, seed=5, times_s=[60, 2592000])
    for time_s in (60, 2592000):
        mine = run.trials.filter(pl.col("plan") == plan.sha256[:12], pl.col("read_time_s") == time_s)
        assert list(mine.select("seed", "loss").iter_rows()) == [(t.seed, t.loss) for t in trials if t.time_s == time_s]
    lines = whole.splitlines(keepends=True)
    (tmp_path / "run" / "trials.csv").write_bytes(b"".join(lines[:8]))
    report(run_study(study, tmp_path / "run"))
    assert (tmp_path / "run" / "trials.csv").read_bytes() == whole
    assert [(card["read_time_s"], card["over"]) for card in cards_of(tmp_path / "run")] == [
        (60, "worst"), (2592000, "worst"), (60, "mean"),
    ]  # fmt: skip
    assert {path.name for path in (tmp_path / "run").glob("plan-*.json")} == {
        "plan-1.5.json",
        "plan-pcm-nandakumar-60s-1.5.json",
    }


def test_a_metric_beside_accuracy_and_loss_is_measured_tabled_and_summarised(
    write_study: Write, tiny_run: Path, tmp_path: Path
) -> None:
    study = write_study(metrics='["agreement"]', cards='[{card = "pcm-zarcone"}]')
    shown = report(run_study(load_study(study), tmp_path / "run")).sections[0]
    assert shown.columns[-1] == "agreement ± sd"
    assert len({len(row) for row in (shown.columns, *shown.rows)}) == 1
    assert {0 < row.agreement <= 1 for row in trials_of(tmp_path / "run")} == {True}
    (card,) = cards_of(tmp_path / "run")
    floats = next(result for result in card["results"] if result["method"] == "uniform float32")
    assert floats["agreement_mean"] > 0.99  # 16-bit biases
    before = [(row.method, row.trial, row.loss) for row in trials_of(tiny_run) if row.card.startswith("pcm-zarcone")]
    assert [(row.method, row.trial, row.loss) for row in trials_of(tmp_path / "run")] == before


@pytest.mark.parametrize("old", ["experiment.json", "plans.csv", "runs.csv", "study.toml"])
def test_a_run_of_another_version_is_refused_with_what_to_do(tiny_folder: Path, tmp_path: Path, old: str) -> None:
    (tmp_path / old).write_text("# network stripes sha256 0\n")
    with pytest.raises(ValueError, match="holds a run of another version of physcomp") as caught:
        resume(tiny_folder / "study.toml", tmp_path)
    assert "--fresh" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == [old]
    assert resume(tiny_folder / "study.toml", tmp_path, fresh=True)


def test_budgets_and_times_that_nearly_agree_have_files_of_their_own(write_study: Write, tmp_path: Path) -> None:
    times = (3600.0, 3600.001)
    cards = ", ".join(f'{{card = "pcm-nandakumar", read_time_s = {time_s}}}' for time_s in times)
    study = write_study(cards=f"[{cards}]", budgets="[2.0, 2.0000001]", uniform="[]", shrinkages="[0.5]")
    summary = report(run_study(load_study(study), tmp_path / "run")).sections
    assert len(summary) == 2
    assert {path.name for path in (tmp_path / "run" / "plans").iterdir()} == {
        "pcm-nandakumar-3600s.json",
        "pcm-nandakumar-3600.001s.json",
    }
    for ending in ("plan-{}2.json", "plan-{}2.0000001.json", "chip-{}2.h5", "chip-{}2.0000001.h5"):
        for prefix in ("", "pcm-nandakumar-3600.001s-"):
            assert (tmp_path / "run" / ending.format(prefix)).exists()
    for card, time_s in zip(cards_of(tmp_path / "run"), times, strict=True):
        assert card["read_time_s"] == time_s
        assert set(card["joint"]["points_lost"]) == {"2", "2.0000001"}
        # without the shrinkage 0.0 there is no choice without couplings
        assert {result["method"] for result in card["results"]} == {"joint", "digital codes only", "analog codes only"}


def test_a_joint_choice_without_any_other_method_is_held_against_none(write_study: Write, tmp_path: Path) -> None:
    study = write_study(parts="{}", uniform="[]", shrinkages="[0.5]", budgets="[2.0]", cards='[{card = "ideal"}]')
    report(run_study(load_study(study), tmp_path / "run"))
    (card,) = cards_of(tmp_path / "run")
    assert card["joint"]["against_others"] == []
    assert len(card["results"]) == 1
