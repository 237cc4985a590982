import csv
import json

import pytest
from typer.testing import CliRunner

import devices
import physcomp
from simulations.cli import app
from simulations.engine import run_study
from simulations.footprint import CODES, Footprint, footprint, save_footprint
from simulations.progress import Progress
from simulations.study import Target, load_study

TARGETS = (Target("pcm-zarcone:one-device"), Target("pcm-nandakumar", 86400.0))


@pytest.fixture(scope="module")
def parts(tiny_folder):
    network = physcomp.load_network(tiny_folder / "net.toml")
    return network, *(physcomp.load_images(tiny_folder / "images", part) for part in ("calibration", "t10k"))


@pytest.fixture(scope="module")
def rows(parts) -> tuple[Footprint, ...]:
    return footprint(*parts, TARGETS)


def row_of(rows, code: str, card: str = "pcm-zarcone:one-device") -> Footprint:
    (row,) = (row for row in rows if (row.method, row.card) == (f"uniform {code}", card))
    return row


def test_there_is_a_row_for_every_card_and_code(rows):
    assert [(row.card, row.method) for row in rows] == [
        (target.card, f"uniform {code}") for target in TARGETS for code in CODES
    ]


def test_floats_take_32_bits_a_weight_and_their_biases(rows, parts):
    network = parts[0]
    layers = physcomp.layers_of(network.module)
    weights, biases = (sum(part) for part in zip(*((lay.rows.size, len(lay.bias)) for lay in layers), strict=True))
    row = row_of(rows, "float32")
    assert row.bits_per_weight == pytest.approx(32 + 16 * biases / weights)
    assert row.accuracy == pytest.approx(physcomp.evaluate(network.module, parts[2]).accuracy, abs=0.01)  # 2 images


def test_entropy_coding_saves_bits_and_changes_no_weight(parts):
    rows = footprint(*parts, TARGETS[:1], codes=("digital(4)", "coded(4)"))
    digital, coded = (row_of(rows, name) for name in ("digital(4)", "coded(4)"))
    assert (coded.accuracy, coded.loss) == (digital.accuracy, digital.loss)


def test_cells_are_bits_over_the_bits_of_a_cell(rows):
    for row in rows:
        assert row.bits_per_cell_bound == devices.reliable_bits(row.card, row.read_time_s)
        assert row.bits_per_cell_bch == devices.practical_bits(row.card, row.read_time_s).bits_per_cell
        assert row.cells_per_weight_bound == pytest.approx(row.bits_per_weight / row.bits_per_cell_bound)
        assert row.cells_per_weight_bch == pytest.approx(row.bits_per_weight / row.bits_per_cell_bch)


def test_an_analog_code_is_refused(parts):
    with pytest.raises(ValueError, match=r"of digital codes, got analog\(1\)"):
        footprint(*parts, TARGETS, codes=("analog(1)",))


def test_the_csv_holds_every_row(rows, tmp_path):
    save_footprint(rows, tmp_path / "footprint.csv")
    with (tmp_path / "footprint.csv").open() as file:
        read = list(csv.DictReader(file))
    assert [line["method"] for line in read] == [row.method for row in rows]
    assert float(read[0]["cells_per_weight_bch"]) == rows[0].cells_per_weight_bch


def test_a_study_counts_by_the_storage_it_names(write_study, tmp_path):
    path = write_study(
        storage='"bch"',
        uniform='["digital(4)", "coded(4)"]',
        budgets="[3.0]",
        trials="1",
        cards='[{card = "pcm-zarcone:one-device"}]',
    )
    run_study(load_study(path), tmp_path / "run", Progress(None))
    content = json.loads((tmp_path / "run" / "plans" / "pcm-zarcone-one-device.json").read_text())
    plans = {plan["method"]: plan for plan in content["plans"]}
    assert {plan["storage"] for plan in plans.values()} == {"bch"}
    practical = devices.practical_bits("pcm-zarcone:one-device", 0.0).bits_per_cell
    assert plans["uniform coded(4)"]["bits_per_cell"] == practical
    assert plans["uniform coded(4)"]["layers"][0]["written"] == plans["uniform digital(4)"]["layers"][0]["written"]


def test_a_study_of_unknown_storage_is_refused(write_study):
    with pytest.raises(ValueError, match="storage is one of bound, bch, got 'ldpc'; correct it"):
        load_study(write_study(storage='"ldpc"'))


def test_choose_says_by_what_it_counts(tiny_folder, tmp_path):
    arguments = ["choose", str(tiny_folder / "net.toml"), "--images", str(tiny_folder / "images"), "--quiet"]
    arguments += ["--card", "pcm-zarcone:one-device", "--budget", "4", "--storage", "bch"]
    done = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "plan.json")], catch_exceptions=False)
    assert "1.646 digital bits a cell, with a BCH code" in done.stdout
    assert physcomp.Plan.load(tmp_path / "plan.json").storage == "bch"
