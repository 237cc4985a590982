"""`physcomp card list`, `show` and `check`: what they print, and how they end."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import devices
from simulations.cli import app
from simulations.commands.card_tables import seconds

Run = Callable[..., Result]


@pytest.fixture
def card_command() -> Run:
    def run(*arguments: object) -> Result:
        return CliRunner().invoke(app, ["card", *map(str, arguments)])

    return run


def test_the_list_names_every_card_within_80_columns(card_command: Run) -> None:
    done = card_command("list")
    assert done.exit_code == 0
    for name in devices.card_names():
        assert name in done.stdout
    assert max(len(line.rstrip()) for line in done.stdout.splitlines()) <= 80
    neurram = next(line for line in done.stdout.splitlines() if line.strip().startswith("rram-neurram"))
    assert "1 s, 1 day, 2 days" in neurram
    assert f"{devices.reliable_bits('rram-neurram', 1.0):.2f}" in neurram


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("rram-neurram", ["holds at 1 s, 1 day, 2 days", "published numbers disagree: ", "temperature: not known"]),
        ("rram-radar", ["338 to 373 K, activation energy 2.25 eV", "our choice: misfit"]),
        ("rram-multilevel:8-levels", ["levels written: 0, 0.0783,", "provenance"]),
        ("pcm-nandakumar", ["counted from 20 s", "stuck cells: 0 % at level 0", "doi 10.", "CC BY 4.0"]),
    ],
)
def test_show_says_what_a_card_holds(card_command: Run, name: str, lines: list[str]) -> None:
    done = card_command("show", name)
    assert done.exit_code == 0
    for line in lines:
        assert line in done.stdout


def test_show_takes_a_temperature(card_command: Run) -> None:
    hot = card_command("show", "rram-radar", "--time", 5.8e5, "--temperature", 373)
    assert hot.exit_code == 0
    assert "580000 s and 373 K" in hot.stdout
    card = devices.load_card("rram-radar")
    sd = float(devices.response(card, card.equivalent_time(5.8e5, 373.0)).variance(1.0)) ** 0.5
    assert f"{sd:.4f}" in hot.stdout


def test_show_keeps_square_brackets_of_a_card(card_command: Run, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    text = devices.load_card("rram-milo").text
    file.write_text(text.replace('"time: retention', '"[bold]time[/]: retention'), "utf-8")
    assert "[bold]time[/]: retention" in card_command("show", file).stdout


@pytest.mark.parametrize("name", ["ideal", "rram-neurram", "pcm-zarcone:partial-reset"])
def test_check_finds_built_in_cards_sound(card_command: Run, name: str) -> None:
    done = card_command("check", name)
    assert done.exit_code == 0
    assert "problem" not in done.stdout
    assert "sound: simulated moments are those of the closed form" in done.stdout


def test_check_lists_each_problem_in_one_line_and_ends_with_1(card_command: Run, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    text = devices.load_card("rram-milo").text
    file.write_text(text.replace("[4.782321, -0.009107]", "[100.0]"), "utf-8")
    done = card_command("check", file)
    assert done.exit_code == 1
    problems = [line for line in done.stdout.splitlines() if line.startswith("problem: ")]
    assert problems == ["problem: at 0 s a cell reads with an sd of 0.57 of the whole range"]
    assert "sound" not in done.stdout


def test_a_card_that_does_not_load_is_refused_by_check(card_command: Run, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(devices.load_card("rram-milo").text.replace("t0_s = 0.0", ""), "utf-8")
    done = card_command("check", file)
    assert isinstance(done.exception, ValueError)  # the command line's border makes one line and exit 2 of it
    assert "mine.toml: card 'rram-milo': time needs the fields t0_s, max_s: missing t0_s" in str(done.exception)


@pytest.mark.parametrize(
    ("time_s", "words"),
    [(0.0, "0 s"), (90.0, "90 s"), (120.0, "2 min"), (86400.0, "1 day"), (432000.0, "5 days"), (31536000.0, "1 year")],
)
def test_times_are_told_in_the_largest_whole_unit(time_s: float, words: str) -> None:
    assert seconds(time_s) == words
