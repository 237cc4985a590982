"""The command `physcomp readback`: the accuracy that is left on a chip."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from simulations.commands.console import out
from simulations.commands.options import ImageFolder, NetworkFile

EXAMPLE = "physcomp readback chip.h5 data/fashion-cnn.toml --images data/fashion-mnist --times 0,3600,86400"


def readback(
    chip: Annotated[Path, typer.Argument(help="Chip file that 'physcomp store' wrote.")],
    network: NetworkFile,
    images: ImageFolder,
    times: Annotated[
        str | None, typer.Option(help="Seconds since programming, by commas. Default: the plan's.")
    ] = None,
    reads: Annotated[int, typer.Option(help="Reads of the same cells at each time.")] = 1,
    part: Annotated[str, typer.Option(help="Which images: t10k, heldout or calibration.")] = "t10k",
) -> None:
    """Read a chip back at given times and measure the accuracy that is left."""
    import physcomp
    from physcomp.codes.base import Medium
    from simulations.runs.readback import read_back, spread

    loaded = physcomp.load_chip(chip)
    test = physcomp.load_images(images, part)
    when = None if times is None else [_seconds(word) for word in times.split(",")]
    trials = read_back(
        loaded, test.pixels, test.labels, network=physcomp.load_network(network), trials=reads, times_s=when
    )
    table = Table("time s", "accuracy ± sd %", "loss ± sd", "reads")
    for time_s in dict.fromkeys(trial.time_s for trial in trials):
        over = spread(trial for trial in trials if trial.time_s == time_s)
        table.add_row(
            f"{time_s:g}",
            f"{100 * over.accuracy_mean:.2f} ± {100 * over.accuracy_sd:.2f}",
            f"{over.loss_mean:.4f} ± {over.loss_sd:.4f}",
            str(over.trials),
        )
    out.print(table)
    latest = max(trial.time_s for trial in trials)
    holds = Medium(loaded.card, latest, storage=loaded.plan.storage).bits_per_cell
    if holds < loaded.plan.bits_per_cell:
        out.print(
            f"Digital bits are taken to read back without error. They were counted at {loaded.plan.bits_per_cell:.3f} "
            f"a cell; after {latest:g} s a cell holds {holds:.3f}: choose again with --time {latest:g}.",
            highlight=False,
        )


def _seconds(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise ValueError(f"--times: seconds separated by commas, got '{word}'; write for example 0,3600") from None
