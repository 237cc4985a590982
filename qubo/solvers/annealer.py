"""Our simulated annealer (classical): one-hot moves, paired moves, a running budget that is never overspent.

The state always holds one code per group and never takes more than the budget. A step gives one group another code,
or two groups at once (one up, one down; also inside a block, where couplings make only the pair worth while). The
energy is weighed together with λ·cost, λ from the certificate, so that freeing cells counts for something. Setups are
also begun and ended as a whole, by Metropolis' rule while annealing and as long as it pays at the end.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qubo.search.arrays import Layout, fields, lay_out
from qubo.search.block_totals import block_totals
from qubo.search.kernels import TABLE, Indices, Vector, anneal, polish, refresh, repair
from qubo.search.setup_moves import SetupMoves
from qubo.search.watch import Outcome, Watch
from qubo.selection import Selection
from qubo.solvers.lagrangian import goal, price
from qubo.solvers.solver import Prepared, Solver

HOTTEST, COLDEST = 10.0, 0.02
"""Temperatures, in median gaps between a group's best and second code under λ (our choice, measured on S, Q, R, D)."""
REHEAT = 1.0
"""Where later rounds start from, in the same unit."""
FREE_STEPS = 20.0
"""Free cells aimed at early on, in mean cost steps between neighbouring codes (our choice, measured)."""
PAIRS = 0.4
"""Share of paired moves (our choice, measured)."""
KEPT_COLUMNS = 64
"""Choices kept for recombination."""
WORK = 1e7
"""Moves proposed in a round where groups are many (our choice)."""
PRICED = 2e7
"""Codes looked at while λ is searched, for very many groups (our choice)."""
SCRATCH = 200
"""Sweeps from which restarts from scratch are worth while (measured)."""
CHUNK = 200_000
"""Moves proposed between looks at the clock, and at most 64 sweeps."""
FLIP_EVERY, FLIPS = 8, 4
"""With setups, sweeps between moves of whole setups, and such moves at a time (our choice, measured)."""


@dataclass
class _Run:
    """One restart: its state, its generator and its λ."""

    x: Indices
    best_x: Indices
    F: Vector
    S: Vector
    random: NDArray[np.uint64]
    lam: float
    hot: bool
    best: float = np.inf


@dataclass
class _Problem:
    """What all restarts share.

    Attributes:
        layout: the kernels' view of the selection.
        lam: λ to start from, scaled.
        unit: unit of temperature: the median gap between a group's best and second code under λ.
        aim: free cells aimed at early on, scaled; 0 leaves λ alone.
        best: least energy met by any restart, for progress.
        columns: choices found so far, for recombination.
    """

    layout: Layout
    lam: float
    unit: float
    aim: float
    best: float = np.inf
    columns: list[Indices] = field(default_factory=list)

    def moves(self) -> SetupMoves | None:
        """Moves of whole setups, where there are any; each run needs its own."""
        return SetupMoves(self.layout) if self.layout.setup.size else None

    @classmethod
    def of(cls, layout: Layout, lam: float) -> _Problem:
        """Temperatures and steps read off the problem itself."""
        a = layout.arrays
        kept = np.isfinite(a.loss)
        aim = 0.0
        gaps, steps = np.zeros(0), np.zeros(0)
        if a.loss.shape[1] > 1:
            value = a.loss + lam * a.cost
            least = np.partition(value, 1, axis=1)[:, :2]
            gaps = (least[:, 1] - least[:, 0])[np.isfinite(least[:, 1])]
            ordered = np.sort(np.where(kept, a.cost, np.inf), axis=1)
            with np.errstate(invalid="ignore"):
                steps = np.diff(ordered, axis=1)
            steps = steps[np.isfinite(steps) & (steps > 0)]
        unit = float(np.median(gaps[gaps > 0])) if (gaps > 0).any() else 1.0
        if lam > 0 and steps.size:
            aim = FREE_STEPS * float(steps.mean()) * min(1.0, a.codes.size / 200)
        return cls(layout, lam, unit, aim)


def _start(problem: _Problem, x: Indices, seed: np.random.SeedSequence, hot: bool) -> _Run:
    a = problem.layout.arrays
    x, (F, S) = x.copy(), fields(a)
    refresh(a, x, F, S)
    repair(a, x, F, S, problem.layout.limit)
    return _Run(x, x.copy(), F, S, seed.generate_state(2, np.uint64) | np.uint64(1), problem.lam, hot)


def _anneal_one(problem: _Problem, run: _Run, sweeps: int, hottest: float, watch: Watch) -> None:
    """The whole schedule of one restart, then its polish; stops early when the watch says so."""
    a, limit = problem.layout.arrays, problem.layout.limit
    at = np.arange(sweeps) / max(1, sweeps - 1)
    temperatures = problem.unit * hottest * (COLDEST / hottest) ** at
    moves, generator = problem.moves(), np.random.default_rng(run.random)
    chunk = max(1, min(FLIP_EVERY if moves else 64, CHUNK // a.codes.size))
    for first in range(0, sweeps, chunk):
        if watch.stopped():
            break
        part = slice(first, first + chunk)
        run.best, run.lam = anneal(
            a, run.x, run.best_x, run.F, run.S, run.random, TABLE, temperatures[part], 1 - at[part],
            run.lam, problem.aim, limit, run.best, PAIRS,
        )  # fmt: skip
        watch.add(min(chunk, sweeps - first) * a.codes.size)
        problem.best = min(problem.best, run.best)
        for _ in range(FLIPS):
            if moves:
                moves.anneal(run.x, run.lam, temperatures[part][-1], generator)
    last = polish(a, run.x, run.F, run.S, limit, run.lam, False)[0]
    best = polish(a, run.best_x, run.F, run.S, limit, run.lam, False)[0]
    if last < best:
        run.best_x[:] = run.x
    run.best = min(last, best)
    problem.best = min(problem.best, run.best)


def _recombine(problem: _Problem, seed: int) -> Indices:
    """The best mixture of whole blocks out of the choices found so far.

    Blocks meet only in the budget, so picking one found assignment per block is again a selection, without couplings
    (the master problem of a Dantzig–Wolfe decomposition over the columns at hand). With setups blocks meet there as
    well: those of the best choice are paid for in advance, and only what makes do with them is mixed.
    """
    layout, a = problem.layout, problem.layout.arrays
    found = np.array(problem.columns)
    blocks, alone = a.width.size, np.flatnonzero(a.block < 0)
    width = max(len(found), a.loss.shape[1])
    loss = np.full((blocks + alone.size, width), np.inf)
    cost, energies = np.zeros_like(loss), np.zeros(len(found))
    F, S = fields(a)
    for i, x in enumerate(found):
        energies[i] = refresh(a, x, F, S)[0]
        block_totals(a, x, F, S, loss[:blocks, i], cost[:blocks, i])
    loss[blocks:, : a.loss.shape[1]] = a.loss[alone]
    cost[blocks:, : a.loss.shape[1]] = a.cost[alone]
    budget = problem.layout.limit
    if layout.setup.size:
        slots = layout.slot[np.arange(a.codes.size), found]
        paid = np.append(np.isin(np.arange(layout.setup.size), slots[energies.argmin()]), True)  # last: slot −1
        inside = np.flatnonzero(a.block >= 0)
        column, place = np.nonzero(~paid[slots[:, inside]])
        loss[a.block[inside[place]], column] = np.inf
        loss[blocks:, : a.loss.shape[1]][~paid[layout.slot[alone]]] = np.inf
        least = float(np.where(np.isfinite(loss), cost, np.inf).min(axis=1).sum())
        budget = max(least, budget - float(layout.setup[paid[:-1]].sum()))
    master = lay_out(Selection(loss=loss, cost=cost, budget=budget))
    inner = _Problem.of(master, problem.lam / master.price)
    runs = []
    for number in range(4):
        run = _start(inner, master.cheapest(), np.random.SeedSequence((seed, number)), True)
        _anneal_one(inner, run, 400, HOTTEST, Watch())
        runs.append(run)
    picked = master.decode(min(runs, key=lambda r: r.best).best_x)
    mixed = found[0].copy()
    for b in range(blocks):
        members = a.members[a.start[b] : a.start[b + 1]]
        mixed[members] = found[picked[b], members]
    mixed[alone] = picked[blocks:]
    return np.asarray(mixed)


def search(
    problem: Prepared,
    watch: Watch,
    *,
    sweeps: int | None = None,
    restarts: int | None = None,
    rounds: int = 2,
    threads: int | None = None,
    within: float = 1e-5,
) -> Outcome:
    """Restarts from scratch and from the Lagrangian choice, recombined block by block, then again from the best.

    Args:
        sweeps: sweeps per restart, each proposing one move per group; 400 by default, fewer for very many groups.
        restarts: restarts a round, run side by side; 8 up to 3,000 groups by default, fewer beyond, at least 2.
        rounds: rounds; with a time limit, as many as fit.
        threads: threads for the restarts, all cores by default; the answer does not depend on it.
        within: stop once the energy is proven to be within this share of the lower bound.
    """
    layout, seed = problem.layout, problem.seed
    a = layout.arrays
    target = goal(problem, within)
    sweeps = sweeps or int(np.clip(WORK / (2 * a.codes.size), 50, 400))
    restarts = restarts or int(np.clip(WORK / (sweeps * a.codes.size), 2, 8))
    watch.expect(sweeps * restarts * rounds * a.codes.size)
    start = price(problem, watch, int(np.clip(PRICED / a.loss.size, 6, 30)), within)
    shared = _Problem.of(layout, start.lam)
    best_x, best, number = start.x, start.energy, 0
    if best > target and not watch.stopped():
        F, S = fields(a)
        best = polish(a, best_x, F, S, layout.limit, start.lam, True)[0]
    shared.columns.append(best_x)
    shared.best = best
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        try:
            while best > target and not watch.stopped() and (number < rounds or watch.limit is not None):
                runs = _runs(shared, best_x, restarts, seed, number, sweeps >= SCRATCH)
                work = [
                    pool.submit(_anneal_one, shared, run, sweeps, HOTTEST if run.hot else REHEAT, watch) for run in runs
                ]
                watch.wait(work, lambda: shared.best * layout.scale)
                x, energy = _gather(shared, runs, seed, watch)
                if energy < best:
                    best_x, best = x, energy
                shared.best = min(shared.best, best)
                number += 1
        except KeyboardInterrupt:
            watch.interrupted = True  # the threads see it and stop
    return Outcome(layout.decode(best_x), watch.evaluations)


def _runs(problem: _Problem, best: Indices, restarts: int, seed: int, number: int, scratch: bool) -> list[_Run]:
    """Restarts of a round: even rounds mostly from `scratch` where asked, odd ones from the best choice, reheated."""
    runs = []
    for i in range(restarts):
        hot = scratch and number % 2 == 0 and i % 4 != 1
        origin = problem.layout.cheapest() if hot else best
        runs.append(_start(problem, origin, np.random.SeedSequence((seed, number, i)), hot))
    return runs


def _gather(problem: _Problem, runs: list[_Run], seed: int, watch: Watch) -> tuple[Indices, float]:
    """The best of a round's runs, or of all blocks found so far recombined, polished with pairs inside blocks."""
    a, limit = problem.layout.arrays, problem.layout.limit
    problem.columns += [run.best_x for run in runs]
    found = [min(runs, key=lambda r: r.best).best_x]
    if a.width.size:
        found.append(_recombine(problem, seed))
    best_x, best = found[0], np.inf
    for x in found:
        run = _start(problem, x, np.random.SeedSequence(seed), False)
        energy = polish(a, run.x, run.F, run.S, limit, problem.lam, True)[0]
        problem.columns.append(run.x)
        if energy < best:
            best_x, best = run.x, energy
    if moves := problem.moves():
        best = moves.improve(best_x, problem.lam, watch)
    # Older columns rarely enter a mixture: the newest are the best.
    del problem.columns[:-KEPT_COLUMNS]
    return best_x, best


SOLVER = Solver(
    "annealer",
    "classical",
    search,
    priced=True,
    anneals=True,
    compared_with={"threads": 1},
    colour="#0072B2",
    reference="Kirkpatrick, Gelatt and Vecchi 1983, doi 10.1126/science.220.4598.671",
)
