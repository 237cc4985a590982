"""The command `physcomp inspect`."""

from collections.abc import Callable
from pathlib import Path

import physcomp

Run = Callable[..., tuple[int, str, str]]


def test_the_table_of_a_network_is_printed(command: Run, tiny_folder: Path) -> None:
    arguments = ("--data", tiny_folder / "images", "--no-costs")
    code, shown, errors = command("inspect", tiny_folder / "net.toml", *arguments)
    assert (code, errors) == (0, "")
    network = physcomp.load_network(tiny_folder / "net.toml")
    found = physcomp.inspect(network, physcomp.load_images(tiny_folder / "images", "calibration"), costs=False)
    assert shown.strip() == str(found).strip()


def test_card_and_groups_are_taken(command: Run, tiny_folder: Path) -> None:
    arguments = ("--data", tiny_folder / "images", "--card", "ideal", "--granularity", "layer", "--memory", "64MB")
    code, shown, _ = command("inspect", tiny_folder / "net.toml", *arguments)
    assert code == 0
    assert "in 3 groups" in shown
    assert "cells/weight on ideal" in shown
    assert "the loss model will take about" in shown


def test_a_wrong_card_is_told_in_one_line(command: Run, tiny_folder: Path) -> None:
    code, _, errors = command("inspect", tiny_folder / "net.toml", "--data", tiny_folder / "images", "--card", "none")
    assert code == 2
    assert errors.count("\n") == 1
