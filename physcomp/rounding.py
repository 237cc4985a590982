"""Rounding that makes up for itself: each weight's rounding error is pushed onto the weights not yet rounded.

The optimal-brain-surgeon step for one weight fixed at a value, applied weight by weight in order of falling
curvature, through the Cholesky factor of the inverse (Frantar et al., "GPTQ", ICLR 2023, arXiv 2210.17323; Hassibi
and Stork, NIPS 1992). Where they use the layer's inputs, we use the Gauss-Newton matrix of the loss inside each
group, with what the group's bias can mend taken out. Scales are picked by the same quadratic form.
"""

import numpy as np
import scipy.linalg
from numba import njit
from numpy.typing import NDArray

from physcomp.codes.base import Rows, to_bfloat16
from physcomp.sensitivity import Curvature
from physcomp.threads import in_threads

# Added to the diagonal as a share of its mean, since curvature comes from few images. Our choice: on held-out images
# 0.05 to 0.5 measured alike.
DAMPING = 0.1
# Scales tried, as shares of the largest magnitude; our choice.
SHARES = np.geomspace(0.15, 1.0, 10)


def round_rows(rows: Rows, curvature: Curvature, counts: tuple[int, ...]) -> tuple[Rows, Rows]:
    """Round the rows of a layer to uniform levels, for several numbers of levels.

    Args:
        rows: float32 (groups, weights).
        curvature: of the same groups.
        counts: numbers of levels, each at least 2.

    Returns:
        The rounded rows, float32 (groups, weights, counts), each weight exactly on a level; and the scales, float32
        (groups, counts), bfloat16 numbers: the outermost level.
    """
    groups, weights = rows.shape

    def one(group: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return _round_group(rows[group].astype(np.float64), curvature.blocks[group].astype(np.float64), counts)

    rounded = np.empty((groups, weights, len(counts)), np.float32)
    scales = np.empty((groups, len(counts)), np.float32)
    for group, (row, scale) in enumerate(in_threads(one, range(groups))):
        rounded[group], scales[group] = row.T, scale
    return rounded, scales


def _round_group(
    row: NDArray[np.float64], blocks: NDArray[np.float64], counts: tuple[int, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """One group: (counts, weights) rounded and (counts,) scales; a row of zeros stays with scale 0."""
    size = blocks.shape[1]
    largest = np.abs(row).max()
    scales = to_bfloat16(largest * SHARES).astype(np.float64)
    rounded = np.zeros((len(counts), len(scales), len(row)))
    losses = np.zeros((len(counts), len(scales)))
    if largest == 0:
        return rounded[:, 0], np.zeros(len(counts))
    for start, block in zip(range(0, len(row), size), blocks, strict=True):
        part = row[start : start + size]
        order, factor, ordered = _factor(block[: len(part), : len(part)])
        place = start + order
        for number, count in enumerate(counts):
            found = _compensated(row[place], factor, scales, count)
            rounded[number][:, place] = found
            error = found - row[place]
            losses[number] += np.einsum("si,ij,sj->s", error, ordered, error, optimize=True)
    best = losses.argmin(axis=1)
    return rounded[np.arange(len(counts)), best], scales[best]


def _factor(
    block: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Order of falling curvature, the upper U with UᵀU the inverse of the damped block, and the damped block."""
    diagonal = np.diag(block)
    order = np.argsort(-diagonal, kind="stable")
    damped = block[np.ix_(order, order)] + (DAMPING * diagonal.mean() + 1e-30) * np.eye(len(block))
    # With R upper and R Rᵀ the block, U is the inverse of R; R is the Cholesky factor of the block turned round.
    turned = np.linalg.cholesky(damped[::-1, ::-1])[::-1, ::-1]
    factor, _ = scipy.linalg.lapack.dtrtri(np.ascontiguousarray(turned), lower=0)
    return order, np.ascontiguousarray(factor), damped


@njit(cache=True, nogil=True, fastmath=True)
def _compensated(
    row: NDArray[np.float64], factor: NDArray[np.float64], scales: NDArray[np.float64], count: int
) -> NDArray[np.float64]:
    """Round weight by weight at each scale and pass the error on: (scales, weights)."""
    half = (count - 1) / 2.0
    rounded = np.empty((len(scales), len(row)))
    left = np.empty(len(row))
    for s in range(len(scales)):
        scale = scales[s]
        left[:] = row
        for t in range(len(row)):
            digit = np.floor((left[t] / scale + 1) * half + 0.5)
            digit = min(max(digit, 0.0), count - 1.0)
            rounded[s, t] = (digit / half - 1) * scale
            error = (left[t] - rounded[s, t]) / factor[t, t]
            for u in range(t + 1, len(row)):
                left[u] -= error * factor[t, u]
    return rounded
