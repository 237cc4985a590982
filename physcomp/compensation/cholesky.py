"""Cholesky factors of a group's curvature, for rounding and pruning; compiled, and without the interpreter's lock.

All functions work on one block of one group. Most of the work is in matrix products, so that large groups run at the
speed of BLAS; small groups need no call from Python.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

# Added to every diagonal, since the curvature of a filter with almost no effect is rounding errors of either sign. Our
# choice.
FLOOR = 1e-10
PANEL = 64  # columns updated one by one before a matrix product updates all others


@njit(cache=True, nogil=True)
def factor_of(
    block: NDArray[np.float32], inside: NDArray[np.int64], damping: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The Cholesky factor of the inverse of some weights' damped curvature.

    Args:
        block: (weights, weights), the curvature.
        inside: the weights to include; the mean for the damping is over all weights.
        damping: added to the diagonal, as a share of its mean.

    Returns:
        The weights in order of rising curvature, and the lower K with KᵀK the inverse of the block in that order.
    """
    diagonal = np.empty(len(inside))
    for i in range(len(inside)):
        diagonal[i] = block[inside[i], inside[i]]
    order = inside[np.argsort(diagonal, kind="mergesort")]
    trace = 0.0
    for i in range(len(block)):
        trace += block[i, i]
    added = damping * trace / len(block) + FLOOR
    damped = np.zeros((len(order), len(order)))
    for i in range(len(order)):
        row = block[order[i]]
        for j in range(i + 1):
            damped[i, j] = row[order[j]]
        damped[i, i] += added
    return order, inverse_cholesky(damped)


@njit(cache=True, nogil=True)
def inverse_cholesky(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of the lower Cholesky factor of a matrix; reads and overwrites its lower triangle."""
    size = len(matrix)
    inverse = np.zeros_like(matrix)
    for start in range(0, size, PANEL):
        stop = min(start + PANEL, size)
        before = matrix[start:stop, :start].copy()
        if start:
            _less(matrix[start:, start:stop], np.dot(matrix[start:, :start].copy(), before.T))
        own = _inverse_of_small(matrix[start:stop, start:stop])
        _less(inverse[start:stop, start:stop], -own)
        if stop < size:
            matrix[stop:, start:stop] = np.dot(matrix[stop:, start:stop].copy(), own.T)
        if start:
            _less(inverse[start:stop, :start], np.dot(own, np.dot(before, inverse[:start, :start].copy())))
    return inverse


@njit(cache=True, nogil=True)
def _less(matrix: NDArray[np.float64], other: NDArray[np.float64]) -> None:
    """Subtract `other` from `matrix` in place."""
    for i in range(len(matrix)):
        for j in range(matrix.shape[1]):
            matrix[i, j] -= other[i, j]


@njit(cache=True, nogil=True, fastmath=True)
def _inverse_of_small(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same for one panel, row by row; the lower triangle of the matrix becomes the factor."""
    size = len(matrix)
    inverse = np.zeros((size, size))
    for i in range(size):
        for j in range(i):
            left = matrix[i, j]
            for k in range(j):
                left -= matrix[i, k] * matrix[j, k]
            matrix[i, j] = left * inverse[j, j]
        pivot = matrix[i, i]
        for k in range(i):
            pivot -= matrix[i, k] * matrix[i, k]
        if not pivot > 0:
            raise ValueError("curvature: not positive definite; damp it more")
        matrix[i, i] = np.sqrt(pivot)
        inverse[i, i] = 1 / matrix[i, i]
        for k in range(i):
            share = matrix[i, k] * inverse[i, i]
            for j in range(k + 1):
                inverse[i, j] -= share * inverse[k, j]
    return inverse


@njit(cache=True, nogil=True)
def square_of(factor: NDArray[np.float32]) -> NDArray[np.float32]:
    """The product KᵀK of a lower triangular matrix K."""
    size = len(factor)
    square = np.empty_like(factor)
    for start in range(0, size, PANEL):
        stop = min(start + PANEL, size)
        part = np.dot(factor[start:, start:stop].copy().T, factor[start:, :stop].copy())
        square[start:stop, :stop] = part
        for i in range(start):
            for j in range(start, stop):
                square[i, j] = part[j - start, i]
    return square


@njit(cache=True, nogil=True, fastmath=True)
def take_off(inverse: NDArray[np.float32], columns: NDArray[np.float32], taken: int, weight: int) -> float:
    """Drop a weight: write the vector v, with vvᵀ to be subtracted from the inverse, into the next row of a panel.

    Args:
        inverse: (weights, weights), from which the rows of the panel are not yet subtracted.
        columns: (panel, weights), the panel.
        taken: number of filled rows of the panel; the next one is written.
        weight: the weight to drop.

    Returns:
        The factor on the column of the inverse that gives v: one over the root of its diagonal entry.
    """
    column = columns[taken]
    column[:] = inverse[weight]
    for k in range(taken):
        share = columns[k, weight]
        for i in range(len(column)):
            column[i] -= share * columns[k, i]
    pivot = float(1 / np.sqrt(column[weight]))
    for i in range(len(column)):
        column[i] *= pivot
    return pivot
