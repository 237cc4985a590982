"""One interface to every solver: `solve(selection, "annealer")`. One file a solver, or a family of samplers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from numbers import Integral, Real
from typing import Any

import numpy as np

from qubo.bounds.certificate import Certificate, lower_bound
from qubo.search.arrays import lay_out
from qubo.search.watch import Outcome, Progress, Watch
from qubo.selection import Selection
from qubo.solution import Kind, Solution


@dataclass(frozen=True)
class Solver:
    """Where a solver lives and what really runs there."""

    module: str
    kind: Kind
    function: str = "search"

    def search(self) -> Callable[..., Outcome]:
        """The solver's search function; its module is imported only when asked for."""
        function: Callable[..., Outcome] = getattr(import_module(self.module), self.function)
        return function


SOLVERS: dict[str, Solver] = {
    "annealer": Solver("qubo.solvers.annealer", "classical"),
    "exact": Solver("qubo.solvers.exact", "classical"),
    "genetic": Solver("qubo.solvers.genetic", "classical"),
    "lagrangian": Solver("qubo.solvers.lagrangian", "classical"),
    "ocean-sa": Solver("qubo.solvers.ocean", "classical", "simulated_annealing"),
    "ocean-tabu": Solver("qubo.solvers.ocean", "classical", "tabu"),
    "ocean-greedy": Solver("qubo.solvers.ocean", "classical", "greedy"),
    "ocean-path-integral": Solver("qubo.solvers.ocean", "quantum-inspired", "path_integral"),
    "ocean-decompose": Solver("qubo.solvers.decompose", "classical"),
    "random": Solver("qubo.solvers.random", "classical"),
    "reinforce": Solver("qubo.solvers.reinforce", "classical"),
    "qpu": Solver("qubo.dwave.qpu", "quantum"),
    "leap-cqm": Solver("qubo.dwave.leap", "hybrid", "constrained"),
    "leap-nl": Solver("qubo.dwave.leap", "hybrid", "nonlinear"),
}


def _check_options(solver: str, search: Callable[..., Outcome], options: dict[str, Any]) -> None:
    """Options must exist and fit: functions, numbers above 0, else counts of at least 1; None is the default."""
    keywords = [p for p in signature(search).parameters.values() if p.kind is p.KEYWORD_ONLY]
    known = {p.name: p for p in keywords if p.name not in ("seed", "watch")}
    for name, value in options.items():
        if name not in known:
            raise ValueError(f"solver {solver!r} has no option {name!r}: it has {', '.join(known) or 'none'}")
        if value is None:
            continue
        if "Callable" in str(known[name].annotation):
            if not callable(value):
                raise ValueError(f"{name} must be a function, got {value!r}: pass one")
        elif "float" in str(known[name].annotation):
            if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < float("inf"):
                raise ValueError(f"{name} must be a number above 0, got {value!r}: pass a finite one")
        elif isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}: pass a count")


def solve(
    selection: Selection,
    solver: str = "annealer",
    *,
    seed: int = 0,
    time_limit_s: float | None = None,
    progress: Progress | None = None,
    certificate: Certificate | None = None,
    **options: Any,
) -> Solution:
    """The best choice a solver finds, with a lower bound beside it.

    Args:
        selection: the problem.
        solver: a name in `SOLVERS`, such as "annealer", "ocean-sa" or "qpu".
        seed: seed of everything random.
        time_limit_s: stop the search after this time; without it the work is fixed and the same seed gives the
            same answer bit for bit.
        progress: called now and then with (share done, best energy so far).
        certificate: `qubo.lower_bound(selection)` where it is known already.
        options: the solver's own, see its `search`.

    Returns:
        The solution; a KeyboardInterrupt ends the search and returns the best so far.

    Raises:
        ValueError: an unknown solver or option, a time limit that is not positive, a foreign certificate, a solver
            of D-Wave's without a token.

    >>> from qubo import generate
    >>> solution = solve(generate("S", groups=40), seed=1)
    >>> solution.feasible, solution.gap < 0.01, solution.kind
    (True, True, 'classical')
    """
    if solver not in SOLVERS:
        raise ValueError(f"solver {solver!r} is unknown: pass one of {', '.join(sorted(SOLVERS))}")
    if time_limit_s is not None and not time_limit_s > 0:
        raise ValueError(f"time_limit_s must be above 0, got {time_limit_s}: pass seconds, or None for none")
    entry = SOLVERS[solver]
    search = entry.search()
    _check_options(solver, search, options)
    if certificate is None:
        certificate = lower_bound(selection)
    elif certificate.selection is not selection:
        raise ValueError("the certificate is about another selection: pass qubo.lower_bound(selection)")
    layout = lay_out(selection)
    watch = Watch(time_limit_s, progress)
    outcome = search(selection, layout, certificate, seed=seed, watch=watch, **options)
    energy = selection.energy(outcome.choice)
    watch.finish(energy)
    return Solution(
        choice=outcome.choice,
        energy=energy,
        cost=selection.total_cost(outcome.choice),
        feasible=selection.feasible(outcome.choice),
        lower_bound=max(certificate.bound, -np.inf if outcome.lower_bound is None else outcome.lower_bound),
        multiplier=certificate.multiplier,
        seconds=watch.seconds,
        solver=solver,
        kind=outcome.kind or entry.kind,
        evaluations=outcome.evaluations,
        seed=seed,
        feasible_before_repair=outcome.feasible_before_repair,
        interrupted=watch.interrupted,
        details=outcome.details,
    )
