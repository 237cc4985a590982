"""Gradients in the weights for each sample, from one call of an operator.

They are products of its inputs and of gradients in its outputs.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from physcomp.networks.calls import Call
from physcomp.networks.layers import Layer


@dataclass(frozen=True, eq=False)
class Outer:
    """Gradients in the weights of a linear layer with one place a sample: each is a product, and is not formed.

    Args:
        inputs: (samples, weights), what all groups are given.
        outputs: (samples, probes, groups), gradients in what each group gives.
    """

    inputs: torch.Tensor
    outputs: torch.Tensor

    def biases(self, layer: Layer) -> torch.Tensor:
        """Gradients in the biases of the groups, (samples · probes, groups): zero where they have none."""
        flat = self.outputs.flatten(0, 1)
        return flat if layer.bias_of_group else torch.zeros_like(flat)

    def of(self, groups: slice) -> "Outer":
        """The gradients of some groups."""
        return Outer(self.inputs, self.outputs[:, :, groups])

    def whole(self) -> torch.Tensor:
        """The gradients themselves, (samples · probes, groups, weights)."""
        return (self.outputs.unsqueeze(3) * self.inputs[:, None, None, :]).flatten(0, 1)

    def by_group(self) -> torch.Tensor:
        """The gradients themselves, (groups, samples · probes, weights)."""
        return (self.outputs.permute(2, 0, 1).unsqueeze(3) * self.inputs[None, :, None, :]).flatten(1, 2)

    def times(self, errors: torch.Tensor) -> torch.Tensor:
        """Products with errors (groups, weights, codes): (groups, samples · probes, codes)."""
        products = torch.matmul(self.inputs, errors)
        return (products.unsqueeze(2) * self.outputs.permute(2, 0, 1).unsqueeze(3)).flatten(1, 2)

    def power(self) -> torch.Tensor:
        """Sums of their squares over samples and probes, (groups, weights)."""
        return self.outputs.square().sum(1).T @ self.inputs.square()

    def power_along(self, variances: torch.Tensor) -> torch.Tensor:
        """Sums of their squares over probes and, times variances (groups, weights), over weights: (samples, groups)."""
        return self.outputs.square().sum(1) * (self.inputs.square() @ variances.T)


def outer_of(calls: Sequence[tuple[Call, Sequence[torch.Tensor]]], layer: Layer, samples: int) -> Outer | None:
    """Gradients as products, where a layer is called once, is linear and has one place a sample; else None.

    They are on the processor.

    Args:
        calls: each with the gradients in its output for each probe.
        layer: the layer.
        samples: number of samples.
    """
    if len(calls) != 1 or calls[0][0].operator != "linear" or layer.axis:
        return None
    given, back = calls[0][0].given, calls[0][1]
    if len(given) != samples or given.numel() != samples * given.shape[-1]:
        return None
    outputs = torch.stack([each.reshape(samples, -1) for each in back], 1).float().cpu()
    inputs = given.reshape(samples, -1).float().cpu()
    return Outer(inputs, outputs) if layer.rows.shape == (outputs.shape[2], inputs.shape[1]) else None


def of_call(call: Call, layer: Layer, back: Sequence[torch.Tensor], samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of one call: in the layer's rows and in its groups' biases.

    Args:
        call: the call; axis `layer.axis` of its input counts samples, or some positions of each sample in turn.
        layer: the same layer as rows.
        back: for each probe the gradients in the call's output, of its shape.
        samples: number of samples.

    Returns:
        Gradients in rows (samples · probes, groups, weights) and in biases (samples · probes, groups), zero where
        groups have no bias of their own.

    Raises:
        ValueError: the axis does not count samples.
    """
    count = samples * len(back)
    given = _by_sample(call.given, samples, layer.axis)
    given = given if call.operator == "lookup" else given.float()  # a network may compute in fewer bits
    # (samples, probes, parts, …)
    gradients = torch.stack([_by_sample(each, samples, layer.axis) for each in back], 1).float()
    match call.operator:
        case "linear":
            inputs = given.reshape(samples, -1, given.shape[-1]).transpose(1, 2).unsqueeze(1)
            outputs = gradients.reshape(samples, len(back), inputs.shape[3], -1).transpose(2, 3).unsqueeze(2)
        case "convolution":
            inputs = _columns(given, call, call.weight.shape[2:])
            outputs = _channels(gradients, inputs.shape[1])
        case "transposed":
            return _transposed(call, layer, given, gradients)
        case "lookup":
            return _lookups(layer, given.reshape(samples, -1), gradients), torch.zeros(count, layer.groups)
    blocks, of_block = inputs.shape[1], outputs.shape[3]
    stacked = outputs.transpose(1, 2).reshape(samples, blocks, len(back) * of_block, -1)
    weights = torch.matmul(stacked, inputs.transpose(2, 3)).reshape(samples, blocks, len(back), of_block, -1)
    rows = weights.transpose(1, 2).reshape(count, *layer.rows.shape)
    if layer.bias_of_group:
        return rows, outputs.sum(4).reshape(count, layer.groups)
    return rows, torch.zeros(count, layer.groups)


def _by_sample(tensor: torch.Tensor, samples: int, axis: int) -> torch.Tensor:
    """(samples, parts of a sample, …): positions that a network has merged into the axis of samples are parts."""
    if axis:
        return tensor.transpose(0, axis)
    if not tensor.dim() or len(tensor) % samples:
        raise ValueError(f"network: an axis of {tuple(tensor.shape)} does not count {samples} samples")
    return tensor.reshape(samples, -1, *tensor.shape[1:])


def _channels(gradients: torch.Tensor, blocks: int) -> torch.Tensor:
    """Gradients (samples, probes, parts, channels, …) as (samples, probes, blocks, channels of a block, places)."""
    samples, probes, _, channels = gradients.shape[:4]
    flat = gradients.flatten(4) if gradients.dim() > 4 else gradients.unsqueeze(4)
    return flat.transpose(2, 3).reshape(samples, probes, blocks, channels // blocks, -1)


def _columns(given: torch.Tensor, call: Call, kernel: Sequence[int]) -> torch.Tensor:
    """Inputs (samples, parts, channels, …) of a convolution as columns: (samples, blocks, fan-in, places)."""
    samples, parts = given.shape[:2]
    blocks = int(call.settings.get("groups", 1))
    stride, dilation = (_each(call.settings.get(name, 1), len(kernel)) for name in ("stride", "dilation"))
    flat = _padded(given.flatten(0, 1), call, kernel, dilation)
    columns = _taps(flat, kernel, stride, dilation)
    if parts == 1:
        return columns.reshape(samples, blocks, -1, columns.shape[2])
    split = columns.reshape(samples, parts, blocks, -1, columns.shape[2])
    return split.permute(0, 2, 3, 1, 4).reshape(samples, blocks, split.shape[3], -1)


def _taps(given: torch.Tensor, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> torch.Tensor:
    """Inputs (samples, channels, …) as they meet each weight of a kernel: (samples, channels · taps, places).

    One copy for each tap takes a quarter of the time of torch's unfold on large images.
    """
    axes = list(zip(given.shape[2:], kernel, stride, dilation, strict=True))
    places = [(size - gap * (taps - 1) - 1) // step + 1 for size, taps, step, gap in axes]
    columns = given.new_empty(*given.shape[:2], torch.Size(kernel).numel(), *places)
    for number, tap in enumerate(itertools.product(*map(range, kernel))):
        met: list[Any] = [
            slice(gap * first, gap * first + step * (count - 1) + 1, step)
            for first, count, (_, _, step, gap) in zip(tap, places, axes, strict=True)
        ]
        columns[:, :, number] = given[(..., *met)]
    return columns.reshape(len(given), columns.shape[1] * columns.shape[2], -1)


def _padded(given: torch.Tensor, call: Call, kernel: Sequence[int], dilation: Sequence[int]) -> torch.Tensor:
    padding = call.settings.get("padding", 0)
    if padding == "valid":
        return given
    if padding == "same":
        totals = [gap * (size - 1) for gap, size in zip(dilation, kernel, strict=True)]
        sides = [(total // 2, total - total // 2) for total in totals]
    else:
        sides = [(size, size) for size in _each(padding, len(kernel))]
    return functional.pad(given, [*itertools.chain.from_iterable(reversed(sides))]) if any(map(any, sides)) else given


def _each(value: Any, axes: int) -> tuple[int, ...]:
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * axes if len(values) == 1 else values


def _transposed(
    call: Call, layer: Layer, given: torch.Tensor, gradients: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """A transposed convolution is a convolution with inputs and outputs exchanged."""
    samples, probes = gradients.shape[:2]
    blocks, kernel = layer.transposed, call.weight.shape[2:]
    columns = _columns(gradients.flatten(0, 1), call, kernel)  # (samples · probes, blocks, outputs · taps, places)
    inputs = _channels(given.unsqueeze(1), blocks).squeeze(1).repeat_interleave(probes, 0)
    places = inputs.shape[3]
    if given.shape[1] == 1:
        shape = _places_of(gradients, call, kernel)
        columns = columns.reshape(*columns.shape[:3], *shape)
        for axis, size in enumerate(given.shape[3:], start=3):
            columns = columns.narrow(axis, 0, size)
        columns = columns.flatten(3)
    weights = torch.matmul(inputs, columns[..., :places].transpose(2, 3))  # (…, blocks, inputs, outputs · taps)
    taps = torch.Size(kernel).numel()
    split = weights.reshape(samples * probes, blocks, weights.shape[2], -1, taps).transpose(2, 3)
    rows = split.reshape(samples * probes, *layer.rows.shape)
    biases = gradients.transpose(2, 3).flatten(3).sum(3).reshape(samples * probes, -1)
    return rows, biases if layer.bias_of_group else torch.zeros(samples * probes, layer.groups)


def _places_of(gradients: torch.Tensor, call: Call, kernel: Sequence[int]) -> list[int]:
    """The number of places of the kernel along each axis of a gradient (samples, probes, parts, channels, …)."""
    axes = len(kernel)
    stride, dilation, padding = (
        _each(call.settings.get(name, default), axes)
        for name, default in (("stride", 1), ("dilation", 1), ("padding", 0))
    )
    return [
        (gradients.shape[4 + a] + 2 * padding[a] - dilation[a] * (kernel[a] - 1) - 1) // stride[a] + 1
        for a in range(axes)
    ]


def _lookups(layer: Layer, places: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """Gradients in the rows of a table: those at the places (samples, lookups) where a row was looked up."""
    samples, probes = gradients.shape[:2]
    entries, width = layer.shape[0], layer.rows.size // layer.shape[0]
    found = torch.zeros(samples * probes * entries, width)
    first = torch.arange(samples * probes).reshape(samples, probes, 1) * entries
    index = first + places.unsqueeze(1)
    found.index_add_(0, index.flatten(), gradients.reshape(-1, width))
    return found.reshape(samples * probes, *layer.rows.shape)
