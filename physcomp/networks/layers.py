"""Layers as groups of weights: each weight tensor a matrix with one group per row; and tensors outside all groups."""

from collections.abc import Container, Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import nn

from physcomp.codes.base import Rows

Granularity = Literal["layer", "filter", "kernel"]
Adapter = Literal["calls", "mapped", "each"]
"""How gradients for each sample are taken: from the calls of an operator that uses the weights (convolution, linear
map, lookup), by torch.func for all samples at a time, or for one sample after the other."""

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase)
# Layers whose weights are stored on cells even where all axes but one have length 1.
WEIGHTED = (nn.modules.conv._ConvNd, nn.Linear, nn.Embedding)


@dataclass(frozen=True, eq=False)
class Layer:
    """One weight tensor of a network as a matrix, one row per group.

    Args:
        name: the name of the layer: that of the weight tensor, without a last `.weight`.
        rows: float32 (groups, weights): with granularity `layer` one row, with `filter` a row for each output
            channel, with `kernel` one for each pair of output and input channel. Of a parameter that no layer of torch
            holds, the first axis longer than 1 counts output channels.
        shape: the shape of the weight tensor.
        bias: float32 (outputs,), or None.
        weight: the name of the weight tensor in the network; empty: `name` and `.weight`.
        bias_name: the name of the bias; empty: `name` and `.bias`.
        transposed: for a transposed convolution, whose weights have input channels as first axis, the number of
            groups of channels; 0 for all others.
        adapter: how gradients for each sample are taken.
        axis: with adapter `calls`, the axis of the operator's inputs that counts samples.
        looked_up: whether rows are looked up one by one, so that samples may not use all of them.
        scale_free: whether taking the weights away changes outputs far more than gradients say, as where the network
            divides weights by their size.
    """

    name: str
    rows: Rows
    shape: tuple[int, ...]
    bias: Rows | None
    weight: str = ""
    bias_name: str = ""
    transposed: int = 0
    adapter: Adapter = "calls"
    axis: int = 0
    looked_up: bool = False
    scale_free: bool = False

    def __post_init__(self) -> None:
        if not self.weight:
            object.__setattr__(self, "weight", f"{self.name}.weight")
        if not self.bias_name:
            object.__setattr__(self, "bias_name", f"{self.name}.bias")

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

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the tensors of the network that the layer holds."""
        return (self.weight,) if self.bias is None else (self.weight, self.bias_name)

    def grouped(self, granularity: Granularity) -> "Layer":
        """The same layer, of granularity `filter`, with groups of another granularity."""
        count = {"layer": 1, "filter": self.groups, "kernel": self.rows.size // _taps(self.shape)}[granularity]
        return replace(self, rows=self.rows.reshape(count, -1))


def _taps(shape: tuple[int, ...]) -> int:
    """Number of weights of one pair of output and input channel."""
    return int(torch.Size(shape[2:]).numel())


def rows_of(tensor: torch.Tensor, transposed: int = 0) -> torch.Tensor:
    """A weight tensor as a matrix with one row per output channel.

    Args:
        tensor: the weights, output channels first.
        transposed: number of groups of channels of a transposed convolution (input channels, outputs of a group, …).
    """
    if transposed:
        split = tensor.reshape(transposed, -1, *tensor.shape[1:])
        return split.transpose(1, 2).reshape(transposed * tensor.shape[1], -1)
    return tensor.reshape(len(tensor), -1)


def tensor_of(rows: torch.Tensor, shape: tuple[int, ...], transposed: int = 0) -> torch.Tensor:
    """Inverse of `rows_of`, whatever the granularity of the rows."""
    if transposed:
        split = rows.reshape(transposed, shape[1], shape[0] // transposed, *shape[2:])
        return split.transpose(1, 2).reshape(shape)
    return rows.reshape(shape)


def layer_of(module: nn.Module, name: str, weight: str, bias_name: str | None, transposed: int, groups: int) -> Layer:
    """One weight tensor of a module as a layer with a number of groups.

    Raises:
        ValueError: the module has no such tensor.
    """
    tensor = _parameter(module, weight)
    rows = rows_of(tensor, transposed).float().cpu().numpy().reshape(groups, -1).copy()
    bias = None if bias_name is None else _parameter(module, bias_name).float().cpu().numpy().copy()
    return Layer(name, rows, tuple(tensor.shape), bias, weight, bias_name or "", transposed)


def _parameter(module: nn.Module, name: str) -> torch.Tensor:
    try:
        return module.get_parameter(name).detach()
    except AttributeError:
        raise ValueError(f"network: it has no parameter '{name}'; is the plan another network's?") from None


def layers_of(
    module: nn.Module, granularity: Granularity = "filter", names: Container[str] | None = None
) -> tuple[Layer, ...]:
    """The weight tensors of a network that cells could hold, in the order of its parameters.

    These are the parameters with at least two axes longer than 1 and those of convolutions, linear layers and
    embeddings, but for the parameters of norms. A parameter under several names is one layer, under the first name.
    `physcomp.networks.survey` then says which of them the outputs depend on.

    Args:
        module: the module of the network.
        granularity: which weights form a group: a `layer`, a `filter` or a `kernel`.
        names: only layers with these names; None means all.

    Raises:
        ValueError: the network has no such tensor, or the granularity is unknown.
    """
    if granularity not in get_args(Granularity):
        raise ValueError(f"granularity: must be one of {', '.join(get_args(Granularity))}, got '{granularity}'")
    layers = []
    for full, parameter in module.named_parameters():
        owner = module.get_submodule(full.rpartition(".")[0])
        name = full.removesuffix(".weight")
        if not _storable(owner, parameter) or not (names is None or name in names):
            continue
        transposed = owner.groups if isinstance(owner, TRANSPOSED) and full.endswith("weight") else 0
        outputs = _outputs(owner, parameter, transposed)
        bias = getattr(owner, "bias", None) if full.endswith("weight") else None
        usual = isinstance(bias, nn.Parameter) and bias.shape == (outputs,)
        bias_name = f"{full.removesuffix('weight')}bias" if usual else None
        layers.append(layer_of(module, name, full, bias_name, transposed, outputs).grouped(granularity))
    if not layers:
        raise ValueError("network: it has no tensor of weights with two axes, so there is nothing to store on cells")
    return tuple(layers)


def _outputs(owner: nn.Module, parameter: torch.Tensor, transposed: int) -> int:
    """Number of output channels of a weight tensor."""
    if transposed:
        return transposed * parameter.shape[1]
    usual = isinstance(owner, WEIGHTED)
    return int(parameter.shape[0] if usual else next((size for size in parameter.shape if size > 1), 1))


def _storable(owner: nn.Module, parameter: torch.Tensor) -> bool:
    long = sum(size > 1 for size in parameter.shape) >= 2
    usual = isinstance(owner, WEIGHTED) and parameter.dim() >= 2
    return parameter.is_floating_point() and (long or usual) and not isinstance(owner, NORMS) and parameter.numel() > 0


def other_tensors(module: nn.Module, layers: tuple[Layer, ...]) -> dict[str, torch.Tensor]:
    """Parameters and buffers outside all groups, by name, each once whatever names it has; they are stored digitally.

    They belong to norms that could not be folded, or to layers whose errors cannot be valued
    (`physcomp.networks.survey`). Batch counters have no effect in evaluation and are left out.

    Args:
        module: the module of the network.
        layers: the layers whose weights and biases are left out.
    """
    state = {name: tensor for name, tensor in module.state_dict().items() if isinstance(tensor, torch.Tensor)}
    seen = {_memory(state[name]) for layer in layers for name in layer.names if name in state}
    found = {}
    for name, tensor in state.items():
        if name.rpartition(".")[2] == "num_batches_tracked" or (tensor.numel() and _memory(tensor) in seen):
            continue
        seen.add(_memory(tensor))
        found[name] = tensor.detach()
    return found


def _memory(tensor: torch.Tensor) -> tuple[object, ...]:
    """What two names of the same tensor have in common."""
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype


def aliases_of(module: nn.Module) -> Iterator[tuple[str, str]]:
    """Further names of parameters, each with the first name of the same parameter."""
    first: dict[int, str] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if id(parameter) in first:
            yield name, first[id(parameter)]
        first.setdefault(id(parameter), name)
