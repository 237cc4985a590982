"""Couplings: how much errors of weights raise the loss, group by group and in pairs of groups of a layer.

The estimate is the generalised Gauss-Newton approximation on calibration images. For one image let p be the softmax
probabilities, J the Jacobian of the logits in the weights, and δ the error of the weights. The loss rises by about
½ (Jδ)ᵀ G (Jδ), where G = diag(p) - p pᵀ is the Hessian of the cross-entropy in the logits. G = L Lᵀ with
L = diag(√p) - p √pᵀ, so the rise is ½‖a‖² with the vector a = Lᵀ J δ, called the column of that error. The column
of several errors together is the sum of their columns, so products of columns are the couplings.

One backward pass per column of L gives each image's gradients, which are multiplied with the errors at once: J is
never stored.
(Martens, "New insights and perspectives on the natural gradient method", JMLR 21:146, 2020, for G and L.)
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from physcomp.curvature.gradients import MEMORY_BYTES, PROBES, _at_once, _slices, directions_of
from physcomp.networks.layers import Layer
from physcomp.networks.network import Network
from physcomp.networks.samples import Samples
from physcomp.networks.tape import Tape, weights_at_once
from physcomp.threads import ShareDone, in_threads


@dataclass(frozen=True, eq=False)
class Coupling:
    """How errors of one layer's groups raise the loss: alone and in pairs, in nats, as means over the images.

    There is one error per group and code: the mean error of the weights when the group is stored by that code. Where
    a group has a bias of its own, the bias is set so that it compensates as much of the error as it can.

    Args:
        grams: one float64 array (run, codes, run, codes) for each run of neighbouring groups: products of columns. Half
            a diagonal entry is the expected loss increase by one error; an off-diagonal entry is what two errors
            together add to the sum of both. One run where the memory allows it, none where it allows no couplings.
        alone: float64 (groups, codes): the diagonal entries of `grams`.
        importance: float64 (groups, weights): the diagonal of the Gauss-Newton matrix, in nats per squared unit of
            weight.
        shift: float64 (groups, codes): the change of a group's bias that best compensates the error, in units of the
            bias; None where groups have no bias of their own. `grams` and `alone` assume that it is made.
    """

    grams: tuple[NDArray[np.float64], ...]
    alone: NDArray[np.float64]
    importance: NDArray[np.float64]
    shift: NDArray[np.float64] | None

    @property
    def runs(self) -> tuple[slice, ...]:
        """The range of group numbers that each array of `grams` covers."""
        edges = np.cumsum([0] + [len(gram) for gram in self.grams])
        return tuple(slice(int(a), int(b)) for a, b in pairwise(edges))


def couplings(
    network: Network,
    layers: tuple[Layer, ...],
    images: Samples,
    perturbations: list[NDArray[np.float32]],
    *,
    seed: int = 0,
    memory_bytes: int = MEMORY_BYTES,
    progress: ShareDone | None = None,
) -> list[Coupling]:
    """Estimate how given errors of weights raise the loss, alone and in pairs inside a layer.

    Args:
        network: the network.
        layers: as `physcomp.networks.survey.survey` gives them.
        images: calibration images.
        perturbations: for each layer float32 (groups, weights, codes), the mean error of each code; or
            (groups, weights, codes, times), the errors at several read times, over which results are means.
        seed: seed of the random signs, which are drawn only for more than `EXACT_CLASSES` classes.
        memory_bytes: memory for couplings and their sums; half as much on top for forward and backward passes. With
            less, only groups closer to each other are coupled, and fewer images are passed at a time.
        progress: called with the share of the images that is done, 0 to 1.

    Returns:
        One `Coupling` per layer.
    """
    deltas = [torch.from_numpy(np.ascontiguousarray(part)).flatten(2) for part in perturbations]
    codes = perturbations[0].shape[2]
    times = perturbations[0].shape[3] if perturbations[0].ndim == 4 else 1
    groups = sum(layer.groups for layer in layers)
    size = _run_size(groups, codes, memory_bytes)
    directions = directions_of(network, images, PROBES, seed)
    probes = directions.probes
    tape = Tape(network, layers)
    sums = [_ColumnSums(layer, codes, size) for layer in layers]

    def work(part: slice) -> list[tuple[torch.Tensor, torch.Tensor]]:
        found = []
        for index, gradient, bias in tape.gradients(images[part].inputs, directions.of(part)):
            power = torch.zeros(layers[index].rows.shape)
            for row in gradient:
                power.addcmul_(row, row)
            products = torch.bmm(gradient.transpose(0, 1), deltas[index])  # (groups, images · probes, codes · times)
            lengths = torch.empty((len(products), codes + 1, times * len(gradient)))
            lengths[:, :codes] = products.transpose(1, 2).reshape(len(products), codes, -1)
            lengths[:, codes] = bias.T.repeat(1, times)
            found.append((power, lengths))
        return found

    # Memory at a time: the collected columns, twice while they are joined, and one layer's gradients in each thread.
    gathered = max(1, min(len(images), memory_bytes // (16 * probes * times * (codes + 1) * groups)))
    largest = weights_at_once(layers)
    at_once = max(1, min(_at_once(gathered), memory_bytes // (32 * probes * largest)))
    for first in range(0, len(images), gathered):
        last = min(first + gathered, len(images))
        kept: list[list[torch.Tensor]] = [[] for _ in layers]
        for parts in in_threads(work, _slices(first, last, at_once)):
            for total, mine, (power, lengths) in zip(sums, kept, parts, strict=True):
                total.importance += power.numpy()
                mine.append(lengths)
        # One product for many passes, since adding to the large matrix takes most of the time.
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
    """Number of neighbouring groups whose couplings fit in half the memory; below 2 there are no couplings."""
    return int(memory_bytes // (2 * 8 * (codes + 1) ** 2 * groups))


class _ColumnSums:
    """Sums over images for one layer: squared gradients, and products of columns.

    Each group has one column per code and, last, the column of a unit change of its bias.
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
        """Numbers of the runs, each the work of one thread."""
        return list(range(len(self.runs)))

    def add(self, number: int, columns: torch.Tensor) -> None:
        """Add the products of columns inside one run; `columns` is (groups, codes + 1, entries of a column)."""
        run = self.runs[number]
        mine = columns[run]
        if not self.coupled:
            self.squares[run] += mine.square().sum(2).numpy()
            self.crossed[run] += torch.bmm(mine, mine[:, -1:, :].transpose(1, 2)).squeeze(2).numpy()
            return
        flat = mine.flatten(0, 1).numpy()
        full = self.full[number]
        full += (flat @ flat.T).reshape(full.shape)  # of A Aᵀ numpy computes only one half

    def mean(self, images: int, times: int) -> Coupling:
        """The means over images and times, with each error compensated by the group's bias."""
        for run, full in zip(self.runs, self.full, strict=False):
            self.squares[run] = np.einsum("gkgk->gk", full)
            self.crossed[run] = np.einsum("gkg->gk", full[:, :, :, -1])
        count = images * times
        for part in (self.squares, self.crossed, *self.full):
            part /= count
        self.importance /= images
        return _project(self)


def _project(sums: _ColumnSums) -> Coupling:
    """Compensate each error by its group's bias: remove from its column the part parallel to the bias column."""
    alone, power, along = sums.squares[:, :-1], sums.squares[:, -1], sums.crossed[:, :-1]
    shift = None
    if sums.layer.bias_of_group:
        shift = -along / np.where(power > 0, power, 1)[:, None] * (power > 0)[:, None]
        alone = np.maximum(alone + shift * along, 0)
    grams = [
        _compensated(full, None if shift is None else shift[run])
        for run, full in zip(sums.runs, sums.full, strict=False)
    ]
    if grams:
        alone = np.concatenate([np.einsum("gkgk->gk", gram) for gram in grams])
    return Coupling(tuple(grams), alone, sums.importance, shift)


def _compensated(full: NDArray[np.float64], shift: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Products of the compensated columns a + shift b, from the products of all columns a and bias columns b (last)."""
    kept = np.ascontiguousarray(full[:, :-1, :, :-1])
    if shift is not None:
        crossed = full[:, :-1, :, -1]  # a_gk · b_h
        kept += crossed[:, :, :, None] * shift[None, None, :, :]
        kept += crossed.transpose(2, 0, 1)[:, None, :, :] * shift[:, :, None, None]
        kept += full[:, -1, :, -1][:, None, :, None] * shift[:, :, None, None] * shift[None, None, :, :]
    return kept
