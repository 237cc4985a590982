"""The command `physcomp inspect`: what becomes of each tensor of a network, before any work."""

from typing import Annotated, Literal

import typer

from simulations.commands import defaults
from simulations.commands.choose import bytes_of
from simulations.commands.console import out
from simulations.commands.given import Cut, GivenNetwork, Source, expanded

EXAMPLE = "physcomp inspect data/fashion-cnn.toml --data data/fashion-mnist"


@expanded
def inspect(
    network: GivenNetwork,
    data: Source,
    cut: Cut,
    card: Annotated[str, typer.Option(help="Card: a name of 'physcomp card list', or a TOML file.")] = defaults.CARD,
    granularity: Annotated[
        Literal["layer", "filter", "kernel"], typer.Option(help="Which weights form a group, which gets one code.")
    ] = "filter",
    memory: Annotated[str, typer.Option(help="Memory that the loss model may take: 500MB, 4GB.")] = defaults.MEMORY,
    costs: Annotated[bool, typer.Option(help="Whether to estimate time and memory of the loss model.")] = True,
) -> None:
    """Say what becomes of each tensor of a network if it is stored on cells: on cells, kept digital, or left out.

    Prints a table of all tensors, what they come to, the time and memory that 'physcomp choose' will take for its loss
    model, and what seems wrong with network or data, on the calibration samples. Writes nothing. Takes seconds.
    """
    room = bytes_of(memory)
    import devices
    import physcomp

    opened = devices.load_card(card)
    calibration = cut.of(data).part("calibration")
    found = physcomp.inspect(
        network.open(calibration),
        calibration,
        card=opened,
        granularity=granularity,
        memory_bytes=room,
        costs=costs,
    )
    out.print(str(found), soft_wrap=True, markup=False, highlight=False)
