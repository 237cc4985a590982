"""Every code fitted to the groups of each layer: the scales it would use, and the errors it would make."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from physcomp.codes import Code, Medium
from physcomp.codes.base import Rows
from physcomp.compensation.rows import RowsToWrite
from physcomp.curvature.couplings import Coupling
from physcomp.networks.layers import Layer
from physcomp.threads import in_threads


@dataclass(frozen=True, eq=False)
class Fit:
    """All codes fitted to the groups of one layer.

    Args:
        scales: float32 (groups, codes), the scale of each group.
        mean: mean error of each weight, float32 (groups, weights, codes); at several read times (groups, weights,
            codes, times).
        spread: variance of the error of each weight, averaged over read times, float32 (groups, weights), by index of
            the code; only codes whose variance is not zero.
        allocations: results of `physcomp.codes.Code.allocate`, by name of the code.
        learned: results of `physcomp.codes.Code.learn`, by name of the code.
    """

    scales: Rows
    mean: Rows
    spread: dict[int, Rows]
    allocations: dict[str, NDArray[np.uint8]]
    learned: dict[str, Rows]


def fits_of(
    layers: tuple[Layer, ...],
    importances: list[NDArray[np.float64]],
    to_write: list[dict[str, RowsToWrite]],
    codes: tuple[Code, ...],
    medium: Medium,
) -> list[Fit]:
    """Fit every code to every layer, in threads."""
    times = len(medium.reads) if medium.over == "mean" else 1
    found = [
        Fit(
            np.empty((layer.groups, len(codes)), np.float32),
            np.empty((*layer.rows.shape, len(codes), times), np.float32),
            {},
            {},
            {},
        )
        for layer in layers
    ]

    def one(task: tuple[int, int]) -> None:
        number, index = task
        layer, importance, fit, code = layers[number], importances[number], found[number], codes[index]
        rows = to_write[number][code.name].rows
        scale = to_write[number][code.name].scales_on(code, importance, medium)
        allocation = code.allocate(rows, importance, scale, medium)
        if allocation is not None:
            fit.allocations[code.name] = allocation
        learned = code.learn(rows, importance, scale, medium)
        if learned is not None:
            fit.learned[code.name] = learned
        writer = code.given(allocation, learned)
        errors = [writer.error(rows, scale, read) for read in medium.reads]
        means, spreads = np.stack([error for error, _ in errors]), np.stack([var for _, var in errors])
        del errors
        means += rows
        means -= layer.rows
        if medium.over == "worst" and len(means) > 1:
            means, spreads = _worst(means, spreads, importance)
        fit.scales[:, index] = scale
        fit.mean[:, :, index] = means.transpose(1, 2, 0)
        if spreads.any():
            fit.spread[index] = spreads.mean(axis=0, dtype=np.float64).astype(np.float32)

    list(in_threads(one, product(range(len(layers)), range(len(codes)))))
    return [replace(fit, mean=fit.mean if times > 1 else fit.mean[:, :, :, 0]) for fit in found]


def _worst(
    means: NDArray[np.float64], spreads: NDArray[np.float64], importance: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each group the mean and variance of errors at the time of its largest loss: (1, groups, weights)."""
    losses = np.einsum("gw,tgw->tg", importance, means**2 + spreads)
    worst = losses.argmax(axis=0)[None, :, None]
    return np.take_along_axis(means, worst, axis=0), np.take_along_axis(spreads, worst, axis=0)


def losses_of(coupling: Coupling, spread: Mapping[int, Rows]) -> NDArray[np.float64]:
    """Expected loss increase of each group with each code, by mean error and variance, in nats: (groups, codes)."""
    loss = coupling.alone / 2
    for index, variance in spread.items():
        loss[:, index] += np.einsum("gw,gw->g", coupling.importance, variance) / 2
    return loss


def costs_of(
    to_write: Mapping[str, RowsToWrite], scales: Rows, codes: tuple[Code, ...], medium: Medium
) -> NDArray[np.float64]:
    """Cells of each group with each code, with scales, without what a layer stores once: (groups, codes)."""
    return np.stack(
        [code.costs(to_write[code.name].rows, scales[:, i], medium) for i, code in enumerate(codes)], axis=1
    )
