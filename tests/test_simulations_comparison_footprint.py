"""The footprint study: cells of digital storage and of trained plans, and the fewest of each method."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import devices
import physcomp
from physcomp.networks.description import read_description
from simulations.cli import app
from simulations.comparison import footprint
from simulations.comparison.plans import JOINT, TRAINED
from simulations.comparison.stored import ChipTrial
from simulations.kinds import load_study, run_study
from simulations.runs.ledger import Ledger
from simulations.runs.readback import read_back

Write = Callable[..., Path]
CARD = "pcm-zarcone:one-device"
WEIGHTS = 345  # parameters of the tiny network
UNIFORM = ("float32", "digital(8)", "digital(4)", "coded(4)", "analog(1)", "analog(2)", "analog(1,plain)")
CHANGES = {
    "kind": '"footprint"',
    "shrinkages": "[0.0]",
    "budgets": "[1.5, 3.0]",
    "uniform": json.dumps(UNIFORM),
    "cards": f'[{{card = "{CARD}"}}, {{card = "pcm-nandakumar", read_time_s = 3600}}]',
}


@pytest.fixture(scope="module")
def tuned(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders as `physcomp finetune` leaves them, without the training: `digital`, `analog`; filters are gone."""
    folder = tmp_path_factory.mktemp("tuned")
    images = physcomp.load_images(tiny_folder / "images", "calibration")
    description = read_description(tiny_folder / "net.toml")
    whole = physcomp.describe(description, physcomp.load_network(tiny_folder / "net.toml"))
    model = physcomp.build_model(whole.network, images, card=CARD, menu=("pruned", "digital(4)", "analog(1)"))
    for name, code in (("digital", 1), ("analog", 2)):
        choice = np.full(len(model.loss), code)
        choice[[1, 5]] = 0
        plan = physcomp.plan_of(model, choice, method=name, shrinkage=0.0, budget=2.5)
        narrower, plan = physcomp.narrow(whole, plan, devices.load_card(CARD))
        (folder / name).mkdir()
        narrower.save(folder / name / "net.toml")
        plan.save(folder / name / "plan.json")
    return folder


@pytest.fixture(scope="module")
def finished(tuned: Path, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run from the command line, with its study and what it printed. Not to be changed."""
    folder = tmp_path_factory.mktemp("footprint")
    lines = (tiny_folder / "study.toml").read_text().splitlines()
    values = dict(line.split(" = ", 1) for line in lines) | CHANGES | {"trained": f'["{tuned}/*"]'}
    values |= {"network": f'"{tiny_folder / "net.toml"}"', "images": f'"{tiny_folder / "images"}"'}
    (folder / "own.toml").write_text("".join(f"{name} = {value}\n" for name, value in values.items()))
    arguments = ["run", str(folder / "own.toml"), "--out", str(folder), "--quiet"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    (folder / "printed.txt").write_text(done.stdout)
    return folder


@pytest.fixture(scope="module")
def summary(finished: Path) -> dict[str, Any]:
    return dict(json.loads((finished / "summary.json").read_text()))


def of_method(card: dict[str, Any], method: str) -> dict[str, Any]:
    (result,) = [result for result in card["results"] if result["method"] == method]
    return dict(result)


def test_trained_plans_count_in_cells_per_weight_of_the_network_at_the_start(
    summary: dict[str, Any], tuned: Path
) -> None:
    plans = [physcomp.Plan.load(tuned / name / "plan.json") for name in ("analog", "digital")]
    assert all(plan.weights < WEIGHTS for plan in plans)
    found = [result for result in summary["cards"][0]["results"] if result["method"] == TRAINED]
    assert [r["cells_per_weight"] for r in found] == [plan.cells / WEIGHTS for plan in plans]
    assert [r["budget_cells_per_weight"] for r in found] == pytest.approx([2.5 * p.per / WEIGHTS for p in plans])
    assert [r["trials"] for r in found] == [3, 1]
    assert [r["predicted_loss_increase"] for r in found] == [None, None]


def test_of_trained_plans_those_without_analog_cells_stand_on_every_card(summary: dict[str, Any], tuned: Path) -> None:
    plan = physcomp.Plan.load(tuned / "digital" / "plan.json")
    there = devices.reliable_bits(devices.load_card("pcm-nandakumar"), 3600.0)
    here = [result for result in summary["cards"][0]["results"] if result["method"] == TRAINED]
    (moved,) = [r for r in summary["cards"][1]["results"] if r["method"] == TRAINED]
    assert moved["cells_per_weight"] == pytest.approx(plan.cells / WEIGHTS * plan.bits_per_cell / there)
    assert (moved["trials"], moved["accuracy_mean"]) == (1, here[1]["accuracy_mean"])


def test_a_trained_plan_is_measured_with_its_own_network(finished: Path, tuned: Path, tiny_folder: Path) -> None:
    test = physcomp.load_images(tiny_folder / "images", "t10k")[:200]
    plan = physcomp.Plan.load(tuned / "analog" / "plan.json")
    network = physcomp.load_network(tuned / "analog" / "net.toml")
    trials = read_back(plan, test.inputs, test.labels, network=network, trials=3, seed=5)
    rows = [t for t in Ledger(finished / "trials.csv", ChipTrial).entries if t.key.plan == plan.sha256[:12]]
    assert [(t.trial, t.seed, t.loss, t.accuracy) for t in trials] == [
        (r.key.trial, r.key.seed, r.metrics["loss"], r.metrics["accuracy"]) for r in rows
    ]


def test_trained_plans_are_no_others_that_the_joint_choice_is_held_against(summary: dict[str, Any]) -> None:
    assert all(against["best_other"] != TRAINED for against in summary["cards"][0]["joint"]["against_others"])


def test_a_killed_run_resumes_to_the_same_ledger_and_summary(finished: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(finished, tmp_path / "copy"))
    whole = (copy / "trials.csv").read_text()
    (copy / "trials.csv").write_text("".join(whole.splitlines(keepends=True)[:-9]))
    (copy / "summary.json").unlink()
    done = CliRunner().invoke(app, ["run", str(copy / "own.toml"), "--out", str(copy), "--quiet"])
    assert (copy / "trials.csv").read_text() == whole
    assert (copy / "summary.json").read_text() == (finished / "summary.json").read_text()
    assert done.stdout.replace(str(copy), str(finished)) == (finished / "printed.txt").read_text()


def test_floats_take_32_bits_a_weight_and_their_biases(summary: dict[str, Any], tiny_folder: Path) -> None:
    network = physcomp.load_network(tiny_folder / "net.toml")
    layers = physcomp.layers_of(network.module)
    bits = 32 * sum(layer.rows.size for layer in layers)
    bits += 16 * sum(len(layer.bias) for layer in layers if layer.bias is not None)
    for card in summary["cards"]:
        result = of_method(card, "uniform float32")
        assert result["cells_per_weight"] * card["bits_per_cell"] == pytest.approx(bits / WEIGHTS)
        assert result["accuracy_mean"] == pytest.approx(summary["clean_accuracy"], abs=0.01)  # of 200 images two


def test_entropy_coding_changes_no_weight(summary: dict[str, Any]) -> None:
    digital, coded = (of_method(summary["cards"][0], f"uniform {kind}(4)") for kind in ("digital", "coded"))
    assert (coded["accuracy_mean"], coded["loss_mean"]) == (digital["accuracy_mean"], digital["loss_mean"])


def test_with_a_bch_code_bits_take_more_cells_and_analog_cells_as_many(summary: dict[str, Any]) -> None:
    for card in summary["cards"]:
        practical = devices.practical_bits(card["card"], card["read_time_s"]).bits_per_cell
        assert card["bits_per_cell_bch"] == practical
        for result in card["results"]:
            analog = result["ledger_cells"]["analog"]
            bits = (sum(result["ledger_cells"].values()) - analog) * card["bits_per_cell"]
            assert result["cells_per_weight_bch"] == pytest.approx((analog + bits / practical) / WEIGHTS)


def test_the_table_is_printed_and_written(finished: Path, summary: dict[str, Any]) -> None:
    with (finished / "footprint.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == sum(len(card["footprint"]) for card in summary["cards"])
    printed = (finished / "printed.txt").read_text()
    for line in lines:
        assert line["method"] in printed
        assert line["cells_per_weight"] == "" or f"{float(line['cells_per_weight']):.3f}" in printed
    for ending in ("png", "svg"):
        assert (finished / f"frontier.{ending}").stat().st_size > 10_000
    assert "frontier.png" in printed


def result(method: str, cells: float, accuracy: float, bch: float | None = None) -> dict[str, Any]:
    return {"method": method, "cells_per_weight": cells, "cells_per_weight_bch": bch, "accuracy_mean": accuracy}


def fewest(results: list[dict[str, Any]], lost: float, count: str = "bound") -> dict[str, dict[str, Any]]:
    """The footprint's entries of a card with a clean network of 90 %, by method."""
    table = footprint.fewest(pl.DataFrame(results, schema_overrides={"cells_per_weight_bch": pl.Float64}), 0.9)
    entries = table.filter(pl.col("points_lost_at_most") == lost, pl.col("count") == count).to_dicts()
    return {entry["method"]: entry for entry in entries}


def test_the_fewest_cells_are_those_of_the_cheapest_measured_plan_that_is_close_enough() -> None:
    results = [
        result(JOINT, 0.2, 0.880),
        result(JOINT, 0.4, 0.891),
        result(JOINT, 0.5, 0.894),  # above 0.5 points lost by little
        result(JOINT, 0.8, 0.895),
        result(JOINT, 1.0, 0.896),
        result("uniform float32", 16.0, 0.9),
    ]
    assert fewest(results, 0.5)[JOINT]["cells_per_weight"] == 0.8  # exactly half a point counts
    assert fewest(results, 1.0)[JOINT]["cells_per_weight"] == 0.4
    assert fewest(results, 0.5)["uniform float32"]["over_joint"] == pytest.approx(20)
    assert fewest(results, 0.5)["uniform float32"]["over_trained"] is None


def test_trained_plans_are_a_method_of_their_own() -> None:
    results = [result(JOINT, 0.8, 0.9), result(TRAINED, 0.3, 0.899), result(TRAINED, 0.1, 0.8)]
    found = fewest(results, 1.0)
    assert found[TRAINED]["cells_per_weight"] == 0.3
    assert found[JOINT]["over_trained"] == pytest.approx(8 / 3)


def test_analog_codes_of_one_kind_are_one_method_whatever_their_cells() -> None:
    results = [
        result("uniform analog(1)", 1.4, 0.8),
        result("uniform analog(3)", 3.4, 0.899),
        result("uniform analog(10)", 10.4, 0.9),
        result("uniform analog(3,plain)", 3.1, 0.85),
    ]
    found = fewest(results, 0.5)
    assert found["uniform analog(r)"]["cells_per_weight"] == 3.4
    assert found["uniform analog(r,plain)"]["cells_per_weight"] is None


def test_what_has_no_bch_code_is_left_open() -> None:
    results = [result(JOINT, 0.8, 0.9, 1.2), result("uniform float32", 16.0, 0.9, None)]
    found = fewest(results, 0.5, "bch")
    assert found[JOINT]["cells_per_weight"] == 1.2
    assert found["uniform float32"]["cells_per_weight"] is found["uniform float32"]["over_joint"] is None


def refused(path: Path, folder: Path) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        run_study(load_study(path), folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_folder_of_a_trained_plan_is_named(write_study: Write, tmp_path: Path) -> None:
    message = refused(write_study(**{**CHANGES, "trained": '["none/*"]'}), tmp_path / "run")
    assert message.startswith(f"{tmp_path}/none/*: no such folder; make one with 'physcomp finetune'")


def test_a_trained_plan_for_another_card_or_time_is_refused(write_study: Write, tuned: Path, tmp_path: Path) -> None:
    for card in ('{card = "pcm-zarcone:aligned"}', '{card = "pcm-zarcone", read_time_s = 10}'):
        changes = {**CHANGES, "trained": f'["{tuned}/analog"]', "cards": f"[{card}]"}
        message = refused(write_study(**changes), tmp_path / "run")
        assert f"{tuned / 'analog'}: a plan for {CARD} read after 0 s, which is no card of the study" in message


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("mean = 0.5", "mean = 0.4", "plan.json was made for another network than net.toml; train again"),
        ('"rows"', '"bars"', "a network of other classes than stripes; remove the folder from the study"),
    ],
)
def test_a_trained_plan_of_another_network_is_refused(
    write_study: Write, tuned: Path, tmp_path: Path, old: str, new: str, told: str
) -> None:
    copy = Path(shutil.copytree(tuned / "digital", tmp_path / "copy"))
    (copy / "net.toml").write_text((copy / "net.toml").read_text().replace(old, new))
    message = refused(write_study(**{**CHANGES, "trained": f'["{copy}"]'}), tmp_path / "run")
    assert message == f"{copy}: {told}"


def test_only_a_footprint_study_names_trained_plans(write_study: Write) -> None:
    with pytest.raises(ValueError, match="unknown field trained; remove it"):
        load_study(write_study(trained='["tuned"]'))


def test_a_study_counts_by_the_storage_it_names(write_study: Write, tmp_path: Path) -> None:
    path = write_study(
        ecc='"bch"',
        uniform='["digital(4)", "coded(4)"]',
        budgets="[3.0]",
        trials="1",
        cards='[{card = "pcm-zarcone:one-device"}]',
    )
    run_study(load_study(path), tmp_path / "run")
    content = json.loads((tmp_path / "run" / "plans" / "pcm-zarcone-one-device.json").read_text())
    plans = {plan["method"]: plan for plan in content["plans"]}
    assert {plan["ecc"] for plan in plans.values()} == {"bch"}
    practical = devices.practical_bits("pcm-zarcone:one-device", 0.0).bits_per_cell
    assert plans["uniform coded(4)"]["bits_per_cell"] == practical
    coded, digital = (physcomp.Plan.from_json(json.dumps(plans[f"uniform {kind}(4)"])) for kind in ("coded", "digital"))
    np.testing.assert_array_equal(coded.layers[0].rows, digital.layers[0].rows)


def test_a_study_of_unknown_storage_is_refused(write_study: Write) -> None:
    with pytest.raises(ValueError, match="ecc should be 'bound' or 'bch', got 'ldpc'; correct it"):
        load_study(write_study(ecc='"ldpc"'))


def test_choose_says_by_what_it_counts(tiny_folder: Path, tmp_path: Path) -> None:
    arguments = ["choose", str(tiny_folder / "net.toml"), "--images", str(tiny_folder / "images"), "--quiet"]
    arguments += ["--card", "pcm-zarcone:one-device", "--budget", "4", "--ecc", "bch"]
    done = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "plan.json")], catch_exceptions=False)
    assert "1.646 digital bits a cell, with a BCH code" in done.stdout
    assert physcomp.Plan.load(tmp_path / "plan.json").ecc == "bch"
