"""Rounding that compensates for its errors: each weight's rounding error is pushed onto the weights not yet rounded.

The optimal-brain-surgeon step for one weight fixed at a value, applied weight by weight in order of falling
curvature, through the Cholesky factor of the inverse (Frantar et al., "GPTQ", ICLR 2023, arXiv 2210.17323; Hassibi
and Stork, NIPS 1992). Where they use the layer's inputs, we use the Gauss-Newton matrix of the loss inside each
group, with what the group's bias can mend taken out. Scales are picked by the same quadratic form.
"""

from collections.abc import Iterator

import numpy as np
from numba import njit
from numpy.typing import NDArray

from physcomp.compensation.cholesky import PANEL, factor_of

# Added to the diagonal as a share of its mean, since curvature comes from few images. Our choice: on held-out images
# 0.05 to 0.5 measured alike.
DAMPING = 0.1
# Scales tried, as shares of the largest magnitude; our choice.
SHARES = np.geomspace(0.15, 1.0, 10)
AT_ONCE = 1 << 21  # entries of the curvature that one thread takes at a time


def some_groups(blocks: NDArray[np.float32]) -> Iterator[slice]:
    """Ranges of groups, each for one thread at a time, of curvature (groups, blocks, size, size)."""
    step = max(1, AT_ONCE // (blocks[0].size if len(blocks) else 1))
    return (slice(start, start + step) for start in range(0, len(blocks), step))


Factors = list[tuple[NDArray[np.int64], NDArray[np.float64]]]
"""For each block of a group the places of its weights in the row and their factor, see
`physcomp.compensation.cholesky`."""


@njit(cache=True, nogil=True)
def factors_of(blocks: NDArray[np.float32], kept: NDArray[np.bool_], damping: float) -> Factors:
    """Of one group, for the weights that are kept; `blocks` is (blocks, size, size), the last one padded."""
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
    row: NDArray[np.float64], factors: Factors, counts: NDArray[np.int64], zeros: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Round one row to alphabets, given by their numbers of levels and whether zero is one of them.

    Returns:
        (alphabets, weights) rounded, and (alphabets,) scales; where all weights are zero they stay so with scale 0.
    """
    rounded = np.zeros((len(counts), len(row)))
    largest = 0.0
    for places, _ in factors:
        for place in places:
            largest = max(largest, abs(row[place]))
    if largest == 0:
        return rounded, np.zeros(len(counts))
    scales = _bfloat16(largest * SHARES)
    tried = len(counts) * len(scales)
    values = np.zeros((len(row), tried))
    losses = np.zeros(tried)
    for places, factor in factors:
        found = _compensated(row[places], factor, scales, counts, zeros, losses)
        for i in range(len(places)):
            values[places[i]] = found[i]
    chosen = np.zeros(len(counts))
    for number in range(len(counts)):
        best = np.argmin(losses[number * len(scales) : (number + 1) * len(scales)])
        rounded[number] = values[:, number * len(scales) + best]
        chosen[number] = scales[best]
    return rounded, chosen


@njit(cache=True, nogil=True)
def _bfloat16(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """As `physcomp.codes.base.to_bfloat16`."""
    raw = values.astype(np.float32).view(np.uint32)
    rounded = raw + np.uint32(0x7FFF) + ((raw >> np.uint32(16)) & np.uint32(1))
    return (rounded & np.uint32(0xFFFF0000)).view(np.float32).astype(np.float64)


@njit(cache=True, nogil=True, fastmath=True)
def _compensated(
    row: NDArray[np.float64],
    factor: NDArray[np.float64],
    scales: NDArray[np.float64],
    counts: NDArray[np.int64],
    zeros: NDArray[np.bool_],
    losses: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Round weight by weight, the last first, with each alphabet at each scale, and pass the errors on.

    The quadratic form of the whole error is the sum of the squares of what is passed on, and is added to `losses`.

    Returns:
        (weights, alphabets · scales).
    """
    size, tried = len(row), len(counts) * len(scales)
    left = np.empty((size, tried))
    for t in range(size):
        left[t] = row[t]
    passed = np.empty((size, tried))
    stop = size
    while stop > 0:
        start = max(0, stop - PANEL)
        for t in range(stop - 1, start - 1, -1):
            for number in range(len(counts)):
                first = number * len(scales)
                _round_one(
                    left[t, first : first + len(scales)], scales, counts[number], zeros[number], passed[t, first:]
                )
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
    """Round one value for each scale in place, and give what was taken off."""
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
