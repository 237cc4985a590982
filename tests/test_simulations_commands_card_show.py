"""`physcomp card list` and `show`: every card, its sources, and its levels as read and as driven."""

import pytest
from typer.testing import CliRunner

from simulations.cli import app


def card(*words: str) -> tuple[int, str]:
    """Exit code and output of the command."""
    done = CliRunner().invoke(app, ["card", *words], catch_exceptions=False)
    return done.exit_code, done.output


def plain(text: str) -> str:
    return " ".join(text.split())


def test_card_list_names_every_card() -> None:
    code, printed = card("list")
    assert code == 0
    for name in ("ideal", "pcm-nandakumar", "pcm-zarcone:aligned", "pcm-zarcone:one-device"):
        assert name in printed


def test_card_show_gives_sources_choices_and_levels() -> None:
    code, printed = card("show", "pcm-nandakumar", "--time", "86400")
    assert code == 0
    assert "doi 10." in printed
    assert "our choice:" in printed
    rows = [plain(line).split() for line in printed.splitlines()]
    ones = next(row for row in rows if row[:1] == ["1"])
    # Drift of 0.049 decades a decade from 20 s to one day at full conductance: (86400/20)^-0.049 = 0.664.
    assert float(ones[1]) == pytest.approx(0.664, abs=0.02)


def test_card_show_says_what_to_apply_for_a_level_where_the_card_does() -> None:
    _, printed = card("show", "pcm-zarcone")
    assert "write voltage V" in plain(printed)
    rows = [plain(line).split() for line in printed.splitlines()]
    volts = [float(row[-1]) for row in rows if len(row) == 6 and row[0].replace(".", "").isdigit()]
    assert volts[-1] == 1.25  # the card's own for its highest level
    assert volts == sorted(volts)
    assert len(volts) == 8
    assert "voltage" not in card("show", "pcm-nandakumar")[1]
