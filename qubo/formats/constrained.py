"""Which constrained models are selections: one-of-several groups, one linear budget row, a quadratic objective.

And, for setups, variables outside the groups that stand in the budget, each above the codes that need it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dimod
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from qubo.formats.setups import linked, setups_of
from qubo.selection import BUDGET_TOLERANCE, GRAM_ENTRIES, Block, Selection

MENU = 2**16
"""A file that speaks of more codes a group is damaged, and is refused before tables of that width are made."""


def own_blocks(selection: Selection) -> list[list[float]]:
    """Upper triangles of the groups' own Gram blocks, (G, K·(K + 1)/2), or none where nothing is coupled.

    No energy knows them and no other tool has a place for them, but without them the convex bound is several times
    looser on dense blocks (measured on family D).
    """
    if not selection.blocks:
        return []
    K = selection.codes
    own = np.zeros((selection.groups, K, K))
    for block in selection.blocks:
        place = np.arange(block.groups.size)
        own[block.groups] = block.matrix().reshape(place.size, K, place.size, K)[place, :, place, :]
    upper: list[list[float]] = own[:, *np.triu_indices(K)].tolist()
    return upper


def from_cqm(
    cqm: dimod.ConstrainedQuadraticModel, *, codes: int | None = None, own: list[list[float]] | None = None
) -> Selection:
    """The selection a constrained model is, any tool's.

    Groups are the discrete constraints (or linear equalities Σ x = 1), in order of their first variable; the budget is
    the one linear row Σ cost·x ≤ rhs. Rows Σ x ≤ n·y, or x ≤ y, make a y outside the groups a setup. Products of two
    codes of one group are always zero and are left out; the objective's offset is added to the first group's losses.

    Args:
        cqm: the model.
        codes: width of the menu if variables are numbered g·codes + k; None takes each group's codes in order.
        own: the groups' own Gram blocks, see `own_blocks`; only the bound needs them.

    Raises:
        ValueError: another kind of variable or constraint, a variable in no group or in two that is no setup's either.
    """
    for v in cqm.variables:
        if cqm.vartype(v) is not dimod.BINARY:
            raise ValueError(f"variable {v!r} is {cqm.vartype(v).name}, a selection's are all BINARY: recast it")
    groups, rows = _sorted_constraints(cqm)
    members = [v for group in groups for v in group]
    needs, rows = linked(cqm, rows, set(members))
    if len(rows) != 1:
        raise ValueError(f"a selection has one linear row for its budget, got {len(rows)}: keep one")
    if len(set(members)) != len(members) or len(members) + len(needs) != len(cqm.variables):
        raise ValueError("each variable must be in exactly one discrete constraint: complete or split the groups")
    table = _Table.of(cqm, groups, codes)
    cost = np.zeros(table.loss.shape)
    row = cqm.constraints[rows[0]]
    cells = dict(row.lhs.iter_linear())
    setup = setups_of(needs, cells, table.group, table.code, table.loss.shape[1])
    for v in table.group.keys() & cells.keys():
        cost[table.group[v], table.code[v]] = cells[v]
    # Written with its tolerance, read without: 1 part in 1e12 either way.
    budget = float(row.rhs - row.lhs.offset) / (1 + BUDGET_TOLERANCE)
    return Selection(loss=table.loss, cost=cost, budget=budget, blocks=table.blocks(own), setup=setup)


def _sorted_constraints(cqm: dimod.ConstrainedQuadraticModel) -> tuple[list[list[Any]], list[Any]]:
    """The groups' variables, and the labels of all other constraints once they are fit to be a budget."""
    groups, rows = [], []
    for label, constraint in cqm.constraints.items():
        lhs = constraint.lhs
        if not lhs.is_linear() or lhs.is_soft():
            raise ValueError(f"constraint {label!r} is not linear and hard: a selection's constraints are")
        biases = dict(lhs.iter_linear())
        ones = bool(biases) and all(bias == 1 for bias in biases.values())
        if lhs.is_discrete() or (constraint.sense is dimod.sym.Sense.Eq and ones and constraint.rhs - lhs.offset == 1):
            groups.append(list(biases))
        elif constraint.sense is dimod.sym.Sense.Le:
            rows.append(label)
        else:
            raise ValueError(f"constraint {label!r} is neither one-of-several nor a row ≤ budget: rewrite it")
    place = {v: i for i, v in enumerate(cqm.variables)}
    groups = [sorted(group, key=place.__getitem__) for group in groups]
    return sorted(groups, key=lambda group: place[group[0]]), rows


@dataclass(frozen=True)
class _Table:
    """A model's objective as a table of losses, and its pairs between groups."""

    loss: NDArray[np.float64]
    group: dict[Any, int]
    code: dict[Any, int]
    pairs: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]

    @classmethod
    def of(cls, cqm: dimod.ConstrainedQuadraticModel, groups: list[list[Any]], codes: int | None) -> _Table:
        width = max(map(len, groups)) if codes is None else codes
        if not 1 <= width <= MENU:
            raise ValueError(f"a menu has 1 to {MENU} codes, got {width}: leave codes out")
        group = {v: g for g, members in enumerate(groups) for v in members}
        if codes is None:
            code = {v: k for members in groups for k, v in enumerate(members)}
        else:
            code = {v: int(v) - g * codes for v, g in group.items()}
            if not all(0 <= k < codes for k in code.values()):
                raise ValueError(f"variables are not numbered group × {codes} + code: leave codes out")
        loss = np.full((len(groups), width), np.inf)
        if outside := [v for v in cqm.objective.variables if v not in group]:
            raise ValueError(f"variable {outside[0]!r} is in the objective but in no group: a setup takes cells only")
        for v, bias in cqm.objective.iter_linear():
            loss[group[v], code[v]] = bias
        for v in group.keys() - set(cqm.objective.variables):
            loss[group[v], code[v]] = 0.0
        loss[0] += cqm.objective.offset
        triples = [
            (group[u] * width + code[u], group[v] * width + code[v], c) for u, v, c in cqm.objective.iter_quadratic()
        ]
        i, j, value = zip(*triples, strict=True) if triples else ((), (), ())
        pairs = (np.array(i, dtype=np.int64), np.array(j, dtype=np.int64), np.array(value, dtype=np.float64))
        return cls(loss, group, code, pairs)

    def blocks(self, own: list[list[float]] | None) -> tuple[Block, ...]:
        return blocks_of(self.loss.shape[0], self.loss.shape[1], *self.pairs, own)


def blocks_of(
    groups: int,
    codes: int,
    i: NDArray[np.int64],
    j: NDArray[np.int64],
    value: NDArray[np.float64],
    own: list[list[float]] | None,
) -> tuple[Block, ...]:
    """Gram blocks of the groups that hang together by couplings between variables g·K + k.

    Without the groups' own Gram blocks, the least multiple of the identity that makes a block positive semidefinite.

    Raises:
        ValueError: so many groups hang together that their Gram matrices are too large.
    """
    across = (i // codes != j // codes) & (value != 0)
    i, j, value = i[across], j[across], value[across]
    if i.size == 0:
        return ()
    graph = coo_array((np.ones(i.size), (i // codes, j // codes)), shape=(groups, groups))
    component = connected_components(graph, directed=False)[1]
    sizes = np.bincount(component)
    entries = int(((sizes[sizes > 1] * codes) ** 2).sum())
    if entries > GRAM_ENTRIES:
        raise ValueError(f"couplings fill Gram blocks of {entries} entries, at most {GRAM_ENTRIES} fit: cut weak ones")
    place = np.zeros(groups, dtype=np.int64)
    order = np.argsort(component, kind="stable")
    first = np.cumsum(sizes) - sizes
    place[order] = np.arange(groups) - first[component[order]]
    inner = np.zeros((groups, codes, codes))
    if own:
        p, q = np.triu_indices(codes)
        table = np.asarray(own, dtype=np.float64)
        if table.shape != (groups, p.size):
            raise ValueError(f"own Gram blocks have shape {table.shape}, ({groups}, {p.size}) fits: leave them out")
        inner[:, p, q] = inner[:, q, p] = table
    blocks = []
    by_block = np.argsort(component[i // codes], kind="stable")
    ends = np.cumsum(np.bincount(component[i // codes], minlength=sizes.size))
    for number in np.flatnonzero(sizes > 1):
        inside = by_block[ends[number - 1] if number else 0 : ends[number]]
        m = int(sizes[number])
        row = place[i[inside] // codes] * codes + i[inside] % codes
        column = place[j[inside] // codes] * codes + j[inside] % codes
        gram = np.zeros((m * codes, m * codes))
        np.add.at(gram, (row, column), value[inside])
        gram += gram.T
        members = order[first[number] : first[number] + m]
        if own:
            each = np.arange(m)
            gram.reshape(m, codes, m, codes)[each, :, each, :] = inner[members]
        else:
            gram[np.diag_indices_from(gram)] = max(0.0, -float(np.linalg.eigvalsh(gram)[0]))
        blocks.append(Block.from_gram(members, gram.reshape(m, codes, m, codes)))
    return tuple(blocks)
