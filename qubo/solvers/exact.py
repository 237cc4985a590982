"""HiGHS' branch and cut (classical) on the selection as a mixed-integer linear programme: optimal, with its own bound.

Products of two coupled groups' codes become variables y ≥ 0 with Σ_l y_{gk,hl} = x_{gk} and Σ_k y_{gk,hl} = x_{hl}
(the first-level reformulation–linearisation of Sherali and Adams 1990, doi 10.1137/0403036): y is the product wherever
x is integer, and the relaxation is as tight as it can be pair by pair. A setup is a variable z with x_{gk} ≤ z for each
of its users. HiGHS: Huangfu and Hall 2018, doi
10.1007/s12532-017-0130-5. The search starts from the Lagrangian choice; its answer is repaired and polished, because
HiGHS meets the budget to a tolerance and the budget here is met exactly.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

import highspy
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array, csr_array

from qubo.search.arrays import Arrays, Layout, fields
from qubo.search.kernels import polish, refresh, repair
from qubo.search.watch import Outcome, Watch
from qubo.solvers.lagrangian import price
from qubo.solvers.solver import Prepared, Solver

Vector = NDArray[np.float64]

PRODUCTS = 300_000
"""Most products of coupled codes that are linearised; beyond, HiGHS' first relaxation takes minutes (our choice)."""
TOLERANCE, DUAL_TOLERANCE = 1e-9, 1e-10
"""Feasibility tolerances asked of HiGHS, on energies and cells whose spread is of order 1."""


class _Pairs(NamedTuple):
    """Coupled pairs of groups, their rows of products (P, C, C) flattened."""

    g: NDArray[np.int64]
    h: NDArray[np.int64]
    value: Vector


class _Programme(NamedTuple):
    """min value·v over rows lower ≤ A v ≤ upper, 0 ≤ v ≤ top, the first `integer` of v integer.

    Energies are `base` + `unit` × value: what every choice has in common is taken off losses and cells, and the rest is
    scaled to order 1, because HiGHS' tolerances are absolute.
    """

    value: Vector
    top: Vector
    rows: csr_array
    lower: Vector
    upper: Vector
    integer: int
    base: float
    unit: float


def search(problem: Prepared, watch: Watch) -> Outcome:
    """To the optimum, or until the time limit or an interrupt; the bound is HiGHS' dual bound.

    Raises:
        ValueError: more products of coupled codes than `PRODUCTS`.
    """
    layout = problem.layout
    a = layout.arrays
    pairs = _coupled(a)
    priced = Watch(watch.limit)
    start = price(problem, priced)
    watch.interrupted = priced.interrupted
    F, S = fields(a)
    x = start.x.copy()
    least = polish(a, x, F, S, layout.limit, start.lam, True)[0]
    best = np.array(least)
    programme = _programme(layout, pairs)
    solver = _load(programme, problem.seed)
    solver.setSolution(_as_solution(layout, pairs, x))
    _run(solver, programme, watch, best, layout.scale)
    values = np.array(solver.getSolution().col_value)
    if values.size:
        kept = np.isfinite(a.loss)
        share = np.where(kept, values[: a.loss.size].reshape(a.loss.shape), -1.0)
        found = np.asarray(share.argmax(axis=1), dtype=np.int64)
        refresh(a, found, F, S)
        repair(a, found, F, S, layout.limit)
        energy = polish(a, found, F, S, layout.limit, start.lam, True)[0]
        x = found if energy < least else x
    energy = refresh(a, x, F, S)[0]
    bound = _bound(solver, programme, a.codes.size + layout.setup.size + pairs.g.size)
    details: dict[str, float | str] = {
        "status": solver.modelStatusToString(solver.getModelStatus()),
        "nodes": float(solver.getInfo().mip_node_count),
    }
    return Outcome(layout.decode(x), watch.evaluations, lower_bound=min(bound, energy) * layout.scale, details=details)


def _bound(solver: highspy.Highs, programme: _Programme, sums: int) -> float:
    """HiGHS' dual bound, scaled, lowered by what its tolerances may have lifted it.

    The variables of a group, and the products of a pair, sum to one, and a setup is at most one: reduced costs that are
    too low by the dual tolerance are worth that much for each of these `sums`. Nodes are cut off within the other
    tolerance.
    """
    info = solver.getInfo()
    dual = float(info.mip_dual_bound)
    if not (info.valid and info.mip_node_count >= 0 and np.isfinite(dual)):
        return -np.inf  # stopped before it had looked at anything
    doubt = TOLERANCE + DUAL_TOLERANCE * sums + 1e-14 * abs(dual)
    return programme.base + programme.unit * (dual - doubt) - 1e-14 * abs(programme.base)


def _coupled(a: Arrays) -> _Pairs:
    """Pairs of groups with a coupling between usable codes, found block by block."""
    C = a.loss.shape[1]
    left, right, value = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros((0, C, C))]
    count = 0
    for b in range(a.width.size):
        members = a.members[a.start[b] : a.start[b + 1]]
        table = _gram(a, b).reshape(members.size, C, members.size, C).transpose(0, 2, 1, 3)
        i, j = np.nonzero(np.triu((table != 0).any(axis=(2, 3)), 1))
        count += i.size * C * C
        if count > PRODUCTS:
            raise ValueError(
                f"exact linearises at most {PRODUCTS} products of coupled codes, got {count} or more: "
                "use the annealer, or drop couplings with with_couplings(0)"
            )
        left.append(members[i])
        right.append(members[j])
        value.append(table[i, j])
    return _Pairs(np.concatenate(left), np.concatenate(right), np.concatenate(value))


def _gram(a: Arrays, b: int) -> Vector:
    """(m·C, m·C) Gram matrix of a block."""
    n = int(a.start[b + 1] - a.start[b]) * a.loss.shape[1]
    width = int(a.width[b])
    part = a.data[a.offset[b] : a.offset[b] + n * (width or n)].reshape(n, -1)
    return np.asarray(part @ part.T) if width else part


def _programme(layout: Layout, pairs: _Pairs) -> _Programme:
    """Variables x (G·C), z (N), then y (P·C·C); rows: one code a group, the budget, users of setups, sums of pairs."""
    a = layout.arrays
    (G, C), N = a.loss.shape, layout.setup.size
    products = pairs.value.size
    kept = np.isfinite(a.loss)
    least, cheapest = a.loss.min(axis=1), np.where(kept, a.cost, np.inf).min(axis=1)
    loss = np.where(kept, a.loss - least[:, None], 0.0)
    cells = np.where(kept, a.cost - cheapest[:, None], 0.0)
    unit = max(float(loss.max()), float(np.abs(pairs.value).max(initial=0.0))) or 1.0
    cell = float(cells.max()) or 1.0
    rows = _rows(pairs, cells / cell, layout.slot, layout.setup / cell)
    users = int((layout.slot >= 0).sum())
    lower, upper = np.zeros(rows.shape[0]), np.zeros(rows.shape[0])
    lower[:G] = upper[:G] = 1.0
    lower[G : G + 1 + users] = -np.inf
    upper[G] = (layout.limit - cheapest.sum()) / cell
    return _Programme(
        value=np.concatenate([loss.ravel(), np.zeros(N), pairs.value.ravel()]) / unit,
        top=np.concatenate([kept.ravel().astype(np.float64), np.ones(N + products)]),
        rows=rows,
        lower=lower,
        upper=upper,
        integer=G * C + N,
        base=float(least.sum()),
        unit=unit,
    )


def _rows(pairs: _Pairs, cells: Vector, slot: NDArray[np.int64], setup: Vector) -> csr_array:
    """The rows' coefficients: G sums of x, the budget, x − z of every user, for every pair C sums of y over l and k."""
    (G, C), P, N = cells.shape, pairs.g.size, setup.size
    x, z, y = np.arange(G * C), G * C + np.arange(N), G * C + N + np.arange(P * C * C).reshape(P, C, C)
    user = np.flatnonzero(slot.ravel() >= 0)
    link = G + 1 + np.arange(user.size)
    over_l = G + 1 + user.size + np.arange(P * C).reshape(P, C)
    over_k = over_l + P * C
    parts: list[tuple[NDArray[np.int64], NDArray[np.int64], ArrayLike]] = [  # row, column, coefficient
        (x // C, x, 1.0),
        (np.full(G * C, G), x, cells.ravel()),
        (np.full(N, G), z, setup),
        (link, user, 1.0),
        (link, z[slot.ravel()[user]], -1.0),
        (np.broadcast_to(over_l[:, :, None], y.shape), y, 1.0),
        (np.broadcast_to(over_k[:, None, :], y.shape), y, 1.0),
        (over_l, pairs.g[:, None] * C + np.arange(C), -1.0),
        (over_k, pairs.h[:, None] * C + np.arange(C), -1.0),
    ]
    row = np.concatenate([part[0].ravel() for part in parts])
    column = np.concatenate([part[1].ravel() for part in parts])
    value = np.concatenate([np.broadcast_to(part[2], part[1].size) for part in parts])
    shape = (G + 1 + user.size + 2 * P * C, G * C + N + P * C * C)
    return coo_array((value, (row, column)), shape=shape).tocsr()


def _load(programme: _Programme, seed: int) -> highspy.Highs:
    solver = highspy.Highs()  # type: ignore[no-untyped-call]
    options = {
        "output_flag": False,
        "threads": 1,
        "random_seed": seed % 2**31,
        "mip_rel_gap": 0.0,
        "mip_abs_gap": 0.0,
        "mip_feasibility_tolerance": TOLERANCE,
        "primal_feasibility_tolerance": TOLERANCE,
        "dual_feasibility_tolerance": DUAL_TOLERANCE,
    }
    for name, value in options.items():
        solver.setOptionValue(name, value)
    lp = highspy.HighsLp()
    lp.num_row_, lp.num_col_ = programme.rows.shape
    lp.col_cost_, lp.col_lower_, lp.col_upper_ = programme.value, np.zeros(lp.num_col_), programme.top
    lp.row_lower_, lp.row_upper_ = programme.lower, programme.upper
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_, lp.a_matrix_.index_ = programme.rows.indptr, programme.rows.indices
    lp.a_matrix_.value_ = programme.rows.data
    kinds = [highspy.HighsVarType.kInteger] * programme.integer
    lp.integrality_ = kinds + [highspy.HighsVarType.kContinuous] * (lp.num_col_ - programme.integer)
    solver.passModel(lp)
    return solver


def _as_solution(layout: Layout, pairs: _Pairs, x: NDArray[np.int64]) -> highspy.HighsSolution:
    """A choice as values of the programme's variables."""
    on = np.eye(layout.slot.shape[1])[x]
    used = layout.slot[np.arange(x.size), x]
    begun = np.isin(np.arange(layout.setup.size), used).astype(np.float64)
    products = on[pairs.g][:, :, None] * on[pairs.h][:, None, :]
    solution = highspy.HighsSolution()
    solution.col_value = np.concatenate([on.ravel(), begun, products.ravel()])
    return solution


def _run(solver: highspy.Highs, programme: _Programme, watch: Watch, best: Vector, scale: float) -> None:
    """Runs HiGHS in a thread of its own, so that progress is told and the keyboard heard meanwhile.

    HiGHS looks up between its steps; within the first relaxation of a large problem that takes seconds.
    """

    def look(event: highspy.HighsCallbackEvent) -> None:
        best[...] = min(float(best), programme.base + programme.unit * event.data_out.mip_primal_bound)
        if watch.stopped():
            event.interrupt()

    if watch.limit is not None:
        solver.setOptionValue("time_limit", max(1e-3, watch.limit - watch.seconds))
    solver.cbMipInterrupt += look
    work = threading.Thread(target=solver.run, daemon=True)
    work.start()
    while work.is_alive():
        try:
            work.join(0.1)
            watch.report(float(best) * scale)
        except KeyboardInterrupt:
            watch.interrupted = True
    info = solver.getInfo()
    watch.add(max(1, int(info.simplex_iteration_count)))


SOLVER = Solver(
    "exact",
    "classical",
    search,
    priced=True,
    colour="#7F7F7F",
    reference="Huangfu and Hall 2018, doi 10.1007/s12532-017-0130-5",
)
