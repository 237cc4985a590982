"""Leap's hybrid solvers (hybrid): D-Wave's service mixes classical processors and quantum annealing as it sees fit.

`leap-cqm` hands over the constrained quadratic model with the budget as one linear row and one discrete constraint a
group; `leap-nl` a model of one integer per group that indexes tables of losses, costs and inner products. Run time is
paid for, so a solver asks for the least the service accepts unless told otherwise. What comes back is repaired to the
budget like any sample. A service that cannot be reached leaves the Lagrangian choice, and the kind says classical.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qubo.dwave import cloud
from qubo.formats import binary
from qubo.search.arrays import Arrays, Layout, fields
from qubo.search.kernels import fill, refresh, repair
from qubo.search.watch import Outcome, Watch
from qubo.solvers.lagrangian import price
from qubo.solvers.penalty_loop import GaveUpError
from qubo.solvers.solver import Prepared, Solver

TABLE_ENTRIES = 2**24
"""Inner products handed to `leap-nl` as tables in all (128 MB): beyond, the model outgrows the service (our choice)."""

Found = tuple[NDArray[np.int64], float, dict[str, float | str]]
"""Choices (N, G) of menu indices, the share of them that was feasible as it came, and details."""


def constrained(problem: Prepared, watch: Watch, *, run_time_s: float | None = None) -> Outcome:
    """`LeapHybridCQMSampler`; the service takes no seed.

    Args:
        run_time_s: run time to ask (and pay) for; the least the service accepts without it.

    Raises:
        ValueError: a token that is refused, or a run time that the service or the time limit does not allow.
    """
    selection = problem.selection

    def ask(opened: list[Any]) -> Found:
        from dwave.system import LeapHybridCQMSampler

        defaults = cloud.request_defaults(watch)
        sampler = cloud.within(lambda: LeapHybridCQMSampler(defaults=defaults), watch, "connecting to Leap")
        opened.append(sampler)
        cqm = binary.to_cqm(selection)
        run_s = _run_time("leap-cqm", float(sampler.min_time_limit(cqm)), run_time_s, watch)

        def sample() -> Any:
            answer = sampler.sample_cqm(cqm, time_limit=run_s)
            answer.resolve()
            return answer

        answer = cloud.within(sample, watch, "waiting for Leap")
        samples, labels = answer.record.sample, list(answer.variables)
        choices, one_hot = binary.decode(selection, samples, labels)
        clean = [bool(whole and selection.feasible(choice)) for whole, choice in zip(one_hot, choices, strict=True)]
        return (
            choices,
            float(np.mean(clean)) if clean else 0.0,
            {"run_time_s": run_s, **_timing(answer.info.get("timing", answer.info))},
        )

    return _solve(problem, watch, ask)


def nonlinear(problem: Prepared, watch: Watch, *, run_time_s: float | None = None) -> Outcome:
    """`LeapHybridNLSampler` (Ocean's Stride hybrid solver); the service takes no seed.

    Args:
        run_time_s: run time to ask (and pay) for; the least the service accepts without it.

    Raises:
        ValueError: as `constrained`, or blocks too large for tables.
    """
    selection, layout = problem.selection, problem.layout
    model, chosen = index_model(layout)

    def ask(opened: list[Any]) -> Found:
        from dwave.system import LeapHybridNLSampler

        defaults = cloud.request_defaults(watch)
        sampler = cloud.within(lambda: LeapHybridNLSampler(defaults=defaults), watch, "connecting to Leap")
        opened.append(sampler)
        run_s = _run_time("leap-nl", float(sampler.estimated_min_time_limit(model)), run_time_s, watch)
        result = cloud.within(lambda: sampler.sample(model, time_limit=run_s).result(), watch, "waiting for Leap")
        model.lock()
        states = [np.asarray(chosen.state(i)).astype(np.int64) for i in range(model.states.size())]
        choices = np.array([layout.decode(state) for state in states])
        clean = float(np.mean([selection.feasible(choice) for choice in choices]))
        return choices, clean, {"run_time_s": run_s, **_timing(result.info.get("timing", {}))}

    return _solve(problem, watch, ask)


def index_model(layout: Layout) -> tuple[Any, Any]:
    """The problem as a `dwave.optimization.Model` and its one decision: an integer per group, among usable codes.

    Energies and costs are scaled as the layout's arrays are. The loss of a choice is `loss[group, x]`; a pair of a
    block adds `gram[i·C + x_i, j·C + x_j]`; the cost, with the setups that are used, is held below the budget by one
    constraint.

    Raises:
        ValueError: the blocks' inner products are too many for tables.
    """
    from dwave.optimization.model import Model

    a = layout.arrays
    G, C = a.loss.shape
    sizes = np.diff(a.start) * C
    if float((sizes.astype(np.float64) ** 2).sum()) > TABLE_ENTRIES:
        raise ValueError(
            f"leap-nl takes blocks as tables of at most {TABLE_ENTRIES} inner products, got "
            f"{int((sizes.astype(np.float64) ** 2).sum())}: use leap-cqm or smaller blocks"
        )
    model = Model()  # type: ignore[no-untyped-call]
    x = model.integer(G, lower_bound=0, upper_bound=a.codes - 1)
    rows = model.constant(np.arange(G))
    energy: Any = model.constant(np.where(layout.kept(), a.loss, 0.0))[rows, x].sum()
    for b in range(a.width.size):
        members = a.members[a.start[b] : a.start[b + 1]]
        i, j = np.triu_indices(members.size, 1)
        if i.size == 0:
            continue
        row = x[model.constant(members)] + model.constant(np.arange(members.size) * C)
        pairs = model.constant(_table(a, b))[row[model.constant(i)], row[model.constant(j)]]
        energy = energy + pairs.sum()
    model.minimize(energy)
    cells: Any = model.constant(a.cost)[rows, x].sum()
    for s, taken in enumerate(layout.setup.tolist()):
        members = np.flatnonzero((layout.slot == s).any(axis=1))
        uses = model.constant((layout.slot[members] == s).astype(np.float64))
        cells = (
            cells
            + model.constant(taken) * uses[model.constant(np.arange(members.size)), x[model.constant(members)]].max()
        )
    model.add_constraint(cells <= model.constant(layout.limit))
    return model, x


def _table(a: Arrays, block: int) -> NDArray[np.float64]:
    """(m·C, m·C) inner products of a block."""
    n, width = int(a.start[block + 1] - a.start[block]) * a.loss.shape[1], int(a.width[block])
    if width == 0:
        return np.array(a.data[a.offset[block] : a.offset[block] + n * n].reshape(n, n))
    factors = a.data[a.offset[block] : a.offset[block] + n * width].reshape(n, width)
    return np.asarray(factors @ factors.T)


def _run_time(solver: str, least_s: float, asked_s: float | None, watch: Watch) -> float:
    """The run time to ask for, within what the service and the time limit allow."""
    run_s = least_s if asked_s is None else float(asked_s)
    if run_s < least_s:
        raise ValueError(
            f"{solver} runs at least {least_s:g} s on this problem, got run_time_s {run_s:g}: ask for more"
        )
    if watch.limit is not None and run_s > watch.limit:
        raise ValueError(
            f"{solver} runs {run_s:g} s on this problem, time_limit_s is {watch.limit:g}: "
            "allow more, with some seconds for the way there and back"
        )
    return run_s


def _timing(timing: Any) -> dict[str, float | str]:
    """Leap's own times, which it gives in microseconds."""
    names = ("qpu_access_time", "charge_time", "run_time")
    return {f"leap_{name}_s": 1e-6 * float(timing[name]) for name in names if name in timing}


def _solve(problem: Prepared, watch: Watch, ask: Callable[[list[Any]], Found]) -> Outcome:
    """The better of the Lagrangian choice and what Leap answers, repaired to the budget and filled."""
    layout = problem.layout
    a = layout.arrays
    priced = Watch(watch.limit)
    start = price(problem, priced)
    watch.interrupted = priced.interrupted
    watch.expect(1)
    best, best_x = start.energy, start.x
    opened: list[Any] = []
    try:
        watch.report(best * layout.scale)
        choices, clean, details = ask(opened)
    except (GaveUpError, KeyboardInterrupt) as reason:
        watch.interrupted = watch.interrupted or isinstance(reason, KeyboardInterrupt)
        why = "interrupted" if isinstance(reason, KeyboardInterrupt) else str(reason)
        details = {"annealed": "no: nothing came back from Leap; this is the Lagrangian choice", "stopped": why}
        return Outcome(layout.decode(best_x), watch.evaluations, None, kind="classical", details=details)
    finally:
        for sampler in opened:
            cloud.close(sampler)
    F, S = fields(a)
    for choice in choices:
        x = layout.encode(choice)
        refresh(a, x, F, S)
        repair(a, x, F, S, layout.limit)
        fill(a, x, F, S, layout.limit)
        energy = refresh(a, x, F, S)[0]
        if energy < best:
            best, best_x = energy, x
    watch.add(len(choices))
    details = {
        **details,
        "found_by": "Leap" if best_x is not start.x else "the Lagrangian start; Leap found nothing better",
    }
    return Outcome(layout.decode(best_x), watch.evaluations, clean, details=details)


CONSTRAINED = Solver("leap-cqm", "hybrid", constrained, priced=True, anneals=True, client="hybrid", colour="#CC79A7")
NONLINEAR = Solver("leap-nl", "hybrid", nonlinear, priced=True, anneals=True, client="hybrid", colour="#CC79A7")
