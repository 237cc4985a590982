"""Setups in Ocean's forms: one binary variable for each code that takes cells once in a set of groups.

Variable G·K + s·K + k is 1 where a group of set s uses code k. In a constrained model it is held there by one row
"setup-s-k" a variable, Σ_g x_gk ≤ n·y over the n groups offered the code, and not by n rows x_gk ≤ y: the tighter
relaxation of many rows is of no use to a sampler, which pays for every row. In a binary model each x_gk without its y
costs `MARGIN` times what the setup does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dimod
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from qubo.selection import Selection
from qubo.setups import Setup

MARGIN = 1.1
"""A use without its setup costs this many times the setup; above 1, or a ground state may leave it out (our choice)."""


@dataclass(frozen=True)
class Use:
    """A code of a set that takes cells once.

    Attributes:
        label: number of its binary variable.
        name: its row in a constrained model.
        code: k.
        cells: taken once.
        users: (n,) numbers g·K + k of the variables that need it.
    """

    label: int
    name: str
    code: int
    cells: float
    users: NDArray[np.int64]


def uses(selection: Selection) -> list[Use]:
    """The codes that take cells once and are offered to a group of their set."""
    G, K = selection.loss.shape
    found = []
    for s, setup in enumerate(selection.setup):
        for k in np.flatnonzero(setup.cost > 0).tolist():
            users = setup.groups[selection.offered[setup.groups, k]] * K + k
            if users.size:
                found.append(Use(G * K + s * K + k, f"setup-{s}-{k}", k, float(setup.cost[k]), np.sort(users)))
    return found


def as_json(selection: Selection) -> list[dict[str, list[Any]]]:
    """Setups for a file: groups, and cells, null for a code that no group is offered at any price."""
    return [
        {"groups": s.groups.tolist(), "cost": [c if np.isfinite(c) else None for c in s.cost.tolist()]}
        for s in selection.setup
    ]


def from_json(held: list[dict[str, list[Any]]]) -> tuple[Setup, ...]:
    """The setups that `as_json` wrote."""
    return tuple(
        Setup(np.array(s["groups"]), np.array([np.inf if c is None else c for c in s["cost"]], dtype=np.float64))
        for s in held
    )


def linked(
    cqm: dimod.ConstrainedQuadraticModel, rows: list[Any], grouped: set[Any]
) -> tuple[dict[Any, set[Any]], list[Any]]:
    """Which variables need which variable outside the groups, and the labels of the rows that do not say so.

    Such a row is Σ x ≤ n·y, of one or more x that n is enough for.

    Raises:
        ValueError: a row that allows only some of its variables at once.
    """
    needs: dict[Any, set[Any]] = {}
    others = []
    for label in rows:
        row = cqm.constraints[label]
        biases = dict(row.lhs.iter_linear())
        outside = [v for v in biases if v not in grouped]
        if len(outside) != 1 or biases[outside[0]] >= 0 or row.rhs != row.lhs.offset:
            others.append(label)
            continue
        y = outside[0]
        inside = {v: bias for v, bias in biases.items() if v != y}
        if min(inside.values(), default=0.0) < 0 or sum(inside.values()) > -biases[y]:
            raise ValueError(f"constraint {label!r} allows only some of its codes at once: a setup's row allows all")
        needs.setdefault(y, set()).update(v for v, bias in inside.items() if bias > 0)
    return needs, others


def setups_of(
    needs: Mapping[Any, set[Any]],
    cells: Mapping[Any, float],
    group: Mapping[Any, int],
    code: Mapping[Any, int],
    codes: int,
) -> tuple[Setup, ...]:
    """The setups of a constrained model: sets are the groups that hang together by needing the same variables.

    Args:
        needs: for each setup's variable those that need it.
        cells: what the setups' variables take.
        group: groups of the other variables.
        code: their codes.
        codes: K.

    Raises:
        ValueError: a variable that several codes need, or not all groups of its set that are offered its code.
    """
    pairs = np.array([(group[x], n) for n, xs in enumerate(needs.values()) for x in xs], dtype=np.int64).reshape(-1, 2)
    if pairs.size == 0:
        return ()
    members = np.unique(pairs[:, 0])
    graph = coo_array(
        (np.ones(len(pairs)), (np.searchsorted(members, pairs[:, 0]), members.size + pairs[:, 1])),
        shape=(members.size + len(needs),) * 2,
    )
    component = connected_components(graph, directed=False)[1][: members.size]
    sets = [members[component == c] for c in dict.fromkeys(component.tolist())]
    place = {g: s for s, groups in enumerate(sets) for g in groups.tolist()}
    cost = np.zeros((len(sets), codes))
    offered = {(group[x], code[x]) for x in group}
    for y, xs in needs.items():
        kinds = {code[x] for x in xs}
        if len(kinds) > 1:
            raise ValueError(f"variable {y!r} is needed by codes {sorted(kinds)}: a setup is of one code")
        for k in kinds:
            s = place[group[next(iter(xs))]]
            needed = {(g, k) for g in sets[s].tolist()} & offered
            if {(group[x], k) for x in xs} != needed:
                raise ValueError(f"variable {y!r} is needed by some groups of its set only: a setup is for all of them")
            cost[s, k] = cells.get(y, 0.0)
    return tuple(Setup(groups, row) for groups, row in zip(sets, cost, strict=True))
