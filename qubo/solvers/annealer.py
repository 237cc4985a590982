"""Our simulated annealer (classical): one-hot moves, paired moves, a running budget that is never overspent.

The state always holds one code per group and never takes more than the budget. A step gives one group another code,
or two groups at once (one up, one down; also inside a block, where couplings make only the pair worth while). The
energy is weighed together with λ·cost, λ from the certificate, so that freeing cells counts for something.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numba import njit
from numpy.typing import NDArray

from qubo.certificate import Certificate, best_start
from qubo.selection import Selection
from qubo.arrays import Arrays, Layout, lay_out
from qubo.solvers.moves import Indices, Vector, apply, cross, delta, polish, refresh, repair, shares
from qubo.solvers.search import Outcome, Watch

TABLE = -np.log((np.arange(4096) + 0.5) / 4096)
"""Quantiles of −ln u: the Metropolis test without a logarithm; cut at probability 1.2e-4."""


@njit(cache=True, nogil=True)
def _next(state: NDArray[np.uint64]) -> np.uint64:
    """xorshift128+ (Vigna 2017, doi 10.1016/j.cam.2016.11.006): a draw of 64 bits."""
    s1, s0 = state[0], state[1]
    out = s0 + s1
    s1 ^= s1 << np.uint64(23)
    state[0] = s0
    state[1] = s1 ^ s0 ^ (s1 >> np.uint64(18)) ^ (s0 >> np.uint64(5))
    return out


@njit(cache=True, nogil=True)
def _below(bits: np.uint64, n: int) -> int:
    """A whole number in 0..n − 1 from the 32 low bits of a draw (multiply and shift; bias below n / 2³²)."""
    return np.int64(((bits & np.uint64(0xFFFFFFFF)) * np.uint64(n)) >> np.uint64(32))


@njit(cache=True, nogil=True)
def anneal(
    a: Arrays,
    x: Indices,
    best_x: Indices,
    F: Vector,
    S: Vector,
    random: NDArray[np.uint64],
    table: Vector,
    temperatures: Vector,
    left: Vector,
    lam: float,
    aim: float,
    limit: float,
    best: float,
    pairs: float,
) -> tuple[float, float]:
    """One sweep of G proposals per temperature, in place; returns the least energy met, kept in best_x, and λ.

    λ is steered so that `aim` × (share of the schedule left) cells stay free: a λ too low jams the state at the
    budget, one too high leaves cells unused.
    """
    G = x.size
    energy, cost = refresh(a, x, F, S)
    high = np.uint64(32)
    paired = np.int64(pairs * 65536)
    for t in range(temperatures.size):
        T = temperatures[t]
        for _ in range(G):
            r = _next(random)
            g = _below(r, G)
            n = a.count[g]
            if n < 2:
                continue
            k = _below(r >> high, n - 1)
            if k >= x[g]:
                k += 1
            w = a.cost[g, k] - a.cost[g, x[g]]
            r = _next(random)
            threshold = T * table[np.int64(r & np.uint64(4095))]
            kind = np.int64((r >> np.uint64(12)) & np.uint64(65535))
            h, l = -1, 0
            if kind >= paired:
                if cost + w > limit:
                    continue
                d = delta(a, x, F, S, g, k)
            else:
                b = a.block[g]
                if b < 0:
                    h = _below(r >> np.uint64(28), G)
                else:
                    h = a.members[a.start[b] + _below(r >> np.uint64(28), a.start[b + 1] - a.start[b])]
                if h == g or a.count[h] < 2:
                    continue
                l = _below(_next(random), a.count[h] - 1)
                if l >= x[h]:
                    l += 1
                w += a.cost[h, l] - a.cost[h, x[h]]
                if cost + w > limit:
                    continue
                d = delta(a, x, F, S, g, k) + delta(a, x, F, S, h, l) + cross(a, x, g, k, h, l)
            if d + lam * w <= threshold:
                apply(a, x, F, S, g, k)
                if h >= 0:
                    apply(a, x, F, S, h, l)
                cost += w
                energy += d
        if t % 16 == 15:
            energy, cost = refresh(a, x, F, S)
        if energy < best and cost <= limit:
            best = energy
            best_x[:] = x
        if aim > 0.0:
            free = (limit - cost) / aim
            lam *= np.exp(0.02 * left[t] * max(-1.0, min(1.0, 20.0 * (left[t] + 0.01 - free))))
    return best, lam


HOTTEST, COLDEST = 10.0, 0.02
"""Temperatures, in median gaps between a group's best and second code under λ (our choice, measured on S, Q, R, D)."""
REHEAT = 1.0
"""Where later rounds start from, in the same unit."""
FREE_STEPS = 20.0
"""Free cells aimed at early on, in mean cost steps between neighbouring codes (our choice, measured)."""
PAIRS = 0.4
"""Share of paired moves (our choice, measured)."""
CHUNK = 64
"""Sweeps between looks at the clock."""


@dataclass
class _Run:
    """One restart: its state, its generator and its λ."""

    x: Indices
    best_x: Indices
    F: Vector
    S: Vector
    random: NDArray[np.uint64]
    lam: float
    best: float = np.inf


@dataclass
class _Problem:
    """What all restarts share."""

    layout: Layout
    lam: float
    unit: float
    aim: float
    columns: list[Indices] = field(default_factory=list)

    @classmethod
    def of(cls, layout: Layout, lam: float) -> _Problem:
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
            aim = FREE_STEPS * float(steps.mean()) * min(1.0, a.count.size / 200)
        return cls(layout, lam, unit, aim)


def _start(problem: _Problem, x: Indices, seed: np.random.SeedSequence) -> _Run:
    a = problem.layout.arrays
    x, F, S = x.copy(), np.zeros_like(a.loss), np.zeros(int(a.sums[-1]))
    refresh(a, x, F, S)
    repair(a, x, F, S, problem.layout.limit)
    return _Run(x, x.copy(), F, S, seed.generate_state(2, np.uint64) | np.uint64(1), problem.lam)


def _anneal_one(problem: _Problem, run: _Run, sweeps: int, hottest: float, watch: Watch) -> None:
    """The whole schedule of one restart, then its polish; stops early when the watch says so."""
    a, limit = problem.layout.arrays, problem.layout.limit
    at = np.arange(sweeps) / max(1, sweeps - 1)
    temperatures = problem.unit * hottest * (COLDEST / hottest) ** at
    for first in range(0, sweeps, CHUNK):
        if watch.stopped():
            break
        part = slice(first, first + CHUNK)
        run.best, run.lam = anneal(
            a, run.x, run.best_x, run.F, run.S, run.random, TABLE, temperatures[part], 1 - at[part],
            run.lam, problem.aim, limit, run.best, PAIRS,
        )  # fmt: skip
        watch.add(min(CHUNK, sweeps - first) * a.count.size)
    last = polish(a, run.x, run.F, run.S, limit, run.lam, False)[0]
    best = polish(a, run.best_x, run.F, run.S, limit, run.lam, False)[0]
    if last < best:
        run.best_x[:] = run.x
    run.best = min(last, best)


def _recombine(problem: _Problem, seed: int) -> Indices:
    """The best mixture of whole blocks out of the choices found so far.

    Blocks meet only in the budget, so picking one found assignment per block is again a selection, without couplings
    (the master problem of a Dantzig–Wolfe decomposition over the columns at hand).
    """
    a = problem.layout.arrays
    found = np.array(problem.columns)
    blocks, alone = a.width.size, np.flatnonzero(a.block < 0)
    width = max(len(found), a.loss.shape[1])
    loss = np.full((blocks + alone.size, width), np.inf)
    cost = np.zeros_like(loss)
    F, S = np.zeros_like(a.loss), np.zeros(int(a.sums[-1]))
    for i, x in enumerate(found):
        refresh(a, x, F, S)
        shares(a, x, F, S, loss[:blocks, i], cost[:blocks, i])
    loss[blocks:, : a.loss.shape[1]] = a.loss[alone]
    cost[blocks:, : a.loss.shape[1]] = a.cost[alone]
    budget = problem.layout.limit
    master = lay_out(Selection(loss=loss, cost=cost, budget=budget))
    inner = _Problem.of(master, problem.lam / master.scale)
    runs = []
    for number in range(4):
        run = _start(inner, master.cheapest(), np.random.SeedSequence((seed, number)))
        _anneal_one(inner, run, 400, HOTTEST, Watch())
        runs.append(run)
    picked = master.decode(min(runs, key=lambda r: r.best).best_x)
    mixed = found[0].copy()
    for b in range(blocks):
        members = a.members[a.start[b] : a.start[b + 1]]
        mixed[members] = found[picked[b], members]
    mixed[alone] = picked[blocks:]
    return mixed


def search(
    selection: Selection,
    layout: Layout,
    certificate: Certificate,
    *,
    seed: int,
    watch: Watch,
    sweeps: int = 400,
    restarts: int = 8,
    rounds: int = 2,
    threads: int | None = None,
) -> Outcome:
    """Restarts from scratch and from the relaxed solution, recombined block by block, then again from the best.

    Args:
        sweeps: sweeps per restart; a sweep proposes one move per group.
        restarts: restarts a round, run side by side.
        rounds: rounds; with a time limit, as many as fit.
        threads: threads for the restarts, all cores by default; the answer does not depend on it.
    """
    problem = _Problem.of(layout, certificate.multiplier / layout.scale)
    a, number, best_x, best = layout.arrays, 0, None, np.inf
    relaxed, cheapest = best_start(layout, certificate), layout.cheapest()
    watch.expect(sweeps * restarts * rounds * a.count.size)
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        while best_x is None or (number < rounds if watch.limit is None else True):
            if best_x is not None and watch.stopped():
                break
            runs = []
            for i in range(restarts):
                origin = best_x if best_x is not None else (relaxed if i % 2 else cheapest)
                runs.append(_start(problem, origin, np.random.SeedSequence((seed, number, i))))
            hottest = HOTTEST if number % 2 == 0 else REHEAT
            work = [pool.submit(_anneal_one, problem, run, sweeps, hottest, watch) for run in runs]
            watch.wait(work, lambda: best * layout.scale)
            problem.columns += [run.best_x for run in runs]
            mixed = _recombine(problem, seed) if a.width.size else min(runs, key=lambda r: r.best).best_x
            run = _start(problem, mixed, np.random.SeedSequence(seed))
            energy = polish(a, run.x, run.F, run.S, layout.limit, problem.lam, True)[0]
            problem.columns.append(run.x)
            if energy < best:
                best, best_x = energy, run.x
            number += 1
    return Outcome(layout.decode(best_x), watch.evaluations)
