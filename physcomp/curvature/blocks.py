"""The curvature of the loss inside each group: its Gauss-Newton matrix, estimated from calibration images.

An error δ of a group's weights raises the loss by about ½ δᵀ C δ, with C the matrix of that group.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import scipy.linalg
import torch
from numpy.typing import NDArray
from torch.nn import functional

from physcomp.curvature.batches import Part, batches, images_in_pass, layers_in
from physcomp.curvature.drawn_images import Drawn, drawn
from physcomp.curvature.gradients import MEMORY_BYTES, _at_once, _slices, directions_of
from physcomp.networks.layers import Layer
from physcomp.networks.network import Network
from physcomp.networks.sample_gradients import Outer
from physcomp.networks.samples import Samples
from physcomp.networks.tape import Tape, weights_at_once
from physcomp.threads import ShareDone, in_threads, release_memory

GATHERED = 500  # images whose gradients are collected before their products are summed; more were no faster
# Blocks of fewer weights are summed for many groups in one call; larger ones one by one, half of each by symmetry.
SMALL = 48
# Subtracting what a bias compensates may leave only float32 rounding errors. The mean diagonal of the rest is therefore
# raised to at least this share of the mean diagonal before. Our choice.
NOISE = 1e-3
# A bias whose curvature is less than this share of its weights' has no effect but by rounding errors, such as the bias
# of keys in attention, which a softmax cancels; it compensates nothing. Our choice.
FLAT = 1e-9
# Larger filters have several blocks, so that factors of blocks take minutes, not hours, for ten million weights; and
# where memory is short, blocks are as large as it allows in this number of passes over the images. Our choices.
MOST = 576
PASSES = 8
# Blocks only say how to round and prune: they are measured on one image of SHARE, drawn by the curvature in their
# outputs, but on at least LEAST. Our choices: on the embedded network the rows of 500 images drawn of 2,000 lose as
# much on held-out images as those of all (0.98 to 1.04 times, by six codes), those of 256 lose 3 to 8 % more.
SHARE, LEAST = 4, 400
FOR_BLOCKS = 5  # the part of the memory that blocks take; collected gradients take about as much

Result = TypeVar("Result")


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
    batch = [Part(number, slice(0, layer.groups)) for number, layer in enumerate(layers)]
    every = Drawn(images, directions_of(network, images, 1, seed))
    return _in_one_pass(network, layers, batch, size, every, len(images), memory_bytes=memory_bytes, progress=progress)


def curvatures_by_part(
    network: Network,
    layers: tuple[Layer, ...],
    images: Samples,
    use: Callable[[Part, Curvature], Result],
    *,
    seed: int = 0,
    memory_bytes: int = MEMORY_BYTES,
    progress: ShareDone | None = None,
) -> Iterator[tuple[Part, Result]]:
    """As `curvatures`, for some groups after the others, in as many passes over the images as the memory asks for.

    All groups come in the order of layers, each once, with what `use` makes of their curvature, which is then let go.

    Args:
        network: the network.
        layers: as `physcomp.networks.survey.survey` gives them.
        images: calibration images.
        use: what is made of the curvature of each part.
        seed: seed of the random signs.
        memory_bytes: memory for blocks and gradients; with less, blocks have fewer weights.
        progress: called with the share of the passes that is done, 0 to 1.
    """
    size, all_batches = block_batches(layers, memory_bytes)
    some = drawn(network, images, images_for_blocks(len(images)), 1, seed)
    for number, batch in enumerate(all_batches):

        def share(done: float, number: int = number) -> None:
            if progress:
                progress((number + done) / len(all_batches))

        found = _in_one_pass(
            network, layers, batch, size, some, len(images), memory_bytes=for_gradients(memory_bytes), progress=share
        )
        while found:
            part = batch[-len(found)]
            yield part, use(part, found.pop(0))  # nothing holds the blocks while the next part is measured
        release_memory()


def block_batches(layers: tuple[Layer, ...], memory_bytes: int) -> tuple[int, list[list[Part]]]:
    """The most weights of a block, and the groups that are measured in each pass, as the memory allows it."""
    weights = sum(layer.rows.size for layer in layers)
    size = max(1, min(MOST, PASSES * memory_bytes // (4 * FOR_BLOCKS * weights)))
    of_group = [4 * layer.weights * min(layer.weights, size) for layer in layers]
    return size, batches(layers, of_group, memory_bytes // FOR_BLOCKS)


def images_for_blocks(images: int) -> int:
    """The number of images that are drawn for the blocks, of a number of images."""
    return min(images, max(LEAST, images // SHARE))


def for_gradients(memory_bytes: int) -> int:
    """The part of the memory that gradients take twice over: collected, and in the threads that compute them."""
    return 3 * memory_bytes // 8


def images_of_blocks(tape: Tape, images: Samples, weights: int, memory_bytes: int) -> tuple[int, int]:
    """Images whose gradients in a number of weights are collected before they are summed, and images of a pass."""
    gathered = max(1, min(GATHERED, len(images), memory_bytes // (8 * weights)))
    at_once = max(1, memory_bytes // (64 * weights_at_once(tape.layers)))
    return gathered, min(images_in_pass(tape, images, memory_bytes), at_once, _at_once(gathered))


def _in_one_pass(
    network: Network,
    layers: tuple[Layer, ...],
    batch: list[Part],
    size: int,
    some: Drawn,
    count: int,
    *,
    memory_bytes: int,
    progress: ShareDone | None,
) -> list[Curvature]:
    """The curvature of a batch of groups, in blocks of at most `size` weights; gradients take half the memory.

    Sums are over the images that were drawn, and stand for those over a number `count` of images.
    """
    images, directions = some.images, some.directions
    sums = [_BlockSums(layers[part.layer], part, size) for part in batch]
    weights = sum(total.groups * total.weights for total in sums)
    met = list(layers_in(layers, batch))
    tape = Tape(network, tuple(layer for layer, _ in met))
    gathered, at_once = images_of_blocks(tape, images, weights, memory_bytes)
    rows = [torch.empty((total.groups, gathered, total.weights)) for total in sums]
    biases = [torch.empty((total.groups, gathered)) for total in sums]

    for first in range(0, len(images), gathered):
        last = min(first + gathered, len(images))

        def fill(part: slice, first: int = first) -> None:
            here = slice(part.start - first, part.stop - first)
            for index, gradient, bias in tape.products(images[part].inputs, directions.of(part)):
                for place, mine in met[index][1]:
                    rows[place][:, here] = by_group(gradient, mine.groups)
                    biases[place][:, here] = bias[:, mine.groups].T

        for _ in in_threads(fill, _slices(first, last, at_once)):
            pass
        tasks = [(place, groups) for place, total in enumerate(sums) for groups in total.tasks()]

        def add(task: tuple[int, slice], count: int = last - first) -> None:
            place, groups = task
            sums[place].add(groups, rows[place][groups, :count], biases[place][groups, :count])

        for _ in in_threads(add, tasks):
            pass
        if progress:
            progress(last / len(images))
    rows.clear()
    return [total.mean(count) for total in sums]


def by_group(gradients: torch.Tensor | Outer, groups: slice) -> torch.Tensor:
    """Gradients of some groups, from those of a pass with one probe: (groups, images, weights)."""
    if isinstance(gradients, Outer):
        return gradients.of(groups).by_group()
    return gradients[:, groups].transpose(0, 1)


class _BlockSums:
    """Sums over images for some groups: products of weight gradients inside each block, and with bias gradients."""

    def __init__(self, layer: Layer, part: Part, most: int) -> None:
        self.groups, self.weights, self.biased = part.size, layer.weights, layer.bias_of_group
        self.size = size = min(layer.weights, most)
        self.blocks = torch.zeros((self.groups, -(-self.weights // size), size, size))
        self.cross = torch.zeros((self.groups, self.weights))
        self.power = torch.zeros(self.groups)

    def tasks(self) -> list[slice]:
        """Ranges of groups, each the work of one thread."""
        return _slices(0, self.groups, max(1, (1 << 20) // (self.size * self.weights)))

    def add(self, groups: slice, rows: torch.Tensor, biases: torch.Tensor) -> None:
        """Add the gradients of some groups: of weights (groups, images, weights) and of biases (groups, images)."""
        for number, columns in enumerate(_slices(0, self.weights, self.size)):
            width = columns.stop - columns.start
            total, inside = self.blocks[groups, number], rows[:, :, columns]
            if width < SMALL:
                total[:, :width, :width].baddbmm_(inside.transpose(1, 2), inside)
            elif width < self.size:
                total[:, :width, :width] += inside.transpose(1, 2) @ inside
            else:
                for matrix, gathered in zip(total.numpy(), inside.numpy(), strict=True):
                    factor = np.ascontiguousarray(gathered[gathered.any(axis=1)])  # units at rest have no gradient
                    # Only the lower triangle, in place; `mean` fills the upper one.
                    scipy.linalg.blas.ssyrk(1.0, factor.T, beta=1.0, c=matrix.T, overwrite_c=1)
        if self.biased:
            self.cross[groups] += torch.bmm(biases.unsqueeze(1), rows).squeeze(1)
            self.power[groups] += biases.square().sum(1)

    def mean(self, images: int) -> Curvature:
        """The means over a number of images, with what the bias compensates subtracted."""
        importance = np.empty((self.groups, self.weights))

        def one(groups: slice) -> None:
            blocks = self.blocks[groups]
            if self.size >= SMALL:  # of whole blocks only the lower triangle was summed
                whole = blocks[:, : self.weights // self.size]
                whole += whole.tril(-1).transpose(2, 3)
            importance[groups] = blocks.diagonal(dim1=2, dim2=3).flatten(1)[:, : self.weights] / images
            if self.biased:
                padded = blocks.shape[1] * self.size - self.weights
                cross = functional.pad(self.cross[groups], (0, padded)).view(*blocks.shape[:3], 1)
                power = self.power[groups]
                able = power > FLAT * images * torch.from_numpy(importance[groups].mean(1)).float()
                shares = torch.where(able, 1 / power.clamp(min=1e-30), 0.0)[:, None, None, None]
                blocks -= (cross * shares) @ cross.transpose(2, 3)
                # Where the bias compensates nearly everything, the rest is rounding errors of either sign: see NOISE.
                spread = blocks.diagonal(dim1=2, dim2=3)
                noise = NOISE * torch.from_numpy(importance[groups].mean(1) * images).float()
                noise -= spread.sum((1, 2)) / self.weights
                inside = torch.arange(spread[0].numel()).view(spread.shape[1:]) < self.weights
                spread += noise.clamp(min=0)[:, None, None] * inside
            blocks /= images

        for _ in in_threads(one, self.tasks()):
            pass
        return Curvature(importance, self.blocks.numpy())
