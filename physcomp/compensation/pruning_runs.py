"""Second-order pruning of runs of weights: which runs of a group to drop, and how the other weights compensate.

Let H be the curvature inside a group. If the weights of a run q are dropped together and all others move to the new
minimum of the quadratic form, the loss rises by ½ w_qᵀ ([H⁻¹]_qq)⁻¹ w_q (Kurtic et al., "The optimal BERT surgeon",
EMNLP 2022, arXiv 2203.07259, equation 4, there for blocks of four weights). Runs are dropped one by one, the cheapest
first, and the inverse is updated exactly after each (Frantar and Alistarh, "optimal brain compression", NeurIPS 2022,
arXiv 2208.11580). With runs of one weight this is `physcomp.compensation.pruning`. With the identity for H it drops the
runs with the least sum of squares, which needs no images.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from physcomp.compensation.cholesky import PANEL, square_of, take_off
from physcomp.compensation.pruning import dropping_order
from physcomp.compensation.rounding import Factors


@njit(cache=True, nogil=True)
def masks_of(row: NDArray[np.float64], factors: Factors, wanted: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Masks of the weights that are kept in one row, for several lengths of runs and numbers of runs kept.

    Args:
        row: (weights,).
        factors: factors of the row's curvature, see `physcomp.compensation.rounding.factors_of`.
        wanted: (masks, 2), weights per run, at least 1, and number of runs to keep.

    Returns:
        bool (masks, weights).
    """
    masks = np.ones((len(wanted), len(row)), np.bool_)
    done = np.zeros(len(wanted), np.bool_)
    for number in range(len(wanted)):
        if done[number]:
            continue
        run = wanted[number, 0]
        alike = np.flatnonzero(wanted[:, 0] == run)
        least = wanted[alike, 1].min()
        sequence = dropping_order(row, factors, least) if run == 1 else _dropping_order(row, factors, run, least)
        runs = (len(row) + run - 1) // run
        for other in alike:
            done[other] = True
            for dropped in sequence[: runs - wanted[other, 1]]:
                masks[other, dropped * run : (dropped + 1) * run] = False
    return masks


@njit(cache=True, nogil=True)
def _dropping_order(row: NDArray[np.float64], factors: Factors, run: int, least: int) -> NDArray[np.int64]:
    """The runs of a row in the order in which they are dropped, at least until `least` are left.

    A run in several blocks costs the sum of what its parts cost, each at its turn in its block.
    """
    keys = np.zeros((len(row) + run - 1) // run, np.float32)
    for places, factor in factors:
        ascending = np.argsort(places)
        numbers = places[ascending] // run
        inverse = square_of(factor.astype(np.float32))[ascending][:, ascending]
        weights = row[places[ascending]].astype(np.float32)
        alone = len(factors) == 1
        order, costs = _drop(weights, inverse, numbers, len(keys) - least if alone else len(np.unique(numbers)))
        if alone:
            return order
        key = np.float32(0)
        for i in range(len(order)):
            key = max(key, costs[i])  # keeps the order inside a block
            keys[order[i]] += key
    return np.argsort(keys, kind="mergesort")


@njit(cache=True, nogil=True, fastmath=True)
def _drop(
    row: NDArray[np.float32], inverse: NDArray[np.float32], numbers: NDArray[np.int64], steps: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Drop runs one by one, the cheapest first; `numbers` is the ascending run number of each weight.

    A run is picked as a whole. Its weights are then dropped one after the other as in `physcomp.compensation.pruning`,
    which has the same result. The part of the inverse inside each run is updated at every step.

    Returns:
        The numbers of the runs dropped, in order, and twice the rise of the quadratic form at each step.
    """
    left = row.copy()
    order = np.empty(steps, np.int64)
    costs = np.empty(steps, np.float32)
    done = 0
    while done < steps:
        size = len(left)
        edges = np.append(np.flatnonzero(np.append(-1, numbers[:-1]) != numbers), size)
        longest = np.diff(edges).max()
        inside = np.zeros((len(edges) - 1, longest, longest), np.float32)
        for p in range(len(inside)):
            width = edges[p + 1] - edges[p]
            inside[p, :width, :width] = inverse[edges[p] : edges[p + 1], edges[p] : edges[p + 1]]
        columns = np.zeros((PANEL + longest - 1, size), np.float32)
        alive = np.ones(len(inside), np.bool_)
        filled = 0
        while done < steps and filled < PANEL:
            pick, least = -1, np.float32(np.inf)
            for p in range(len(inside)):
                if alive[p]:
                    cost = _cost(inside[p], left[edges[p] : edges[p + 1]])
                    if pick < 0 or cost < least:
                        pick, least = p, cost
            alive[pick] = False
            order[done], costs[done] = numbers[edges[pick]], least
            done += 1
            for weight in range(edges[pick], edges[pick + 1]):
                change = left[weight] * take_off(inverse, columns, filled, weight)
                column = columns[filled]
                for i in range(size):
                    left[i] -= change * column[i]
                filled += 1
                for p in range(len(inside)):
                    if alive[p]:
                        for i in range(edges[p + 1] - edges[p]):
                            for j in range(i + 1):
                                inside[p, i, j] -= column[edges[p] + i] * column[edges[p] + j]
        if done < steps:
            stays = np.zeros(size, np.bool_)
            for p in range(len(inside)):
                stays[edges[p] : edges[p + 1]] = alive[p]
            others = np.flatnonzero(stays)
            taken = columns[:filled, others].copy()
            inverse = inverse[others][:, others] - np.dot(taken.T.copy(), taken)
            left, numbers = left[others], numbers[others]
    return order, costs


@njit(cache=True, nogil=True, fastmath=True)
def _cost(inverse: NDArray[np.float32], weights: NDArray[np.float32]) -> np.float32:
    """The value wᵀ A⁻¹ w, by the Cholesky factor of A, of which only the lower triangle is read."""
    size = len(weights)
    lower = np.empty((size, size), np.float32)
    solved = np.empty(size, np.float32)
    total = np.float32(0)
    for i in range(size):
        for j in range(i + 1):
            value = inverse[i, j]
            for k in range(j):
                value -= lower[i, k] * lower[j, k]
            lower[i, j] = np.sqrt(value) if i == j else value / lower[j, j]
        value = weights[i]
        for k in range(i):
            value -= lower[i, k] * solved[k]
        solved[i] = value / lower[i, i]
        total += solved[i] * solved[i]
    return total
