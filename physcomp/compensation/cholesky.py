"""Cholesky factors of a group's curvature, for rounding and pruning: compiled, without the interpreter's lock.

Everything here works on one group; its blocks are corrected apart. Matrix products carry what costs most, so that
large groups run at the speed of BLAS, and small ones without a call of Python each.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

# Added to every diagonal: the curvature of a filter that hardly answers is rounding errors, of either sign. Our choice.
FLOOR = 1e-10
PANEL = 64  # columns that are brought up to date one by one before a matrix product does the rest


@njit(cache=True, nogil=True)
def factor_of(
    block: NDArray[np.float32], inside: NDArray[np.int64], damping: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The inverse Cholesky factor of some weights' damped curvature.

    Args:
        block: (weights, weights), the curvature.
        inside: the weights that count; the damping is by all.
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
    """The inverse of the lower Cholesky factor of a matrix given by its lower triangle, which is overwritten."""
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
    """Subtract in place."""
    for i in range(len(matrix)):
        for j in range(matrix.shape[1]):
            matrix[i, j] -= other[i, j]


@njit(cache=True, nogil=True, fastmath=True)
def _inverse_of_small(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same row by row, for one panel; its lower triangle becomes the factor."""
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
    """KᵀK of a lower triangular K."""
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
    """Write the column of an inverse that dropping a weight takes off it, vvᵀ, into the next row of a panel.

    Args:
        inverse: (weights, weights), without what the panel has taken off it so far.
        columns: (panel, weights), of which so many rows are taken.
        taken: rows of the panel that are filled; the next one is written.
        weight: the one to drop.

    Returns:
        One over the root of the weight's diagonal, by which the column is scaled.
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
