"""The curvature of the loss inside each group: its Gauss-Newton matrix, estimated from calibration images.

An error δ of a group's weights raises the loss by about ½ δᵀ C δ, with C the matrix of that group.
"""

from dataclasses import dataclass

import numpy as np
import scipy.linalg
import torch
from numpy.typing import NDArray
from torch.nn import functional

from physcomp.curvature.gradients import MEMORY_BYTES, _at_once, _slices, directions_of
from physcomp.networks.layers import Layer
from physcomp.networks.network import Network
from physcomp.networks.samples import Samples
from physcomp.networks.tape import Tape
from physcomp.threads import ShareDone, in_threads

GATHERED = 500  # images whose gradients are collected before their products are summed; more were no faster
# Blocks of fewer weights are summed for many groups in one call; larger ones one by one, half of each by symmetry.
SMALL = 48
# Subtracting what a bias compensates may leave only float32 rounding errors. The mean diagonal of the rest is therefore
# raised to at least this share of the mean diagonal before. Our choice.
NOISE = 1e-3


@dataclass(frozen=True, eq=False)
class Curvature:
    """The Gauss-Newton matrix inside each group of one layer, after the group's bias compensates what it can.

    With the bias at its best value, C becomes C - c cᵀ / s: c couples the weights to the bias, s is the bias's own
    curvature. Groups without a bias of their own keep C.

    Args:
        importance: float64 (groups, weights): the diagonal of C, that is, without compensation by the bias.
        blocks: float32 (groups, blocks, size, size): the compensated matrix in diagonal blocks over runs of `size`
            consecutive weights, the last padded with zeros. One block where the memory allows it.

    Both are means over the images, in nats per squared unit of weight.
    """

    importance: NDArray[np.float64]
    blocks: NDArray[np.float32]


def curvatures(
    network: Network,
    layers: tuple[Layer, ...],
    images: Samples,
    *,
    seed: int = 0,
    memory_bytes: int = MEMORY_BYTES,
    progress: ShareDone | None = None,
) -> list[Curvature]:
    """Estimate the Gauss-Newton matrix inside each group, with one random probe per image.

    With L the factor of the softmax Hessian (`physcomp.curvature.couplings`) and r a vector of random signs, L r has
    the mean outer product L Lᵀ, so the estimate is unbiased. It takes one backward pass, the exact matrix one per
    class. Scales are picked and weights rounded by it.

    Args:
        network: the network.
        layers: as `physcomp.networks.survey.survey` gives them.
        images: calibration images.
        seed: seed of the random signs.
        memory_bytes: memory for the blocks; with less, blocks are smaller. Gradients take half as much on top.
        progress: called with the share of the images that is done, 0 to 1.

    Returns:
        One `Curvature` per layer.
    """
    weights = sum(layer.rows.size for layer in layers)
    size = max(1, memory_bytes // (4 * weights))
    sums = [_BlockSums(layer, min(layer.weights, size)) for layer in layers]
    gathered = max(1, min(GATHERED, len(images), memory_bytes // (8 * weights)))
    rows = [torch.empty((layer.groups, gathered, layer.weights)) for layer in layers]
    biases = [torch.empty((layer.groups, gathered)) for layer in layers]
    tape = Tape(network, layers)
    directions = directions_of(network, images, 1, seed)

    for first in range(0, len(images), gathered):
        last = min(first + gathered, len(images))

        def fill(part: slice, first: int = first) -> None:
            here = slice(part.start - first, part.stop - first)
            for index, gradient, bias in tape.gradients(images[part].inputs, directions.of(part)):
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
    """Sums over images for one layer: products of weight gradients inside each block, and with the bias gradients."""

    def __init__(self, layer: Layer, size: int) -> None:
        self.layer, self.size = layer, size
        self.blocks = torch.zeros((layer.groups, -(-layer.weights // size), size, size))
        self.cross = torch.zeros(layer.rows.shape)
        self.power = torch.zeros(layer.groups)

    def tasks(self) -> list[slice]:
        """Ranges of groups, each the work of one thread."""
        return _slices(0, self.layer.groups, max(1, (1 << 20) // (self.size * self.layer.weights)))

    def add(self, groups: slice, rows: torch.Tensor, biases: torch.Tensor) -> None:
        """Add the gradients of some groups: of weights (groups, images, weights) and of biases (groups, images)."""
        for number, columns in enumerate(_slices(0, self.layer.weights, self.size)):
            width = columns.stop - columns.start
            total, inside = self.blocks[groups, number], rows[:, :, columns]
            if width < SMALL:
                total[:, :width, :width].baddbmm_(inside.transpose(1, 2), inside)
            elif width < self.size:
                total[:, :width, :width] += inside.transpose(1, 2) @ inside
            else:
                for matrix, factor in zip(total.numpy(), inside.numpy(), strict=True):
                    # Only the lower triangle, in place; `mean` fills the upper one.
                    scipy.linalg.blas.ssyrk(1.0, factor.T, beta=1.0, c=matrix.T, overwrite_c=1)
        if self.layer.bias_of_group:
            self.cross[groups] += torch.bmm(biases.unsqueeze(1), rows).squeeze(1)
            self.power[groups] += biases.square().sum(1)

    def mean(self, images: int) -> Curvature:
        """The means over a number of images, with what the bias compensates subtracted."""
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
                # Where the bias compensates nearly everything, the rest is rounding errors of either sign: see NOISE.
                spread = blocks.diagonal(dim1=2, dim2=3)
                noise = NOISE * torch.from_numpy(importance[groups].mean(1) * images).float()
                noise -= spread.sum((1, 2)) / self.layer.weights
                inside = torch.arange(spread[0].numel()).view(spread.shape[1:]) < self.layer.weights
                spread += noise.clamp(min=0)[:, None, None] * inside
            blocks /= images

        for _ in in_threads(one, self.tasks()):
            pass
        return Curvature(importance, self.blocks.numpy())
