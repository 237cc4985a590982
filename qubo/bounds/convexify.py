"""Making the pair form convex on the simplices, as tightly as is affordable.

The energy of a block is linear + ½ xᵀP x, P the Gram matrix without its in-group blocks. Any M = blockdiag(M_g) with
P + M positive semidefinite (on the subspace where each group's entries sum to zero) gives a convex form equal to the
energy on every choice (quadratic convex reformulation, Billionnet, Elloumi and Plateau 2009, doi
10.1016/j.dam.2007.12.007). The groups' own Gram blocks are such an M; smaller is tighter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qubo.search.arrays import Arrays, Layout
from qubo.selection import Block, Selection

Vector = NDArray[np.float64]
EPS = float(np.finfo(np.float64).eps)
NEGLIGIBLE = 1e-9
"""A raise below this share of the trace is not reduced by further factorizations (our choice)."""


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


def tangent(count: int) -> Vector:
    """(count, count − 1) orthonormal basis of the vectors that sum to zero (Helmert)."""
    basis = np.zeros((count, count - 1))
    for j in range(1, count):
        basis[:j, j - 1] = 1.0
        basis[j, j - 1] = -j
        basis[:, j - 1] /= np.sqrt(j * (j + 1.0))
    return basis


def tangent_form(matrix: Vector, starts: NDArray[np.int64], counts: NDArray[np.int64]) -> Vector:
    """The form on vectors whose every group sums to zero: group g holds rows starts[g] … + counts[g] of `matrix`."""
    bases = {int(count): tangent(int(count)) for count in np.unique(counts)}
    parts = [(slice(lo, lo + n), bases[int(n)]) for lo, n in zip(starts, counts, strict=True) if n > 1]
    if not parts:
        return np.zeros((0, 0))
    left = np.concatenate([z.T @ matrix[own] for own, z in parts], axis=0)
    return np.concatenate([left[:, own] @ z for own, z in parts], axis=1)


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
    form = tangent_form(matrix, C * np.arange(members.size), a.codes[members])
    raised = safe_raise(form, float(np.abs(np.diag(matrix)).sum()))
    matrix[np.diag_indices_from(matrix)] += raised
    diagonal = np.diag(matrix).reshape(members.size, C)
    a.loss[members] = np.where(kept, shifted.loss[members] - 0.5 * diagonal, np.inf)


def safe_raise(form: Vector, trace: float) -> float:
    """A small δ for which form + δI is certainly positive semidefinite.

    A float64 Cholesky factorization that runs to its end shows λ_min ≥ −(n + 1)·eps·trace (Rump 2006, doi
    10.1007/s10543-006-0056-1); forming ZᵀAZ errs by less than that again, so δ carries eight times as much.
    """
    n = form.shape[0]
    if n == 0:
        return 0.0
    form = 0.5 * (form + form.T)
    trace = max(trace, float(np.abs(np.diag(form)).sum()), np.finfo(np.float64).tiny / EPS)
    # Coarse steps up, then finer ones back where it matters: failed factorizations cost as much as others.
    safety, place = max(8 * (n + 2) * EPS, NEGLIGIBLE / 64) * trace, np.diag_indices(n)
    for _ in range(40):
        if _factorizes(form, 0.5 * safety, place):
            break
        safety *= 64
    else:
        raise ValueError("couplings could not be made convex: check that the Gram matrices are finite")
    for factor in (8.0, 2.0, 2.0):
        if safety > NEGLIGIBLE * trace and _factorizes(form, 0.5 * safety / factor, place):
            safety /= factor
    return float(safety)


def _factorizes(form: Vector, shift: float, place: tuple[NDArray[np.int64], ...]) -> bool:
    raised = form.copy()
    raised[place] += shift
    try:
        factor = np.linalg.cholesky(raised)
    except np.linalg.LinAlgError:
        return False
    return bool(np.isfinite(np.diag(factor)).all())  # LAPACK does not report NaN
