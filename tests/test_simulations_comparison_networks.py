"""Studies of several networks: every number of their tables is that of its trials, and a killed run goes on."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from typer.testing import CliRunner

import devices
import physcomp
from simulations.cli import app
from simulations.comparison.draws import dealt, interval_of
from simulations.comparison.networks_tables import summarize

STUDY = """
kind = "networks"
name = "several"
card = "pcm-zarcone"
budgets = [0.01, 1.5]
menu = ["pruned", "digital(2)", "digital(4)", "coded(3)"]
uniform = ["digital(4)", "analog(1)"]
draws = 2
calibration = 60
heldout = 50
test_images = 150
seed = 3

[[networks]]
name = "stripes"
network = "net.toml"
data = "images"
trained = [2.0]
epochs = 1

[[networks]]
name = "words"
network = "words.py:build"
data = "words.py:words"
perplexity = true
budgets = [6.0]
trained = [6.0]
train_data = "words.py:none"

[[networks]]
name = "missing"
network = "nothing.there:net"
data = "images"
"""
WORDS = """
import torch
from torch import nn

def build():
    return nn.Sequential(nn.Embedding(8, 6), nn.Linear(6, 8))

def none(part):
    raise OSError("no such disk")

def words(part):
    drawn = torch.randint(0, 8, (80, 9), generator=torch.Generator().manual_seed(len(part)))
    return drawn, (drawn * 3) % 8
"""


@pytest.fixture(scope="module")
def place(tiny_folder: Path) -> Path:
    (tiny_folder / "words.py").write_text(WORDS)
    (tiny_folder / "several.toml").write_text(STUDY)
    return tiny_folder / "several.toml"


def run(place: Path, out: Path) -> str:
    done = CliRunner().invoke(app, ["run", str(place), "--out", str(out), "--quiet"], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


@pytest.fixture(scope="module")
def finished(place: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of an undisturbed run, and what it printed. Not to be changed."""
    folder = tmp_path_factory.mktemp("several") / "run"
    return folder, run(place, folder)


def trials_of(folder: Path) -> list[dict[str, Any]]:
    lines = pl.read_csv(folder / "trials.csv").to_dicts()
    return [{**line, **json.loads(line["metrics"])} for line in lines]


def test_every_plan_of_every_draw_is_measured_but_for_budgets_that_nothing_fits(finished: tuple[Path, str]) -> None:
    trials = trials_of(finished[0])
    counted = {(t["network"], t["method"], t["budget"]) for t in trials}
    assert counted == {
        ("stripes", "uniform digital(4)", None), ("stripes", "uniform analog(1)", None), ("stripes", "joint", 1.5),
        ("stripes", "joint + training", 2.0), ("words", "uniform digital(4)", None),
        ("words", "uniform analog(1)", None), ("words", "joint", 6.0),
    }  # fmt: skip
    assert len(trials) == 2 * len(counted)


def test_cells_bits_and_rises_belong_together(finished: tuple[Path, str]) -> None:
    card = devices.load_card("pcm-zarcone")
    ratio = devices.reliable_bits(card, 0.0) / devices.practical_bits(card, 0.0).bits_per_cell
    for trial in trials_of(finished[0]):
        assert trial["measured"] == pytest.approx(trial["loss"] - trial["clean_loss"])
        if trial["budget"] is not None:
            assert trial["cells_per_weight"] <= trial["budget"] + 1e-9
        if trial["method"] == "uniform analog(1)":
            assert trial["bits_per_weight"] is None
            assert trial["cells_per_weight"] < trial["cells_per_weight_bch"]
        else:
            assert trial["bits_per_weight"] == pytest.approx(
                trial["cells_per_weight"] * devices.reliable_bits(card, 0.0), rel=1e-6
            )
            assert trial["cells_per_weight_bch"] == pytest.approx(trial["cells_per_weight"] * ratio, rel=1e-6)
        for stage in ("model", "choice", "store", "read"):
            assert trial[f"{stage}_seconds"] >= 0
        if trial["method"] != "joint + training" and trial["predicted_low"] is not None:
            assert trial["predicted_low"] <= trial["predicted"] <= trial["predicted_high"]


def test_draws_differ_and_their_spread_is_told(finished: tuple[Path, str]) -> None:
    folder, printed = finished
    trials = [t for t in trials_of(folder) if (t["network"], t["method"], t["budget"]) == ("stripes", "joint", 1.5)]
    assert trials[0]["predicted"] != trials[1]["predicted"]
    lost = [100 * (t["clean_accuracy"] - t["accuracy"]) for t in trials]
    mean, sd = np.mean(lost), np.std(lost, ddof=1)
    (row,) = [line for line in printed.splitlines() if line.strip().startswith("joint at 1.5")]
    assert f"{mean:.2f} ± {sd:.2f}" in row
    (kept,) = [line for line in printed.splitlines() if line.startswith("Kept by the joint choice at 1.5 cells/weight")]
    assert all(trial["way"] in kept for trial in trials)


def test_texts_are_told_by_their_perplexity(finished: tuple[Path, str]) -> None:
    folder, printed = finished
    trials = [t for t in trials_of(folder) if t["network"] == "words"]
    assert f"clean: perplexity {math.exp(trials[0]['clean_loss']):.3f}" in printed
    row = next(r for r in json.loads((folder / "summary.json").read_text())["networks"]["words"]["results"]
               if r["method"] == "joint")  # fmt: skip
    gained = [100 * (math.exp(t["loss"] - t["clean_loss"]) - 1) for t in trials if t["method"] == "joint"]
    assert row["lost"] == pytest.approx(np.mean(gained))


def test_a_network_that_is_not_there_is_left_out_with_the_reason(finished: tuple[Path, str], place: Path) -> None:
    assert "Warning: missing is left out: nothing.there: no module named 'nothing'" in finished[1]
    assert "Warning: words is not trained for its plans: " in finished[1]
    assert "no such disk" in finished[1]
    alone = place.with_name("alone.toml")
    alone.write_text(re.sub(r'\[\[networks\]\]\nname = "(stripes|words)".*?(?=\[\[)', "", STUDY, flags=re.DOTALL))
    with pytest.raises(ValueError, match="missing is left out"):
        run(alone, place.with_name("alone"))


def test_a_killed_run_goes_on_to_the_same_results(finished: tuple[Path, str], place: Path, tmp_path: Path) -> None:
    whole = (finished[0] / "trials.csv").read_text().splitlines(keepends=True)
    again = tmp_path / "run"
    again.mkdir()
    (again / "study.toml").write_bytes((finished[0] / "study.toml").read_bytes())
    (again / "trials.csv").write_text("".join(whole[:-1]) + whole[-1][:20])
    run(place, again)
    timed = re.compile("seconds|bytes")
    one, two = (
        [
            {name: value for name, value in t.items() if not timed.search(name) and name != "metrics"}
            for t in trials_of(f)
        ]
        for f in (finished[0], again)
    )
    assert one == two
    assert not list((again / "models").glob("*"))


def test_the_figure_is_drawn(finished: tuple[Path, str]) -> None:
    assert {path.name for path in finished[0].glob("networks.*")} == {"networks.csv", "networks.png", "networks.svg"}
    text = (finished[0] / "networks.svg").read_text()
    assert "perplexity gained" in text or "<path" in text


def table(predicted: list[float], measured: list[float], method: str = "joint") -> pl.DataFrame:
    return pl.DataFrame(
        [
            {"network": "n", "draw": draw, "method": method, "budget": 1.0, "accuracy": 0.9, "loss": 0.3 + rise,
             "clean_accuracy": 0.92, "clean_loss": 0.3, "cells_per_weight": 0.9, "cells_per_weight_bch": None,
             "bits_per_weight": 2.0, "predicted": ahead, "predicted_low": 0.5 * ahead, "predicted_high": 2 * ahead,
             "measured": rise, "way": "all", **{f"{s}_{u}": 1 for s in ("model", "choice", "store", "read")
                                  for u in ("seconds", "bytes")}}
            for draw, (ahead, rise) in enumerate(zip(predicted, measured, strict=True))
        ]
    )  # fmt: skip


def test_rises_far_above_the_predicted_ones_are_counted() -> None:
    facts = {"n": {"metric": "accuracy"}}
    (of,) = summarize("s", "0", facts, table([0.01, 0.01, 0.01, 1e-5], [0.031, 0.029, 0.015, 9e-4]))[
        "networks"
    ].values()
    assert of["off"] == {"plans": 4, "off": 1, "off_joint": 1}
    assert of["covered"] == {"plans": 4, "inside": 1}
    (row,) = of["results"]
    assert row["lost"] == pytest.approx(2.0)
    assert row["cells_per_weight_bch"] is None
    assert row["measured"] == pytest.approx((0.031 + 0.029 + 0.015 + 9e-4) / 4)


def test_one_draw_has_no_spread() -> None:
    (of,) = summarize("s", "0", {"n": {"metric": "accuracy"}}, table([0.01], [0.02]))["networks"].values()
    assert of["results"][0]["lost_sd"] is None


def test_samples_are_dealt_from_both_parts_and_none_twice() -> None:
    both = [physcomp.Samples({"a": torch.arange(s, s + 10.0), "b": torch.arange(s, s + 10)}, torch.arange(s, s + 10))
            for s in (0, 10)]  # fmt: skip
    deals = [dealt(both[0], both[1], (8, 7), seed) for seed in (1, 1, 2)]
    labels = [[part.labels.tolist() for part in deal] for deal in deals]
    assert labels[0] == labels[1] != labels[2]
    assert len({*labels[0][0], *labels[0][1]}) == 15
    assert isinstance(deals[0][0].inputs, dict)
    assert deals[0][0].inputs["a"].long().tolist() == deals[0][0].inputs["b"].tolist() == labels[0][0]
    with pytest.raises(ValueError, match="12 and 9 samples are asked for, calibration and heldout have 20 together"):
        dealt(both[0], both[1], (12, 9), 0)


def test_the_interval_of_a_proof_goes_before_that_of_the_model() -> None:
    class Proof:
        predicted_interval: tuple[float, ...] = (0.1, 0.3)
        solver = "annealer"

    class Plan:
        proof = Proof()

    find: Callable[..., Any] = interval_of
    assert find(None, Plan(), 0.7) == (0.1, 0.3)
    Proof.predicted_interval = (0.1, math.inf)
    assert find(None, Plan(), 0.7) == (None, None)
    Proof.predicted_interval = ()
    assert find(None, Plan(), 0.7) == (None, None)
