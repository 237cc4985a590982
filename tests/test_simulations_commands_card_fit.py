"""`physcomp card fit`: from a file of measurements to a card that every other command takes."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import devices
from simulations.cli import app


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["card", "fit", *map(str, arguments)])


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """Resistances in ohm, two devices, falling with the voltage and then rising again."""
    generator = np.random.default_rng(0)
    rows = ["device,voltage,read"]
    for device in ("left", "right"):
        for volt in (0.7, 0.8, 0.9, 1.0, 1.1, 1.2):
            for _ in range(20):
                decades = 5.0 + 4.0 * (volt - 1.1) ** 2 + generator.normal(0.0, 0.02) + 0.01 * (device == "left")
                rows.append(f"{device},{volt},{10**decades:.6g}")
    path = tmp_path / "lab.csv"
    path.write_text("\n".join(rows))
    return path


def test_measurements_become_a_card_a_report_and_a_figure(lab: Path) -> None:
    card, figure = lab.with_name("mine.toml"), lab.with_name("fit.png")
    done = invoke(
        lab, "--out", card, "--figure", figure, "--log10", "--quantity", "log10 resistance", "--unit", "log10 Ω",
        "--source", "lab book 7", "--doi", "10.1000/7", "--max-time", 60, "--name", "lab-7",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "note: the mean response is monotone from 0.7 to 1.1 V only, 5 levels" in done.stdout
    assert "residuals against the normal: KS" in done.stdout
    assert "lies between devices" in done.stdout
    assert figure.read_bytes().startswith(b"\x89PNG")
    loaded = devices.load_card(card)
    assert loaded.name.partition(":")[0] == "lab-7"
    assert (loaded.sources[0].paper, loaded.sources[0].doi, loaded.max_s) == ("lab book 7", "10.1000/7", 60.0)
    assert loaded.level.at_0 == pytest.approx(5.64, abs=0.03)  # 5 + 4 · 0.4² at 0.7 V
    assert sorted(path.name for path in lab.parent.iterdir()) == ["fit.png", "lab.csv", "mine.toml"]
    shown = CliRunner().invoke(app, ["card", "show", str(card)], catch_exceptions=False)
    assert shown.exit_code == 0
    assert "lab book 7" in shown.stdout


def test_the_same_measurements_make_the_same_card(lab: Path) -> None:
    for name in ("a.toml", "b.toml"):
        assert invoke(lab, "--out", lab.with_name(name), "--log10", "--name", "same").exit_code == 0
    assert lab.with_name("a.toml").read_bytes() == lab.with_name("b.toml").read_bytes()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--out", "card.json"], "--out 'card.json' needs a name that ends in .toml"),
        (["--out", "x.toml", "--no-monotone-range", "--log10"], "monotone from 0.7 to 1.1"),
        (["--out", "x.toml", "--least-writes", "50"], "6 of 6 levels have fewer than 50 writes"),
        (["--out", "x.toml", "--curve", "cubic"], "curve must be smooth or isotonic, not 'cubic'"),
        (["--out", "x.toml", "--log10", "--figure", "fit.bmp"], "needs a name that ends in .png, .svg or .pdf"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_written(
    lab: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], line: str
) -> None:
    monkeypatch.chdir(lab.parent)
    done = invoke("lab.csv", *options)
    assert isinstance(done.exception, ValueError)
    assert line in str(done.exception)
    assert [path.name for path in lab.parent.iterdir()] == ["lab.csv"]
