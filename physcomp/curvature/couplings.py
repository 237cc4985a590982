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
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray

from physcomp.curvature.batches import Part, batches, images_in_pass, layers_in
from physcomp.curvature.column_sums import Coupling, _ColumnSums, _PassSums
from physcomp.curvature.drawn_images import Drawn, drawn
from physcomp.curvature.gradients import MEMORY_BYTES, PROBES, _at_once, _slices
from physcomp.networks.layers import Layer
from physcomp.networks.network import Network
from physcomp.networks.sample_gradients import Outer
from physcomp.networks.samples import Samples
from physcomp.networks.tape import Tape, weights_at_once
from physcomp.threads import ShareDone, in_threads, release_memory

# The shares of the memory that couplings and the errors of the codes take; our choices. Solvers make several copies of
# the couplings, and half of the memory is for passes.
FOR_COUPLINGS = 8
FOR_ERRORS = 8
# Couplings are measured on one image of SHARE, drawn by the curvature in their outputs, but on at least LEAST. Our
# choices: on the embedded network 1,000 images drawn of 2,000 leave the intervals of predictions as they are.
SHARE, LEAST = 2, 500

Errors = Callable[[Part], tuple[NDArray[np.float32], Mapping[int, NDArray[np.float32]]]]
"""For some groups of a layer: the mean error of each code, float32 (groups, weights, codes), or at several read times
(groups, weights, codes, times); and by the index of a code the variance of its error, (groups, weights), if any."""


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
    most: int | None = None,
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
        most: number of images that are drawn (`physcomp.curvature.drawn_images`); all if not given.
        progress: called with the share of the passes that is done, 0 to 1.
    """
    size, all_batches = coupling_batches(layers, codes, times, memory_bytes)
    some = drawn(network, images, len(images) if most is None else most, PROBES, seed)

    def parts() -> Iterator[tuple[Part, Coupling]]:
        for number, batch in enumerate(all_batches):

            def share(done: float, number: int = number) -> None:
                if progress:
                    progress((number + done) / len(all_batches))

            found = _in_one_pass(
                network, layers, batch, some, len(images), errors, size, codes=codes, memory_bytes=memory_bytes,
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
        folds=np.concatenate([part.folds for part in parts], axis=1),
    )


def _in_one_pass(
    network: Network,
    layers: tuple[Layer, ...],
    batch: list[Part],
    some: Drawn,
    count: int,
    errors: Errors,
    size: int,
    *,
    codes: int,
    memory_bytes: int,
    importance: bool,
    progress: ShareDone,
) -> Iterator[Coupling]:
    """The couplings of a batch, in runs of `size` groups, from images drawn of a number `count` of them."""
    images, directions = some.images, some.directions
    computed = list(in_threads(errors, batch))
    sums = [
        _ColumnSums(layers[part.layer], part, codes, size, spread, len(images), count)
        for part, (_, spread) in zip(batch, computed, strict=True)
    ]
    deltas = [torch.from_numpy(np.ascontiguousarray(mean)).flatten(2) for mean, _ in computed]
    del computed
    times = deltas[0].shape[2] // codes
    met = list(layers_in(layers, batch))
    tape = Tape(network, tuple(layer for layer, _ in met))
    coupled = any(total.tasks() for total in sums)

    def work(images_passed: slice) -> list[tuple[int, _PassSums, torch.Tensor]]:
        found = []
        for index, gradient, bias in tape.products(images[images_passed].inputs, directions.of(images_passed)):
            for place, part in met[index][1]:
                mine, products = along(gradient, part.groups, deltas[place])
                entries = products.shape[1]
                lengths = torch.empty((len(products), codes + 1, times * entries))
                lengths[:, :codes] = products.transpose(1, 2).reshape(len(products), codes, -1)
                lengths[:, codes] = bias[:, part.groups].T.repeat(1, times)
                apart = lengths.reshape(*lengths.shape[:2], times, -1, directions.probes)
                summed = sums[place].pass_of(mine, apart, images_passed.start)
                found.append((place, summed, lengths if coupled else lengths[:0]))
        return found

    columns = times * (codes + 1) * sum(part.size for part in batch)
    gathered, at_once = images_of_couplings(tape, images, columns, directions.probes, memory_bytes)

    for first in range(0, len(images), gathered):
        last = min(first + gathered, len(images))
        kept: list[list[torch.Tensor]] = [[] for _ in batch]
        for found in in_threads(work, _slices(first, last, at_once)):
            for place, summed, lengths in found:
                sums[place].add_pass(summed)
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
    while sums:
        yield sums.pop(0).mean(times, importance)


def along(
    gradients: torch.Tensor | Outer, groups: slice, errors: torch.Tensor
) -> tuple[torch.Tensor | Outer, torch.Tensor]:
    """Gradients of some groups, and their products with errors (groups, weights, codes · times).

    Products are (groups, images · probes, codes · times).
    """
    if isinstance(gradients, Outer):
        mine = gradients.of(groups)
        return mine, mine.times(errors)
    return gradients[:, groups], torch.bmm(gradients[:, groups].transpose(0, 1), errors)


def images_for_couplings(images: int) -> int:
    """The number of images that are drawn for the couplings, of a number of images."""
    return min(images, max(LEAST, images // SHARE))


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
