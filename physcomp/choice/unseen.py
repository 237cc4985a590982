"""Groups that cost nothing by their gradients, but do in truth: rows never looked up, and weights without a scale.

Rows of tables that no calibration sample looks up are valued like the mean of all rows, never at nothing.

A token that is missing from a few hundred samples will come in use, and its row must then be there. Each weight of such
a row counts as much as a weight of the table does in the mean; this is our choice.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from physcomp.codes.base import Rows
from physcomp.curvature.blocks import Curvature
from physcomp.curvature.column_sums import Coupling

AT_ONCE = 256  # groups whose errors are in memory at a time; our choice


def alike(curvature: Curvature) -> Curvature:
    """The curvature with all weights of rows that were never looked up alike, so that codes fit these rows evenly."""
    unseen = np.flatnonzero(~curvature.importance.any(axis=1))
    if len(unseen):
        curvature.blocks[unseen] = np.eye(curvature.blocks.shape[2], dtype=np.float32)
    return curvature


def counted(importance: Rows) -> Rows:
    """The importance of weights, (groups, weights), with the mean of all for rows that were never looked up."""
    found = importance.copy()
    found[np.flatnonzero(~importance.any(axis=1))] = importance.mean(dtype=np.float64)
    return found


def valued(
    coupling: Coupling, mean_importance: float, errors: Callable[[slice], tuple[Rows, Mapping[int, Rows]]]
) -> Coupling:
    """The couplings of a table, with the errors of rows that were never looked up at their mean cost.

    Args:
        coupling: as measured: such rows cost nothing, whatever their error is.
        mean_importance: the mean loss per squared error of the table's weights.
        errors: as `physcomp.curvature.couplings.Errors`, for a range of groups.
    """
    unseen = np.flatnonzero(~coupling.alone.any(axis=1))
    alone, noise = coupling.alone.copy(), coupling.noise.copy()
    grams = [gram.copy() for gram in coupling.grams]
    for first in range(0, len(alone), AT_ONCE):
        last = min(first + AT_ONCE, len(alone))
        mine = unseen[(unseen >= first) & (unseen < last)]
        if not len(mine):
            continue
        mean, spread = errors(slice(first, last))
        products = _products(mean[mine - first]) * mean_importance
        alone[mine] = np.einsum("gkk->gk", products)
        for index, variance in spread.items():
            noise[mine, index] += mean_importance / 2 * variance[mine - first].sum(axis=1, dtype=np.float64)
        for run, gram in zip(coupling.runs, grams, strict=True):
            here = (mine >= run.start) & (mine < run.stop)
            for group, product in zip(mine[here] - run.start, products[here], strict=True):
                gram[group, :, group, :] = product
    return _changed(coupling, grams, alone, noise)


def at_least(coupling: Coupling, rows: Rows, importance: Rows, codes: list[int]) -> Coupling:
    """The couplings of a layer whose weights the network divides by their size, for the codes that take a group away.

    By gradients such a group may shrink to nothing at no cost. It costs at least what its weights would if each were
    taken away for itself.

    Args:
        coupling: as measured.
        rows: (groups, weights), the trained rows.
        importance: (groups, weights), the loss per squared error of each weight.
        codes: numbers of the codes that store nothing.
    """
    least = np.einsum("gw,gw,gw->g", importance, rows, rows, dtype=np.float64)
    alone, grams = coupling.alone.copy(), [gram.copy() for gram in coupling.grams]
    for code in codes:
        alone[:, code] = np.maximum(alone[:, code], least)
        for run, gram in zip(coupling.runs, grams, strict=True):
            index = np.arange(len(gram))
            gram[index, code, index, code] = alone[run, code]
    return _changed(coupling, grams, alone, coupling.noise)


def _changed(
    coupling: Coupling,
    grams: list[NDArray[np.float64]],
    alone: NDArray[np.float64],
    noise: NDArray[np.float64],
) -> Coupling:
    """The couplings with other values, whose change is the same on every fold of the images."""
    more = alone / 2 + noise - coupling.loss
    folds = coupling.folds + more.astype(np.float32)
    return replace(coupling, grams=tuple(grams), alone=alone, noise=noise, folds=folds)


def _products(mean: Rows) -> NDArray[np.float64]:
    """Products of the errors of each pair of codes, (groups, codes, codes), as means over read times."""
    errors = mean.astype(np.float64).reshape(*mean.shape[:3], -1)
    return np.asarray(np.einsum("gwkt,gwlt->gkl", errors, errors) / errors.shape[3])
