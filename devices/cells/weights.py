"""Weights stored on cells: pairs of cells for the sign, and several cells a weight to average noise.

A weight w in [-1, 1] is the difference of two cells, one at level max(w, 0) and one at max(-w, 0), as in the
phase-change chips of V. Joshi et al., Nature Communications 11:2473 (2020). With n cells a side, all written alike, the
error of the mean falls as 1/√n (M. Le Gallo et al., Neuromorph. Comput. Eng. 2, 2022, doi 10.1088/2634-4386/ac4fb7).
Reading one cell n times gains less, since its programming error stays.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from devices.cards.card import Card
from devices.cells.cells import Cells, program

__all__ = ["StoredWeights", "program_weights"]

SLACK = 1e-6


@dataclass(frozen=True, eq=False)
class StoredWeights:
    """Weights stored on programmed cells.

    Attributes:
        cells: the cells, of the shape of the weights + (sides, copies); sides is 2 for pairs, else 1.
    """

    cells: Cells

    def read(self, *, time_s: float, read: int = 0, temperature_k: float | None = None) -> NDArray[np.float32]:
        """Read the weights back, float32, in their shape: means over the copies, and of pairs the difference.

        Arguments are those of `Cells.read`.
        """
        sides = self.cells.read(time_s=time_s, read=read, temperature_k=temperature_k).mean(axis=-1)
        found: NDArray[np.float32] = sides[..., 0] - sides[..., 1] if sides.shape[-1] == 2 else sides[..., 0]
        return found


def program_weights(
    card: Card | str,
    weights: ArrayLike,
    *,
    seed: int,
    copies: SupportsIndex = 1,
    pairs: bool = True,
    stuck_low: float | None = None,
    stuck_high: float | None = None,
) -> StoredWeights:
    """Store weights on cells of a card.

    Args:
        card: a card, or the name or path of one.
        weights: numbers in [-1, 1] for pairs, in [0, 1] without, any shape.
        seed: as for `program`.
        copies: cells that hold the same level, on each side.
        pairs: two sides for each weight, which allow a sign; without them a weight is one level.
        stuck_low: as for `program`.
        stuck_high: as for `program`.

    Raises:
        ValueError: weights out of range, copies below 1, and what `program` refuses.

    >>> stored = program_weights("ideal", [-0.5, 0.25], seed=1, copies=3)
    >>> stored.cells.levels.shape, stored.read(time_s=0.0).tolist()
    ((2, 2, 3), [-0.5, 0.25])
    """
    w = np.asarray(weights, dtype=np.float32)
    lowest = -1.0 if pairs else 0.0
    if not ((w >= lowest - SLACK) & (w <= 1.0 + SLACK)).all():
        raise ValueError(
            f"weights must lie in [{lowest:g}, 1], not from {w.min():g} to {w.max():g}: "
            f"scale them{'' if pairs else ' or store them as pairs'}"
        )
    try:
        count = operator.index(copies)
    except TypeError:
        count = 0
    if isinstance(copies, bool) or count < 1:
        raise ValueError(f"copies must be a whole number from 1 on, not {copies!r}: pass for example copies=2")
    sides = np.stack([w, -w] if pairs else [w], axis=-1)
    levels = np.repeat(sides.clip(0.0, 1.0)[..., None], count, axis=-1)
    return StoredWeights(program(card, levels, seed=seed, stuck_low=stuck_low, stuck_high=stuck_high))
