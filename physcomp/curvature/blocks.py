"""The Gauss-Newton matrix inside each group, estimated from calibration images."""

from dataclasses import dataclass

import numpy as np
import scipy.linalg
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from physcomp.curvature.gradients import MEMORY_BYTES, Progress, Tape, _at_once, _slices, mixing_of
from physcomp.networks.images import Images
from physcomp.networks.layers import Layer
from physcomp.threads import in_threads

GATHERED = 500  # images whose gradients are gathered before their products are taken; more were no faster
# Below so many weights a block's products are taken for many groups at once, above one by one but half of each.
SMALL = 48
# The mean diagonal of a group's curvature that is left by its bias is taken for at least this share of that before:
# float32 knows no better. Our choice.
NOISE = 1e-3


@dataclass(frozen=True, eq=False)
class Curvature:
    """The Gauss-Newton matrix inside each group of one layer, what the group's bias can mend taken out.

    Args:
        importance: float64 (groups, weights): its diagonal before that, the cost of an error of one weight alone.
        blocks: float32 (groups, blocks, size, size): its diagonal blocks over runs of `size` consecutive weights,
            the last padded with zeros. One block where the memory allows it.
    """

    importance: NDArray[np.float64]
    blocks: NDArray[np.float32]


def curvatures(
    module: nn.Module,
    layers: tuple[Layer, ...],
    images: Images,
    *,
    seed: int = 0,
    memory_bytes: int = MEMORY_BYTES,
    progress: Progress | None = None,
) -> list[Curvature]:
    """Estimate the Gauss-Newton matrix inside each group, with one random probe an image.

    A column L r with random signs r has mean outer product L Lᵀ, so the estimate is unbiased; it serves to pick
    scales and to round, and costs one backward pass where the exact matrix costs one a class.

    Args:
        module: in evaluation mode.
        layers: as `physcomp.networks.layers.layers_of` gives them.
        images: calibration images.
        seed: of the random signs.
        memory_bytes: for the blocks, which are smaller with less, and half of it for the gradients.
        progress: called with the share done.

    Returns:
        One `Curvature` a layer.
    """
    weights = sum(layer.rows.size for layer in layers)
    size = max(1, memory_bytes // (4 * weights))
    sums = [_BlockSums(layer, min(layer.weights, size)) for layer in layers]
    gathered = max(1, min(GATHERED, len(images), memory_bytes // (8 * weights)))
    rows = [torch.empty((layer.groups, gathered, layer.weights)) for layer in layers]
    biases = [torch.empty((layer.groups, gathered)) for layer in layers]
    tape = Tape(module, layers)
    columns = mixing_of(module, images, 1, seed)

    for first in range(0, len(images), gathered):
        last = min(first + gathered, len(images))

        def fill(part: slice, first: int = first) -> None:
            here = slice(part.start - first, part.stop - first)
            for index, gradient, bias in tape.gradients(images.pixels[part], columns(part)):
                rows[index][:, here], biases[index][:, here] = gradient.transpose(0, 1), bias.T

        for _ in in_threads(fill, _slices(first, last, _at_once(gathered))):
            pass
        tasks = [(index, groups) for index, total in enumerate(sums) for groups in total.tasks()]

        def add(task: tuple[int, slice], count: int = last - first) -> None:
            index, groups = task
            sums[index].add(groups, rows[index][groups, :count], biases[index][groups, :count])

        for _ in in_threads(add, tasks):
            pass
        if progress:
            progress(last / len(images))
    return [total.mean(len(images)) for total in sums]


class _BlockSums:
    """Sums over images of the products of one layer's gradients inside each block, and with the group's bias."""

    def __init__(self, layer: Layer, size: int) -> None:
        self.layer, self.size = layer, size
        self.blocks = torch.zeros((layer.groups, -(-layer.weights // size), size, size))
        self.cross = torch.zeros(layer.rows.shape)
        self.power = torch.zeros(layer.groups)

    def tasks(self) -> list[slice]:
        """Groups to be taken by one thread at a time."""
        return _slices(0, self.layer.groups, max(1, (1 << 20) // (self.size * self.layer.weights)))

    def add(self, groups: slice, rows: torch.Tensor, biases: torch.Tensor) -> None:
        """Add the products of gradients (groups, images, weights) and biases (groups, images) of some groups."""
        for number, columns in enumerate(_slices(0, self.layer.weights, self.size)):
            width = columns.stop - columns.start
            total, inside = self.blocks[groups, number], rows[:, :, columns]
            if width < SMALL:
                total[:, :width, :width].baddbmm_(inside.transpose(1, 2), inside)
            elif width < self.size:
                total[:, :width, :width] += inside.transpose(1, 2) @ inside
            else:
                for matrix, factor in zip(total.numpy(), inside.numpy(), strict=True):
                    # The lower triangle, in place; `mean` does the other.
                    scipy.linalg.blas.ssyrk(1.0, factor.T, beta=1.0, c=matrix.T, overwrite_c=1)
        if self.layer.bias_of_group:
            self.cross[groups] += torch.bmm(biases.unsqueeze(1), rows).squeeze(1)
            self.power[groups] += biases.square().sum(1)

    def mean(self, images: int) -> Curvature:
        """What the bias can mend taken out, over so many images."""
        importance = np.empty(self.layer.rows.shape)

        def one(groups: slice) -> None:
            blocks = self.blocks[groups]
            blocks.copy_(blocks.tril() + blocks.tril(-1).transpose(2, 3))
            importance[groups] = blocks.diagonal(dim1=2, dim2=3).flatten(1)[:, : self.layer.weights] / images
            if self.layer.bias_of_group:
                padded = blocks.shape[1] * self.size - self.layer.weights
                cross = functional.pad(self.cross[groups], (0, padded)).view(*blocks.shape[:3], 1)
                power = self.power[groups].clamp(min=1e-30)[:, None, None, None]
                blocks -= (cross / power) @ cross.transpose(2, 3)
                # What is left of blocks that the bias mends all but wholly is rounding errors, of either sign.
                spread = blocks.diagonal(dim1=2, dim2=3)
                noise = NOISE * torch.from_numpy(importance[groups].mean(1) * images).float()
                noise -= spread.sum((1, 2)) / self.layer.weights
                inside = torch.arange(spread[0].numel()).view(spread.shape[1:]) < self.layer.weights
                spread += noise.clamp(min=0)[:, None, None] * inside
            blocks /= images

        for _ in in_threads(one, self.tasks()):
            pass
        return Curvature(importance, self.blocks.numpy())
