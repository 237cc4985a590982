"""The groundwork of a loss model: what is known of a network before any card is, and what is measured on a card."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from physcomp.choice.fits import Fit, errors_of, fit_of
from physcomp.choice.scratch import Scratch
from physcomp.choice.unseen import alike, at_least, counted, valued
from physcomp.codes import Code, Medium
from physcomp.codes.base import Rows
from physcomp.compensation.rows import Held, RowsToWrite, joined, rows_for_codes
from physcomp.curvature.batches import Part
from physcomp.curvature.blocks import Curvature, curvatures_by_part
from physcomp.curvature.column_sums import Coupling
from physcomp.curvature.couplings import Errors, couplings_of, images_for_couplings
from physcomp.networks.layers import Granularity, Layer
from physcomp.networks.network import Network
from physcomp.networks.samples import Samples
from physcomp.threads import ShareDone, release_large_arrays, release_memory

# One image of so many says how rows are rounded, and the others what that costs, if there are at least so many: the
# images by which rows were rounded hardly see their errors. On the embedded network with 300 images the rise of the
# loss at 1 cell a weight was 0.0034 where 0.0024 was predicted, and 0.0043 where 0.0006 was, with all images for both
# (one draw each). Our choices.
OF_ROWS, LEAST = 3, 100
FOR_ROWS = 4  # rows that take more than this part of the memory go to a temporary file; our choice


@dataclass(frozen=True, eq=False)
class Groundwork:
    """What does not depend on the cells: the layers of a network, the menu, and the rows that each code is to write.

    Args:
        network: the network to be stored.
        granularity: which weights form a group.
        layers: the layers with groups (`physcomp.networks.survey`); groups are numbered in this
            order.
        menu: the codes, those offered for choice first.
        offered: number of codes offered for choice; the others are for comparison.
        importances: for each layer float32 (groups, weights), the loss per squared error of each weight.
        to_write: for each layer, by name of the code, the rows that the code is to write.
        images: the calibration images.
        seed: seed of the random probes.
        memory_bytes: see `physcomp.choice.loss_model.build_models`.
    """

    network: Network
    granularity: Granularity
    layers: tuple[Layer, ...]
    menu: tuple[Code, ...]
    offered: int
    importances: tuple[Held, ...]
    to_write: tuple[Mapping[str, RowsToWrite], ...]
    images: Samples
    seed: int
    memory_bytes: int


def groundwork_of(
    network: Network,
    bent: Network,
    images: Samples,
    *,
    layers: tuple[Layer, ...],
    codes: tuple[Code, ...],
    offered: int,
    granularity: Granularity,
    seed: int,
    memory_bytes: int,
    progress: ShareDone | None,
) -> Groundwork:
    """Measure the curvature at the weights of `bent`, and compute what codes are to write for those of `network`."""
    keep = keeper(sum(layer.rows.size for layer in layers), len(codes), memory_bytes)

    def written(part: Part, curvature: Curvature) -> tuple[Rows, dict[str, RowsToWrite]]:
        curvature = alike(curvature) if layers[part.layer].looked_up else curvature
        rows = rows_for_codes(layers[part.layer].rows[part.groups], curvature, codes)
        return curvature.importance.astype(np.float32), rows  # it is the mean of a float32 sum: hardly anything is lost

    importances, to_write = [], []
    importance: list[Rows] = []
    rows: list[dict[str, RowsToWrite]] = []
    some = images[of_rows(len(images))]
    parts = curvatures_by_part(bent, layers, some, written, seed=seed, memory_bytes=memory_bytes, progress=progress)
    for part, found in parts:
        importance.append(found[0])
        rows.append(found[1])
        del found  # so that nothing of a layer is held in memory once it is kept
        if part.groups.stop == layers[part.layer].groups:
            whole = np.concatenate(importance)
            importances.append(keep(counted(whole) if layers[part.layer].looked_up else whole))
            to_write.append(joined(rows, layers[part.layer].rows, keep))
            importance.clear()
            rows.clear()
    return Groundwork(
        network=network,
        granularity=granularity,
        layers=layers,
        menu=codes,
        offered=offered,
        importances=tuple(importances),
        to_write=tuple(to_write),
        images=images,
        seed=seed,
        memory_bytes=memory_bytes,
    )


def of_rows(images: int) -> torch.Tensor:
    """The numbers of the images by which rows are rounded, of a number of images."""
    return torch.arange(0, images, OF_ROWS if images >= LEAST else 1)


def of_losses(images: int) -> torch.Tensor:
    """The numbers of the images on which the loss by errors is measured: those that did not serve for rounding."""
    every = torch.arange(images)
    return every[every % OF_ROWS > 0] if images >= LEAST else every


def keeper(weights: int, codes: int, memory_bytes: int) -> Callable[[NDArray[Any]], Held]:
    """What keeps the rows of all layers: memory, or a temporary file if they would take too much of the memory."""
    if (4 + codes) * weights <= memory_bytes // FOR_ROWS:
        return _as_it_is
    release_large_arrays()  # memory is short
    return Scratch().keep


def _as_it_is(array: NDArray[Any]) -> Held:
    return array


def measured_on(
    ground: Groundwork, bent: Network, medium: Medium, progress: ShareDone | None
) -> tuple[tuple[Fit, ...], tuple[Coupling, ...]]:
    """Fit the codes to each layer on the cells, and measure at the weights of `bent` what their errors cost."""
    fits = tuple(
        fit_of(importance[:], to_write, ground.menu, medium)
        for importance, to_write in zip(ground.importances, ground.to_write, strict=True)
    )

    release_memory()

    def errors(part: Part) -> tuple[Rows, dict[int, Rows]]:
        rows, number = ground.layers[part.layer].rows, part.layer
        of_layer = ground.importances[number], ground.to_write[number], fits[number]
        return errors_of(rows, *of_layer, ground.menu, medium, part.groups)

    measured = couplings_of(
        bent,
        ground.layers,
        ground.images[places := of_losses(len(ground.images))],
        errors,
        codes=len(ground.menu),
        times=len(medium.reads) if medium.over == "mean" else 1,
        seed=ground.seed,
        memory_bytes=ground.memory_bytes,
        most=images_for_couplings(len(places)),
        progress=progress,
    )
    return fits, tuple(_with_unseen(ground, measured, errors))


def _with_unseen(ground: Groundwork, measured: Iterable[Coupling], errors: Errors) -> Iterator[Coupling]:
    """The couplings of all layers, with a value for rows of tables that no sample looks up."""
    for number, (layer, coupling) in enumerate(zip(ground.layers, measured, strict=True)):
        if layer.scale_free:
            coupling = at_least(coupling, layer.rows, ground.importances[number][:], _taken_away(ground, layer))
        if not layer.looked_up:
            yield coupling
            continue

        def of_groups(groups: slice, number: int = number) -> tuple[Rows, Mapping[int, Rows]]:
            return errors(Part(number, groups))

        yield valued(coupling, float(np.mean(ground.importances[number][:], dtype=np.float64)), of_groups)


def _taken_away(ground: Groundwork, layer: Layer) -> list[int]:
    """Numbers of the codes that store nothing of a group."""
    return [number for number, code in enumerate(ground.menu) if not code.stores(layer.weights)]


def counted_on(ground: Groundwork, fits: tuple[Fit, ...], medium: Medium) -> tuple[Fit, ...]:
    """The same fits with the cells that they take on other cells."""
    found = []
    for to_write, fit in zip(ground.to_write, fits, strict=True):
        costs = [code.costs(to_write[code.name].rows, fit.scales[:, i], medium) for i, code in enumerate(ground.menu)]
        found.append(replace(fit, cost=np.stack(costs, axis=1)))
    return tuple(found)
