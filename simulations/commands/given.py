"""Options by which every command takes any network and any data.

A command that has parameters of the dataclasses here, and is decorated with `expanded`, takes their fields as arguments
and options of its own. Nothing heavy is imported before a network or data is opened.
"""

import functools
import inspect
import json
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import physcomp
    from simulations.runs.given import Data

NetworkSource = Annotated[
    str, typer.Argument(help="A description such as data/fashion-cnn.toml, file.py:function or package.module:name.")
]
_DATA = typer.Option(
    "--data",
    "--images",
    help="Data: .npz, HDF5, .safetensors, a folder (IDX, CIFAR, images by class), or file.py:function.",
)
Source = Annotated[str, _DATA]
OptionalSource = Annotated[str | None, _DATA]


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """How a network is made and what its outputs mean, as said on the command line.

    Args:
        args: JSON, what the function is called with.
        weights: file of weights.
        task: what the outputs mean.
        output: which output counts.
        device: the device of torch on which it runs.
    """

    args: Annotated[
        str | None, typer.Option(help="What the function is called with, JSON such as '{\"num_classes\": 10}'.")
    ] = None
    weights: Annotated[Path | None, typer.Option(help="Its weights: .safetensors, .pt, .pth, .bin or .ckpt.")] = None
    task: Annotated[
        str, typer.Option(help="What outputs mean: classes, binary, multilabel, regression, or file.py:NAME of a Task.")
    ] = "classes"
    output: Annotated[str | None, typer.Option(help="Name or number of the output that counts, if several.")] = None
    device: Annotated[
        str, typer.Option("--torch-device", help="Where the network runs, such as cuda; noise and plans are the same.")
    ] = "cpu"

    @property
    def arguments(self) -> dict[str, Any] | None:
        """What the function is called with.

        Raises:
            ValueError: it is no JSON object.
        """
        if self.args is None:
            return None
        try:
            found = json.loads(self.args)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"--args: not JSON ({error}), got {self.args}; write for example '{{\"classes\": 10}}'"
            ) from None
        if not isinstance(found, dict):
            raise ValueError(f"--args: arguments by name, got {self.args}; write for example '{{\"classes\": 10}}'")
        return found

    @property
    def pick(self) -> str | int | None:
        """The output that counts, by name or number."""
        return int(self.output) if self.output is not None and self.output.lstrip("-").isdigit() else self.output


@dataclass(frozen=True, kw_only=True)
class GivenNetwork(NetworkOptions):
    """A network as named on the command line.

    Args:
        network: description, file.py:function or package.module:name.
    """

    network: NetworkSource

    @property
    def described(self) -> bool:
        """Whether it is a description."""
        return self.network.endswith(".toml")

    def open(self, samples: "physcomp.Samples | None" = None) -> "physcomp.Network":
        """Build the network, load its weights, and try it on samples; see `simulations.runs.given.open_network`."""
        from simulations.runs.given import open_network

        return open_network(
            self.network, samples, args=self.arguments, weights=self.weights, task=self.task, output=self.pick,
            device=self.device,
        )  # fmt: skip


@dataclass(frozen=True)
class Cut:
    """How data is cut into parts and scaled, as said on the command line.

    Args:
        split: shares by part, as text.
        split_seed: seed of the split.
        mean: of each channel, by commas.
        sd: of each channel, by commas.
        size: height and width, or both in one.
        limit: the most samples of each part.
    """

    split: Annotated[
        str | None, typer.Option(help="Shares of data without parts. Default: calibration=0.5,heldout=0.25,test=0.25.")
    ] = None
    split_seed: Annotated[int, typer.Option(help="Seed of the split.")] = 0
    mean: Annotated[str | None, typer.Option(help="Means of the channels, by commas; subtracted from inputs.")] = None
    sd: Annotated[str | None, typer.Option(help="Standard deviations of the channels; inputs are divided.")] = None
    size: Annotated[
        str | None, typer.Option(help="Images of folders are scaled and cut to this: 224, or 224x160 (height, width).")
    ] = None
    limit: Annotated[
        int | None, typer.Option(help="At most this many samples of each part; 2000 do for most networks.")
    ] = None

    def of(self, source: str, heldout: str | None = None) -> "Data":
        """A source with its options read; `heldout` is another source of held-out samples.

        Raises:
            ValueError: an option cannot be read.
        """
        from simulations.runs.given import Data

        return Data(
            source,
            heldout=heldout,
            split=None if self.split is None else shares(self.split),
            seed=self.split_seed,
            mean=None if self.mean is None else numbers("--mean", self.mean),
            sd=None if self.sd is None else numbers("--sd", self.sd),
            size=None if self.size is None else sides(self.size),
            limit=self.limit,
        )


HeldoutSource = Annotated[
    str | None, typer.Option("--heldout", help="Another source of the held-out samples. Default: a part of --data.")
]


TRAINING_PARTS = ("train", "calibration", "heldout", "test")


def training_parts(network: GivenNetwork, data: str, cut: Cut, heldout: str | None) -> "dict[str, physcomp.Samples]":
    """The parts of data for a training: those of their own, or for a description held-back images of a published set.

    A published set has no parts but `train` and `t10k`; the last images of `train` then serve for making plans.

    Raises:
        ValueError: the data cannot be read or lack a part, or a published set has too few images.
    """
    from physcomp.networks.datasets.idx import idx_files

    folder = Path(data)
    if not network.described or heldout or cut.split or not folder.is_dir() or "train" not in idx_files(folder):
        return cut.of(data, heldout).parts(TRAINING_PARTS)
    import physcomp
    from physcomp.networks.plain_training import HELD_BACK

    whole = physcomp.load_images(folder, "train")
    if len(whole) <= HELD_BACK:
        raise ValueError(f"{data}: train has {len(whole)} images, more than {HELD_BACK} are needed; use the full set")
    held_back = whole[len(whole) - HELD_BACK :]
    return {
        "train": whole[: len(whole) - HELD_BACK],
        "calibration": held_back[: HELD_BACK // 2],
        "heldout": held_back[HELD_BACK // 2 :],
        "test": physcomp.load_images(folder, "t10k"),
    }


def numbers(option: str, text: str) -> tuple[float, ...]:
    """Numbers from a text with commas.

    >>> numbers("--mean", "0.5,0.25")
    (0.5, 0.25)
    """
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise ValueError(f"{option}: numbers by commas, got '{text}'; write for example 0.485,0.456,0.406") from None


def shares(text: str) -> dict[str, float]:
    """Shares by part.

    >>> shares("calibration=0.5,test=0.25")
    {'calibration': 0.5, 'test': 0.25}
    """
    found: dict[str, float] = {}
    for word in text.split(","):
        name, _, share = (part.strip() for part in word.partition("="))
        try:
            value = float(share)
        except ValueError:
            name = ""
        if not name or name in found:
            raise ValueError(
                f"--split: shares by part, each once, got '{text}'; write for example "
                "calibration=0.5,heldout=0.25,test=0.25"
            )
        found[name] = value
    return found


def sides(text: str) -> tuple[int, int]:
    """Height and width.

    >>> sides("224"), sides("224x160")
    ((224, 224), (224, 160))
    """
    words = text.lower().split("x")
    if len(words) > 2 or not all(word.strip().isdigit() for word in words):
        raise ValueError(f"--size: height and width in pixels, got '{text}'; write for example 224 or 224x160")
    return int(words[0]), int(words[-1])


def expanded(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the fields of its dataclass parameters as parameters of its own.

    Args:
        command: a function; parameters whose types are dataclasses of this file are replaced.
    """
    whole = inspect.signature(command)
    kinds: dict[str, Any] = {name: p.annotation for name, p in whole.parameters.items() if is_dataclass(p.annotation)}

    @functools.wraps(command)
    def run(**values: Any) -> None:
        for name, kind in kinds.items():
            values[name] = kind(**{field.name: values.pop(field.name) for field in fields(kind)})
        command(**values)

    taken = [each for name, p in whole.parameters.items() for each in _parameters(name, p, kinds.get(name))]
    setattr(run, "__signature__", whole.replace(parameters=taken))  # noqa: B010
    return run


def _parameters(name: str, own: inspect.Parameter, kind: Any) -> list[inspect.Parameter]:
    """Keyword-only, so that those with defaults may stand before those without."""
    if kind is None:
        return [own.replace(kind=inspect.Parameter.KEYWORD_ONLY)]
    empty = inspect.Parameter.empty
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=empty if field.default is MISSING else field.default,
            annotation=field.type,
        )
        for field in fields(kind)
    ]
