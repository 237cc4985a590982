"""Making the pair form convex on the simplices, as tightly as is affordable.

The energy of a block is linear + ½ xᵀP x, P the Gram matrix without its in-group blocks. Any M = blockdiag(M_g) with
P + M positive semidefinite (on the subspace where each group's entries sum to zero) gives a convex form equal to the
energy on every choice (quadratic convex reformulation, Billionnet, Elloumi and Plateau 2009, doi
10.1016/j.dam.2007.12.007). The groups' own Gram blocks are such an M; smaller is tighter.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from qubo.arrays import Arrays, Layout
from qubo.selection import Block, Selection

Vector = NDArray[np.float64]
EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Shifted:
    """A convex form of a selection: `arrays` holds loss − ½ diag M and the couplings P + M."""

    arrays: Arrays
    loss: Vector  # the loss before the shift, scaled


def convexify(selection: Selection, layout: Layout) -> Shifted:
    """The convex form whose M is the groups' own Gram blocks, raised until convexity is certain in float64."""
    a = layout.arrays
    loss, data = a.loss.copy(), a.data.copy()
    shifted = Shifted(a._replace(loss=loss, data=data), a.loss)
    for number, block in enumerate(selection.blocks):
        if a.width[number] > 0:
            _own_terms_of_factors(shifted.arrays, number)
            continue
        own = _own_blocks(block, layout.code[block.groups], layout.scale)
        _set_shift(shifted, number, own)
    return shifted


def _own_terms_of_factors(a: Arrays, number: int) -> None:
    """½‖Σ a‖² is convex as it stands; the own terms move from the loss into it."""
    members = a.members[a.start[number] : a.start[number + 1]]
    C, D = a.loss.shape[1], int(a.width[number])
    rows = a.data[a.offset[number] :][: members.size * C * D].reshape(members.size, C, D)
    a.loss[members] -= 0.5 * np.einsum("gkd,gkd->gk", rows, rows)


def _own_blocks(block: Block, code: NDArray[np.int64], scale: float) -> Vector:
    """(m, C, C) the groups' own Gram blocks over usable codes."""
    place = np.arange(code.shape[0])[:, None, None]
    if block.gram is not None:
        own = block.gram[place, code[:, :, None], place, code[:, None, :]].astype(np.float64)
    else:
        assert block.factors is not None
        rows = block.factors[place[:, :, 0], code].astype(np.float64)
        own = np.einsum("gkd,gld->gkl", rows, rows)
    return np.asarray(own / scale)


def _tangent(count: int, C: int) -> Vector:
    """(C, count − 1) orthonormal basis of the vectors over the first `count` codes that sum to zero (Helmert)."""
    basis = np.zeros((C, count - 1))
    for j in range(1, count):
        basis[:j, j - 1] = 1.0
        basis[j, j - 1] = -j
        basis[:, j - 1] /= np.sqrt(j * (j + 1.0))
    return basis


def _bases(a: Arrays, number: int) -> list[Vector]:
    members = a.members[a.start[number] : a.start[number + 1]]
    return [_tangent(int(a.codes[g]), a.loss.shape[1]) for g in members]


def _tangent_form(matrix: Vector, bases: list[Vector]) -> Vector:
    """ZᵀAZ for A (m·C, m·C) and Z = blockdiag(bases)."""
    C = bases[0].shape[0]
    left = np.concatenate([z.T @ matrix[i * C : (i + 1) * C] for i, z in enumerate(bases)], axis=0)
    return np.concatenate([left[:, i * C : (i + 1) * C] @ z for i, z in enumerate(bases)], axis=1)


def _pairs(a: Arrays, number: int) -> Vector:
    """(m·C, m·C) view of a Gram block's couplings."""
    n = int(a.start[number + 1] - a.start[number]) * a.loss.shape[1]
    return a.data[a.offset[number] : a.offset[number] + n * n].reshape(n, n)


def _set_shift(shifted: Shifted, number: int, shift: Vector) -> None:
    """Puts M = shift (m, C, C), raised by the least safe multiple of the identity, into a Gram block."""
    a = shifted.arrays
    members = a.members[a.start[number] : a.start[number + 1]]
    C = a.loss.shape[1]
    kept = np.isfinite(shifted.loss[members])
    shift = np.where(kept[:, :, None] & kept[:, None, :], shift, 0.0)
    matrix = _pairs(a, number)
    for i in range(members.size):
        matrix[i * C : (i + 1) * C, i * C : (i + 1) * C] = 0.5 * (shift[i] + shift[i].T)
    form = _tangent_form(matrix, _bases(a, number))
    raised = _safe_raise(form, float(np.abs(np.diag(matrix)).sum()))
    matrix[np.diag_indices_from(matrix)] += raised
    diagonal = np.diag(matrix).reshape(members.size, C)
    a.loss[members] = np.where(kept, shifted.loss[members] - 0.5 * diagonal, np.inf)


def _safe_raise(form: Vector, trace: float) -> float:
    """The least of a rising sequence of δ for which form + δI is certainly positive semidefinite.

    A float64 Cholesky factorization that runs to its end shows λ_min ≥ −(n + 1)·eps·trace (Rump 2006, doi
    10.1007/s10543-006-0056-1); forming ZᵀAZ errs by less than that again, so δ carries eight times as much.
    """
    n = form.shape[0]
    if n == 0:
        return 0.0
    form = 0.5 * (form + form.T)
    safety = 8 * (n + 2) * EPS * max(trace, float(np.abs(np.diag(form)).sum()), np.finfo(np.float64).tiny / EPS)
    for _ in range(60):
        try:
            np.linalg.cholesky(form + 0.5 * safety * np.eye(n))
            return float(safety)
        except np.linalg.LinAlgError:
            safety *= 4
    raise ValueError("couplings could not be made convex: check that the Gram matrices are finite")


FIRST_BARRIER = 0.3
"""First weight of the barrier: its duality gap as a share of what the present M costs (our choice, measured)."""
BARRIER_FALL = 0.6
"""Factor on the barrier's weight from round to round (our choice, measured)."""
INTERIOR = 3.0
"""How far prices stay inside the simplex, in barrier weights (our choice, measured)."""


class Tightening:
    """Makes M smaller where it costs the bound, round by round.

    At a relaxed point x, a shift M_g costs the bound ⟨C_g, M_g⟩ with C_g = ½(diag x − xxᵀ). The cheapest M with
    P + M positive semidefinite is a semidefinite programme; a round makes one sweep of block coordinate ascent on
    −⟨C, M⟩ + μ log det(P + M), where the optimum of one group's M_g is known in closed form: the inverse's own block
    becomes C_g / μ. Steps are then shortened by the caller until the bound rises, so it never falls.
    """

    def __init__(self, shifted: Shifted, x: Vector, slack: Vector) -> None:
        self.plain = shifted
        a = shifted.arrays
        self.blocks = [b for b in range(a.width.size) if a.width[b] == 0]
        self.bases = {b: _bases(a, b) for b in self.blocks}
        self.pairs: dict[int, Vector] = {}
        self.shift: dict[int, list[Vector]] = {}
        for b in self.blocks:
            self._read(b)
        self.x, self.slack = x, slack
        self.size = max(1, sum(self.pairs[b].shape[0] for b in self.blocks))
        paid = sum(
            float((p * m).sum()) for b in self.blocks for p, m in zip(self._prices(b, x), self.shift[b], strict=True)
        )
        self.mu = FIRST_BARRIER * paid / self.size

    def _read(self, b: int) -> None:
        """ZᵀPZ and the ZᵀM_gZ a block starts from."""
        C = self.plain.arrays.loss.shape[1]
        matrix = _pairs(self.plain.arrays, b).copy()
        self.shift[b] = []
        for i, z in enumerate(self.bases[b]):
            own = slice(i * C, (i + 1) * C)
            self.shift[b].append(z.T @ matrix[own, own] @ z)
            matrix[own, own] = 0.0
        self.pairs[b] = _tangent_form(matrix, self.bases[b])
        # Inside the cone, where the barrier is finite.
        lift = 1e-6 * sum(float(np.trace(m)) for m in self.shift[b]) / max(1, self.pairs[b].shape[0])
        self.shift[b] = [m + lift * np.eye(m.shape[0]) for m in self.shift[b]]

    @property
    def work(self) -> float:
        """Σ n³ over the blocks: a round takes about 6 of these multiply-adds."""
        return float(sum(float(self.pairs[b].shape[0]) ** 3 for b in self.blocks))

    def _prices(self, b: int, x: Vector) -> list[Vector]:
        a = self.plain.arrays
        members = a.members[a.start[b] : a.start[b + 1]]
        return [
            np.asarray(0.5 * z.T @ (np.diag(x[g]) - np.outer(x[g], x[g])) @ z)
            for g, z in zip(members, self.bases[b], strict=True)
        ]

    def propose(self) -> dict[int, list[Vector]]:
        """The shifts after one sweep at the present point; raises LinAlgError where float64 does not carry it."""
        nu = INTERIOR * self.mu
        # What a barrier on x ≥ 0 would leave of each code: ν over its slack.
        inside = np.where(np.isfinite(self.slack), self.x + np.maximum(nu / (nu + self.slack), 1e-9), 0.0)
        inside /= inside.sum(axis=1, keepdims=True)
        return {b: _sweep(self.pairs[b], self.shift[b], self._prices(b, inside), self.mu) for b in self.blocks}

    def form(self, proposed: dict[int, list[Vector]], step: float) -> Shifted:
        """The convex form a share `step` of the way to the proposal; convex since both ends are."""
        a = self.plain.arrays
        shifted = Shifted(a._replace(loss=a.loss.copy(), data=a.data.copy()), self.plain.loss)
        for b in self.blocks:
            moved = zip(self.bases[b], self.shift[b], proposed[b], strict=True)
            _set_shift(shifted, b, np.array([z @ (m + step * (new - m)) @ z.T for z, m, new in moved]))
        return shifted

    def accept(self, proposed: dict[int, list[Vector]], step: float) -> None:
        """Goes there."""
        for b in self.blocks:
            moved = zip(self.shift[b], proposed[b], strict=True)
            self.shift[b] = [m + step * (new - m) for m, new in moved]

    def observe(self, x: Vector, slack: Vector) -> None:
        """Averages the point with a new relaxed one (the prices then settle) and lowers the barrier."""
        self.x = 0.5 * (self.x + x)
        self.slack = np.sqrt(self.slack * slack)
        self.mu *= BARRIER_FALL


def _sweep(pairs: Vector, shift: list[Vector], prices: list[Vector], mu: float) -> list[Vector]:
    """Each group's M_g in turn to its optimum, the inverse kept by Woodbury's formula."""
    form = pairs.copy()
    edges = np.concatenate([[0], np.cumsum([m.shape[0] for m in shift])])
    slices = [slice(int(lo), int(hi)) for lo, hi in pairwise(edges)]
    for own, m in zip(slices, shift, strict=True):
        form[own, own] += m
    inverse = np.linalg.inv(0.5 * (form + form.T))
    result = []
    for own, m, price in zip(slices, shift, prices, strict=True):
        block = 0.5 * (inverse[own, own] + inverse[own, own].T)
        change = mu * np.linalg.inv(price) - np.linalg.inv(block)
        middle = np.linalg.solve(np.eye(block.shape[0]) + change @ block, change)
        inverse -= inverse[:, own] @ (0.5 * (middle + middle.T)) @ inverse[own, :]
        result.append(m + 0.5 * (change + change.T))
    return result
