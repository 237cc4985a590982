"""The loss model: generalised Gauss-Newton columns of a network on calibration images.

With J the logits' Jacobian and G = diag(p) - p pᵀ the softmax Hessian, G = L Lᵀ with L = diag(√p) - p √pᵀ, so the
columns a = Lᵀ J δ̄ satisfy ½‖a‖² = ½ (Jδ̄)ᵀ G (Jδ̄). One backward pass a column of L, with the gradients of every
image kept apart and at once contracted with the perturbations, gives all of them: J is never stored.
(Martens, "New insights and perspectives on the natural gradient method", JMLR 21:146, 2020, for G and L.)
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy.linalg
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from physcomp.curvature.gradients import Tape
from physcomp.networks.images import Images
from physcomp.networks.layers import Layer
from physcomp.threads import in_threads

# Up to so many classes every column of L is used; beyond, random signs mix them into PROBES columns. Our choice: with
# ten classes, 2,000 images and two probes the error against 2,000 other images is that of all ten columns (0.16 against
# 0.17 in the median on the diagonal, 1.36 against 1.19 beside it), since which images are taken matters far more.
EXACT_CLASSES = 4
PROBES = 2

PASS = 50  # images of one pass, where the memory allows it; more were no faster
GATHERED = 500  # images whose gradients are gathered before their products are taken; more were no faster
SIGNED = 100  # images whose random signs are drawn together
MEMORY_BYTES = 1 << 30  # our choice
# Below so many weights a block's products are taken for many groups at once, above one by one but half of each.
SMALL = 48
# The mean diagonal of a group's curvature that is left by its bias is taken for at least this share of that before:
# float32 knows no better. Our choice.
NOISE = 1e-3

Progress = Callable[[float], None]
Rows64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Coupling:
    """What perturbations of one layer's groups do to the loss, as means over the images.

    Args:
        grams: for each run of neighbouring groups float64 (run, codes, run, codes): products of columns, so that ½ of
            a diagonal entry is the expected loss increase of one perturbation and an off-diagonal entry the coupling
            of two. One run where the memory allows it, none where it allows no couplings at all.
        alone: float64 (groups, codes): the diagonal of them.
        importance: float64 (groups, weights): the diagonal h of the Gauss-Newton matrix.
        shift: float64 (groups, codes): the change of each group's bias that makes its column shortest; None where
            groups have no bias of their own. `grams` and `alone` are what is left after it.
    """

    grams: tuple[NDArray[np.float64], ...]
    alone: NDArray[np.float64]
    importance: NDArray[np.float64]
    shift: NDArray[np.float64] | None

    @property
    def runs(self) -> tuple[slice, ...]:
        """The groups that each of `grams` is about, in the layer's numbering."""
        edges = np.cumsum([0] + [len(gram) for gram in self.grams])
        return tuple(slice(int(a), int(b)) for a, b in pairwise(edges))


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


def _at_once(gathered: int) -> int:
    """Images of one pass: some passes for every gathering, so that there is work for several threads."""
    return max(1, min(PASS, -(-gathered // 2)))


def _slices(first: int, last: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, last)) for start in range(first, last, size)]


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


def couplings(
    module: nn.Module,
    layers: tuple[Layer, ...],
    images: Images,
    perturbations: list[NDArray[np.float32]],
    *,
    seed: int = 0,
    memory_bytes: int = MEMORY_BYTES,
    progress: Progress | None = None,
) -> list[Coupling]:
    """Measure what given mean perturbations do, alone and in pairs inside a layer.

    Args:
        module: in evaluation mode.
        layers: as `physcomp.networks.layers.layers_of` gives them.
        images: calibration images.
        perturbations: for each layer float32 (groups, weights, codes): the mean error of each code; or
            (groups, weights, codes, times): at each of several times, for the mean over them.
        seed: of the random signs, used only beyond `EXACT_CLASSES` classes.
        memory_bytes: for the couplings and their sums, and half of it for the passes; with less, couplings are kept
            only inside runs of fewer neighbouring groups, and fewer images pass at a time.
        progress: called with the share done.

    Returns:
        One `Coupling` a layer.
    """
    deltas = [torch.from_numpy(np.ascontiguousarray(part)).flatten(2) for part in perturbations]
    codes = perturbations[0].shape[2]
    times = perturbations[0].shape[3] if perturbations[0].ndim == 4 else 1
    groups = sum(layer.groups for layer in layers)
    size = _run_size(groups, codes, memory_bytes)
    columns = mixing_of(module, images, PROBES, seed)
    probes = columns(slice(0, 1)).shape[2]
    tape = Tape(module, layers)
    sums = [_ColumnSums(layer, codes, size) for layer in layers]

    def work(part: slice) -> list[tuple[torch.Tensor, torch.Tensor]]:
        found = []
        for index, gradient, bias in tape.gradients(images.pixels[part], columns(part)):
            power = torch.zeros(layers[index].rows.shape)
            for row in gradient:
                power.addcmul_(row, row)
            products = torch.bmm(gradient.transpose(0, 1), deltas[index])  # (groups, images · probes, codes · times)
            lengths = torch.empty((len(products), codes + 1, times * len(gradient)))
            lengths[:, :codes] = products.transpose(1, 2).reshape(len(products), codes, -1)
            lengths[:, codes] = bias.T.repeat(1, times)
            found.append((power, lengths))
        return found

    # Held at a time: the gathered columns, twice when they are put together, and gradients of a layer in each thread.
    gathered = max(1, min(len(images), memory_bytes // (16 * probes * times * (codes + 1) * groups)))
    largest = max(layer.rows.size for layer in layers)
    at_once = max(1, min(_at_once(gathered), memory_bytes // (32 * probes * largest)))
    for first in range(0, len(images), gathered):
        last = min(first + gathered, len(images))
        kept: list[list[torch.Tensor]] = [[] for _ in layers]
        for parts in in_threads(work, _slices(first, last, at_once)):
            for total, mine, (power, lengths) in zip(sums, kept, parts, strict=True):
                total.importance += power.numpy()
                mine.append(lengths)
        # One product for many passes: the sums over the large matrix are what takes time.
        whole = [torch.cat(part, dim=2) for part in kept]
        tasks = [(index, run) for index, total in enumerate(sums) for run in total.tasks()]

        def add(task: tuple[int, int], whole: list[torch.Tensor] = whole) -> None:
            sums[task[0]].add(task[1], whole[task[0]])

        for _ in in_threads(add, tasks):
            pass
        if progress:
            progress(last / len(images))
    return [total.mean(len(images), times) for total in sums]


def _run_size(groups: int, codes: int, memory_bytes: int) -> int:
    """So many neighbouring groups are coupled, half the memory for sums; below 2 couplings would not fit at all."""
    return int(memory_bytes // (2 * 8 * (codes + 1) ** 2 * groups))


class _ColumnSums:
    """Sums over images for one layer: squares of gradients, and products of the codes' columns.

    Each group's columns are those of its codes and, last, of its bias.
    """

    def __init__(self, layer: Layer, codes: int, size: int) -> None:
        self.layer, self.coupled = layer, size >= 2
        self.runs = _slices(0, layer.groups, size if self.coupled else max(1, (1 << 16) // (codes + 1)))
        self.importance = np.zeros(layer.rows.shape)
        self.squares = np.zeros((layer.groups, codes + 1))
        self.crossed = np.zeros((layer.groups, codes + 1))  # with the bias
        shapes = [(run.stop - run.start, codes + 1, run.stop - run.start, codes + 1) for run in self.runs]
        self.full = [np.zeros(shape) for shape in shapes] if self.coupled else []

    def tasks(self) -> list[int]:
        """Numbers of the runs."""
        return list(range(len(self.runs)))

    def add(self, number: int, columns: torch.Tensor) -> None:
        """Add the products of columns (groups, codes and bias, n) inside one run."""
        run = self.runs[number]
        mine = columns[run]
        if not self.coupled:
            self.squares[run] += mine.square().sum(2).numpy()
            self.crossed[run] += torch.bmm(mine, mine[:, -1:, :].transpose(1, 2)).squeeze(2).numpy()
            return
        flat = mine.flatten(0, 1).numpy()
        full = self.full[number]
        full += (flat @ flat.T).reshape(full.shape)  # numpy takes half of the products where it can

    def mean(self, images: int, times: int) -> Coupling:
        """Over so many images and times, each group's share along its bias taken out."""
        for run, full in zip(self.runs, self.full, strict=False):
            self.squares[run] = np.einsum("gkgk->gk", full)
            self.crossed[run] = np.einsum("gkg->gk", full[:, :, :, -1])
        count = images * times
        for part in (self.squares, self.crossed, *self.full):
            part /= count
        self.importance /= images
        return _project(self)


def _project(sums: _ColumnSums) -> Coupling:
    """Take out of each group's columns their share along the group's bias column, which is stored last."""
    alone, power, along = sums.squares[:, :-1], sums.squares[:, -1], sums.crossed[:, :-1]
    shift = None
    if sums.layer.bias_of_group:
        shift = -along / np.where(power > 0, power, 1)[:, None] * (power > 0)[:, None]
        alone = np.maximum(alone + shift * along, 0)
    grams = [
        _mended(full, None if shift is None else shift[run]) for run, full in zip(sums.runs, sums.full, strict=False)
    ]
    if grams:
        alone = np.concatenate([np.einsum("gkgk->gk", gram) for gram in grams])
    return Coupling(tuple(grams), alone, sums.importance, shift)


def _mended(full: NDArray[np.float64], shift: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Products of the columns a + shift b, with b a group's bias column, from those of all a and b, b last."""
    kept = np.ascontiguousarray(full[:, :-1, :, :-1])
    if shift is not None:
        crossed = full[:, :-1, :, -1]  # a_gk · b_h
        kept += crossed[:, :, :, None] * shift[None, None, :, :]
        kept += crossed.transpose(2, 0, 1)[:, None, :, :] * shift[:, :, None, None]
        kept += full[:, -1, :, -1][:, None, :, None] * shift[:, :, None, None] * shift[None, None, :, :]
    return kept


def mixing_of(module: nn.Module, images: Images, probes: int, seed: int) -> Callable[[slice], torch.Tensor]:
    """What mixes the columns of L of some images, (images, classes, probes): random signs, or nothing for few classes.

    One probe is for the curvature inside groups; several are used only beyond `EXACT_CLASSES` classes. An image's signs
    do not depend on how many images pass at a time.
    """
    classes = _classes(module, images)
    if probes > 1 and classes <= EXACT_CLASSES:
        eye = torch.eye(classes)
        return lambda part: eye.expand(part.stop - part.start, classes, classes)
    drawn = []
    for number, held in enumerate(_slices(0, len(images), SIGNED)):
        mixed = np.random.SeedSequence([seed, number]).generate_state(1)
        generator = torch.Generator().manual_seed(int(mixed[0]))
        drawn.append(torch.randint(0, 2, (held.stop - held.start, classes, probes), generator=generator) * 2.0 - 1)
    signs = torch.cat(drawn) / probes**0.5
    return lambda part: signs[part]


def _classes(module: nn.Module, images: Images) -> int:
    with torch.no_grad():
        return int(module(images.pixels[:1]).shape[1])
