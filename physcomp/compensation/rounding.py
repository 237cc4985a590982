"""Rounding with compensation: weights that are not yet rounded compensate for the errors of those that are.

Weights are rounded one by one in order of falling curvature. After each, the others move to the new minimum of the
quadratic form (the step of the optimal brain surgeon, Hassibi and Stork, NIPS 1992), computed by the Cholesky factor of
the inverse curvature (Frantar et al., "GPTQ", ICLR 2023, arXiv 2210.17323). GPTQ takes the curvature from the layer's
inputs; here it is the Gauss-Newton matrix of the loss inside each group, after compensation by the group's bias
(`physcomp.curvature.blocks`). Scales are picked by the same quadratic form.
"""

from collections.abc import Iterator

import numpy as np
from numba import njit
from numpy.typing import NDArray

from physcomp.compensation.cholesky import PANEL, factor_of

# Added to the diagonal as a share of its mean, since the curvature is estimated from few images. Our choice: 0.05 to
# 0.5 had the same loss on held-out images.
DAMPING = 0.1
# The scales that are tried, as shares of a row's largest magnitude; our choice.
SHARES = np.geomspace(0.15, 1.0, 10)
AT_ONCE = 1 << 21  # entries of the curvature per task of a thread


def some_groups(blocks: NDArray[np.float32]) -> Iterator[slice]:
    """Ranges of groups, each the task of a thread, for curvature blocks (groups, blocks, size, size)."""
    step = max(1, AT_ONCE // (blocks[0].size if len(blocks) else 1))
    return (slice(start, start + step) for start in range(0, len(blocks), step))


Factors = list[tuple[NDArray[np.int64], NDArray[np.float64]]]
"""For each block of a group: the places of its weights in the row, and the factor of their curvature
(`physcomp.compensation.cholesky.factor_of`)."""


@njit(cache=True, nogil=True)
def factors_of(blocks: NDArray[np.float32], kept: NDArray[np.bool_], damping: float) -> Factors:
    """The factors of one group for the weights kept; `blocks` is (blocks, size, size), the last one padded."""
    size, weights = blocks.shape[1], len(kept)
    found = []
    for number in range(len(blocks)):
        start = number * size
        width = min(size, weights - start)
        order, factor = factor_of(blocks[number, :width, :width], np.flatnonzero(kept[start : start + width]), damping)
        found.append((order + start, factor))
    return found


@njit(cache=True, nogil=True)
def round_row(
    row: NDArray[np.float64],
    factors: Factors,
    counts: NDArray[np.int64],
    zeros: NDArray[np.bool_],
    steps: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Round one row to several alphabets (`physcomp.codes.base.Alphabet`), with the best scale for each.

    Args:
        row: (weights,).
        factors: factors of the row's curvature.
        counts: number of levels of each alphabet.
        zeros: whether zero is a level, for each alphabet.
        steps: the step of each alphabet over the root mean square of the weights; 0: its scale is picked.

    Returns:
        Rounded rows (alphabets, weights), and scales (alphabets,); a row of zeros stays as it is, with scale 0.
    """
    rounded = np.zeros((len(counts), len(row)))
    largest, squares, weights = 0.0, 0.0, 0
    for places, _ in factors:
        for place in places:
            largest = max(largest, abs(row[place]))
            squares += row[place] * row[place]
        weights += len(places)
    if largest == 0:
        return rounded, np.zeros(len(counts))
    edges = np.zeros(len(counts) + 1, np.int64)  # each alphabet has the columns from one edge to the next
    for number in range(len(counts)):
        edges[number + 1] = edges[number] + (len(SHARES) if steps[number] == 0 else 1)
    scales = np.empty(edges[-1])
    for number in range(len(counts)):
        mine = scales[edges[number] : edges[number + 1]]
        if steps[number] == 0:
            mine[:] = largest * SHARES
        else:  # never so small that the largest weight is clipped
            mine[:] = max(steps[number] * np.sqrt(squares / weights), largest / (counts[number] // 2))
    scales = _bfloat16(scales)
    values = np.zeros((len(row), len(scales)))
    losses = np.zeros(len(scales))
    for places, factor in factors:
        found = _compensated(row[places], factor, scales, edges, counts, zeros, steps, losses)
        for i in range(len(places)):
            values[places[i]] = found[i]
    chosen = np.zeros(len(counts))
    for number in range(len(counts)):
        best = edges[number] + np.argmin(losses[edges[number] : edges[number + 1]])
        rounded[number] = values[:, best]
        chosen[number] = scales[best]
    return rounded, chosen


@njit(cache=True, nogil=True)
def _bfloat16(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round to bfloat16 numbers, like `physcomp.codes.base.to_bfloat16`."""
    raw = values.astype(np.float32).view(np.uint32)
    rounded = raw + np.uint32(0x7FFF) + ((raw >> np.uint32(16)) & np.uint32(1))
    return (rounded & np.uint32(0xFFFF0000)).view(np.float32).astype(np.float64)


@njit(cache=True, nogil=True, fastmath=True)
def _compensated(
    row: NDArray[np.float64],
    factor: NDArray[np.float64],
    scales: NDArray[np.float64],
    edges: NDArray[np.int64],
    counts: NDArray[np.int64],
    zeros: NDArray[np.bool_],
    steps: NDArray[np.float64],
    losses: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Round the weights of a block one by one, the last first, for each alphabet and each scale, with compensation.

    The scales from one edge to the next are those of an alphabet.

    Each rounding error is scaled by the pivot of the factor. The sum of squares of these scaled errors is the quadratic
    form of the whole error; it is added to `losses`.

    Returns:
        Rounded weights (weights, scales).
    """
    size, tried = len(row), len(scales)
    left = np.empty((size, tried))
    for t in range(size):
        left[t] = row[t]
    passed = np.empty((size, tried))
    stop = size
    while stop > 0:
        start = max(0, stop - PANEL)
        for t in range(stop - 1, start - 1, -1):
            for number in range(len(counts)):
                mine = slice(edges[number], edges[number + 1])
                if steps[number] == 0:
                    _round_one(left[t, mine], scales[mine], counts[number], zeros[number], passed[t, mine])
                else:
                    _round_to_steps(left[t, mine], scales[mine], counts[number] // 2, passed[t, mine])
            pivot = 1 / factor[t, t]
            for c in range(tried):
                passed[t, c] *= pivot
                losses[c] += passed[t, c] * passed[t, c]
            for u in range(start, t):
                share = factor[t, u]
                for c in range(tried):
                    left[u, c] -= share * passed[t, c]
        if start > 0:
            before = np.dot(factor[start:stop, :start].copy().T, passed[start:stop])
            for t in range(start):
                for c in range(tried):
                    left[t, c] -= before[t, c]
        stop = start
    return left


@njit(cache=True, nogil=True, fastmath=True)
def _round_one(
    left: NDArray[np.float64], scales: NDArray[np.float64], count: int, zero: bool, error: NDArray[np.float64]
) -> None:
    """Round values, one for each scale, in place, and write the rounding errors to `error`."""
    half = (count - 1) / 2.0
    magnitudes = count // 2
    for s in range(len(scales)):
        value = left[s]
        if zero:
            digit = np.floor((value / scales[s] + 1) * half + 0.5)
            left[s] = (min(max(digit, 0.0), count - 1.0) / half - 1) * scales[s]
        else:
            digit = np.floor(abs(value) / scales[s] * magnitudes + 0.5)
            magnitude = min(max(digit, 1.0), float(magnitudes)) / magnitudes * scales[s]
            left[s] = -magnitude if value < 0 else magnitude
        error[s] = value - left[s]


@njit(cache=True, nogil=True, fastmath=True)
def _round_to_steps(
    left: NDArray[np.float64], steps: NDArray[np.float64], most: int, error: NDArray[np.float64]
) -> None:
    """Round values, one for each step, in place to at most so many steps, and write the rounding errors to `error`."""
    for s in range(len(steps)):
        value = left[s]
        digit = min(max(np.floor(value / steps[s] + 0.5), -float(most)), float(most))
        left[s] = digit * steps[s]
        error[s] = value - left[s]
