"""What an operator takes in and gives out at some of its positions; a position has one output in every channel.

A convolution has a position for each pixel of its output, a linear map one for each vector that it maps.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from physcomp.networks.calls import Call
from physcomp.networks.sample_gradients import _each, _padded


@dataclass(frozen=True, eq=False)
class Positions:
    """Some positions of an operator's output.

    Args:
        shape: the axes of the output without that of the channels.
        places: for each of these axes int64 (positions,), the places along it.
    """

    shape: tuple[int, ...]
    places: tuple[torch.Tensor, ...]

    def __len__(self) -> int:
        return len(self.places[0])

    def on(self, tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The places on the device of a tensor."""
        return tuple(place.to(tensor.device) for place in self.places)

    def late(self, axis: int, share: float) -> NDArray[np.bool_]:
        """Which positions belong to the last share of the samples, bool (positions,); `axis` counts samples."""
        place = self.places[min(axis, len(self.places) - 1)].numpy()
        return np.asarray(place >= (1 - share) * self.shape[min(axis, len(self.places) - 1)])


def positions_of(call: Call, most: int, seed: int) -> Positions:
    """Positions drawn at random, without repetition: at most `most`, spread evenly over the whole output.

    Args:
        call: the call; only the shape of its output matters.
        most: the most positions.
        seed: of the draw.
    """
    shape = tuple(size for axis, size in enumerate(call.output.shape) if axis != call.channel)
    total = int(np.prod(shape))
    count = min(total, most)
    # One from each of `count` equal stretches: samples come in turn, and no row of pixels is always hit.
    edges = np.linspace(0, total, count + 1)
    flat = np.floor(edges[:-1] + np.random.default_rng(seed).random(count) * np.diff(edges)).astype(np.int64)
    places = np.unravel_index(np.minimum(flat, total - 1), shape)
    return Positions(shape, tuple(torch.from_numpy(np.ascontiguousarray(place)) for place in places))


def outputs_at(call: Call, positions: Positions) -> torch.Tensor:
    """The outputs at some positions, float32 (positions, channels), on the processor."""
    return call.output.movedim(call.channel, -1)[positions.on(call.output)].float().cpu()


def inputs_at(call: Call, positions: Positions) -> torch.Tensor | None:
    """What the weights of each output are multiplied with: float32 (blocks, positions, weights), on the processor.

    The channels of a convolution come in `groups` blocks, each with inputs of its own; a linear map has one block.
    None for operators for which this is not known (transposed convolutions, convolutions of a single sample).
    """
    if call.operator == "linear":
        return call.given[positions.on(call.output)].float().cpu().unsqueeze(0)
    kernel = call.weight.shape[2:]
    if call.operator != "convolution" or call.given.dim() != len(kernel) + 2:
        return None
    stride, dilation = (_each(call.settings.get(name, 1), len(kernel)) for name in ("stride", "dilation"))
    windows = _padded(call.given, call, kernel, dilation)
    for axis, (size, step, gap) in enumerate(zip(kernel, stride, dilation, strict=True), start=2):
        windows = windows.unfold(axis, gap * (size - 1) + 1, step)[..., ::gap]
    sample, *places = positions.on(windows)
    here: tuple[Any, ...] = (sample, slice(None), *places)
    found = windows[here].float().cpu()
    blocks = int(call.settings.get("groups", 1))
    return found.reshape(len(sample), blocks, -1).transpose(0, 1)
