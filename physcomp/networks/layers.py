"""Layers as groups of weights: each layer a matrix with one group per row; and the parameters outside all groups."""

from collections.abc import Container
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import nn

from physcomp.codes.base import Rows
from physcomp.networks.network import Network

Granularity = Literal["layer", "filter", "kernel"]


@dataclass(frozen=True, eq=False)
class Layer:
    """The weights of one Conv2d or Linear layer as a matrix, one row per group.

    Args:
        name: the module's name in the network.
        rows: float32 (groups, weights): with granularity `layer` one row, with `filter` a row for each output
            channel, with `kernel` one for each pair of output and input channel.
        shape: the shape of the layer's weight tensor.
        bias: float32 (outputs,), or None.
    """

    name: str
    rows: Rows
    shape: tuple[int, ...]
    bias: Rows | None

    @property
    def groups(self) -> int:
        """Number of groups."""
        return len(self.rows)

    @property
    def weights(self) -> int:
        """Number of weights of one group."""
        return int(self.rows.shape[1])

    @property
    def bias_of_group(self) -> bool:
        """Whether each group has its own bias: granularity `filter` in a layer with biases."""
        return self.bias is not None and len(self.bias) == self.groups


def layers_of(
    module: nn.Module, granularity: Granularity = "filter", names: Container[str] | None = None
) -> tuple[Layer, ...]:
    """The Conv2d and Linear layers of a network, in the order of its modules.

    Args:
        module: the module of the network.
        granularity: which weights form a group: a `layer`, a `filter` or a `kernel`.
        names: only layers with these names, such as those of a plan; None means all.

    Raises:
        ValueError: the network has no such layer, or the granularity is unknown.
    """
    if granularity not in get_args(Granularity):
        raise ValueError(f"granularity: must be one of {', '.join(get_args(Granularity))}, got '{granularity}'")
    layers = []
    for name, part in module.named_modules():
        if isinstance(part, nn.Conv2d | nn.Linear) and (names is None or name in names):
            weight = part.weight.detach().float()
            bias = None if part.bias is None else part.bias.detach().float().cpu().numpy().copy()
            rows = weight.reshape(_groups(weight, granularity), -1).cpu().numpy().copy()
            layers.append(Layer(name, rows, tuple(weight.shape), bias))
    if not layers:
        raise ValueError("network: it has no Conv2d or Linear layer, so there is nothing to store on cells")
    return tuple(layers)


def _groups(weight: torch.Tensor, granularity: Granularity) -> int:
    match granularity:
        case "layer":
            return 1
        case "filter":
            return weight.shape[0]
        case "kernel":
            return weight.shape[0] * weight.shape[1]


def other_tensors(module: nn.Module, layers: tuple[Layer, ...]) -> dict[str, torch.Tensor]:
    """Floating-point parameters and buffers outside all groups, by name; they are stored as bfloat16.

    They belong to norms that could not be folded, to kinds of layers that cells do not hold, and to layers that are
    never called (`physcomp.curvature.gradients.called_layers`). Integer buffers, such as batch counters, have no effect
    in evaluation and are left out.

    Args:
        module: the module of the network.
        layers: the layers whose weights and biases are left out.
    """
    grouped = {f"{layer.name}.{part}" for layer in layers for part in ("weight", "bias")}
    return {
        name: tensor.detach()
        for name, tensor in module.state_dict().items()
        if name not in grouped and tensor.is_floating_point()
    }


def weights_of(network: Network) -> int:
    """Number of weights of all Conv2d and Linear layers of a network."""
    return sum(layer.rows.size for layer in layers_of(network.module))
