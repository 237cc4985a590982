"""Timed runs of solvers on problems with bounds.

A run keeps its whole course of energy over time, so that all statistics come from the same runs: the gap to
`qubo.lower_bound`, or to the exact optimum of a magnitude Hamiltonian, and the time to a target
(`simulations.annealing.time_to_target`).

Solvers are timed on one thread, after imports and compilation. For solvers that start from the Lagrangian price, the
seconds of the plain bound are added, since that price is part of their method.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from qubo.bounds.certificate import Certificate, lower_bound
from qubo.families import generate
from qubo.magnitude.hamiltonian import Magnitude
from qubo.selection import Selection
from qubo.solution import Kind
from qubo.solvers import SOLVERS, solve
from qubo.solvers.ground_state import ground_state
from qubo.solvers.registry import SAMPLERS, find
from qubo.solvers.token import require_token

Vector = NDArray[np.float64]

KEPT = 1e-9
"""A point of a course is kept if it lowers the energy by at least this share (our choice)."""


@dataclass(frozen=True, eq=False)
class Problem:
    """A problem with its lower bound.

    Attributes:
        name: its name in results.
        family: name of its family, whose problems differ in size.
        problem: a selection problem, or a magnitude Hamiltonian.
        plain: the quick bound from which solvers start; None for a Hamiltonian.
        lower_bound: no feasible answer has less energy.
        bound_s: wall-clock seconds that the bound took.
        exact: whether the bound is the optimum itself.
    """

    name: str
    family: str
    problem: Selection | Magnitude
    plain: Certificate | None
    lower_bound: float
    bound_s: float
    exact: bool

    @classmethod
    def of(cls, name: str, problem: Selection | Magnitude, *, family: str = "", effort: float = 1.0) -> Problem:
        """Compute the bound of a problem.

        Args:
            name: what the results call it.
            problem: a selection, or a magnitude Hamiltonian with filters of one size in each layer.
            family: family of problems of several sizes; the name by default.
            effort: effort of `qubo.lower_bound`.

        >>> Problem.of("S-20", generate("S", groups=20)).size
        20
        """
        started = time.perf_counter()
        if isinstance(problem, Magnitude):
            bound = problem.optimum().energy
            return cls(name, family or name, problem, None, bound, time.perf_counter() - started, True)
        plain = lower_bound(problem, effort=0)
        tight = lower_bound(problem, effort=effort)
        seconds = time.perf_counter() - started - plain.seconds
        return cls(name, family or name, problem, plain, max(plain.bound, tight.bound), seconds, False)

    @property
    def size(self) -> int:
        """Groups of a selection, variables of a Hamiltonian."""
        return self.problem.variables if isinstance(self.problem, Magnitude) else self.problem.groups

    @property
    def solvers(self) -> tuple[str, ...]:
        """Names of the solvers that can solve it."""
        return tuple(SAMPLERS) if isinstance(self.problem, Magnitude) else tuple(SOLVERS)


def fingerprint(problem: Selection | Magnitude) -> str:
    """SHA-256 of the numbers of a problem."""
    digest = hashlib.sha256()
    held: list[Any]
    if isinstance(problem, Magnitude):
        held = [*problem.means, *problem.weights, [problem.beta, problem.gamma]]
    else:
        held = [problem.loss, problem.cost, [problem.budget]]
        for block in problem.blocks:
            held += [block.groups, block.factors if block.gram is None else block.gram]
        for setup in problem.setup:
            held += [setup.groups, setup.cost]
    for part in held:
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


class RunKey(NamedTuple):
    """The key of a run in the ledger; the fields are those of `SolverRun`."""

    problem: str
    family: str
    size: int
    solver: str
    repeat: int
    seed: int
    limit_s: float


@dataclass(frozen=True)
class SolverRun:
    """One run of one solver.

    Attributes:
        problem: name of the problem.
        family: its family.
        size: groups, or variables of a magnitude Hamiltonian.
        solver: what ran.
        kind: classical, quantum-inspired, quantum or hybrid.
        repeat: number of the run, from 0.
        seed: its seed.
        limit_s: time limit in seconds.
        energy: energy of its answer.
        lower_bound: that of the problem, or a better one that the run itself proved.
        seconds: wall-clock time, with that of the Lagrangian price if it starts from it.
        evaluations: number of moves or states evaluated.
        feasible_before_repair: share of raw samples that needed no repair; None for solvers that never leave the
            feasible set.
        course: pairs (seconds, least energy so far), one each time that the energy fell.
        accuracy: measured after read-back; only for networks.
        loss: measured after read-back, in nats; only for networks.
    """

    problem: str
    family: str
    size: int
    solver: str
    kind: Kind
    repeat: int
    seed: int
    limit_s: float
    energy: float
    lower_bound: float
    seconds: float
    evaluations: int
    feasible_before_repair: float | None
    course: tuple[tuple[float, float], ...]
    accuracy: float | None = None
    loss: float | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> SolverRun:
        """Make a run from a row of the ledger: key and metrics by name."""
        course = tuple((float(seconds), float(energy)) for seconds, energy in row["course"])
        return cls(**{**row, "course": course})

    @property
    def metrics(self) -> dict[str, Any]:
        """All fields but those of the key, by name."""
        return {name: value for name, value in vars(self).items() if name not in RunKey._fields}

    @property
    def gap(self) -> float:
        """(energy − lower bound) / |energy|."""
        return (self.energy - self.lower_bound) / max(abs(self.energy), np.finfo(np.float64).tiny)

    def reached_s(self, energy: float) -> float:
        """Seconds until the energy was at most this; inf if it never was."""
        return next((seconds for seconds, least in self.course if least <= energy), math.inf)


class _Course:
    """Records the course of a run: seconds and energy each time that the energy falls."""

    def __init__(self, charged_s: float) -> None:
        self.started, self.charged = time.perf_counter(), charged_s
        self.steps: list[tuple[float, float]] = []

    def __call__(self, energy: float) -> None:
        last = self.steps[-1][1] if self.steps else math.inf
        if np.isfinite(energy) and (not self.steps or energy < last - KEPT * abs(last)):
            self.steps.append((self.seconds, float(energy)))

    @property
    def seconds(self) -> float:
        """Seconds so far, with those charged at the start."""
        return self.charged + time.perf_counter() - self.started

    def closed(self, energy: float) -> tuple[tuple[float, float], ...]:
        """The course up to the answer; energies reported below that of the answer are raised to it."""
        steps = [(seconds, max(least, energy)) for seconds, least in self.steps]
        if not steps or energy < steps[-1][1] - KEPT * abs(energy):
            steps.append((self.seconds, energy))
        return tuple(steps)


def measure(
    problem: Problem, solver: str, repeat: int, *, seed: int = 0, limit_s: float
) -> tuple[SolverRun, NDArray[np.int64]]:
    """Do one timed run. Returns it with its answer: a choice (G,), or the state of a Hamiltonian (variables,).

    Args:
        problem: the problem.
        solver: a name in `problem.solvers`.
        repeat: number of the run, from 0; its seed is `seed` + `repeat`.
        seed: seed of the first run.
        limit_s: time limit in seconds.

    Raises:
        KeyboardInterrupt: the run was stopped; it then does not count.
        ValueError: an error of the solver, or the solver is unknown.

    >>> trial, choice = measure(Problem.of("Q-20", generate("Q", groups=20)), "lagrangian", 0, limit_s=1.0)
    >>> trial.energy >= trial.lower_bound, choice.shape
    (True, (20,))
    """
    if solver not in problem.solvers:
        raise ValueError(f"{problem.name}: solver {solver!r} is none of {', '.join(problem.solvers)}; name one")
    common: dict[str, Any] = {"problem": problem.name, "family": problem.family, "size": problem.size, "solver": solver,
              "repeat": repeat, "seed": seed + repeat, "limit_s": limit_s}  # fmt: skip
    facts = find(solver)
    course = _Course(problem.plain.seconds if facts.priced and problem.plain is not None else 0.0)
    with threadpool_limits(limits=1, user_api="blas"):
        if isinstance(problem.problem, Magnitude):
            ground = ground_state(problem.problem, solver, seed=seed + repeat, time_limit_s=limit_s, report=course)
            trial = SolverRun(
                **common, kind=facts.kind, energy=ground.energy, lower_bound=problem.lower_bound,
                seconds=course.seconds, evaluations=ground.evaluations, feasible_before_repair=None,
                course=course.closed(ground.energy),
            )  # fmt: skip
            return trial, ground.state.astype(np.int64)
        found = solve(
            problem.problem, solver, seed=seed + repeat, time_limit_s=limit_s, certificate=problem.plain,
            progress=lambda _, best: course(best), **facts.compared_with,
        )  # fmt: skip
    if found.interrupted:
        raise KeyboardInterrupt
    trial = SolverRun(
        **common, kind=found.kind, energy=found.energy, lower_bound=max(problem.lower_bound, found.lower_bound),
        seconds=course.seconds, evaluations=found.evaluations, feasible_before_repair=found.feasible_before_repair,
        course=course.closed(found.energy),
    )  # fmt: skip
    return trial, found.choice


def check_solvers(solvers: Iterable[str]) -> None:
    """Check before any run that all solvers are known and that no token is missing.

    Raises:
        ValueError: with one line naming the solver and the cure.
    """
    known = {*SAMPLERS, *SOLVERS}
    for solver in solvers:
        if solver not in known:
            raise ValueError(f"solver {solver!r} is unknown: name some of {', '.join(sorted(known))}")
        require_token(find(solver))


def warm_up(solvers: Iterable[str]) -> None:
    """Run each local solver once on a small problem, so that imports and compilation are not timed."""
    small = Problem.of("warm-up", generate("D", groups=20), effort=0)
    layer = Problem.of("warm-up", Magnitude((np.array([0.5, 0.1, 0.2]),), (np.full(3, 9.0),), beta=1.0, gamma=0.2))
    for solver in solvers:
        for problem in (small, layer):
            if solver in problem.solvers and find(solver).client is None:
                measure(problem, solver, 0, limit_s=0.2)
