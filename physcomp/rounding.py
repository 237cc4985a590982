"""Rounding that makes up for itself: each weight's rounding error is pushed onto the weights not yet rounded.

The optimal-brain-surgeon step for one weight fixed at a value, applied weight by weight in order of falling
curvature, through the Cholesky factor of the inverse (Frantar et al., "GPTQ", ICLR 2023, arXiv 2210.17323; Hassibi
and Stork, NIPS 1992). Where they use the layer's inputs, we use the Gauss-Newton matrix of the loss inside each
group, with what the group's bias can mend taken out. Scales are picked by the same quadratic form.
"""

from dataclasses import dataclass

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
# And that in any case: the curvature of a filter that hardly answers is rounding errors, of either sign. Our choice.
FLOOR = 1e-10
# Scales tried, as shares of the largest magnitude; our choice.
SHARES = np.geomspace(0.15, 1.0, 10)


@dataclass(frozen=True)
class Alphabet:
    """Levels spaced evenly between minus and plus the scale.

    Args:
        count: their number, at least 2.
        zero: with False an even number of levels, those of count + 1 evenly spaced ones that are not zero.
    """

    count: int
    zero: bool = True


@dataclass(frozen=True, eq=False)
class Part:
    """Some weights of a group that are corrected together.

    Args:
        places: their places in the group's row, ascending.
        damped: float64 (places, places), the curvature among them, damped.
    """

    places: NDArray[np.int64]
    damped: NDArray[np.float64]

    def among(self, kept: NDArray[np.bool_]) -> "Part":
        """The same for those weights of the row that are kept."""
        inside = kept[self.places]
        return Part(self.places[inside], self.damped[np.ix_(inside, inside)])


def parts_of(blocks: NDArray[np.floating], weights: int, damping: float = DAMPING) -> list[Part]:
    """The blocks of one group's curvature, (blocks, size, size), without padding and damped."""
    parts = []
    for start, block in zip(range(0, weights, blocks.shape[1]), blocks, strict=True):
        places = np.arange(start, min(start + blocks.shape[1], weights))
        part = block[: len(places), : len(places)].astype(np.float64)
        parts.append(Part(places, part + (damping * np.diag(part).mean() + FLOOR) * np.eye(len(places))))
    return parts


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
    alphabets = tuple(Alphabet(count) for count in counts)

    def one(group: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return round_group(rows[group].astype(np.float64), parts_of(curvature.blocks[group], weights), alphabets)

    rounded = np.empty((groups, weights, len(counts)), np.float32)
    scales = np.empty((groups, len(counts)), np.float32)
    for group, (row, scale) in enumerate(in_threads(one, range(groups))):
        rounded[group], scales[group] = row.T, scale
    return rounded, scales


def round_group(
    row: NDArray[np.float64], parts: list[Part], alphabets: tuple[Alphabet, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Round the weights of one row that are in a part; the others become zero.

    Returns:
        (alphabets, weights) rounded, and (alphabets,) scales; where all weights are zero they stay so with scale 0.
    """
    largest = max((float(np.abs(row[part.places]).max()) for part in parts if len(part.places)), default=0.0)
    scales = to_bfloat16(largest * SHARES).astype(np.float64)
    rounded = np.zeros((len(alphabets), len(scales), len(row)))
    losses = np.zeros((len(alphabets), len(scales)))
    if largest == 0:
        return rounded[:, 0], np.zeros(len(alphabets))
    for part in parts:
        if not len(part.places):
            continue
        order, factor, ordered = _factor(part.damped)
        place = part.places[order]
        for number, alphabet in enumerate(alphabets):
            found = _compensated(row[place], factor, scales, alphabet.count, alphabet.zero)
            rounded[number][:, place] = found
            error = found - row[place]
            losses[number] += ((error @ ordered) * error).sum(axis=1)
    best = losses.argmin(axis=1)
    return rounded[np.arange(len(alphabets)), best], scales[best]


def _factor(
    damped: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Order of falling curvature, the upper U with UᵀU the inverse of the ordered block, and that block."""
    order = np.argsort(-np.diag(damped), kind="stable")
    ordered = damped[np.ix_(order, order)]
    # With R upper and R Rᵀ the block, U is the inverse of R; R is the Cholesky factor of the block turned round.
    turned = np.linalg.cholesky(ordered[::-1, ::-1])[::-1, ::-1]
    factor, _ = scipy.linalg.lapack.dtrtri(np.ascontiguousarray(turned), lower=0)
    return order, np.ascontiguousarray(factor), ordered


@njit(cache=True, nogil=True, fastmath=True)
def _compensated(
    row: NDArray[np.float64], factor: NDArray[np.float64], scales: NDArray[np.float64], count: int, zero: bool
) -> NDArray[np.float64]:
    """Round weight by weight at each scale and pass the error on: (scales, weights)."""
    half = (count - 1) / 2.0
    magnitudes = count // 2
    rounded = np.empty((len(scales), len(row)))
    left = np.empty(len(row))
    for s in range(len(scales)):
        scale = scales[s]
        left[:] = row
        for t in range(len(row)):
            if zero:
                digit = np.floor((left[t] / scale + 1) * half + 0.5)
                rounded[s, t] = (min(max(digit, 0.0), count - 1.0) / half - 1) * scale
            else:
                digit = np.floor(abs(left[t]) / scale * magnitudes + 0.5)
                magnitude = min(max(digit, 1.0), magnitudes) / magnitudes * scale
                rounded[s, t] = -magnitude if left[t] < 0 else magnitude
            error = (left[t] - rounded[s, t]) / factor[t, t]
            for u in range(t + 1, len(row)):
                left[u] -= error * factor[t, u]
    return rounded
