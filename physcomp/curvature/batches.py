"""Batches of groups: what is measured in one pass over the images, so that memory stays within a setting."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from physcomp.networks.layers import Layer
from physcomp.networks.samples import Samples
from physcomp.networks.tape import Tape

# Our choices.
IN_PASS = 8  # the part of the memory that the images take which one thread passes at a time
KEPT = 5  # bytes that a pass takes for each byte that autograd saves: outputs, their gradients, unfolded inputs


@dataclass(frozen=True)
class Part:
    """Some neighbouring groups of a layer, by the number of the layer and the range of their numbers in it."""

    layer: int
    groups: slice

    @property
    def size(self) -> int:
        """Number of groups."""
        return int(self.groups.stop - self.groups.start)


def batches(layers: tuple[Layer, ...], of_group: list[int], most: int, step: int = 1) -> list[list[Part]]:
    """All groups of all layers in order, in batches of parts that take at most `most` bytes.

    Args:
        layers: the layers.
        of_group: for each layer, the bytes that one of its groups takes.
        most: bytes of a batch.
        step: layers are cut at multiples of this number of groups; one step is taken even where it needs more.

    Example:
        >>> import numpy as np
        >>> layer = Layer("a", np.zeros((5, 2), np.float32), (5, 2), None)
        >>> [[(part.layer, part.groups) for part in batch] for batch in batches((layer, layer), [1, 2], 7)]
        [[(0, slice(0, 5, None)), (1, slice(0, 1, None))], [(1, slice(1, 4, None))], [(1, slice(4, 5, None))]]
    """
    found: list[list[Part]] = [[]]
    left = most
    for number, layer in enumerate(layers):
        start = 0
        while start < layer.groups:
            fitting = left // max(1, of_group[number])
            count = min(layer.groups - start, fitting)
            if start + count < layer.groups:
                count -= count % step
            if count <= 0 and found[-1]:
                found.append([])
                left = most
                continue
            count = max(count, min(step, layer.groups - start))
            found[-1].append(Part(number, slice(start, start + count)))
            start, left = start + count, left - count * of_group[number]
    return found


def layers_in(layers: tuple[Layer, ...], batch: list[Part]) -> Iterator[tuple[Layer, list[tuple[int, Part]]]]:
    """The layers of a batch, each with its parts and their places in the batch."""
    for number in sorted({part.layer for part in batch}):
        yield layers[number], [(place, part) for place, part in enumerate(batch) if part.layer == number]


def images_in_pass(tape: Tape, images: Samples, memory_bytes: int) -> int:
    """The number of images, at least one, whose pass through a network takes one thread's share of the memory."""
    saved: dict[int, torch.UntypedStorage] = {}  # held, so that no other tensor gets the address of one

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        tape.record(images[:1].inputs)
    for tensor in (*tape.module.parameters(), *tape.module.buffers()):
        saved.pop(tensor.untyped_storage().data_ptr(), None)
    taken = KEPT * sum(storage.nbytes() for storage in saved.values())
    return max(1, memory_bytes // (IN_PASS * max(1, taken)))
