"""Pieces of blocks that fit a quantum annealer, each as a small QUBO with its own range of coefficients.

At a given λ blocks are independent, so each is a problem of its own. A block larger than the annealer is cut into runs
of groups, at places that shift from round to round; the groups outside a run keep the best choice so far. Coefficients
span 1e3–1e5, and an annealer resolves a few bits. So a piece is written relative to the best choice: the best code of
each group costs nothing, very bad codes and couplings are clipped, and one-hot weights only exceed what neighbours can
gain. A setup counts for a group if no other group uses it in the best choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qubo.dwave.embedding import PieceShape
from qubo.search.arrays import Arrays
from qubo.solvers.penalty_loop import Task

Vector = NDArray[np.float64]

CLIP = 16.0
"""Largest coefficient, in median gaps between a group's best and second code: about four bits (our choice)."""
LIKELY = 4.0
"""Codes up to this many median gaps above a group's best are likely to be met while annealing (our choice)."""


@dataclass(frozen=True, eq=False)
class Piece:
    """Groups solved together.

    Attributes:
        groups: (m,) the groups, in order along their block.
        block: their block, or -1 for a group on its own.
        first: place of the first of them in the block.
    """

    groups: NDArray[np.int64]
    block: int
    first: int


def reaches(a: Arrays) -> list[int]:
    """Per block, how many places apart groups are coupled; at least 1, so that the block is not taken for nothing."""
    found = []
    for b in range(a.width.size):
        m, C = int(a.start[b + 1] - a.start[b]), a.loss.shape[1]
        if a.width[b] > 0:
            found.append(max(1, m - 1))
            continue
        coupled = np.abs(_gram(a, b, np.arange(m))).reshape(m, C, m, C).max(axis=(1, 3)) > 0
        i, j = np.nonzero(coupled)
        found.append(max(1, int(np.abs(i - j).max(initial=0))))
    return found


def shapes(a: Arrays) -> tuple[PieceShape | None, PieceShape | None]:
    """One shape for every piece of a block, and one for every group on its own; None where there are none."""
    C = a.loss.shape[1]
    widest = int(np.diff(a.start).max(initial=0))
    block = PieceShape(widest, C, min(max(reaches(a)), widest - 1)) if widest else None
    alone = PieceShape(1, C, 0) if ((a.block < 0) & (a.codes > 1)).any() else None
    return block, alone


def cut(a: Arrays, most: int, number: int) -> tuple[list[Piece], list[Piece]]:
    """Pieces of at most `most` groups of the blocks, and the groups on their own that have a choice.

    From round to round the cuts move by half a piece, so that no pair stays apart for good.
    """
    pieces = []
    for b in range(a.width.size):
        members = a.members[a.start[b] : a.start[b + 1]]
        m = members.size
        shift = (number * ((most + 1) // 2)) % most if m > most else 0
        edges = np.unique(np.clip([0, *range(shift, m, most), m], 0, m))
        pieces += [Piece(members[i:j], b, int(i)) for i, j in pairwise(edges)]
    alone = np.flatnonzero((a.block < 0) & (a.codes > 1))
    return pieces, [Piece(np.array([g]), -1, 0) for g in alone]


def _gram(a: Arrays, block: int, places: NDArray[np.int64]) -> Vector:
    """(n·C, n·C) couplings among the groups at `places` of a block; nothing within a group."""
    C = a.loss.shape[1]
    m, D = int(a.start[block + 1] - a.start[block]), int(a.width[block])
    rows = (places[:, None] * C + np.arange(C)).reshape(-1)
    if D == 0:
        stop = a.offset[block] + (m * C) ** 2
        return np.asarray(a.data[a.offset[block] : stop].reshape(m * C, m * C)[np.ix_(rows, rows)])
    factors = a.data[a.offset[block] : a.offset[block] + m * C * D].reshape(m * C, D)[rows]
    matrix = (factors @ factors.T).reshape(places.size, C, places.size, C)
    matrix[np.arange(places.size), :, np.arange(places.size), :] = 0.0
    return np.asarray(matrix.reshape(rows.size, rows.size))


@dataclass(frozen=True, eq=False)
class Model:
    """A piece as a QUBO: variable i·C + k is its i-th group's k-th usable code.

    Attributes:
        bqm: `dimod.BinaryQuadraticModel` over the usable codes.
        clipped: share of coefficients that were clipped.
    """

    bqm: Any
    clipped: float


class Modeller:
    """Writes the pieces of one round; holds the fields of the best choice."""

    def __init__(self, task: Task, first_weights: Vector) -> None:
        a = task.layout.arrays
        self.a, self.task = a, task
        self.growth = task.weights / first_weights
        self.value = a.loss + task.lam * (a.cost + task.layout.beginning(task.best))

    def fields(self, piece: Piece) -> tuple[Vector, Vector]:
        """Couplings inside the piece (m, C, m, C), and the field (m, C) of the rest of its block."""
        a, m, C = self.a, piece.groups.size, self.a.loss.shape[1]
        if piece.block < 0:
            return np.zeros((1, C, 1, C)), np.zeros((1, C))
        size = int(a.start[piece.block + 1] - a.start[piece.block])
        inside = np.arange(piece.first, piece.first + m)
        if size == m:
            return _gram(a, piece.block, inside).reshape(m, C, m, C), np.zeros((m, C))
        everything = _gram(a, piece.block, np.arange(size)).reshape(size, C, size, C)
        members = a.members[a.start[piece.block] : a.start[piece.block + 1]]
        outside = np.setdiff1d(np.arange(size), inside)
        chosen = everything[inside][:, :, outside, self.task.best[members[outside]]]
        return everything[inside][:, :, inside], chosen.sum(axis=2)

    def model(self, piece: Piece) -> Model:
        """The piece relative to the best choice so far, clipped."""
        import dimod

        m, C = piece.groups.size, self.a.loss.shape[1]
        couplings, outside = self.fields(piece)
        value = self.value[piece.groups] + outside
        kept = np.isfinite(value)
        inside = couplings[:, :, np.arange(m), self.task.best[piece.groups]].sum(axis=2)
        beside = np.where(kept, value + inside, np.inf)
        gap = beside - beside.min(axis=1, keepdims=True)
        unit = self._unit(gap)
        linear = value - beside.min(axis=1, keepdims=True) - np.where(kept, (gap - CLIP * unit).clip(min=0), 0.0)
        pairs = couplings.clip(-CLIP * unit, CLIP * unit)
        weight = 1.1 * self.growth[piece.groups] * np.maximum(unit, self._swing(piece, pairs, gap <= LIKELY * unit))
        number = np.flatnonzero(kept.reshape(-1))
        i, j = np.triu_indices(number.size, 1)
        same = number[i] // C == number[j] // C
        flat = pairs.reshape(m * C, m * C)[np.ix_(number, number)][i, j]
        strength = np.where(same, 2 * weight[number[i] // C], flat)
        on = strength != 0
        bqm = dimod.BinaryQuadraticModel.from_numpy_vectors(
            linear.reshape(-1)[number] - weight[number // C], (i[on], j[on], strength[on]), float(weight.sum()),
            dimod.BINARY, variable_order=number.tolist(),
        )  # fmt: skip
        cut = ((gap > CLIP * unit) & kept).sum() + (np.abs(couplings) > CLIP * unit).sum() / 2
        return Model(bqm, float(cut / max(1, number.size + np.count_nonzero(couplings) / 2)))

    def _swing(self, piece: Piece, pairs: Vector, likely: NDArray[np.bool_]) -> Vector:
        """(m,) how far likely codes of the other groups move a group's field, as independent changes add up."""
        m = piece.groups.size
        chosen = pairs[:, :, np.arange(m), self.task.best[piece.groups]]
        change = np.abs(pairs - chosen[:, :, :, None])
        change = np.where(likely[:, :, None, None] & likely[None, None], change, 0.0)
        return np.asarray(np.sqrt((change.max(axis=(1, 3)) ** 2).sum(axis=1)))

    def _unit(self, gap: Vector) -> float:
        """The piece's median gap between a group's best and second code; else the problem's unit."""
        second = np.sort(gap, axis=1)[:, 1:2]
        second = second[np.isfinite(second) & (second > 0)]
        return float(np.median(second)) if second.size else self.task.unit
