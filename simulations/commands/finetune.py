"""The command `physcomp finetune`: choose a plan and train the weights for it, in turn, in a folder that resumes."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from simulations.commands import defaults
from simulations.commands.console import err, out
from simulations.commands.options import CardName, NetworkFile, Quiet, ReadTime
from simulations.runs.progress import Progress

if TYPE_CHECKING:
    from physcomp.networks.description import Described
    from physcomp.networks.samples import Samples
    from physcomp.training.alternation import Round, Schedule

CHIPS = 20
EXAMPLE = (
    "physcomp finetune data/fashion-cnn.toml --images /usr/share/datasets --card pcm-zarcone --budget 0.3 --epochs 12 "
    "--shift 1 --mirrored --out tuned"
)


def finetune(
    network: NetworkFile,
    images: Annotated[Path, typer.Option("--images", help="Folder with the full set as IDX files, plain or gzipped.")],
    card: CardName,
    budget: Annotated[float, typer.Option(help="Cells per weight of the network, everything stored counted.")],
    folder: Annotated[Path, typer.Option("--out", help="Folder of the trained network and its plan.")],
    time_s: ReadTime = 0.0,
    epochs: Annotated[int, typer.Option(help="Passes over the images after each choice.")] = defaults.EPOCHS,
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

    Writes net.toml, net.safetensors and plan.json to a folder. Takes about 10 minutes for the embedded network;
    started again it goes on after the last round that was finished.
    """
    for name, value in (("epochs", epochs), ("rounds", rounds)):
        if value < 1:
            raise ValueError(f"--{name}: at least 1, got {value}; raise it")
    import devices
    import physcomp
    from physcomp.networks.description import describe, read_description
    from physcomp.networks.plain_training import HELD_BACK
    from physcomp.training.alternation import Schedule, alternate, best_of
    from physcomp.training.recipe import Recipe
    from physcomp.training.rounds import save_result
    from simulations.comparison.plans import TRAINED

    description = read_description(network)
    loaded = physcomp.load_network(network)
    start = describe(description, loaded)
    whole = physcomp.load_images(images, "train")
    if len(whole) <= HELD_BACK:
        raise ValueError(f"{images}: train has {len(whole)} images, more than {HELD_BACK} are needed; use the full set")
    training = whole[: len(whole) - HELD_BACK]
    calibration, heldout = whole[-HELD_BACK : -HELD_BACK // 2], whole[len(whole) - HELD_BACK // 2 :]
    test = physcomp.load_images(images, "t10k")
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
                alternate(start, training, calibration, heldout=heldout, schedule=schedule, done=tuple(done),
                          progress=bar),
                None,
            )  # fmt: skip
        if made is None:
            break
        kept.add(len(done), made)
        done.append(made)
    best = best_of(done, budget * start.network.parameters)
    save_result(best.result, folder / "net.safetensors")
    best.finetuned.plan.named(TRAINED).save(folder / "plan.json")
    _report(start, done, best, test, schedule, progress)
    out.print(f"{folder}: net.toml, net.safetensors, plan.json", highlight=False)


def _asked(schedule: "Schedule", network_sha256: str, training: "Samples") -> dict[str, Any]:
    """The settings that must be equal for a run to be resumed."""
    fields = dataclasses.asdict(dataclasses.replace(schedule, card=None))  # type: ignore[arg-type]
    del fields["rounds"]  # a run with more rounds continues one with fewer
    fields |= {"card": schedule.card.sha256, "network": network_sha256, "images": len(training)}
    return dict(json.loads(json.dumps(fields)))


class _Kept:
    """Finished rounds in a folder: `round-N.toml`, `.safetensors` and `.plan.json`, and an entry in `rounds.json`."""

    def __init__(self, folder: Path, start: "Described", asked: dict[str, Any]) -> None:
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
        return load_round(self.start, self._path(number), entry["heldout_loss"], history)

    def _path(self, number: int) -> Path:
        return self.folder / f"round-{number}.safetensors"

    def add(self, number: int, made: "Round") -> None:
        """Save a round; its entry is written last, so that a killed run leaves no incomplete round."""
        from devices.files import replacing
        from physcomp.training.rounds import save_round

        save_round(made, self._path(number))
        history = [dataclasses.asdict(epoch) for epoch in made.finetuned.history]
        self.entries.append({"heldout_loss": made.heldout_loss, "cells": made.cells, "history": history})
        with replacing(self.index) as temporary:
            temporary.write_text(json.dumps({"asked": self.asked, "rounds": self.entries}, indent=1) + "\n")


def _report(
    start: "Described", done: "list[Round]", best: "Round", test: "Samples", schedule: "Schedule", progress: Progress
) -> None:
    """Print one line per round, then the accuracy of the best one on test images."""
    import physcomp
    from simulations.runs.readback import read_back, spread

    weights = start.network.parameters
    table = Table("round", "weights", "cells/weight", "held-out loss", "held-out accuracy %")
    for place, made in enumerate(done, start=1):
        mark = " best" if made is best else ""
        table.add_row(
            f"{place}{mark}",
            f"{made.finetuned.plan.weights:,}",
            f"{made.cells / weights:.4f}",
            f"{made.heldout_loss:.4f}",
            f"{100 * made.finetuned.history[-1].heldout_accuracy:.2f}",
        )
    out.print(table)
    plan, network = best.finetuned.plan, best.finetuned.network
    number = 1 if plan.noiseless else CHIPS
    with progress.bar("reading back") as bar:
        over = spread(
            read_back(plan, test.inputs, test.labels, network=network, card=schedule.card, trials=number, progress=bar)
        )
    clean = physcomp.evaluate(start.network, test)
    lost = 100 * (clean.accuracy - over.accuracy_mean)
    shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in plan.share_of_codes().items())
    for line in (
        f"{best.cells / weights:.4f} cells/weight of {schedule.budget:g} allowed, for the {weights:,} parameters "
        f"given; {network.parameters:,} are left, {best.cells / network.parameters:.4f} cells each",
        f"weights left by code: {shares}",
        f"test images: accuracy {100 * over.accuracy_mean:.2f} ± {100 * over.accuracy_sd:.2f} % over {number} "
        f"{'chip' if number == 1 else 'chips'}, {lost:.2f} points below the clean "
        f"network's {100 * clean.accuracy:.2f} %",
    ):
        out.print(line, soft_wrap=True, highlight=False)
