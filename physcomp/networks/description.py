"""Descriptions of networks: a TOML file beside a safetensors file.

Its `layers` are read in order: `conv OUT KERNEL` (stride 1, same padding), `norm` (batch norm), `relu`, `pool K`,
`flatten`, `linear OUT`. The language is for plain stacks of layers and stays so; any other architecture comes from a
function in Python (`physcomp.networks.loading`).
"""

import dataclasses
import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from devices.files import replacing
from physcomp.networks.network import Network, prepared_network
from physcomp.networks.plain_modules import plain


class Normalise(nn.Module):
    """A module that standardises pixels by the mean and standard deviation of the training pixels (all in [0, 1])."""

    def __init__(self, mean: float, sd: float) -> None:
        super().__init__()
        self.mean, self.sd = mean, sd

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """The standardised pixels, of the same shape."""
        return (pixels - self.mean) / self.sd


@dataclass(frozen=True)
class Description:
    """A network as its description file states it: layers, classes, pixel statistics and training recipe.

    Args:
        name: the network's name.
        input_shape: channels, height and width of an image.
        mean: mean of the training pixels, in [0, 1].
        sd: standard deviation of the training pixels, in the same units.
        classes: the names of the classes, in the order of the logits.
        layers: the layers in order, one string each, in the form that the docstring of this file lists.
        recipe: how it is trained: `epochs`, `seed`, `batch`, `learning_rate`, `weight_decay`.
    """

    name: str
    input_shape: tuple[int, int, int]
    mean: float
    sd: float
    classes: tuple[str, ...]
    layers: tuple[str, ...]
    recipe: dict[str, Any]


def read_description(path: Path) -> Description:
    """Read a description file.

    Raises:
        ValueError: the file is missing, is not TOML, or lacks a field.
    """
    try:
        fields = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise ValueError(f"{path}: no such description of a network; name a .toml file") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: not valid TOML ({error}); correct that line") from None
    try:
        if not isinstance(fields["recipe"], dict) or not all(isinstance(n, str) for n in fields["layers"]):
            raise TypeError("layers are strings and the recipe is a table")
        if not all(isinstance(n, int) and n > 0 for n in fields["input"]) or len(fields["input"]) != 3:
            raise TypeError("input is three whole numbers above 0")
        if not isinstance(fields["mean"], float | int) or not fields["sd"] > 0:
            raise TypeError("mean is a number and sd is a number above 0")
        return Description(
            name=fields["name"],
            input_shape=tuple(fields["input"]),
            mean=fields["mean"],
            sd=fields["sd"],
            classes=tuple(fields["classes"]),
            layers=tuple(fields["layers"]),
            recipe=fields["recipe"],
        )
    except KeyError as error:
        raise ValueError(f"{path}: the field {error} is missing; see data/fashion-cnn.toml for an example") from None
    except TypeError as error:
        raise ValueError(f"{path}: a field has the wrong form ({error}); see data/fashion-cnn.toml") from None


def build_module(description: Description) -> nn.Sequential:
    """Build the untrained module of a description, its weights drawn from torch's global random generator.

    Raises:
        ValueError: a layer is not one of those this file's docstring lists.
    """
    channels, height, width = description.input_shape
    modules: list[nn.Module] = [Normalise(description.mean, description.sd)]
    for layer in description.layers:
        kind, *arguments = layer.split() or [""]
        sizes = [int(argument) if argument.isdecimal() else 0 for argument in arguments]
        if 0 in sizes:
            kind = ""
        match kind, sizes:
            case "conv", [out, kernel]:
                modules.append(nn.Conv2d(channels, out, kernel, padding=kernel // 2))
                channels = out
            case "norm", []:
                modules.append(nn.BatchNorm2d(channels))
            case "relu", []:
                modules.append(nn.ReLU())
            case "pool", [size]:
                modules.append(nn.MaxPool2d(size))
                height, width = height // size, width // size
            case "flatten", []:
                modules.append(nn.Flatten())
                channels, height, width = channels * height * width, 1, 1
            case "linear", [out]:
                modules.append(nn.Linear(channels, out))
                channels = out
            case _:
                raise ValueError(
                    f"{description.name}: layer '{layer}' is none of 'conv OUT KERNEL', 'norm', 'relu', 'pool K', "
                    "'flatten', 'linear OUT'; correct it"
                )
    return nn.Sequential(*modules)


def load_network(path: Path | str) -> Network:
    """Load a trained network from its description, with batch norms folded into the layers before them.

    Args:
        path: the .toml file; the weights are in the .safetensors file of the same name beside it.

    Raises:
        ValueError: a file is missing, the weights are not those of the description, or a weight is not finite.
    """
    path = Path(path)
    description = read_description(path)
    module = build_module(description)
    weights = path.with_suffix(".safetensors")
    try:
        module.load_state_dict(load_file(weights))
    except FileNotFoundError:
        raise ValueError(f"{weights}: no such file; train it with 'physcomp train {path} --images FOLDER'") from None
    except (SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{weights}: does not hold the weights that {path} describes ({reason})") from None
    return _network(description, module)


@dataclasses.dataclass(frozen=True, eq=False)
class Described:
    """A network together with a description that matches it exactly: batch norms that were folded are not listed.

    Args:
        description: the layers that the network has.
        network: equal to what `physcomp.load_network` returns for the saved description.
    """

    description: Description
    network: Network

    def save(self, path: Path | str) -> None:
        """Write the description as a .toml file and the weights as a .safetensors file beside it.

        `physcomp.load_network` of the file returns a network with the same fingerprint.
        """
        path = Path(path)
        state = {name: tensor.contiguous() for name, tensor in self.network.module.state_dict().items()}
        with replacing(path.with_suffix(".safetensors")) as temporary:
            save_file(state, temporary)
        with replacing(path) as temporary:
            temporary.write_text(_toml(self.description))

    def with_state(self, state: dict[str, torch.Tensor]) -> "Described":
        """The same layers with other parameters."""
        return _build(self.description, state)


def describe(description: Description, network: Network) -> Described:
    """Describe a loaded network: its description without the batch norms that loading folded away.

    Args:
        description: the description that the network was loaded from.
        network: what `physcomp.load_network` returned for it.
    """
    parts = dict(network.module.named_modules())
    kept = [number for number in range(len(description.layers)) if str(number + 1) in parts]
    state = {}
    for place, number in enumerate(kept, start=1):
        for name, tensor in parts[str(number + 1)].state_dict().items():
            state[f"{place}.{name}"] = tensor
    found = _build(dataclasses.replace(description, layers=tuple(description.layers[n] for n in kept)), state)
    # Cells per weight stay per parameter of the network that was loaded, with its norms.
    return Described(found.description, dataclasses.replace(found.network, parameters=network.parameters))


def _build(description: Description, state: dict[str, torch.Tensor]) -> Described:
    module = build_module(description)
    module.load_state_dict(state)
    return Described(description, _network(description, module))


def _network(description: Description, module: nn.Module) -> Network:
    pixels = torch.rand(2, *description.input_shape, generator=torch.Generator().manual_seed(0))
    return prepared_network(plain(module), pixels, description.name, classes=description.classes)


def _toml(description: Description) -> str:
    lists = {"input": list(description.input_shape), "classes": list(description.classes)}
    lists["layers"] = list(description.layers)
    lines = [
        f"name = {json.dumps(description.name)}",
        f"mean = {description.mean!r}",
        f"sd = {description.sd!r}",
        *(f"{name} = {json.dumps(value)}" for name, value in lists.items()),
        "",
        "[recipe]",
        *(f"{name} = {json.dumps(value)}" for name, value in description.recipe.items()),
    ]
    return "\n".join(lines) + "\n"
