"""The command `physcomp train`: train the network of a description."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from simulations.commands.console import err, out
from simulations.commands.options import ImageFolder, NetworkFile, Quiet
from simulations.runs.progress import Progress

EXAMPLE = "physcomp train data/fashion-cnn.toml --images /usr/share/datasets"


def train(
    description: NetworkFile,
    images: ImageFolder,
    target: Annotated[
        Path | None, typer.Option("--out", help="safetensors file to write. Default: beside the description.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the images. Default: the description's.")] = None,
    quiet: Quiet = False,
) -> None:
    """Train the network of a description on the full set, but for the last 4,000 images, which plans are made on.

    Writes the weights beside the description (.safetensors). Takes some minutes: the embedded network sees 56,000
    images 30 times.
    """
    import physcomp
    from physcomp.networks import plain_training
    from physcomp.networks.description import read_description
    from physcomp.networks.plain_training import HELD_BACK

    described = read_description(description)
    if epochs is not None:
        described = dataclasses.replace(described, recipe={**described.recipe, "epochs": epochs})
    if epochs is not None and epochs < 1:
        raise ValueError(f"--epochs: at least 1, got {epochs}; raise it")
    whole = physcomp.load_images(images, "train")
    if len(whole) <= HELD_BACK:
        raise ValueError(f"{images}: train has {len(whole)} images, more than {HELD_BACK} are needed; use the full set")
    test = physcomp.load_images(images, "t10k")
    with Progress(None if quiet else err).bar(f"training {described.name}") as bar:
        trained = plain_training.train(described, whole[: len(whole) - HELD_BACK], progress=bar)
    path = target or description.with_suffix(".safetensors")
    plain_training.save(trained, path)
    score = physcomp.evaluate(physcomp.prepare(trained.module), test)
    out.print(f"training loss of the last epoch {trained.losses[-1]:.4f}")
    out.print(f"test images: accuracy {100 * score.accuracy:.2f} %, loss {score.loss:.4f} ({len(test)} images)")
    out.print(f"{path}: {sum(p.numel() for p in trained.module.parameters()):,} parameters")
