"""The command `physcomp train`: train a network, without cells."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from simulations.commands.console import err, out
from simulations.commands.given import Cut, GivenNetwork, HeldoutSource, Source, expanded, training_parts
from simulations.commands.options import Quiet
from simulations.runs.progress import Progress

if TYPE_CHECKING:
    import physcomp
    from physcomp.networks.plain_training import PlainRecipe

EXAMPLE = (
    "physcomp train net.py:build --data images.npz --epochs 30 --shift 4 --mirrored --precision bfloat16 "
    "--out net.safetensors"
)


@expanded
def train(
    network: GivenNetwork,
    data: Source,
    cut: Cut,
    target: Annotated[
        Path | None, typer.Option("--out", help="safetensors file to write. Default: beside a description.")
    ] = None,
    heldout: HeldoutSource = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the samples. Default: 30.")] = None,
    batch: Annotated[int | None, typer.Option(help="Samples per step. Default: 128.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="The highest learning rate of AdamW; one cycle. Default: 0.002.")
    ] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Weight decay of AdamW. Default: 0.02.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of all that is random. Default: 0.")] = None,
    shift: Annotated[
        int | None, typer.Option(help="Images are shifted at random by up to so many pixels. Default: 0.")
    ] = None,
    mirrored: Annotated[
        bool | None,
        typer.Option("--mirrored/--no-mirrored", help="... and half of them mirrored; wrong for digits and letters."),
    ] = None,
    precision: Annotated[
        Literal["float32", "bfloat16"],
        typer.Option(help="Of matrix products; a seed fixes every bit with float32, bfloat16 may be faster."),
    ] = "float32",
    force: Annotated[bool, typer.Option("--force", help="Overwrite the weights of a finished training.")] = False,
    quiet: Quiet = False,
) -> None:
    """Train a network on the part train of its data, and measure it on the parts heldout and test.

    Writes the weights (.safetensors). Takes as long as its epochs; the time left is told after each, whose state is
    kept beside the weights, so that the same command goes on after a kill. A description has its own recipe, which
    options change; it is trained on a published set but for the last 4,000 images of it. Data without parts are cut
    as train=0.4,calibration=0.1,heldout=0.25,test=0.25.
    """
    path = _path(network, target, force)
    import physcomp
    from physcomp.choice.model_file import samples_sha256
    from physcomp.networks import plain_training
    from physcomp.networks.training_checkpoint import Checkpoint
    from simulations.runs.given import name_of, open_module, open_task

    recipe = _recipe(
        network, epochs=epochs, batch=batch, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed,
        shift=shift, mirrored=mirrored, precision=precision,
    )  # fmt: skip
    task, name = open_task(network.task), _name(network) or name_of(network.network)
    parts = training_parts(network, data, cut, heldout)
    samples = parts["train"]
    recipe.check(samples)
    module = open_module(network.network, args=network.arguments, weights=network.weights, seed=recipe.seed)
    start = physcomp.wrap(module, name, samples=samples, task=task, output=network.pick)
    out.print(
        f"{name}: {start.parameters:,} parameters; {len(samples):,} training samples, {samples.shape} each",
        highlight=False,
        soft_wrap=True,
    )
    asked = {
        **dataclasses.asdict(recipe),
        "network": start.sha256,
        "samples": samples_sha256(samples),
        "task": network.task,
        "output": network.pick,
    }
    checkpoint = Checkpoint.beside(path, asked)
    with Progress(None if quiet else err).bar(f"training {name}") as bar:
        trained = plain_training.train_module(
            module, samples, recipe, task=task, output=network.pick, device=network.device, name=name,
            checkpoint=checkpoint, done=_Told(recipe.epochs), progress=bar,
        )  # fmt: skip
    plain_training.save(trained, path)
    checkpoint.remove()
    _report(physcomp.wrap(trained.module, name, samples=samples, task=task, output=network.pick), parts, trained.losses)
    out.print(f"{path}: {start.parameters:,} parameters", highlight=False, soft_wrap=True)


def _path(network: GivenNetwork, target: Path | None, force: bool) -> Path:
    """Where the weights go; checked before the long work."""
    if target is None and not network.described:
        raise ValueError("--out: a file for the weights is needed; write for example --out net.safetensors")
    path = target or Path(network.network).with_suffix(".safetensors")
    if path.suffix != ".safetensors":
        raise ValueError(f"--out: weights are written as .safetensors, got {path}; change the ending")
    if not path.parent.is_dir():
        raise ValueError(f"--out: there is no folder {path.parent}; make it, or name another")
    if path.exists() and not force:
        raise ValueError(f"--out: {path} is there already; name another file, or overwrite it with --force")
    if network.described and network.task != "classes":
        raise ValueError(
            f"--task: a description is trained as a network of classes, got '{network.task}'; name a function that "
            "builds the network, net.py:build"
        )
    return path


def _name(network: GivenNetwork) -> str | None:
    """The name that a description gives its network."""
    from physcomp.networks.description import read_description

    return read_description(Path(network.network)).name if network.described else None


def _recipe(network: GivenNetwork, **given: Any) -> "PlainRecipe":
    """The recipe of a description, or the usual one, with what options say."""
    from physcomp.networks.description import read_description
    from physcomp.networks.plain_training import PlainRecipe, recipe_of

    usual = recipe_of(read_description(Path(network.network))) if network.described else PlainRecipe()
    return dataclasses.replace(usual, **{name: value for name, value in given.items() if value is not None})


class _Told:
    """Prints a line after each epoch, with the time that is left."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def __call__(self, epoch: int, loss: float, seconds: float) -> None:
        left = (self.epochs - epoch) * seconds
        when = f", about {_time(left)} left" if left else ""
        out.print(f"epoch {epoch} of {self.epochs}: training loss {loss:.4f}, {seconds:.1f} s{when}", highlight=False)


def _time(seconds: float) -> str:
    """A duration in the unit that suits it.

    >>> _time(42.4), _time(3000), _time(9000)
    ('42 s', '50 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _report(network: "physcomp.Network", parts: "dict[str, physcomp.Samples]", losses: tuple[float, ...]) -> None:
    """Print loss and metric on held-out and test samples."""
    import physcomp
    from simulations.runs.quality import shown, unit_of_loss

    unit = unit_of_loss(network.task)
    out.print(f"training loss of the last epoch {losses[-1]:.4f}{unit}", highlight=False)
    for name, part in (("held-out", "heldout"), ("test", "test")):
        score = physcomp.evaluate(network, parts[part])
        out.print(
            f"{name} samples: {network.task.metric} {shown(network.task, score.accuracy)}, loss {score.loss:.4f}{unit} "
            f"({len(parts[part]):,} samples)",
            highlight=False,
            soft_wrap=True,
        )
