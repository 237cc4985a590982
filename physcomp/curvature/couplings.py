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

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from physcomp.curvature.batches import Part, batches, images_in_pass, layers_in
from physcomp.curvature.blocks import FLAT
from physcomp.curvature.gradients import MEMORY_BYTES, PROBES, _at_once, _slices, directions_of
from physcomp.networks.layers import Layer
from physcomp.networks.network import Network
from physcomp.networks.samples import Samples
from physcomp.networks.tape import Tape, weights_at_once
from physcomp.threads import ShareDone, in_threads, release_memory

# The shares of the memory that couplings and the errors of the codes take; our choices. Solvers make several copies of
# the couplings, and half of the memory is for passes.
FOR_COUPLINGS = 8
FOR_ERRORS = 8

Errors = Callable[[Part], tuple[NDArray[np.float32], Mapping[int, NDArray[np.float32]]]]
"""For some groups of a layer: the mean error of each code, float32 (groups, weights, codes), or at several read times
(groups, weights, codes, times); and by the index of a code the variance of its error, (groups, weights), if any."""


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
        noise: float64 (groups, codes): the expected loss increase by the variance of each code's error.
        importance: float64 (groups, weights): the diagonal of the Gauss-Newton matrix, in nats per squared unit of
            weight; None in loss models, which hold it in `noise`.
        shift: float64 (groups, codes): the change of a group's bias that best compensates the error, in units of the
            bias; None where groups have no bias of their own. `grams` and `alone` assume that it is made.
    """

    grams: tuple[NDArray[np.float64], ...]
    alone: NDArray[np.float64]
    noise: NDArray[np.float64]
    importance: NDArray[np.float64] | None
    shift: NDArray[np.float64] | None

    @property
    def runs(self) -> tuple[slice, ...]:
        """The range of group numbers that each array of `grams` covers."""
        edges = np.cumsum([0] + [len(gram) for gram in self.grams])
        return tuple(slice(int(a), int(b)) for a, b in pairwise(edges))

    @property
    def loss(self) -> NDArray[np.float64]:
        """Expected loss increase of each group with each code, by mean error and variance, in nats: (groups, codes)."""
        return self.alone / 2 + self.noise


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
        memory_bytes: memory for couplings, errors and passes. With less, only groups closer to each other are coupled,
            and fewer images are passed at a time.
        progress: called with the share of the images that is done, 0 to 1.

    Returns:
        One `Coupling` per layer.
    """
    codes, *times = perturbations[0].shape[2:]

    def errors(part: Part) -> tuple[NDArray[np.float32], Mapping[int, NDArray[np.float32]]]:
        return perturbations[part.layer][part.groups], {}

    found = couplings_of(
        network,
        layers,
        images,
        errors,
        codes=codes,
        times=math.prod(times),
        seed=seed,
        memory_bytes=memory_bytes,
        importance=True,
        progress=progress,
    )
    return list(found)


def couplings_of(
    network: Network,
    layers: tuple[Layer, ...],
    images: Samples,
    errors: Errors,
    *,
    codes: int,
    times: int,
    seed: int = 0,
    memory_bytes: int = MEMORY_BYTES,
    importance: bool = False,
    progress: ShareDone | None = None,
) -> Iterator[Coupling]:
    """As `couplings`, with errors that are computed for some groups after the others, and their variances.

    There are as many passes over the images as it takes to hold the errors of one pass in the memory.

    Args:
        network: the network.
        layers: as `physcomp.networks.survey.survey` gives them.
        images: calibration images.
        errors: computes the errors of the codes for some groups.
        codes: number of codes.
        times: number of read times.
        seed: seed of the random signs, which are drawn only for more than `EXACT_CLASSES` classes.
        memory_bytes: memory for couplings, errors and passes.
        importance: whether the results hold it.
        progress: called with the share of the passes that is done, 0 to 1.
    """
    size, all_batches = coupling_batches(layers, codes, times, memory_bytes)

    def parts() -> Iterator[tuple[Part, Coupling]]:
        for number, batch in enumerate(all_batches):

            def share(done: float, number: int = number) -> None:
                if progress:
                    progress((number + done) / len(all_batches))

            found = _in_one_pass(
                network, layers, batch, images, errors, size, codes=codes, seed=seed, memory_bytes=memory_bytes,
                importance=importance, progress=share,
            )  # fmt: skip
            yield from zip(batch, found, strict=True)
            release_memory()

    for _, of_layer in groupby(parts(), key=lambda found: found[0].layer):
        yield _joined([coupling for _, coupling in of_layer])


def _joined(parts: list[Coupling]) -> Coupling:
    """The coupling of a layer from those of its groups, part by part."""
    if len(parts) == 1:
        return parts[0]
    importances = [part.importance for part in parts if part.importance is not None]
    shifts = [part.shift for part in parts if part.shift is not None]
    return Coupling(
        grams=tuple(gram for part in parts for gram in part.grams),
        alone=np.concatenate([part.alone for part in parts]),
        noise=np.concatenate([part.noise for part in parts]),
        importance=np.concatenate(importances) if importances else None,
        shift=np.concatenate(shifts) if shifts else None,
    )


def _in_one_pass(
    network: Network,
    layers: tuple[Layer, ...],
    batch: list[Part],
    images: Samples,
    errors: Errors,
    size: int,
    *,
    codes: int,
    seed: int,
    memory_bytes: int,
    importance: bool,
    progress: ShareDone,
) -> Iterator[Coupling]:
    """The couplings of the groups of a batch, in runs of `size` groups."""
    computed = list(in_threads(errors, batch))
    spreads = [spread for _, spread in computed]
    deltas = [torch.from_numpy(np.ascontiguousarray(mean)).flatten(2) for mean, _ in computed]
    del computed
    times = deltas[0].shape[2] // codes
    directions = directions_of(network, images, PROBES, seed)
    met = list(layers_in(layers, batch))
    tape = Tape(network, tuple(layer for layer, _ in met))
    sums = [_ColumnSums(layers[part.layer], part, codes, size) for part in batch]

    def work(images_passed: slice) -> list[tuple[int, torch.Tensor, torch.Tensor]]:
        found = []
        for index, gradient, bias in tape.gradients(images[images_passed].inputs, directions.of(images_passed)):
            for place, part in met[index][1]:
                mine = gradient[:, part.groups]
                power = torch.zeros(mine.shape[1:])
                for row in mine:
                    power.addcmul_(row, row)
                products = torch.bmm(mine.transpose(0, 1), deltas[place])  # (groups, images · probes, codes · times)
                lengths = torch.empty((len(products), codes + 1, times * len(mine)))
                lengths[:, :codes] = products.transpose(1, 2).reshape(len(products), codes, -1)
                lengths[:, codes] = bias[:, part.groups].T.repeat(1, times)
                found.append((place, power, lengths))
        return found

    columns = times * (codes + 1) * sum(part.size for part in batch)
    gathered, at_once = images_of_couplings(tape, images, columns, directions.probes, memory_bytes)

    for first in range(0, len(images), gathered):
        last = min(first + gathered, len(images))
        kept: list[list[torch.Tensor]] = [[] for _ in batch]
        for found in in_threads(work, _slices(first, last, at_once)):
            for place, power, lengths in found:
                sums[place].importance += power.numpy()
                kept[place].append(lengths)
        # One product for many passes, since adding to the large matrix takes most of the time.
        whole = [torch.cat(part, dim=2) for part in kept]
        del kept
        tasks = [(place, run) for place, total in enumerate(sums) for run in total.tasks()]

        def add(task: tuple[int, int], whole: list[torch.Tensor] = whole) -> None:
            sums[task[0]].add(task[1], whole[task[0]])

        for _ in in_threads(add, tasks):
            pass
        whole.clear()
        progress(last / len(images))
    deltas.clear()
    for spread in spreads:
        yield sums.pop(0).mean(len(images), times, spread, importance)


def coupling_batches(
    layers: tuple[Layer, ...], codes: int, times: int, memory_bytes: int
) -> tuple[int, list[list[Part]]]:
    """The most groups of a run that are coupled, and the groups measured in each pass, as the memory allows it."""
    size = _run_size(sum(layer.groups for layer in layers), codes, memory_bytes)
    of_group = [4 * layer.weights * codes * (times + 1) for layer in layers]
    return size, batches(layers, of_group, memory_bytes // FOR_ERRORS, step=max(1, size))


def images_of_couplings(tape: Tape, images: Samples, columns: int, probes: int, memory_bytes: int) -> tuple[int, int]:
    """Images whose columns are collected before they are multiplied, and images of a pass.

    In memory at a time are the collected columns, twice while they are joined, and one layer's gradients in each
    thread.
    """
    gathered = max(1, min(len(images), memory_bytes // (48 * probes * columns)))
    at_once = min(_at_once(gathered), images_in_pass(tape, images, memory_bytes // 2))
    return gathered, max(1, min(at_once, memory_bytes // (64 * probes * weights_at_once(tape.layers))))


def _run_size(groups: int, codes: int, memory_bytes: int) -> int:
    """Number of neighbouring groups whose couplings fit in their memory; below 2 there are no couplings."""
    return int(memory_bytes // (FOR_COUPLINGS * 8 * (codes + 1) ** 2 * groups))


class _ColumnSums:
    """Sums over images for some groups: squared gradients, and products of columns.

    Each group has one column per code and, last, the column of a unit change of its bias.
    """

    def __init__(self, layer: Layer, part: Part, codes: int, size: int) -> None:
        self.biased, self.coupled = layer.bias_of_group, size >= 2
        self.runs = _slices(0, part.size, size if self.coupled else max(1, (1 << 16) // (codes + 1)))
        self.importance = np.zeros((part.size, layer.weights))
        self.squares = np.zeros((part.size, codes + 1))
        self.crossed = np.zeros((part.size, codes + 1))  # with the bias
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

    def mean(self, images: int, times: int, spread: Mapping[int, NDArray[np.float32]], importance: bool) -> Coupling:
        """The means over images and times, with each error compensated by the group's bias."""
        for run, full in zip(self.runs, self.full, strict=False):
            self.squares[run] = np.einsum("gkgk->gk", full)
            self.crossed[run] = np.einsum("gkg->gk", full[:, :, :, -1])
        count = images * times
        for part in (self.squares, self.crossed, *self.full):
            part /= count
        self.importance /= images
        noise = np.zeros((len(self.squares), self.squares.shape[1] - 1))
        for code, variance in spread.items():
            noise[:, code] = np.einsum("gw,gw->g", self.importance, variance) / 2
        return _project(self, noise, importance)


def _project(sums: _ColumnSums, noise: NDArray[np.float64], importance: bool) -> Coupling:
    """Compensate each error by its group's bias: remove from its column the part parallel to the bias column."""
    alone, power, along = sums.squares[:, :-1], sums.squares[:, -1], sums.crossed[:, :-1]
    shift = None
    if sums.biased:
        able = power > FLAT * sums.importance.mean(axis=1)
        shift = -along / np.where(able, power, 1)[:, None] * able[:, None]
        alone = np.maximum(alone + shift * along, 0)
    grams = [
        _compensated(full, None if shift is None else shift[run])
        for run, full in zip(sums.runs, sums.full, strict=False)
    ]
    if grams:
        alone = np.concatenate([np.einsum("gkgk->gk", gram) for gram in grams])
    return Coupling(tuple(grams), alone, noise, sums.importance if importance else None, shift)


def _compensated(full: NDArray[np.float64], shift: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Products of the compensated columns a + shift b, from the products of all columns a and bias columns b (last)."""
    kept = np.ascontiguousarray(full[:, :-1, :, :-1])
    if shift is not None:
        crossed = full[:, :-1, :, -1]  # a_gk · b_h
        kept += crossed[:, :, :, None] * shift[None, None, :, :]
        kept += crossed.transpose(2, 0, 1)[:, None, :, :] * shift[:, :, None, None]
        kept += full[:, -1, :, -1][:, None, :, None] * shift[:, :, None, None] * shift[None, None, :, :]
    return kept
