"""The command `physcomp finetune`: what it writes stores and reads back, a killed run resumes, bad input is told."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import physcomp
from physcomp.training.alternation import Schedule
from simulations.cli import app
from simulations.comparison.plans import TRAINED

BUDGET = 1.4


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the 400 images of the tiny set 128 are held back, and a round chooses among fewer steps."""
    monkeypatch.setattr("physcomp.networks.plain_training.HELD_BACK", 128)
    monkeypatch.setattr("physcomp.training.alternation.STEPS", 2)


def run(network: Path, images: Path, out: Path, *more: object) -> Result:
    given = ["finetune", network, "--images", images, "--card", "pcm-zarcone", "--budget", BUDGET, "--out", out]
    return CliRunner().invoke(app, [str(word) for word in (*given, "--epochs", 2, "--quiet", *more)])


@pytest.fixture(scope="module")
def tuned(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an undisturbed run, with what it printed. Not to be changed."""
    folder = tmp_path_factory.mktemp("tuned") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("physcomp.networks.plain_training.HELD_BACK", 128)
        patch.setattr("physcomp.training.alternation.STEPS", 2)
        done = run(tiny_folder / "net.toml", tiny_folder / "images", folder, "--rounds", 2)
    assert done.exit_code == 0, done.output
    (folder / "printed.txt").write_text(done.output)
    return folder


def test_the_trained_network_and_its_plan_store_and_read_back(tuned: Path, tiny_folder: Path, tmp_path: Path) -> None:
    network, plan = tuned / "net.toml", physcomp.Plan.load(tuned / "plan.json")
    stored = CliRunner().invoke(app, ["store", str(network), str(tuned / "plan.json"), "--out", str(tmp_path / "c.h5")])
    assert stored.exit_code == 0, stored.output
    read = CliRunner().invoke(
        app, ["readback", str(tmp_path / "c.h5"), str(network), "--images", str(tiny_folder / "images")]
    )
    assert read.exit_code == 0, read.output
    assert plan.method == TRAINED
    assert plan.network_sha256 == physcomp.load_network(network).sha256


def test_the_plan_keeps_to_the_budget_of_the_network_given(tuned: Path, tiny_folder: Path) -> None:
    plan = physcomp.Plan.load(tuned / "plan.json")
    given = physcomp.load_network(tiny_folder / "net.toml").parameters
    assert plan.cells <= BUDGET * given
    printed = (tuned / "printed.txt").read_text()
    assert f"{plan.cells / given:.4f} cells/weight of 1.4 allowed, for the {given} parameters given" in printed


def test_the_plan_refuses_the_network_it_was_not_trained_with(tuned: Path, tiny_folder: Path) -> None:
    with pytest.raises(ValueError, match="made for network stripes"):
        physcomp.store(physcomp.load_network(tiny_folder / "net.toml"), physcomp.Plan.load(tuned / "plan.json"))


def test_the_best_round_by_held_out_loss_is_what_is_written(tuned: Path) -> None:
    rounds = json.loads((tuned / "rounds.json").read_text())["rounds"]
    losses = [entry["heldout_loss"] for entry in rounds]
    best = losses.index(min(losses))
    assert (tuned / "net.safetensors").read_bytes() == (tuned / f"round-{best}.safetensors").read_bytes()
    assert physcomp.Plan.load(tuned / "plan.json").proof.heldout_loss == min(losses)


def test_a_run_killed_after_its_first_round_resumes_to_the_same_bits(
    tuned: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "killed"
    shutil.copytree(tuned, folder)
    content = json.loads((folder / "rounds.json").read_text())
    assert len(content["rounds"]) == 2
    content["rounds"] = content["rounds"][:1]
    (folder / "rounds.json").write_text(json.dumps(content))
    for left in ("net.toml", "net.safetensors", "plan.json", "round-1.safetensors"):
        (folder / left).unlink()
    done = run(tiny_folder / "net.toml", tiny_folder / "images", folder, "--rounds", 2)
    assert done.exit_code == 0, done.output
    for name in ("net.toml", "net.safetensors", "round-1.safetensors"):
        assert (folder / name).read_bytes() == (tuned / name).read_bytes()
    plans = [physcomp.Plan.load(place / "plan.json").sha256 for place in (folder, tuned)]
    assert plans[0] == plans[1]


def test_rounds_of_another_training_are_not_gone_on_with(tuned: Path, tiny_folder: Path) -> None:
    done = run(tiny_folder / "net.toml", tiny_folder / "images", tuned, "--seed", 9)
    assert isinstance(done.exception, ValueError)
    assert "holds rounds of another training (of other seed)" in str(done.exception)


@pytest.mark.parametrize(("option", "rule"), [("--epochs", "at least 1, got 0"), ("--rounds", "at least 1, got 0")])
def test_numbers_below_one_are_refused(option: str, rule: str, tiny_folder: Path, tmp_path: Path) -> None:
    done = run(tiny_folder / "net.toml", tiny_folder / "images", tmp_path / "out", option, 0)
    assert isinstance(done.exception, ValueError)
    assert rule in str(done.exception)


def test_a_set_too_small_to_hold_images_back_is_refused(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("physcomp.networks.plain_training.HELD_BACK", 4000)
    done = run(tiny_folder / "net.toml", tiny_folder / "images", tmp_path / "out")
    assert isinstance(done.exception, ValueError)
    assert "train has 400 images, more than 4000 are needed" in str(done.exception)


def test_the_default_schedule_is_what_the_help_says() -> None:
    help_text = CliRunner().invoke(app, ["finetune", "--help"]).output
    assert f"[default: {Schedule.rounds}]" in help_text


def test_training_that_made_the_plan_worse_is_called_out(tuned: Path) -> None:
    rounds = json.loads((tuned / "rounds.json").read_text())["rounds"]
    printed = (tuned / "printed.txt").read_text()
    worse = min(made["heldout_loss"] for made in rounds) > rounds[0]["chosen_loss"]
    assert all(made["chosen_loss"] > 0 for made in rounds)
    assert ("warning: training left a held-out loss" in printed) == worse
