"""Second-order pruning of single weights: which weights of a group to drop, and how the others compensate.

Let H be the curvature inside a group. If weight i is dropped and the others move to the new minimum of the quadratic
form, the loss rises by w_i² / (2 [H⁻¹]_ii) (Hassibi and Stork, "optimal brain surgeon", NIPS 1992). Weights are dropped
one by one, the cheapest first, and the inverse is updated exactly after each (Frantar and Alistarh, "optimal brain
compression", NeurIPS 2022, arXiv 2208.11580, with the layer's inputs for H). Here H is the Gauss-Newton matrix of the
loss, as in Singh and Alistarh, "WoodFisher", NeurIPS 2020, arXiv 2004.14340. With the identity for H this is pruning by
magnitude, which needs no images.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from physcomp.compensation.cholesky import PANEL, square_of, take_off
from physcomp.compensation.rounding import Factors


@njit(cache=True, nogil=True)
def dropping_order(row: NDArray[np.float64], factors: Factors, least: int) -> NDArray[np.int64]:
    """The places of a row's weights in the order in which they are dropped, at least until `least` are left.

    Among several blocks the next weight is that of the block in which it is cheapest.
    """
    if len(factors) == 1:
        places, factor = factors[0]
        order, _ = _drop(row[places].astype(np.float32), square_of(factor.astype(np.float32)), len(places) - least)
        return places[order]
    sequence = np.empty(len(row), np.int64)
    keys = np.empty(len(row), np.float32)
    at = 0
    for places, factor in factors:
        order, costs = _drop(row[places].astype(np.float32), square_of(factor.astype(np.float32)), len(places))
        key = np.float32(0)
        for i in range(len(order)):
            # In a block, weights keep their order even if costs fall again: sort by running maxima.
            key = max(key, costs[i])
            sequence[at], keys[at] = places[order[i]], key
            at += 1
    return sequence[np.argsort(keys, kind="mergesort")]


@njit(cache=True, nogil=True)
def compensated(
    row: NDArray[np.float64], blocks: NDArray[np.float32], kept: NDArray[np.bool_], factors: Factors
) -> NDArray[np.float64]:
    """Set weights that are not kept to zero and move the others to the minimum of the quadratic form."""
    pruned = np.zeros(len(row))
    size = blocks.shape[1]
    for number in range(len(factors)):
        places, factor = factors[number]
        start = number * size
        gone = np.flatnonzero(~kept[start : start + size])
        force = np.zeros(len(places))
        for i in range(len(places)):
            for j in gone:
                force[i] += blocks[number, places[i] - start, j] * row[start + j]
        moved = np.dot(factor.T, np.dot(factor, force))
        for i in range(len(places)):
            pruned[places[i]] = row[places[i]] + moved[i]
    return pruned


@njit(cache=True, nogil=True, fastmath=True)
def _drop(
    row: NDArray[np.float32], inverse: NDArray[np.float32], steps: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Drop weights one by one, the cheapest first.

    Dropping a weight subtracts vvᵀ from the inverse, where v is the weight's column over the root of its diagonal
    entry. A panel of such vectors is collected and then subtracted in one matrix product. Arithmetic is in float32,
    which is twice as fast: it decides which weights are dropped, not the values of the others.

    Returns:
        The places of the weights dropped, in order, and twice the rise of the quadratic form at each step.
    """
    left = row.copy()
    place = np.arange(len(row))
    order = np.empty(steps, np.int64)
    costs = np.empty(steps, np.float32)
    done = 0
    while done < steps:
        size = len(left)
        columns = np.zeros((min(PANEL, steps - done), size), np.float32)
        diagonal = np.diag(inverse).copy()
        alive = np.ones(size, np.bool_)
        for step in range(len(columns)):
            pick, least = -1, np.float32(np.inf)
            for i in range(size):
                if alive[i]:
                    cost = left[i] * left[i] / diagonal[i]
                    if pick < 0 or cost < least:
                        pick, least = i, cost
            change = left[pick] * take_off(inverse, columns, step, pick)
            column = columns[step]
            for i in range(size):
                diagonal[i] -= column[i] * column[i]
                left[i] -= change * column[i]
            alive[pick] = False
            order[done], costs[done] = place[pick], least
            done += 1
        if done < steps:
            others = np.flatnonzero(alive)
            taken = np.empty((len(columns), len(others)), np.float32)
            for k in range(len(columns)):
                for i in range(len(others)):
                    taken[k, i] = columns[k, others[i]]
            less = np.dot(taken.T.copy(), taken)
            for i in range(len(others)):
                row_of = inverse[others[i]]
                for j in range(len(others)):
                    less[i, j] = row_of[others[j]] - less[i, j]
                left[i], place[i] = left[others[i]], place[others[i]]
            inverse, left, place = less, left[: len(others)], place[: len(others)]
    return order, costs
