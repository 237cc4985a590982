"""Options that all commands share: they are read from text, and become options of a command."""

import re
from collections.abc import Callable
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from simulations.commands.given import Cut, GivenNetwork, OptionalSource, expanded, numbers, shares, sides


def app_of(seen: list[Any]) -> typer.Typer:
    app = typer.Typer()

    @app.command()
    @expanded
    def take(
        network: GivenNetwork,
        plan: Annotated[str, typer.Argument(help="A plan.")],
        cut: Cut,
        out: Annotated[str, typer.Option(help="A file.")],
        data: OptionalSource = None,
    ) -> None:
        """Take everything."""
        seen.extend([network, plan, cut, out, data])

    return app


def test_a_command_takes_the_fields_of_its_dataclasses_as_options() -> None:
    seen: list[Any] = []
    line = ["net.py:build", "plan.json", "--args", '{"a": 1}', "--output", "-1", "--images", "d.npz", "--out", "x"]
    done = CliRunner().invoke(app_of(seen), [*line, "--split", "test=1", "--size", "8x9", "--mean", "0.5", "--sd", "1"])
    assert done.exit_code == 0, done.output
    network, plan, cut, out, data = seen
    assert (network.network, network.arguments, network.pick) == ("net.py:build", {"a": 1}, -1)
    assert (network.weights, network.task) == (None, "classes")
    assert (plan, out, data) == ("plan.json", "x", "d.npz")
    opened = cut.of(data, "h.npz")
    assert (opened.split, opened.size, opened.mean, opened.sd) == ({"test": 1.0}, (8, 9), (0.5,), (1.0,))
    assert (opened.heldout, opened.seed, opened.limit) == ("h.npz", 0, None)


def test_an_argument_that_is_missing_is_missed() -> None:
    assert CliRunner().invoke(app_of([]), ["net.toml", "--out", "x"]).exit_code == 2


@pytest.mark.parametrize(
    ("read", "told"),
    [
        (lambda: numbers("--mean", "a,b"), "--mean: numbers by commas, got 'a,b'"),
        (lambda: shares("test"), "--split: shares by part"),
        (lambda: shares("test=0.5,test=0.5"), "each once"),
        (lambda: sides("8x9x3"), "--size: height and width"),
        (lambda: sides("big"), "got 'big'"),
        (lambda: GivenNetwork(network="x", args="{a}").arguments, "--args: not JSON"),
        (lambda: GivenNetwork(network="x", args="[1]").arguments, "--args: arguments by name"),
    ],
)
def test_options_that_cannot_be_read_are_refused(read: Callable[[], object], told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        read()
