"""The command `physcomp store`: programme a chip."""

from pathlib import Path
from typing import Annotated

import typer

from simulations.commands.console import out
from simulations.commands.options import NetworkFile, SeedOption

EXAMPLE = "physcomp store data/fashion-cnn.toml plan.json --seed 7 --out chip.h5"


def store(
    network: NetworkFile,
    plan: Annotated[Path, typer.Argument(help="Plan file that 'physcomp choose' wrote.")],
    target: Annotated[Path, typer.Option("--out", help="Chip file to write (HDF5).")],
    card: Annotated[str | None, typer.Option(help="Card file of the plan, if it is not a built-in one.")] = None,
    seed: SeedOption = 0,
) -> None:
    """Programme a chip: encode the network by a plan and write the cells, with the noise of their card.

    Writes a chip file (HDF5), which 'physcomp readback' takes. Takes seconds.
    """
    import physcomp

    chip = physcomp.store(physcomp.load_network(network), physcomp.Plan.load(plan), card=card, seed=seed)
    chip.save(target)
    cells = chip.cells.levels.size
    out.print(f"{target}: {cells:,} analog cells on {chip.card.name}, {len(chip.bits):,} bits stored digitally")
