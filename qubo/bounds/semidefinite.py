"""The doubly nonnegative relaxation of one block at a fixed price per cell, by alternating directions.

With v = (1, x) a choice's Y = vvᵀ is positive semidefinite, not negative, zero between two codes of one group, and its
first row is its diagonal; rows of groups sum to one, so Y lives on a face spanned by V. Minimising ⟨L, Y⟩ under all of
that is the tightest relaxation of such problems that is affordable (for D blocks of 16 groups × 6 codes 1 % below the
minimum, where the best convex shift alone leaves 13 %). The splitting Y = V R Vᵀ is Oliveira, Wolkowicz and Xu's (2018,
doi 10.1007/s12532-018-0138-4), with the two multiplier steps of Graham, Hu, Im, Li and Wolkowicz (2022, doi
10.1287/ijoc.2022.1161).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from qubo.bounds.convexify import tangent

Vector = NDArray[np.float64]
Indices = NDArray[np.int64]
Single = NDArray[np.float32]

STEP = 0.9
"""Length of both steps of the multiplier, relative to the penalty (the source's choice)."""
FIRST_PENALTY, LAST_PENALTY = 0.06, 0.001
"""Penalty on Y − V R Vᵀ, for couplings of norm one: first and at least (our choice, measured)."""
FALL, PATIENCE = 0.7, 20
"""Factor on the penalty, and the steps between (our choice, measured on D and on networks)."""


def _face(counts: Indices) -> Single:
    """V (1 + n, 1 + n − m): orthonormal, spanning the vectors whose groups each sum to their first entry."""
    n, m = int(counts.sum()), counts.size
    basis = np.zeros((1 + n, 1 + n - m), dtype=np.float32)
    basis[0, 0] = 1.0
    row, column = 1, 1
    for count in counts:
        basis[row : row + count, 0] = 1.0 / count
        basis[row : row + count, column : column + count - 1] = tangent(int(count))
        row, column = row + count, column + count - 1
    basis[:, 0] /= np.linalg.norm(basis[:, 0])
    return basis


@dataclass
class Lifted:
    """The state of the method on one block; float32, since what it proposes is verified elsewhere.

    Attributes:
        counts: (m,) codes of each group.
        scale: couplings and linear terms are divided by this.
        lifted: (1 + n, 1 + n) L / scale.
        y, z: (1 + n, 1 + n) the primal matrix Y and the multiplier of Y = V R Vᵀ.
        penalty: weight of the residual; falls as the method proceeds.
        steps: taken so far.
    """

    counts: Indices
    scale: float
    lifted: Single
    y: Single
    z: Single
    penalty: float = FIRST_PENALTY
    steps: int = 0

    @classmethod
    def of(cls, linear: Vector, pairs: Vector, counts: Indices) -> Lifted:
        """The start: all codes of a group with equal weight, multipliers zero."""
        n = linear.size
        lifted = np.zeros((n + 1, n + 1))
        lifted[1:, 1:] = 0.5 * pairs
        lifted[0, 1:] = lifted[1:, 0] = 0.5 * linear
        basis = _face(counts)
        scale = float(np.linalg.norm(basis.T @ lifted @ basis)) or 1.0
        share = np.concatenate([[1.0], np.repeat(1.0 / counts, counts)]).astype(np.float32)
        single = (lifted / scale).astype(np.float32)
        return cls(counts, scale, single, np.outer(share, share), np.zeros_like(single))

    def run(self, steps: int) -> tuple[Vector, Vector]:
        """Do a number of steps; returns a proposal for Q (n, n) of the convex form, and the point y (n,)."""
        basis = _face(self.counts)
        group = np.repeat(np.arange(self.counts.size), self.counts)
        same = np.zeros(self.y.shape, dtype=bool)
        same[1:, 1:] = group[:, None] == group[None, :]
        place = np.arange(1, group.size + 1)
        y, z, image = self.y, self.z, self.y
        for step in range(steps):
            inner = basis.T @ (y + z / np.float32(self.penalty)) @ basis
            values, vectors = eigh(0.5 * (inner + inner.T), driver="evd", check_finite=False)
            positive = values > 0
            spanned = basis @ (vectors[:, positive] * np.sqrt(values[positive]))
            image = spanned @ spanned.T
            if step == steps - 1:
                break
            z = z + np.float32(STEP * self.penalty) * (y - image)
            y = image - (self.lifted + z) / np.float32(self.penalty)
            share = np.clip((y[place, place] + 2 * y[0, place]) / 3, 0, 1)
            np.clip(y, 0, 1, out=y)
            y[same] = 0
            y[place, place] = y[0, place] = y[place, 0] = share
            y[0, 0] = 1
            z = z + np.float32(STEP * self.penalty) * (y - image)
            self.steps += 1
            if self.steps % PATIENCE == 0:
                self.penalty = max(FALL * self.penalty, LAST_PENALTY)
        # The multiplier just after R's step has VᵀZV negative semidefinite: the form below is convex up to rounding.
        half = (z + np.float32(self.penalty) * (y - image)).astype(np.float64)
        self.y, self.z = y, z
        point = np.maximum(y[0, 1:].astype(np.float64), 1e-9)
        total = np.add.reduceat(point, np.cumsum(self.counts) - self.counts)
        return -self.scale * (half[1:, 1:] + half[1:, 1:].T), point / np.repeat(total, self.counts)

    def keep(self, kept: NDArray[np.bool_]) -> None:
        """Keep only the codes `kept` (n,)."""
        group = np.repeat(np.arange(self.counts.size), self.counts)
        rows = np.concatenate([[0], 1 + np.flatnonzero(kept)])
        self.counts = np.bincount(group[kept], minlength=self.counts.size)
        self.lifted, self.y, self.z = (part[np.ix_(rows, rows)] for part in (self.lifted, self.y, self.z))
