"""A selection in Ocean's forms, and the way back. Variables are numbered g·K + k, offered codes only.

Setups have variables of their own behind these, see `qubo.formats.setups`.

The budget is never a squared penalty: that couples every pair of variables and samplers then return nothing feasible.
A constrained model gets it as one linear row; a binary quadratic model gets λ·cost, λ adjusted outside.
"""

from __future__ import annotations

from typing import NamedTuple

import dimod
import numpy as np
from numpy.typing import ArrayLike, NDArray

from qubo.formats.setups import MARGIN, uses
from qubo.selection import Block, Selection

WEIGHT_MARGIN = 1.1
"""One-hot weights over the smallest sufficient ones: 1.1 left 0.1–0.6 % where 2.0 left 22 % (measured)."""


class _Couplings(NamedTuple):
    """Pairs i < j of variable numbers and their coefficients."""

    i: NDArray[np.int64]
    j: NDArray[np.int64]
    value: NDArray[np.float64]


def _block_couplings(selection: Selection, block: Block) -> _Couplings:
    """Nonzero couplings of a block between offered codes of different groups."""
    K = selection.codes
    matrix = block.matrix()
    owner = np.repeat(block.groups, K)
    number = owner * K + np.tile(np.arange(K), block.groups.size)
    offered = selection.offered[block.groups].reshape(-1)
    keep = (matrix != 0) & offered[:, None] & offered[None, :] & (owner[:, None] != owner[None, :])
    row, column = np.nonzero(np.triu(keep))
    i, j = number[row], number[column]
    return _Couplings(np.minimum(i, j), np.maximum(i, j), matrix[row, column])


def _couplings(selection: Selection) -> _Couplings:
    parts = [_block_couplings(selection, block) for block in selection.blocks]
    if not parts:
        none = np.zeros(0, dtype=np.int64)
        return _Couplings(none, none, np.zeros(0))
    return _Couplings(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _model(
    number: NDArray[np.int64], linear: NDArray[np.float64], pairs: _Couplings, offset: float
) -> dimod.BinaryQuadraticModel:
    """A binary model whose variables are the integers `number`."""
    position = np.full(int(number.max()) + 1, -1, dtype=np.int64)
    position[number] = np.arange(number.size)
    quadratic = (position[pairs.i], position[pairs.j], pairs.value)
    return dimod.BinaryQuadraticModel.from_numpy_vectors(
        linear, quadratic, offset, dimod.BINARY, variable_order=number.tolist()
    )


def to_cqm(selection: Selection) -> dimod.ConstrainedQuadraticModel:
    """The problem with the budget as one linear row "budget" and a discrete constraint "group-g" per group.

    A code k that takes cells once in set s has a variable and a row "setup-s-k" (`qubo.formats.setups`).

    >>> selection = Selection(loss=[[4.0, 1.0], [3.0, 2.0]], cost=[[0.0, 2.0], [0.0, 2.0]], budget=2.0)
    >>> cqm = to_cqm(selection)
    >>> sorted(cqm.constraints), len(cqm.variables)
    (['budget', 'group-0', 'group-1'], 4)
    """
    number = np.flatnonzero(selection.offered.reshape(-1))
    cqm = dimod.ConstrainedQuadraticModel()  # type: ignore[no-untyped-call]
    cqm.set_objective(_model(number, selection.loss.reshape(-1)[number], _couplings(selection), 0.0))
    cost = selection.cost.reshape(-1)
    for g in range(selection.groups):
        inside = (g * selection.codes + np.flatnonzero(selection.offered[g])).tolist()
        cqm.add_discrete(inside, label=f"group-{g}", check_overlaps=False)
    row = [(int(v), float(cost[v])) for v in number if cost[v] != 0]
    for use in uses(selection):
        cqm.add_variable("BINARY", use.label)
        link = [*((v, 1.0) for v in use.users.tolist()), (use.label, -float(use.users.size))]
        cqm.add_constraint_from_iterable(link, "<=", rhs=0.0, label=use.name)
        row.append((use.label, use.cells))
    cqm.add_constraint_from_iterable(row or [(int(number[0]), 0.0)], "<=", rhs=selection.limit, label="budget")
    return cqm


def one_hot_weights(selection: Selection, multiplier: float) -> NDArray[np.float64]:
    """(G,) weights ×1.1 with which every ground state of the λ form has one code per group.

    With v = loss + λ·cost and, per code, U the largest pair energy the block's other groups can add and N the largest
    they can take away (both with one code each): switching on a missing group's best code pays if the weight exceeds
    min_k (v + U); a surplus code of the group with most codes pays to remove if it exceeds max_k (2N − v). (With s ≥ 2
    codes a group, the others take at most s·N and the penalty falls by 2s − 3 weights; s = 2 is the worst case.)
    """
    value = selection.loss + multiplier * selection.cost
    up, down = np.zeros_like(value), np.zeros_like(value)
    for block in selection.blocks:
        m, K = block.groups.size, selection.codes
        matrix = block.matrix().reshape(m, K, m, K).copy()
        matrix[np.arange(m), :, np.arange(m), :] = 0.0
        matrix = np.where(selection.offered[block.groups], matrix, 0.0)
        up[block.groups] = matrix.max(axis=3).clip(min=0).sum(axis=2)
        down[block.groups] = (-matrix.min(axis=3)).clip(min=0).sum(axis=2)
    first = value.copy()
    for setup in selection.setup:
        first[setup.groups] += multiplier * np.where(np.isfinite(setup.cost), setup.cost, 0.0)
    missing = (first + up).min(axis=1)
    surplus = np.where(selection.offered, 2 * down - value, -np.inf).max(axis=1)
    needed = np.maximum(missing, surplus)
    spread = np.where(selection.offered, np.abs(value), 0.0).max()
    return np.asarray(WEIGHT_MARGIN * np.maximum(needed, 1e-6 * (spread if spread > 0 else 1.0)))


def to_bqm(selection: Selection, multiplier: float, *, one_hot: ArrayLike | None = None) -> dimod.BinaryQuadraticModel:
    """The sparse λ form: energy + λ·(cost − budget) on every choice, plus weight_g·(1 − Σ_k x_gk)² off them.

    A setup's variable adds λ·cells, and each of its users without it `qubo.formats.setups.MARGIN` times as much.

    Args:
        selection: the problem.
        multiplier: λ >= 0, loss per cell.
        one_hot: (G,) one-hot weights; the sufficient ones of `one_hot_weights` by default.

    Raises:
        ValueError: a λ that is negative or not finite, or weights of another shape.

    >>> selection = Selection(loss=[[4.0, 1.0], [3.0, 2.0]], cost=[[0.0, 2.0], [0.0, 2.0]], budget=2.0)
    >>> to_bqm(selection, 0.5).energy({0: 0, 1: 1, 2: 1, 3: 0}).round(9)  # codes 1 and 0: energy 4, cost 2
    np.float64(4.0)
    """
    if not (np.isfinite(multiplier) and multiplier >= 0):
        raise ValueError(f"multiplier must be at least 0, got {multiplier}: pass λ in loss per cell")
    weights = one_hot_weights(selection, multiplier) if one_hot is None else np.asarray(one_hot, dtype=np.float64)
    if weights.shape != (selection.groups,):
        raise ValueError(f"one_hot must be ({selection.groups},) weights, got {weights.shape}: pass one a group")
    K = selection.codes
    number = np.flatnonzero(selection.offered.reshape(-1))
    group = number // K
    value = (selection.loss + multiplier * selection.cost).reshape(-1)[number]
    pairs = _couplings(selection)
    first, second = np.triu_indices(K, 1)
    both = selection.offered[:, first] & selection.offered[:, second]
    g, p = np.nonzero(both)
    i = np.concatenate([pairs.i, g * K + first[p]])
    j = np.concatenate([pairs.j, g * K + second[p]])
    strength = np.concatenate([pairs.value, 2 * weights[g]])
    offset = float(weights.sum()) - multiplier * selection.budget
    bqm = _model(number, value - weights[group], _Couplings(i, j, strength), offset)
    for use in uses(selection):
        bqm.add_linear(use.label, multiplier * use.cells)
        for v in use.users.tolist():
            bqm.add_linear(v, MARGIN * multiplier * use.cells)
            bqm.add_quadratic(v, use.label, -MARGIN * multiplier * use.cells)
    return bqm


def decode(selection: Selection, samples: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Choices from binary samples.

    A group with several codes on takes the dearest of them (the repair to budget then only frees cells); with none,
    its cheapest offered code. Variables of setups are passed over: what is used says what is set up.

    Args:
        selection: the problem.
        samples: (N, n) zeros and ones.
        labels: (n,) the variable numbers g·K + k of the columns, and those of setups.

    Returns:
        (N, G) choices and (N,) whether the sample itself had exactly one code per group.
    """
    bits = np.atleast_2d(np.asarray(samples)).astype(bool)
    full = np.zeros((bits.shape[0], selection.groups * selection.codes), dtype=bool)
    columns = np.asarray(labels, dtype=np.int64)
    own = columns < full.shape[1]
    full[:, columns[own]] = bits[:, own]
    table = full.reshape(-1, selection.groups, selection.codes) & selection.offered
    count = table.sum(axis=2)
    dearest = np.where(table, selection.cost, -1.0).argmax(axis=2)
    cheapest = np.where(selection.offered, selection.cost, np.inf).argmin(axis=1)
    return np.where(count > 0, dearest, cheapest), (count == 1).all(axis=1)
