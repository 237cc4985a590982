"""Solve, check, rescale: the loop around samplers that have no budget constraint.

λ stays outside the QUBO: sample, check the budget, rescale, until samples meet it. One-hot weights start at what the
Lagrangian choice needs and grow only in groups that samples violate. Samples are decoded, repaired to the budget and
filled, but not polished by our pair moves, so that the answer is the sampler's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qubo.formats import binary
from qubo.search.arrays import Layout, fields
from qubo.search.kernels import Indices, descend, fill, refresh, repair
from qubo.search.watch import Outcome, Watch
from qubo.selection import Selection
from qubo.solvers.lagrangian import LagrangianChoice, price
from qubo.solvers.solver import Prepared

BETA_RANGE = (0.03, 100.0)
"""Inverse temperatures in units of 1 / (λ × mean cost step); measured to work on every family."""
GROWTH = 1.7
"""Factor on the one-hot weight of a violated group, from round to round (our choice)."""
TORN = 0.1
"""A group is violated if more than this share of reads leaves it without exactly one code (our choice)."""
MENDED = 0.02
"""λ moves only once at most this share of groups is broken: a dropped group spends nothing (our choice)."""


class GaveUpError(Exception):
    """Raised if a sampler cannot answer (any more), with the reason in one line; earlier results are kept."""


@dataclass(frozen=True, eq=False)
class Task:
    """The task of a sampler in one round.

    Attributes:
        selection: the problem.
        layout: the kernels' view of it.
        lam: λ, scaled as the layout's arrays are.
        weights: (G,) one-hot weights, scaled.
        unit: the energy of a mean cost step under λ, scaled.
        seed: seed of this round, below 2^31.
        number: the round, from 0.
        best: (G,) the best choice so far, among usable codes.
    """

    selection: Selection
    layout: Layout
    lam: float
    weights: NDArray[np.float64]
    unit: float
    seed: int
    number: int
    best: Indices

    def model(self) -> Any:
        """The λ form of the whole problem as a `dimod.BinaryQuadraticModel`, in the selection's unit."""
        layout = self.layout
        return binary.to_bqm(self.selection, self.lam * layout.price, one_hot=self.weights * layout.scale)

    @property
    def energy_unit(self) -> float:
        """The unit of energy of `model`, for temperatures and fields."""
        return self.unit * self.layout.scale

    @property
    def beta_range(self) -> list[float]:
        """Inverse temperatures for `model`: a sampler's own default costs seconds and fits these coefficients badly."""
        return [beta / self.energy_unit for beta in BETA_RANGE]


@dataclass(frozen=True, eq=False)
class Draw:
    """The answer of a sampler.

    Attributes:
        samples: (N, n) zeros and ones.
        labels: (n,) the variable numbers g·K + k of the columns, and those of setups.
        lowest: row of least energy in the λ form.
        evaluations: variables visited.
    """

    samples: NDArray[np.int8]
    labels: list[int]
    lowest: int
    evaluations: int

    @classmethod
    def of(cls, found: Any, evaluations: int) -> Draw:
        """The draw in a `dimod.SampleSet` of zeros and ones."""
        record = found.record
        return cls(record.sample, list(found.variables), int(np.argmin(record.energy)), evaluations)


Sampler = Callable[[Task], Draw]


def search(problem: Prepared, watch: Watch, draw: Sampler, *, rounds: int, work: int) -> Outcome:
    """At most `rounds` rounds of solve, check, rescale; with a time limit, as many as fit.

    Args:
        problem: the problem; the Lagrangian start is searched from its bound's λ.
        watch: clock, progress, interruption.
        draw: the sampler; `GaveUpError` ends the search with the best so far, the reason in `details["stopped"]`.
        rounds: at most this many λ.
        work: evaluations expected of a round, for the progress.
    """
    selection, layout = problem.selection, problem.layout
    priced = Watch(watch.limit)
    start = price(problem, priced)
    watch.interrupted = priced.interrupted
    lam, unit = start.lam, _unit(layout, start.lam)
    weights = _first_weights(layout, start, unit)
    low, high, best, best_choice, clean, drawn = 0.0, np.inf, np.inf, layout.decode(start.x), 0, 0
    number, details = 0, {}
    watch.expect(rounds * work)
    try:
        while number == 0 or (not watch.stopped() and (number < rounds or watch.limit is not None)):
            round_seed = (problem.seed + 7919 * number) % 2**31
            found = draw(Task(selection, layout, lam, weights, unit, round_seed, number, layout.encode(best_choice)))
            choices, one_hot = binary.decode(selection, found.samples, found.labels)
            spent = np.array([selection.total_cost(choice) for choice in choices])
            clean += int((one_hot & (spent <= selection.limit)).sum())
            drawn += len(choices)
            watch.add(found.evaluations)
            broken = _broken(selection, found.samples, found.labels)
            for choice, holes in zip(choices, broken, strict=True):
                energy, kept = _repaired(layout, choice, holes, lam)
                if energy < best:
                    best, best_choice = energy, kept
            watch.report(best * layout.scale)
            weights = np.where(broken.mean(axis=0) > TORN, GROWTH, 1.0) * weights
            if broken[found.lowest].mean() <= MENDED:
                low, high = (lam, high) if spent[found.lowest] > selection.limit else (low, lam)
                lam = 1.1 * lam if np.isinf(high) else (0.9 * lam if low == 0 else 0.5 * (low + high))
            number += 1
    except KeyboardInterrupt:
        watch.interrupted = True
    except GaveUpError as reason:
        details["stopped"] = str(reason)
    return Outcome(best_choice, watch.evaluations, clean / drawn if drawn else None, details=details)


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


def _first_weights(layout: Layout, start: LagrangianChoice, unit: float) -> NDArray[np.float64]:
    """(G,) 1.1 × what each group's best code costs, alone or beside the Lagrangian choice, whichever is more; scaled.

    The weights proven sufficient for any state (`encoding.one_hot_weights`) are up to a hundred times larger where
    couplings are strong, and too large a weight freezes a sampler. A setup costs where that choice does without it.
    """
    a = layout.arrays
    F, S = fields(a)
    refresh(a, start.x.copy(), F, S)
    alone = a.loss + start.lam * (a.cost + layout.beginning(start.x))
    beside = (alone + F).min(axis=1)
    return np.asarray(binary.WEIGHT_MARGIN * np.maximum(np.maximum(alone.min(axis=1), beside), 0.1 * unit))


def _broken(selection: Selection, samples: NDArray[np.int8], labels: list[int]) -> NDArray[np.bool_]:
    """(N, G) groups that a sample left without exactly one code; variables of setups are passed over."""
    full = np.zeros((samples.shape[0], selection.groups * selection.codes), dtype=np.int8)
    own = np.asarray(labels) < full.shape[1]
    full[:, np.asarray(labels)[own]] = samples[:, own]
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
    F, S = fields(a)
    refresh(a, x, F, S)
    descend(a, x, F, S, np.flatnonzero(broken), lam, 10)
    repair(a, x, F, S, layout.limit)
    fill(a, x, F, S, layout.limit)
    return refresh(a, x, F, S)[0], layout.decode(x)
