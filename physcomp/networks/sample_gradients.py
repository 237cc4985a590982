"""Gradients in the weights for each sample, from one call of an operator.

They are products of its inputs and of gradients in its outputs.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from physcomp.networks.calls import Call
from physcomp.networks.layers import Layer


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
    samples, parts, channels = given.shape[:3]
    blocks = int(call.settings.get("groups", 1))
    stride, dilation = (_each(call.settings.get(name, 1), len(kernel)) for name in ("stride", "dilation"))
    flat = _padded(given.flatten(0, 1), call, kernel, dilation)
    if len(kernel) == 2:
        columns = functional.unfold(flat, tuple(kernel), dilation=dilation, stride=stride)
    else:
        for axis, (size, step, gap) in enumerate(zip(kernel, stride, dilation, strict=True), start=2):
            flat = flat.unfold(axis, gap * (size - 1) + 1, step)[..., ::gap]
        places = range(2, 2 + len(kernel))
        taps = range(2 + len(kernel), 2 + 2 * len(kernel))
        columns = flat.permute(0, 1, *taps, *places).reshape(len(flat), channels * torch.Size(kernel).numel(), -1)
    if parts == 1:
        return columns.reshape(samples, blocks, -1, columns.shape[2])
    split = columns.reshape(samples, parts, blocks, -1, columns.shape[2])
    return split.permute(0, 2, 3, 1, 4).reshape(samples, blocks, split.shape[3], -1)


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
