"""Pruning that knows second order: which weights of a group to drop, and how the others make up for them.

With H the curvature inside a group, dropping weight i and moving the others to the new minimum of the quadratic form
raises the loss by w_i² / (2 [H⁻¹]_ii) (Hassibi and Stork, "optimal brain surgeon", NIPS 1992). Weights are dropped one
by one, the cheapest first, and the inverse is brought up to date exactly after each (Frantar and Alistarh, "optimal
brain compression", NeurIPS 2022, arXiv 2208.11580, who take the layer's inputs; the Gauss-Newton matrix of the loss, as
here, is what Singh and Alistarh take, "WoodFisher", NeurIPS 2020, arXiv 2004.14340). With the identity for a curvature
this is pruning by magnitude, which needs no images.
"""

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numba import njit
from numpy.typing import NDArray

from physcomp.codes.base import Rows
from physcomp.rounding import DAMPING, Part, parts_of
from physcomp.sensitivity import Curvature
from physcomp.threads import in_threads


@dataclass(frozen=True, eq=False)
class Survivors:
    """What is left of one group.

    Args:
        row: float64 (weights,), zero where pruned, elsewhere with what makes up for the pruned ones.
        parts: curvature among the weights kept.
    """

    row: NDArray[np.float64]
    parts: list[Part]


def kept_of(weights: int, share: float) -> int:
    """How many of so many weights stay when a share of them, 0 to 1, is pruned: at least one.

    Raises:
        ValueError: the share is not in [0, 1).

    Example:
        >>> kept_of(576, 0.9), kept_of(9, 0.95)
        (58, 1)
    """
    if not 0 <= share < 1:
        raise ValueError(f"pruning: the share pruned is at least 0 and less than 1, got {share:g}; correct it")
    return max(1, round((1 - share) * weights))


def unit_curvature(rows: Rows) -> Curvature:
    """The identity for every group, for want of images: pruning then goes by magnitude and moves no other weight."""
    eye = np.broadcast_to(np.eye(rows.shape[1], dtype=np.float32), (len(rows), 1, rows.shape[1], rows.shape[1]))
    return Curvature(np.ones(rows.shape), eye)


def prune_rows(rows: Rows, curvature: Curvature, shares: tuple[float, ...], *, damping: float = DAMPING) -> Rows:
    """Prune the rows of a layer to several sparsities; the survivors make up for what is pruned.

    Args:
        rows: float32 (groups, weights).
        curvature: of the same groups.
        shares: shares of each group's weights to prune, see `kept_of`.
        damping: share of the mean curvature added to each weight's own.

    Returns:
        float32 (groups, weights, shares): in each row at most `kept_of` weights differ from zero.

    Raises:
        ValueError: a share is not in [0, 1).
    """
    groups, weights = rows.shape
    kept = tuple(kept_of(weights, share) for share in shares)

    def one(group: int) -> list[Survivors]:
        parts = parts_of(curvature.blocks[group], weights, damping)
        return prune_group(rows[group].astype(np.float64), parts, kept)

    pruned = np.empty((groups, weights, len(shares)), np.float32)
    for group, found in enumerate(in_threads(one, range(groups))):
        pruned[group] = np.stack([survivors.row for survivors in found], axis=1)
    return pruned


def prune_group(row: NDArray[np.float64], parts: list[Part], kept: tuple[int, ...]) -> list[Survivors]:
    """Prune one row to several numbers of weights kept."""
    dropped, costs = [], []
    for part in parts:
        lower = np.linalg.cholesky(part.damped)
        inverse, _ = scipy.linalg.lapack.dpotri(lower, lower=1)
        # With several parts, each may lose all its weights; with one, no more than asked for.
        steps = len(part.places) - (min(kept) if len(parts) == 1 else 0)
        order, cost = _drop(row[part.places].astype(np.float32), inverse.astype(np.float32, order="C"), steps)
        dropped.append(part.places[order])
        costs.append(cost)
    sequence = _merge(dropped, costs)
    found = []
    for count in kept:
        mask = np.ones(len(row), bool)
        mask[sequence[: len(row) - count]] = False
        found.append(_make_up(row, parts, mask))
    return found


def _merge(dropped: list[NDArray[np.int64]], costs: list[NDArray[np.float32]]) -> NDArray[np.int64]:
    """One order from those of several parts: always the part whose next weight is cheapest."""
    if len(dropped) == 1:
        return dropped[0]
    # A weight comes after the dearest before it in its part, so sort by running maxima.
    keys = np.concatenate([np.maximum.accumulate(cost) for cost in costs])
    return np.asarray(np.concatenate(dropped)[np.argsort(keys, kind="stable")])


def _make_up(row: NDArray[np.float64], parts: list[Part], mask: NDArray[np.bool_]) -> Survivors:
    """Zero what is not in the mask and move the others to the minimum of the quadratic form."""
    pruned = np.where(mask, row, 0.0)
    left = []
    for part in parts:
        inside = mask[part.places]
        kept = part.among(mask)
        if len(kept.places) and not inside.all():
            force = part.damped[np.ix_(inside, ~inside)] @ row[part.places[~inside]]
            pruned[kept.places] += scipy.linalg.solve(kept.damped, force, assume_a="pos")
        left.append(kept)
    return Survivors(pruned, left)


@njit(cache=True, nogil=True, fastmath=True)
def _drop(
    row: NDArray[np.float32], inverse: NDArray[np.float32], steps: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Drop weights one by one, the cheapest first.

    Only the lower triangle of the inverse is used, and changed. Rows and columns of dropped weights are left where
    they are until an eighth of them are dropped, then squeezed out. In float32, twice as fast: this decides what is
    dropped, not what values the others take.

    Returns:
        Their places in the order dropped, and twice the rise of the quadratic form at each step.
    """
    size = len(row)
    left = row.copy()
    place = np.arange(size)
    alive = np.ones(size, np.bool_)
    column = np.empty(size, np.float32)
    order = np.empty(steps, np.int64)
    costs = np.empty(steps, np.float32)
    dead = 0
    for step in range(steps):
        pick, least = -1, row[0]
        for i in range(size):
            if alive[i]:
                cost = left[i] * left[i] / inverse[i, i]
                if pick < 0 or cost < least:
                    pick, least = i, cost
        order[step], costs[step] = place[pick], least
        pivot = inverse[pick, pick]
        column[:pick] = inverse[pick, :pick]
        for i in range(pick, size):
            column[i] = inverse[i, pick]
        alive[pick] = False
        change = left[pick] / pivot
        for i in range(size):
            if alive[i]:
                left[i] -= change * column[i]
                share = column[i] / pivot
                for j in range(i + 1):
                    inverse[i, j] -= share * column[j]
        dead += 1
        if 8 * dead >= size:
            size = _squeeze(left, place, alive, inverse, size)
            dead = 0
    return order, costs


@njit(cache=True, nogil=True)
def _squeeze(
    left: NDArray[np.float32],
    place: NDArray[np.int64],
    alive: NDArray[np.bool_],
    inverse: NDArray[np.float32],
    size: int,
) -> int:
    """Move what is alive to the front, in place; returns how many they are."""
    old = np.flatnonzero(alive[:size])
    for new in range(len(old)):
        left[new], place[new], alive[new] = left[old[new]], place[old[new]], True
        for other in range(new + 1):
            inverse[new, other] = inverse[old[new], old[other]]
    return len(old)
