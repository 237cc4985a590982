"""What `physcomp run` prints: every number whole, however wide the table, and every name as it is."""

import pytest

from simulations.commands import console, run
from simulations.runs.kind import Section


def test_a_table_into_a_pipe_is_as_wide_as_its_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    columns = tuple(f"column {number}" for number in range(60))
    row = tuple(f"0.4{number:04d} ± 0.0{number:02d}" for number in range(60))
    run._show(Section("[a] on a card.", columns, [row], ["one finding"]))
    printed = capsys.readouterr().out
    assert not console.out.is_terminal
    assert "…" not in printed
    for text in (*columns, *row):
        assert text in printed
    assert max(map(len, printed.splitlines())) < 60 * 20  # and no wider


def test_names_in_brackets_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    run._show(Section("net [red] on a card.", ("method", "[cells]"), [("[bold]mine", "1.0")], ["[dim]found"]))
    printed = capsys.readouterr().out
    for text in ("net [red] on", "[cells]", "[bold]mine", "[dim]found"):
        assert text in printed
