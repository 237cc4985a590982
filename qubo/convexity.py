"""Making the pair form convex on the simplices, as tightly as is affordable.

The energy of a block is linear + ½ xᵀP x, P the Gram matrix without its in-group blocks. Any M = blockdiag(M_g) with
P + M positive semidefinite (on the subspace where each group's entries sum to zero) gives a convex form equal to the
energy on every choice (quadratic convex reformulation, Billionnet, Elloumi and Plateau 2009, doi
10.1016/j.dam.2007.12.007). The groups' own Gram blocks are such an M; smaller is tighter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qubo.selection import Block, Selection
from qubo.arrays import Arrays, Layout

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
    return [_tangent(int(a.count[g]), a.loss.shape[1]) for g in members]


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
            return safety
        except np.linalg.LinAlgError:
            safety *= 4
    raise ValueError("couplings could not be made convex: check that the Gram matrices are finite")


@dataclass
class _Barrier:
    """Block coordinate ascent on −⟨C, M⟩ + μ log det(P + M) for one block, in tangent coordinates."""

    number: int
    bases: list[Vector]
    pairs: Vector  # ZᵀPZ
    shift: list[Vector]  # ZᵀM_gZ, per group

    def sweep(self, price: list[Vector], mu: float) -> None:
        """Each group's M_g in turn to its optimum, where the inverse's own block is C_g / μ."""
        form = self.pairs.copy()
        at, slices = 0, []
        for m in self.shift:
            slices.append(slice(at, at + m.shape[0]))
            form[slices[-1], slices[-1]] += m
            at += m.shape[0]
        inverse = np.linalg.inv(0.5 * (form + form.T))
        for g, own in enumerate(slices):
            if own.stop == own.start:
                continue
            block = inverse[own, own]
            change = mu * np.linalg.inv(price[g]) - np.linalg.inv(0.5 * (block + block.T))
            # Woodbury with the change inside one group.
            middle = np.linalg.solve(np.eye(block.shape[0]) + change @ block, change)
            inverse -= inverse[:, own] @ (0.5 * (middle + middle.T)) @ inverse[own, :]
            self.shift[g] = self.shift[g] + 0.5 * (change + change.T)


def _price(x: Vector, basis: Vector) -> Vector:
    """½ Zᵀ(diag x − xxᵀ)Z: what a shift of this group costs the bound at x."""
    return np.asarray(0.5 * basis.T @ (np.diag(x) - np.outer(x, x)) @ basis)


import os
def tighten(shifted: Shifted, point: Callable[[], Vector], effort: float) -> Iterator[Shifted]:
    """Successively tighter convex forms."""
    a = shifted.arrays
    C = a.loss.shape[1]
    R = int(os.environ.get("R", 8)); mixin=float(os.environ.get("MIX", 0.02)); shrink=float(os.environ.get("SHR",0.5)); avg=float(os.environ.get("AVG",0.5)); f0=float(os.environ.get("F0",0.3)); sw=int(os.environ.get("SW",1))
    barriers = []
    for number in range(a.width.size):
        if a.width[number] > 0: continue
        bases = _bases(a, number)
        matrix = _pairs(a, number).copy()
        shift = []
        for i, z in enumerate(bases):
            own = slice(i * C, (i + 1) * C)
            shift.append(z.T @ matrix[own, own] @ z)
            matrix[own, own] = 0.0
        barriers.append(_Barrier(number, bases, _tangent_form(matrix, bases), shift))
    for b in barriers:
        tr = sum(np.trace(m) for m in b.shift)
        for g, m in enumerate(b.shift):
            b.shift[g] = m + 1e-3 * tr / max(1, b.pairs.shape[0]) * np.eye(m.shape[0])
    x = point()
    mu = None
    for r in range(R):
        form = Shifted(a._replace(loss=a.loss.copy(), data=a.data.copy()), shifted.loss)
        kept = np.isfinite(shifted.loss)
        even = np.where(kept, 1.0, 0.0) / a.count[:, None]
        xx, slack = x
        if mu is None:
            mixed = 0.98*xx+0.02*even
        else:
            mixed = np.where(kept, xx + mixin * mu / (mixin * mu + np.where(kept, slack, 1.0)), 0.0)
            mixed /= mixed.sum(axis=1, keepdims=True)
        prices = {b.number: [_price(mixed[g], z) for g, z in zip(a.members[a.start[b.number]:a.start[b.number+1]], b.bases)] for b in barriers}
        if mu is None:
            n = sum(b.pairs.shape[0] for b in barriers)
            mu = f0 * sum(float((p * m).sum()) for b in barriers for p, m in zip(prices[b.number], b.shift)) / n
        for b in barriers:
            for _ in range(sw): b.sweep(prices[b.number], mu)
            _set_shift(form, b.number, np.array([z @ m @ z.T for z, m in zip(b.bases, b.shift)]))
        yield form
        z = point(); x = ((1 - avg) * x[0] + avg * z[0], (1-avg) * x[1] + avg * z[1]) if os.environ.get('GEO') is None else ((1 - avg) * x[0] + avg * z[0], x[1]**(1-avg) * z[1]**avg)
        mu *= shrink
