"""Ocean's simulated annealing (classical) on the sparse λ form: `dwave.samplers.SimulatedAnnealingSampler`.

λ stays outside: sample, check the budget, rescale, until samples meet it. One-hot weights start at what the Lagrangian
choice needs and grow only in groups that samples violate. `beta_range` is always passed: the sampler's own default
costs seconds of Python and fits these coefficients badly. Samples are decoded, repaired to the budget and filled, but
not polished by our pair moves, so that the answer is Ocean's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qubo import encoding
from qubo.arrays import Layout
from qubo.certificate import Certificate
from qubo.kernels import descend, fill, refresh, repair
from qubo.selection import Selection
from qubo.solvers.lagrangian import Priced, price
from qubo.solvers.search import Outcome, Watch

BETA_RANGE = (0.03, 100.0)
"""Inverse temperatures in units of 1 / (λ × mean cost step); measured to work on every family."""
GROWTH = 1.7
"""Factor on the one-hot weight of a violated group, from round to round (our choice)."""

MENDED = 0.02
"""λ moves only once at most this share of groups is broken: a dropped group spends nothing (our choice)."""


def search(
    selection: Selection,
    layout: Layout,
    certificate: Certificate,
    *,
    seed: int,
    watch: Watch,
    sweeps: int = 1000,
    reads: int = 5,
    rounds: int = 8,
) -> Outcome:
    """Rounds of solve, check, rescale.

    Args:
        sweeps: sweeps per read, each visiting every variable.
        reads: reads a round.
        rounds: at most this many λ; with a time limit, as many as fit.
    """
    from dwave.samplers import SimulatedAnnealingSampler

    a = layout.arrays
    priced = Watch(watch.limit)
    start = price(layout, certificate, priced)
    watch.interrupted = priced.interrupted
    lam, unit = start.lam, _unit(layout, start.lam)
    weights = _first_weights(layout, start, unit)
    low, high, best, best_choice, clean, drawn = 0.0, np.inf, np.inf, layout.decode(start.x), 0, 0
    sampler, number = SimulatedAnnealingSampler(), 0  # type: ignore[no-untyped-call]
    watch.expect(rounds * sweeps * reads * int(a.codes.sum()))
    while number == 0 or (not watch.stopped() and (number < rounds or watch.limit is not None)):
        bqm = encoding.to_bqm(selection, lam * layout.price, one_hot=weights * layout.scale)
        beta = [b / (unit * layout.scale) for b in BETA_RANGE]
        try:
            found = sampler.sample(
                bqm, num_reads=reads, num_sweeps=sweeps, beta_range=beta, seed=(seed + 7919 * number) % 2**31
            )
        except KeyboardInterrupt:
            watch.interrupted = True
            break
        choices, one_hot = encoding.decode(selection, found.record.sample, list(found.variables))
        spent = np.array([selection.total_cost(choice) for choice in choices])
        clean += int((one_hot & (spent <= selection.limit)).sum())
        drawn += reads
        watch.add(sweeps * reads * len(bqm.variables))
        broken = _broken(selection, found.record.sample, list(found.variables))
        for choice, holes in zip(choices, broken, strict=True):
            energy, kept = _repaired(layout, choice, holes, lam)
            if energy < best:
                best, best_choice = energy, kept
        watch.report(best * layout.scale)
        weights = np.where(broken.any(axis=0), GROWTH, 1.0) * weights
        lowest = int(np.argmin(found.record.energy))
        if broken[lowest].mean() <= MENDED:
            low, high = (lam, high) if spent[lowest] > selection.limit else (low, lam)
            lam = 1.1 * lam if np.isinf(high) else (0.9 * lam if low == 0 else 0.5 * (low + high))
        number += 1
    return Outcome(best_choice, watch.evaluations, clean / drawn if drawn else None)


def _unit(layout: Layout, lam: float) -> float:
    """The energy of a mean cost step under λ, scaled; with a loose budget the mean loss step."""
    a = layout.arrays
    kept = np.isfinite(a.loss)
    steps = np.maximum(a.codes - 1, 1)
    span = a.cost.max(axis=1) - np.where(kept, a.cost, np.inf).min(axis=1)
    unit = lam * float((span / steps).mean())
    if unit <= 0:
        spread = np.where(kept, a.loss, -np.inf).max(axis=1) - a.loss.min(axis=1)
        unit = float((spread / steps).mean()) or 1.0
    return unit


def _first_weights(layout: Layout, start: Priced, unit: float) -> NDArray[np.float64]:
    """(G,) 1.1 × what each group's best code costs, alone or beside the Lagrangian choice, whichever is more; scaled.

    The weights proven sufficient for any state (`encoding.one_hot_weights`) are up to a hundred times larger where
    couplings are strong, and too large a weight freezes a sampler.
    """
    a = layout.arrays
    F, S = np.zeros_like(a.loss), np.zeros(int(a.sums[-1]))
    refresh(a, start.x.copy(), F, S)
    alone = a.loss + start.lam * a.cost
    beside = (alone + F).min(axis=1)
    return np.asarray(encoding.WEIGHT_MARGIN * np.maximum(np.maximum(alone.min(axis=1), beside), 0.1 * unit))


def _broken(selection: Selection, samples: NDArray[np.int8], labels: list[int]) -> NDArray[np.bool_]:
    """(N, G) groups that a sample left without exactly one code."""
    full = np.zeros((samples.shape[0], selection.groups * selection.codes), dtype=np.int8)
    full[:, np.asarray(labels)] = samples
    return np.asarray(full.reshape(-1, selection.groups, selection.codes).sum(axis=2) != 1)


def _repaired(
    layout: Layout, choice: NDArray[np.int64], broken: NDArray[np.bool_], lam: float
) -> tuple[float, NDArray[np.int64]]:
    """Energy (scaled) and menu indices of a repaired choice.

    Broken groups take their best code under λ given the others; then cells are freed down to the budget, and single
    moves fill what is left of it.
    """
    a = layout.arrays
    x = layout.encode(choice)
    F, S = np.zeros_like(a.loss), np.zeros(int(a.sums[-1]))
    refresh(a, x, F, S)
    descend(a, x, F, S, np.flatnonzero(broken), lam, 10)
    repair(a, x, F, S, layout.limit)
    fill(a, x, F, S, layout.limit)
    return refresh(a, x, F, S)[0], layout.decode(x)
