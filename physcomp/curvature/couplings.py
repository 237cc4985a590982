"""The loss model: generalised Gauss-Newton columns of a network on calibration images.

With J the logits' Jacobian and G = diag(p) - p pᵀ the softmax Hessian, G = L Lᵀ with L = diag(√p) - p √pᵀ, so the
columns a = Lᵀ J δ̄ satisfy ½‖a‖² = ½ (Jδ̄)ᵀ G (Jδ̄). One backward pass a column of L, with the gradients of every
image kept apart and at once contracted with the perturbations, gives all of them: J is never stored.
(Martens, "New insights and perspectives on the natural gradient method", JMLR 21:146, 2020, for G and L.)
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from physcomp.curvature.gradients import MEMORY_BYTES, PROBES, Progress, Tape, _at_once, _slices, mixing_of
from physcomp.networks.images import Images
from physcomp.networks.layers import Layer
from physcomp.threads import in_threads

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
