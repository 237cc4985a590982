"""Networks: from a description to a module, norms folded, fingerprints, and loss and accuracy on images.

A description is a TOML file beside a safetensors file. Its `layers` are read in order:
`conv OUT KERNEL` (stride 1, same padding), `norm` (batch norm), `relu`, `pool K`, `flatten`, `linear OUT`.
"""

import copy
import hashlib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.fx import GraphModule, symbolic_trace
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from physcomp.networks.images import Images


class Normalise(nn.Module):
    """Subtract the mean and divide by the standard deviation of the training pixels (both in [0, 1] units)."""

    def __init__(self, mean: float, sd: float) -> None:
        super().__init__()
        self.mean, self.sd = mean, sd

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalise a batch of pixels of any shape."""
        return (pixels - self.mean) / self.sd


@dataclass(frozen=True)
class Description:
    """What a description file says of a network.

    Args:
        name: the network's name.
        input_shape: channels, height and width of an image.
        mean: mean of the training pixels, in [0, 1].
        sd: their standard deviation.
        classes: the names of the classes, in the order of the logits.
        layers: the layers, one string each, as the module's docstring says.
        recipe: how it is trained: `epochs`, `seed`, `batch`, `learning_rate`, `weight_decay`.
    """

    name: str
    input_shape: tuple[int, int, int]
    mean: float
    sd: float
    classes: tuple[str, ...]
    layers: tuple[str, ...]
    recipe: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Network:
    """A trained network, ready to be stored.

    Args:
        name: what reports call it.
        module: in evaluation mode, norms folded where they follow a convolution; takes pixels in [0, 1].
        classes: the names of the classes.
    """

    name: str
    module: nn.Module
    classes: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """Fingerprint of names, shapes and values of everything the module holds."""
        return fingerprint(self.module)


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
        raise ValueError(f"{path}: not valid TOML ({error}); mend that line") from None
    try:
        if not isinstance(fields["recipe"], dict) or not all(isinstance(n, str) for n in fields["layers"]):
            raise TypeError("layers are strings and the recipe is a table")
        if not all(isinstance(n, int) and n > 0 for n in fields["input"]) or len(fields["input"]) != 3:
            raise TypeError("input is three whole numbers above 0")
        if not isinstance(fields["mean"], float | int) or not fields["sd"] > 0:
            raise TypeError("mean is a number and sd one above 0")
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
        raise ValueError(f"{path}: the field {error} is missing; see data/fashion-cnn.toml for a whole one") from None
    except TypeError as error:
        raise ValueError(f"{path}: a field has the wrong form ({error}); see data/fashion-cnn.toml") from None


def build_module(description: Description) -> nn.Sequential:
    """Build the untrained module of a description; its weights come from torch's global generator.

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
    """Load the network of a description: the safetensors file of the same name beside it, norms folded.

    Raises:
        ValueError: the description or the weights are missing, foreign, or hold NaN.
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
    return Network(description.name, prepare(module), description.classes)


def prepare(module: nn.Module) -> nn.Module:
    """Copy a module for storage: evaluation mode, and each batch norm folded into the layer before it.

    A folded norm costs nothing to store, since scale and bias of the filter are stored anyway. A module that
    torch.fx cannot trace keeps its norms, and their parameters are counted.

    Raises:
        ValueError: a weight is NaN or infinite.
    """
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"network: '{name}' holds NaN or infinite values; store a network that trained soundly")
    copied = copy.deepcopy(module).eval()
    try:
        graph = symbolic_trace(copied)
    except Exception:  # torch.fx raises many kinds, and all mean the same: it cannot be traced
        return copied
    return _fold_norms(graph)


def _fold_norms(graph: GraphModule) -> GraphModule:
    """Fold each batch norm whose input is one convolution or linear layer that feeds nothing else."""
    parts = dict(graph.named_modules())
    calls = [node.target for node in graph.graph.nodes if node.op == "call_module"]
    for node in graph.graph.nodes:
        if node.op != "call_module" or not isinstance(parts[node.target], nn.BatchNorm1d | nn.BatchNorm2d):
            continue
        before = node.args[0]
        if before.op != "call_module" or len(before.users) > 1 or calls.count(before.target) > 1:
            continue
        layer, norm = parts[before.target], parts[node.target]
        if isinstance(layer, nn.Conv2d):
            graph.set_submodule(before.target, fuse_conv_bn_eval(layer, norm))
        elif isinstance(layer, nn.Linear) and isinstance(norm, nn.BatchNorm1d):
            graph.set_submodule(before.target, fuse_linear_bn_eval(layer, norm))
        else:
            continue
        node.replace_all_uses_with(before)
        graph.graph.erase_node(node)
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph.eval()


def fingerprint(module: nn.Module) -> str:
    """SHA-256 over what a module computes, in its parts and between them, and names, shapes and values of all it holds.

    Only settings that torch has kept for years go in, so that another version of torch knows the network again.
    """
    digest = hashlib.sha256()
    for name, part in module.named_modules():
        settings = {setting: getattr(part, setting) for setting in getattr(part, "__constants__", ())}
        kind = "GraphModule" if isinstance(part, GraphModule) else type(part).__qualname__
        digest.update(f"{name} {kind} {settings}\n".encode())
        for node in part.graph.nodes if isinstance(part, GraphModule) else ():
            target = getattr(node.target, "__name__", node.target)
            digest.update(f"{node.op} {target} {node.args} {node.kwargs}\n".encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


@dataclass(frozen=True)
class Score:
    """Mean cross-entropy in nats and the share of images whose largest logit is the label's."""

    loss: float
    accuracy: float


@torch.inference_mode()
def evaluate(module: nn.Module, images: Images, batch: int = 100) -> Score:
    """Loss and accuracy of a module, in evaluation mode, on images; summed in float64.

    Raises:
        ValueError: a logit is NaN.
    """
    loss, correct = 0.0, 0
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        try:
            # Channels last is what the processor's convolutions are fastest on.
            logits = module(part.pixels.to(memory_format=torch.channels_last))
        except RuntimeError as error:
            shape = tuple(part.pixels.shape[1:])
            raise ValueError(
                f"network: cannot take images of shape {shape} ({_one_line(error)}); use its own"
            ) from None
        if int(part.labels.max()) >= logits.shape[1] or int(part.labels.min()) < 0:
            raise ValueError(
                f"images: label {int(part.labels.max())} is none of the network's {logits.shape[1]} classes; "
                "use its own images"
            )
        loss += float(functional.cross_entropy(logits, part.labels, reduction="none").double().sum())
        correct += int((logits.argmax(1) == part.labels).sum())
    if loss != loss:
        raise ValueError("network: it answers NaN; check the weights and that pixels are in [0, 1]")
    return Score(loss / len(images), correct / len(images))


def evaluate_state(network: Network, state: dict[str, torch.Tensor], images: Images) -> Score:
    """Loss and accuracy of a network with other parameters; the network itself is left alone.

    Args:
        network: the architecture, and whatever `state` does not name.
        state: parameters and buffers by name, such as `physcomp.Chip.read_back` gives.
        images: what to score on.

    Raises:
        ValueError: the state does not fit the network, or a logit is NaN.
    """
    module = copy.deepcopy(network.module)
    try:
        unexpected = module.load_state_dict(state, strict=False).unexpected_keys
    except RuntimeError as error:
        raise ValueError(f"read-back: does not fit network {network.name} ({' '.join(str(error).split())})") from None
    if unexpected:
        raise ValueError(f"read-back: network {network.name} has no {', '.join(unexpected)}; is it another network's?")
    return evaluate(module, images)


def wrap(module: nn.Module, name: str = "network") -> Network:
    """A network of one's own: prepared for storage, under a name, its classes unnamed."""
    return Network(name, prepare(module), ())
