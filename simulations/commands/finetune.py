"""The command `physcomp finetune`: choose a plan and train the weights for it, in turn, in a folder that resumes."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from simulations.commands import defaults
from simulations.commands.console import err, out
from simulations.commands.given import (
    TRAINING_PARTS,
    Cut,
    GivenNetwork,
    HeldoutSource,
    Source,
    expanded,
    training_parts,
)
from simulations.commands.options import CardName, Quiet, ReadTime
from simulations.runs.progress import Progress

if TYPE_CHECKING:
    import physcomp
    from physcomp.networks.description import Described
    from physcomp.networks.samples import Samples
    from physcomp.training.alternation import Round, Schedule

CHIPS = 20
EXAMPLE = (
    "physcomp finetune data/fashion-cnn.toml --data /usr/share/datasets --card pcm-zarcone --budget 0.3 --epochs 12 "
    "--shift 1 --mirrored --out tuned"
)


@expanded
def finetune(
    network: GivenNetwork,
    data: Source,
    cut: Cut,
    card: CardName,
    budget: Annotated[float, typer.Option(help="Cells per weight of the network, everything stored counted.")],
    folder: Annotated[Path, typer.Option("--out", help="Folder of the trained network and its plan.")],
    heldout: HeldoutSource = None,
    time_s: ReadTime = 0.0,
    epochs: Annotated[int, typer.Option(help="Passes over the samples after each choice.")] = defaults.EPOCHS,
    rounds: Annotated[int, typer.Option(help="Choices at most, each with training after it.")] = defaults.ROUNDS,
    seed: Annotated[int, typer.Option("--seed", help="Seed of choices and training.")] = 0,
    shift: Annotated[
        int, typer.Option(help="The teacher's output is its mean over images shifted by up to so many pixels.")
    ] = 0,
    mirrored: Annotated[
        bool, typer.Option("--mirrored", help="... and mirrored; wrong for digits and letters.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Train the weights for the cells: choose codes and train with them in turn.

    Writes net.safetensors and plan.json to a folder, and net.toml for a network that has a description; any other is
    opened again by its function with --weights net.safetensors. Takes about 10 minutes for the embedded network;
    started again it goes on after the last round that was finished. Data have the parts train, calibration, heldout and
    test; without parts they are cut as train=0.4,calibration=0.1,heldout=0.25,test=0.25.
    """
    for name, value in (("epochs", epochs), ("rounds", rounds)):
        if value < 1:
            raise ValueError(f"--{name}: at least 1, got {value}; raise it")
    if network.described and network.task != "classes":
        raise ValueError(
            f"--task: a description is trained as a network of classes, got '{network.task}'; name a function that "
            "builds the network, net.py:build"
        )
    if not 0 < budget < float("inf"):
        raise ValueError(f"--budget: cells per weight above 0, got {budget:g}; correct it")
    import devices
    from physcomp.training.alternation import Schedule, alternate, best_of
    from physcomp.training.recipe import Recipe
    from physcomp.training.rounds import save_result
    from simulations.comparison.plans import TRAINED

    devices.load_card(card).check_time(time_s)
    parts = training_parts(network, data, cut, heldout)
    training, calibration, held, test = (parts[name] for name in TRAINING_PARTS)
    loaded = network.open(calibration)
    start = _described(network, loaded) if network.described else loaded
    schedule = Schedule(
        card=devices.load_card(card),
        budget=budget,
        read_time_s=time_s,
        rounds=rounds,
        epochs=epochs,
        seed=seed,
        recipe=Recipe(shift=shift, mirrored=mirrored),
    )
    kept = _Kept(folder, start, _asked(schedule, loaded.sha256, training))
    done = kept.rounds()
    progress = Progress(None if quiet else err)
    while True:
        with progress.bar(f"round {len(done) + 1} of at most {rounds}: choosing, then {epochs} epochs") as bar:
            made = next(
                alternate(start, training, calibration, heldout=held, schedule=schedule, done=tuple(done),
                          progress=bar),
                None,
            )  # fmt: skip
        if made is None:
            break
        kept.add(len(done), made)
        done.append(made)
    best = best_of(done, budget * loaded.parameters)
    save_result(best.result, folder / "net.safetensors")
    best.finetuned.plan.named(TRAINED).save(folder / "plan.json")
    _report(loaded, done, best, test, schedule, progress)
    described = "net.toml, " if network.described else ""
    out.print(f"{folder}: {described}net.safetensors, plan.json", highlight=False, soft_wrap=True)
    if not network.described:
        out.print(
            f"to store it: physcomp store {network.network} {folder / 'plan.json'} --weights "
            f"{folder / 'net.safetensors'}, with the same --args, --task, --output and --data",
            highlight=False,
            soft_wrap=True,
            markup=False,
        )


def _described(network: GivenNetwork, loaded: "physcomp.Network") -> "Described":
    from physcomp.networks.description import describe, read_description

    return describe(read_description(Path(network.network)), loaded)


def _asked(schedule: "Schedule", network_sha256: str, training: "Samples") -> dict[str, Any]:
    """The settings that must be equal for a run to be resumed."""
    fields = dataclasses.asdict(dataclasses.replace(schedule, card=None))  # type: ignore[arg-type]
    del fields["rounds"]  # a run with more rounds continues one with fewer
    fields |= {"card": schedule.card.sha256, "network": network_sha256, "images": len(training)}
    return dict(json.loads(json.dumps(fields)))


class _Kept:
    """Finished rounds in a folder: `round-N.toml`, `.safetensors` and `.plan.json`, and an entry in `rounds.json`."""

    def __init__(self, folder: Path, start: "Described | physcomp.Network", asked: dict[str, Any]) -> None:
        self.folder, self.start, self.asked = folder, start, asked
        self.index = folder / "rounds.json"
        self.entries: list[dict[str, Any]] = []
        folder.mkdir(parents=True, exist_ok=True)
        if self.index.is_file():
            try:
                content = json.loads(self.index.read_text())
                found, self.entries = content["asked"], content["rounds"]
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise ValueError(f"{self.index}: not the rounds of a training ({error}); remove it") from None
            other = [name for name, value in asked.items() if found.get(name) != value]
            if other:
                raise ValueError(
                    f"{self.index}: holds rounds of another training (of other {', '.join(other)}); give another --out "
                    "or remove the folder"
                )

    def rounds(self) -> "list[Round]":
        """The finished rounds."""
        return [self._load(number, entry) for number, entry in enumerate(self.entries)]

    def _load(self, number: int, entry: dict[str, Any]) -> "Round":
        from physcomp.training.finetuning import Epoch
        from physcomp.training.rounds import load_round

        history = tuple(Epoch(**epoch) for epoch in entry["history"])
        return load_round(self.start, self._path(number), entry["heldout_loss"], history, entry.get("chosen_loss"))

    def _path(self, number: int) -> Path:
        return self.folder / f"round-{number}.safetensors"

    def add(self, number: int, made: "Round") -> None:
        """Save a round; its entry is written last, so that a killed run leaves no incomplete round."""
        from devices.files import replacing
        from physcomp.training.rounds import save_round

        save_round(made, self._path(number))
        history = [dataclasses.asdict(epoch) for epoch in made.finetuned.history]
        losses = {"heldout_loss": made.heldout_loss, "chosen_loss": made.chosen_loss}
        self.entries.append({**losses, "cells": made.cells, "history": history})
        with replacing(self.index) as temporary:
            temporary.write_text(json.dumps({"asked": self.asked, "rounds": self.entries}, indent=1) + "\n")


def _report(
    start: "physcomp.Network",
    done: "list[Round]",
    best: "Round",
    test: "Samples",
    schedule: "Schedule",
    progress: Progress,
) -> None:
    """Print one line per round, then the metric of the best one on test samples."""
    import physcomp
    from simulations.runs.quality import lost, shown
    from simulations.runs.readback import read_back, spread

    weights, task = start.parameters, start.task
    unit = " %" if task.metric == "accuracy" else ""
    table = Table("round", "weights", "cells/weight", "held-out loss", f"held-out {task.metric}{unit}")
    for place, made in enumerate(done, start=1):
        mark = " best" if made is best else ""
        table.add_row(
            f"{place}{mark}",
            f"{made.finetuned.plan.weights:,}",
            f"{made.cells / weights:.4f}",
            f"{made.heldout_loss:.4f}",
            shown(task, made.finetuned.history[-1].heldout_accuracy, unit=False),
        )
    out.print(table)
    untrained = done[0].chosen_loss
    if untrained is not None and best.heldout_loss > untrained:
        out.print(
            f"warning: training left a held-out loss of {best.heldout_loss:.4f}, the first plan without it had "
            f"{untrained:.4f}: train longer (--epochs) or on more samples, or take that of 'physcomp choose'",
            soft_wrap=True,
            highlight=False,
        )
    plan, network = best.finetuned.plan, best.finetuned.network
    number = 1 if plan.noiseless else CHIPS
    with progress.bar("reading back") as bar:
        over = spread(
            read_back(plan, test.inputs, test.labels, network=network, card=schedule.card, trials=number, progress=bar)
        )
    clean = physcomp.evaluate(start, test)
    shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in plan.share_of_codes().items())
    for line in (
        f"{best.cells / weights:.4f} cells/weight of {schedule.budget:g} allowed, for the {weights:,} parameters "
        f"given; {network.parameters:,} are left, {best.cells / network.parameters:.4f} cells each",
        f"weights left by code: {shares}",
        f"test samples: {task.metric} {shown(task, over.accuracy_mean, over.accuracy_sd)} over {number} "
        f"{'chip' if number == 1 else 'chips'}, {lost(task, clean.accuracy - over.accuracy_mean)} below the clean "
        f"network's {shown(task, clean.accuracy)}; loss {over.loss_mean:.4f}, clean {clean.loss:.4f}",
    ):
        out.print(line, soft_wrap=True, highlight=False)
