"""`physcomp card plot` and `physcomp card capacity`: files, a table of 80 columns, refusals in one line."""

import csv
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

import devices

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def card_command(command: Run) -> Run:
    """Runs `physcomp card …` in this process, its border included: exit code, standard output, standard error."""
    return partial(command, "card")


def test_plot_without_names_draws_the_atlas_of_all_cards(card_command: Run, tmp_path: Path) -> None:
    code, printed, _ = card_command("plot", "--out", tmp_path)
    assert code == 0
    assert [Path(line).name for line in printed.split()] == ["noise-atlas.png", "noise-atlas.svg", "noise-atlas.pdf"]
    assert "<!-- rram-milo -->" in (tmp_path / "noise-atlas.svg").read_text("utf-8")


def test_plot_of_a_named_card_draws_all_kinds_but_the_drift_of_one_that_does_not(
    card_command: Run, tmp_path: Path
) -> None:
    code, printed, _ = card_command("plot", "pcm-zarcone", "--out", tmp_path, "--time", 60)
    assert code == 0
    drawn = {"level-response", "noise-atlas", "capacity-levels", "capacity-time"}
    assert {path.stem for path in tmp_path.iterdir()} == drawn
    assert sorted(printed.split()) == sorted(str(path) for path in tmp_path.iterdir())
    assert "pcm-zarcone:one-device, 60 s" in (tmp_path / "level-response.svg").read_text("utf-8")


def test_plot_of_one_kind_draws_that_alone(card_command: Run, tmp_path: Path) -> None:
    assert card_command("plot", "pcm-nandakumar", "rram-milo", "--kind", "drift", "--out", tmp_path)[0] == 0
    assert {path.stem for path in tmp_path.iterdir()} == {"drift-fan"}
    text = (tmp_path / "drift-fan.svg").read_text("utf-8")
    assert "pcm-nandakumar" in text
    assert "rram-milo" not in text


def test_capacity_prints_the_study_in_80_columns_and_saves_it(card_command: Run, tmp_path: Path) -> None:
    path = tmp_path / "bits.csv"
    options = ("--levels", "4,8", "--read-levels", "8,16", "--time", "0,3600", "--csv", path)
    code, printed, _ = card_command("capacity", "pcm-nandakumar", *options)
    assert code == 0
    assert max(len(line) for line in printed.splitlines() if line != str(path)) <= 80
    points = devices.capacity_study("pcm-nandakumar", levels_written=[4, 8], levels_read=[8, 16], times_s=[0, 3600])
    lines = [line.split() for line in printed.splitlines() if line.strip()[:1].isdigit()]
    assert [line[:5] for line in lines] == [
        [f"{p.time_s:g}", str(p.levels_written), str(p.levels_read), f"{p.bits:.3f}", f"{p.uniform_bits:.3f}"]
        for p in points
    ]
    assert [float(row["bits"]) for row in csv.DictReader(path.read_text("utf-8").splitlines())] == [
        point.bits for point in points
    ]
    assert printed.splitlines()[-1] == str(path)


def test_capacity_takes_temperatures_and_simulated_cells(card_command: Run) -> None:
    code, printed, _ = card_command(
        "capacity", "rram-radar", "--levels", 4, "--time", "1e6", "--temperature", "338,373", "--cells", 1000
    )
    assert code == 0
    assert max(map(len, printed.splitlines())) <= 80
    rows = [line.split() for line in printed.splitlines() if line.strip().startswith("1e+06")]
    assert [row[1] for row in rows] == ["338", "373"]


def test_capacity_reads_a_card_at_its_first_time_unless_told(card_command: Run) -> None:
    code, printed, _ = card_command("capacity", "rram-neurram", "--levels", 2)
    assert code == 0
    assert [line.split()[0] for line in printed.splitlines() if line.strip()[:1].isdigit()] == ["1"]


def test_capacity_draws_figures_where_they_are_wanted(card_command: Run, tmp_path: Path) -> None:
    code, _, _ = card_command("capacity", "rram-multilevel:4-levels", "--figures", tmp_path)
    assert code == 0
    assert {path.stem for path in tmp_path.iterdir()} == {"capacity-levels", "capacity-time"}


REFUSED = {
    "an unknown card": (("plot", "pcm-zarcon"), "pcm-zarcone"),
    "an unknown kind": (("plot", "pcm-zarcone", "--kind", "pie"), "--kind"),
    "a time the cards do not hold at": (("plot", "pcm-zarcone", "--time", 1e6), "1000000"),
    "the drift of a card that has none": (("plot", "pcm-zarcone", "--kind", "drift"), "pcm-zarcone:one-device"),
    "too many cards for one figure": (("plot", "--kind", "levels"), "1 to 6"),
    "a temperature a card knows nothing of": (
        ("plot", "pcm-zarcone", "--kind", "capacity", "--temperature", 300),
        "activation energy",
    ),
    "half a level": (("capacity", "pcm-zarcone", "--levels", "2.5"), "--levels"),
    "words for times": (("capacity", "pcm-zarcone", "--time", "soon"), "--time"),
    "fewer levels read than written": (("capacity", "pcm-zarcone", "--levels", 8, "--read-levels", 4), "levels read"),
    "a time outside the card": (("capacity", "pcm-zarcone", "--time", 61), "61"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_one_line_and_exit_2(
    case: str, card_command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words, named = REFUSED[case]
    code, printed, complaint = card_command(*words)
    assert (code, printed) == (2, "")
    assert complaint.startswith("physcomp: ")
    assert complaint.count("\n") == 1
    assert named in complaint
    assert not list(tmp_path.rglob("*.*"))


def test_matplotlib_is_loaded_only_for_figures() -> None:
    text = "import sys, simulations.commands.card; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", text], check=False).returncode == 0
