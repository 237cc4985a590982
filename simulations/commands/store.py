"""The command `physcomp store`: programme a chip."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simulations.commands.console import out
from simulations.commands.given import Cut, GivenNetwork, OptionalSource, expanded
from simulations.commands.options import SeedOption

if TYPE_CHECKING:
    import physcomp

EXAMPLE = "physcomp store data/fashion-cnn.toml plan.json --seed 7 --out chip.h5"


@expanded
def store(
    network: GivenNetwork,
    plan: Annotated[Path, typer.Argument(help="Plan file that 'physcomp choose' wrote.")],
    cut: Cut,
    target: Annotated[Path, typer.Option("--out", help="Chip file to write (HDF5).")],
    data: OptionalSource = None,
    card: Annotated[str | None, typer.Option(help="Card file of the plan, if it is not a built-in one.")] = None,
    seed: SeedOption = 0,
) -> None:
    """Programme a chip: encode the network by a plan and write the cells, with the noise of their card.

    With --data the network is tried on the first calibration samples, as 'physcomp choose' does, on which folds of
    norms are checked. Writes a chip file (HDF5), which 'physcomp readback' takes. Takes seconds.
    """
    import physcomp

    wanted = physcomp.Plan.load(plan)
    loaded = network.open(None if data is None else cut.of(data).part("calibration"))
    check_plan(wanted, loaded, described=network.described, tried=data is not None)
    chip = physcomp.store(loaded, wanted, card=card, seed=seed)
    chip.save(target)
    cells = chip.cells.levels.size
    out.print(f"{target}: {cells:,} analog cells on {chip.card.name}, {len(chip.bits):,} bits stored digitally")


def check_plan(plan: "physcomp.Plan", network: "physcomp.Network", *, described: bool, tried: bool) -> None:
    """Check that a plan was made for a network.

    Args:
        plan: the plan.
        network: the network.
        described: whether it has a description.
        tried: whether it was tried on samples; without them folds of norms may not be those of the choice.

    Raises:
        ValueError: it was made for another.
    """
    try:
        plan.check(network)
    except ValueError as error:
        data = "" if tried else ", and --data as for 'physcomp choose', since folds of norms are checked on it"
        cure = "" if described else f", or give --args and --weights of the choice{data}"
        raise ValueError(f"{error}{cure}") from None
