"""Every code fitted to the groups of each layer: the scales it would use, and the errors it would make."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from physcomp.codes import Code, Medium
from physcomp.codes.base import Rows
from physcomp.compensation.rows import Held, RowsToWrite
from physcomp.threads import in_threads

AT_ONCE = 1 << 19  # weights that one thread fits at a time, in some 100 bytes each; our choice


@dataclass(frozen=True, eq=False)
class Fit:
    """All codes fitted to the groups of one layer.

    Args:
        scales: float32 (groups, codes), the scale of each group.
        cost: float64 (groups, codes), cells of each group, with scales, without what a layer stores once.
        allocations: results of `physcomp.codes.Code.allocate`, by name of the code.
        learned: results of `physcomp.codes.Code.learn`, by name of the code.
    """

    scales: Rows
    cost: NDArray[np.float64]
    allocations: dict[str, NDArray[np.uint8]]
    learned: dict[str, Rows]


def fit_of(
    importance: NDArray[np.float32], to_write: Mapping[str, RowsToWrite], codes: tuple[Code, ...], medium: Medium
) -> Fit:
    """Fit every code to a layer, in threads.

    Args:
        importance: (groups, weights), the loss per squared error of each weight.
        to_write: by name of the code, the rows that it is to write.
        codes: the codes.
        medium: the cells.
    """
    groups, weights = importance.shape
    fit = Fit(np.empty((groups, len(codes)), np.float32), np.empty((groups, len(codes))), {}, {})
    fit.allocations.update({code.name: np.empty(importance.shape, np.uint8) for code in codes if code.allocates})

    def one(task: tuple[int, slice]) -> None:
        index, some = task
        code = codes[index]
        rows, costs = to_write[code.name].of(some), importance[some].astype(np.float64)
        given = to_write[code.name].scales
        scales = code.fit(rows, costs, medium) if given is None else given[some]
        fit.scales[some, index], fit.cost[some, index] = scales, code.costs(rows, scales, medium)
        allocation = code.allocate(rows, costs, scales, medium)
        if allocation is not None:
            fit.allocations[code.name][some] = allocation

    list(in_threads(one, product(range(len(codes)), _some(groups, weights))))
    for index, code in enumerate(codes):
        if type(code).learn is Code.learn:
            continue  # most codes learn nothing, and decoding all rows takes time
        learned = code.learn(to_write[code.name].rows, importance.astype(np.float64), fit.scales[:, index], medium)
        if learned is not None:
            fit.learned[code.name] = learned
    return fit


def _some(groups: int, weights: int) -> list[slice]:
    step = max(1, AT_ONCE // weights)
    return [slice(start, min(start + step, groups)) for start in range(0, groups, step)]


def errors_of(
    rows: Rows,
    importance: Held,
    to_write: Mapping[str, RowsToWrite],
    fit: Fit,
    codes: tuple[Code, ...],
    medium: Medium,
    groups: slice,
) -> tuple[Rows, dict[int, Rows]]:
    """The errors of every code in some groups of a layer.

    Args:
        rows: (groups, weights), the trained rows of the layer.
        importance: (groups, weights), as for `fit_of`.
        to_write: by name of the code, the rows that it is to write.
        fit: the codes fitted to the layer.
        codes: the codes.
        medium: the cells.
        groups: which groups.

    Returns:
        The mean error of each weight, float32 (groups, weights, codes); at several read times (groups, weights, codes,
        times). And the variance of the error of each weight, averaged over read times, float32 (groups, weights), by
        index of the code; only codes whose variance is not zero.
    """
    times = len(medium.reads) if medium.over == "mean" else 1
    count, weights = groups.stop - groups.start, rows.shape[1]
    mean = np.empty((count, weights, len(codes), times), np.float32)
    spread: dict[int, Rows] = {}
    for (index, code), some in product(enumerate(codes), _some(count, weights)):
        here = slice(groups.start + some.start, groups.start + some.stop)
        given, scales = to_write[code.name].of(here), fit.scales[here, index]
        allocation = fit.allocations.get(code.name)
        writer = code.given(None if allocation is None else allocation[here], fit.learned.get(code.name))
        errors = [writer.error(given, scales, read) for read in medium.reads]
        means, spreads = np.stack([error for error, _ in errors]), np.stack([var for _, var in errors])
        del errors
        means += given
        means -= rows[here]
        if medium.over == "worst" and len(means) > 1:
            means, spreads = _worst(means, spreads, np.asarray(importance[here], np.float64))
        mean[some, :, index] = means.transpose(1, 2, 0)
        if spreads.any():
            of_code = spread.setdefault(index, np.zeros((count, weights), np.float32))
            of_code[some] = spreads.mean(axis=0, dtype=np.float64)
    return mean if times > 1 else mean[:, :, :, 0], spread


def _worst(
    means: NDArray[np.float64], spreads: NDArray[np.float64], importance: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each group the mean and variance of errors at the time of its largest loss: (1, groups, weights)."""
    losses = np.einsum("gw,tgw->tg", importance, means**2 + spreads)
    worst = losses.argmax(axis=0)[None, :, None]
    return np.take_along_axis(means, worst, axis=0), np.take_along_axis(spreads, worst, axis=0)
