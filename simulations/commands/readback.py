"""The command `physcomp readback`: the accuracy, or another metric, that is left on a chip."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from simulations.commands.console import out
from simulations.commands.given import Cut, GivenNetwork, Source, expanded
from simulations.commands.store import check_plan

if TYPE_CHECKING:
    import torch

    from physcomp.networks.network import Network
    from physcomp.networks.samples import Samples
    from physcomp.networks.task import Task
    from physcomp.storage.chip import Chip
    from physcomp.storage.recalibration import Recalibrated
    from simulations.runs.readback import StateOf, Trial

EXAMPLE = "physcomp readback chip.h5 data/fashion-cnn.toml --data data/fashion-mnist --times 0,3600,86400"
AS_READ = "as read"


@expanded
def readback(
    chip: Annotated[Path, typer.Argument(help="Chip file that 'physcomp store' wrote.")],
    network: GivenNetwork,
    data: Source,
    cut: Cut,
    times: Annotated[
        str | None, typer.Option(help="Seconds since programming, by commas. Default: the plan's.")
    ] = None,
    reads: Annotated[int, typer.Option(help="Reads of the same cells at each time.")] = 1,
    part: Annotated[
        str, typer.Option(help="Which samples: test (t10k), heldout, calibration, another part of the data, or all.")
    ] = "test",
    compensate: Annotated[
        bool, typer.Option("--compensate", help="Also with drift left as it is, and undone by a factor from reads.")
    ] = False,
    recalibrate: Annotated[
        bool, typer.Option("--recalibrate", help="Also with gains and biases set anew on the calibration samples.")
    ] = False,
) -> None:
    """Read a chip back at given times and measure the accuracy (or R²) that is left.

    Writes a table to the terminal, and no file. Takes seconds a read of 10,000 images; --compensate reads twice more,
    and --recalibrate also runs 2,000 images through each layer.
    """
    import physcomp
    from simulations.runs.quality import shown
    from simulations.runs.readback import read_back

    loaded = physcomp.load_chip(chip)
    when = None if times is None else [_seconds(word) for word in times.split(",")]
    source = cut.of(data)
    parts = source.parts(list(dict.fromkeys([part, "calibration"]))) if recalibrate else {part: source.part_apart(part)}
    test = parts[part]
    architecture = network.open(test)
    check_plan(loaded.plan, architecture, described=network.described, tried=True)
    ways: dict[str, StateOf | None] = {AS_READ: None}
    if compensate:
        ways["uncompensated"] = lambda cells, time_s, read: cells.read_back(time_s=time_s, read=read, drift="left")
        ways["compensated"] = lambda cells, time_s, read: cells.read_back(time_s=time_s, read=read, drift="reads")
    if recalibrate:
        recalibration = _Recalibration(architecture, parts["calibration"])
        ways["recalibrated"] = recalibration
    found = {
        name: read_back(
            loaded, test.inputs, test.labels, network=architecture, trials=reads, times_s=when, state_of=way
        )
        for name, way in ways.items()
    }
    out.print(_table(found, architecture.task))
    clean = physcomp.evaluate(architecture, test)
    notes = [
        f"{len(test):,} samples ({part}). As trained: {architecture.task.metric} "
        f"{shown(architecture.task, clean.accuracy)}, loss {clean.loss:.4f}."
    ]
    notes += [_compensation_note(loaded, architecture.task.metric)] if compensate else []
    notes += [recalibration.note(loaded)] if recalibrate else []
    notes += _later_note(loaded, max(trial.time_s for trial in found[AS_READ]))
    for note in notes:
        out.print(note, soft_wrap=True, highlight=False, markup=False)


class _Recalibration:
    """Reads a chip and recalibrates gains and biases; records the cells that this takes."""

    def __init__(self, network: "Network", images: "Samples") -> None:
        self.network, self.images = network, images
        self.last: Recalibrated | None = None

    def __call__(self, chip: "Chip", time_s: float, read: int) -> "dict[str, torch.Tensor]":
        import physcomp

        state = chip.read_back(time_s=time_s, read=read)
        self.last = physcomp.recalibrate(self.network, state, self.images, bits_per_cell=chip.plan.bits_per_cell)
        return self.last.state

    def note(self, chip: "Chip") -> str:
        assert self.last is not None
        return (
            f"Recalibrated on {len(self.images):,} samples: {self.last.extra_bits:,} bits of gains and biases, "
            f"{self.last.extra_cells:,.0f} cells beside {chip.plan.cells:,.0f}, are stored again at each time."
        )


def _table(found: "dict[str, list[Trial]]", task: "Task") -> Table:
    """One row per read time: metric and loss as read, then the metric after each correction."""
    from simulations.runs.quality import heading, in_percent, shown
    from simulations.runs.readback import spread

    others = [name for name in found if name != AS_READ]
    unit = " %" if in_percent(task) else ""
    table = Table("time s", heading(task), "loss ± sd", "reads", *(name + unit for name in others))
    for time_s in dict.fromkeys(trial.time_s for trial in found[AS_READ]):
        over = {name: spread(t for t in trials if t.time_s == time_s) for name, trials in found.items()}
        metric = {name: shown(task, s.accuracy_mean, s.accuracy_sd, unit=False) for name, s in over.items()}
        plain = over[AS_READ]
        loss = f"{plain.loss_mean:.4f} ± {plain.loss_sd:.4f}"
        table.add_row(f"{time_s:g}", metric[AS_READ], loss, str(plain.trials), *(metric[name] for name in others))
    return table


def _compensation_note(chip: "Chip", metric: str) -> str:
    first = f"{chip.card.first_s:g} s"
    return (
        f"The first {metric} takes the mean drift of {chip.card.name} as known. Uncompensated: as if read at {first}. "
        f"Compensated: that, times one factor a layer, the mean read of its cells at {first} over that at the time."
    )


def _later_note(chip: "Chip", latest: float) -> list[str]:
    """A note if digital bits were counted for an earlier time than the latest read."""
    from physcomp.codes.base import Medium

    plan = chip.plan
    holds = Medium(chip.card, latest, ecc=plan.ecc).bits_per_cell
    if holds >= plan.bits_per_cell:
        return []
    return [
        f"Digital bits are taken to read back without error. They were counted at {plan.bits_per_cell:.3f} "
        f"a cell; after {latest:g} s a cell holds {holds:.3f}: choose again with --time {latest:g}."
    ]


def _seconds(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise ValueError(f"--times: seconds separated by commas, got '{word}'; write for example 0,3600") from None
