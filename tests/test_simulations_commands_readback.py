"""`physcomp readback` with drift compensation and recalibration, on a network that has drifted for a year."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

import physcomp
from simulations.cli import app

YEAR = 31536000
Read = Callable[..., tuple[list[str], list[list[float]], str]]


@pytest.fixture(scope="module")
def chip(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The striped network on single cells of a card with drift, written to be read at once."""
    network = physcomp.load_network(tiny_folder / "net.toml")
    images = physcomp.load_images(tiny_folder / "images", "calibration")
    model = physcomp.build_model(network, images, card="pcm-nandakumar", menu=("analog(1)",))
    plan = physcomp.uniform_plan(model, "analog(1)", shrinkage=0.0)
    path = tmp_path_factory.mktemp("drifted") / "chip.h5"
    physcomp.store(network, plan, seed=1).save(path)
    return path


@pytest.fixture
def read(chip: Path, tiny_folder: Path) -> Read:
    """Runs the command: the columns of the table, its rows as numbers (means alone), and what is printed."""

    def run(*options: str) -> tuple[list[str], list[list[float]], str]:
        given = ["readback", chip, tiny_folder / "net.toml", "--images", tiny_folder / "images", *options]
        done = CliRunner().invoke(app, [str(word) for word in given], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        lines = [re.sub(r"[┃│]", "|", line) for line in done.output.splitlines()]
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]
        rows = [[float(cell.split("±")[0]) for cell in row] for row in cells[1:]]
        return cells[0], rows, " ".join(done.output.split())

    return run


def test_compensation_and_recalibration_give_back_what_a_year_of_drift_took(read: Read, chip: Path) -> None:
    columns, rows, printed = read("--times", f"0,{YEAR}", "--reads", "3", "--compensate", "--recalibrate")
    assert columns[:4] == ["time s", "accuracy ± sd %", "loss ± sd", "reads"]
    assert columns[4:] == ["uncompensated %", "compensated %", "recalibrated %"]
    (_, at_once, _, _, left_at_once, _, _), (_, as_read, _, _, left, compensated, recalibrated) = rows
    assert left_at_once == at_once  # nothing has drifted yet
    assert left < as_read - 15  # by weights half as large with biases as they were
    assert compensated == pytest.approx(as_read, abs=2)  # a factor from reads is as good as the known law
    assert recalibrated > as_read + 4  # what each cell lost on its own, channel by channel
    plan = physcomp.load_chip(chip).plan
    bits = 13 * 2 * 16  # a gain and a bias for each of 4 + 6 + 3 channels
    assert f"64 samples: {bits} bits of gains and biases, {bits / plan.bits_per_cell:.0f} cells beside" in printed
    assert "one factor a layer" in printed


def test_without_the_options_the_table_and_its_numbers_are_as_before(read: Read) -> None:
    columns, rows, printed = read("--times", str(YEAR), "--reads", "3")
    assert columns == ["time s", "accuracy ± sd %", "loss ± sd", "reads"]
    assert "ompensated" not in printed
    assert "ecalibrated" not in printed
    _, both, _ = read("--times", str(YEAR), "--reads", "3", "--compensate", "--recalibrate")
    assert rows == [row[:4] for row in both]


def test_recalibration_names_the_calibration_images_that_are_missing(
    chip: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    for path in (tiny_folder / "images").glob("t10k*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    given = ["readback", chip, tiny_folder / "net.toml", "--images", tmp_path, "--recalibrate"]
    with pytest.raises(ValueError, match="no part calibration"):
        CliRunner().invoke(app, [str(word) for word in given], catch_exceptions=False)
