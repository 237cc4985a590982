"""Searches for the ground state of a magnitude Hamiltonian, where claims can be held against the exact answer.

The samplers of `dwave.samplers` run on its binary model, a genetic algorithm (pymoo) and random states on the same
coefficients; all repeat with new seeds until the time is over. "sorting" is `qubo.Magnitude.optimum`: exact.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qubo.magnitude.hamiltonian import Magnitude
from qubo.solution import Kind

Vector = NDArray[np.float64]
States = NDArray[np.int8]

SAMPLERS: dict[str, Kind] = {
    "sorting": "classical",
    "ocean-sa": "classical",
    "ocean-tabu": "classical",
    "ocean-greedy": "classical",
    "ocean-path-integral": "quantum-inspired",
    "genetic": "classical",
    "random": "classical",
}
"""What searches a magnitude Hamiltonian, and what really runs there."""
HOTTEST, COLDEST = np.log(2), np.log(100)
"""β × largest field at the start and β × smallest flip at the end, as in Ocean's own default."""
COLDEST_QUANTILE = 0.01
"""The smallest flip is this quantile of flips at the best state of a descent (our choice)."""
SA_SWEEPS, PATH_SWEEPS, TABU_MS = 1000, 200, 100
POPULATION = 100


@dataclass(frozen=True)
class Ground:
    """The best state met.

    Attributes:
        state: (variables,) zeros and ones, in the numbering of `Magnitude.to_bqm`.
        energy: its H.
        evaluations: variables visited, or states evaluated.
        seconds: wall-clock time.
    """

    state: States
    energy: float
    evaluations: int
    seconds: float


@dataclass(frozen=True, eq=False)
class _Model:
    """H as xᵀQx + linear·x, Q upper triangular, and Ocean's form of it."""

    linear: Vector
    Q: Vector
    bqm: Any

    @classmethod
    def of(cls, problem: Magnitude) -> _Model:
        bqm = problem.to_bqm()
        n = problem.variables
        vectors = bqm.to_numpy_vectors(variable_order=range(n))
        linear, (row, column, value) = vectors[0], vectors[1]
        Q = np.zeros((n, n))
        np.add.at(Q, (np.minimum(row, column), np.maximum(row, column)), value)
        return cls(np.asarray(linear, dtype=np.float64), Q, bqm)

    def energies(self, X: NDArray[Any]) -> Vector:
        """H of states (N, n)."""
        Y = np.asarray(X, dtype=np.float64)
        return np.asarray(((Y @ self.Q) * Y).sum(axis=1) + Y @ self.linear)

    def flips(self, x: NDArray[Any]) -> Vector:
        """(n,) |change of H| by flipping each variable."""
        slope = self.linear + (self.Q + self.Q.T) @ np.asarray(x, dtype=np.float64)
        return np.asarray(np.abs(slope))

    def beta_range(self) -> list[float]:
        """Inverse temperatures: every flip is likely at the start, hardly any at the end."""
        largest = float((np.abs(self.linear) + np.abs(self.Q + self.Q.T).sum(axis=1)).max())
        x = np.zeros(self.linear.size)
        for _ in range(20 * x.size):  # steepest descent
            change = (self.linear + (self.Q + self.Q.T) @ x) * (1 - 2 * x)
            if change.min() >= 0:
                break
            x[change.argmin()] = 1 - x[change.argmin()]
        flips = self.flips(x)
        smallest = float(np.quantile(flips[flips > 0], COLDEST_QUANTILE)) if (flips > 0).any() else 1.0
        return [HOTTEST / (largest or 1.0), COLDEST / min(smallest, largest or 1.0)]


def ground_state(
    problem: Magnitude,
    sampler: str,
    *,
    seed: int = 0,
    time_limit_s: float = 1.0,
    report: Callable[[float], None] | None = None,
) -> Ground:
    """The best state a sampler finds within a time; at least one read or generation is always done.

    Args:
        problem: the Hamiltonian.
        sampler: a name in `SAMPLERS`.
        seed: seed of everything random.
        time_limit_s: no new read or generation begins after this time.
        report: called with each energy that is the least so far.

    Raises:
        ValueError: an unknown sampler, or a time limit that is not positive.

    >>> problem = Magnitude((np.array([0.5, 0.1, 0.3]),), (np.full(3, 9.0),), beta=1.0, gamma=0.5)
    >>> found = ground_state(problem, "ocean-sa", time_limit_s=0.1)
    >>> abs(found.energy - problem.optimum().energy) < 1e-12
    True
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler {sampler!r} is unknown: pass one of {', '.join(SAMPLERS)}")
    if not time_limit_s > 0:
        raise ValueError(f"time_limit_s must be above 0, got {time_limit_s}: pass seconds")
    started = time.perf_counter()
    if sampler == "sorting":
        state = _sorted(problem)
        energy = _energy(problem, state)
        if report:
            report(energy)
        return Ground(state, energy, problem.variables, time.perf_counter() - started)
    model = _Model.of(problem)
    rounds = _generations(model, seed) if sampler == "genetic" else _reads(model, sampler, seed)
    best, energy, evaluations = np.zeros(problem.variables, dtype=np.int8), np.inf, 0
    for states, work in rounds:
        values = model.energies(states)
        least = int(values.argmin())
        evaluations += work
        if values[least] < energy:
            best, energy = np.asarray(states[least], dtype=np.int8).copy(), float(values[least])
            if report:
                report(energy)
        if time.perf_counter() - started >= time_limit_s:
            break
    return Ground(best, _energy(problem, best), evaluations, time.perf_counter() - started)


def _energy(problem: Magnitude, state: States) -> float:
    return problem.decode(state).energy


def _sorted(problem: Magnitude) -> States:
    """The exact optimum as a state."""
    best = problem.optimum()
    parts = []
    for pruned, bits in zip(best.pruned, best.bits, strict=True):
        removed = 8 - bits
        parts.append(np.concatenate([pruned, [(removed >> k) & 1 for k in range(3)]]))
    return np.concatenate(parts).astype(np.int8)


def _reads(model: _Model, sampler: str, seed: int) -> Any:
    """Endless reads: (states, variables visited) each."""
    n = model.linear.size
    draw = _drawer(model, sampler)
    number = 0
    while True:
        states, visited = draw((seed * 1_000_003 + number) % 2**31)
        yield states, visited * n
        number += 1


def _drawer(model: _Model, sampler: str) -> Callable[[int], tuple[NDArray[Any], int]]:
    """One read by a seed: states and sweeps."""
    n, bqm = model.linear.size, model.bqm

    def columns(found: Any) -> NDArray[Any]:
        order = np.argsort(np.asarray(list(found.variables), dtype=np.int64))
        return np.asarray(found.record.sample[:, order])

    if sampler == "random":
        return lambda seed: (np.random.default_rng(seed).integers(0, 2, (POPULATION, n), dtype=np.int8), POPULATION)
    import dwave.samplers as ocean

    if sampler == "ocean-sa":
        sa, betas = ocean.SimulatedAnnealingSampler(), model.beta_range()  # type: ignore[no-untyped-call]
        return lambda seed: (
            columns(sa.sample(bqm, num_reads=1, num_sweeps=SA_SWEEPS, beta_range=betas, seed=seed)),
            SA_SWEEPS,
        )
    if sampler == "ocean-tabu":
        tabu = ocean.TabuSampler()  # type: ignore[no-untyped-call]
        return lambda seed: (columns(tabu.sample(bqm, num_reads=1, seed=seed, timeout=TABU_MS)), 1)
    if sampler == "ocean-greedy":
        greedy = ocean.SteepestDescentSolver()  # type: ignore[no-untyped-call]
        return lambda seed: (columns(greedy.sample(bqm, num_reads=10, seed=seed)), 10)
    path = ocean.PathIntegralAnnealingSampler()  # type: ignore[no-untyped-call]
    s = (np.arange(PATH_SWEEPS) + 1.0) / PATH_SWEEPS
    unit = COLDEST / model.beta_range()[1]
    return lambda seed: (
        columns(path.sample(bqm, num_reads=1, seed=seed, beta_schedule_type="custom",
                            Hp_field=10.0 * s / unit, Hd_field=20.0 * (1 - s))),
        PATH_SWEEPS,
    )  # fmt: skip


def _generations(model: _Model, seed: int) -> Any:
    """Endless generations of pymoo's genetic algorithm on bits: (children, states evaluated) each."""
    from pymoo.algorithms.soo.nonconvex.ga import GA
    from pymoo.core.problem import Problem
    from pymoo.core.termination import NoTermination
    from pymoo.operators.crossover.ux import UniformCrossover
    from pymoo.operators.mutation.bitflip import BitflipMutation
    from pymoo.operators.sampling.rnd import BinaryRandomSampling

    class Bits(Problem):  # type: ignore[misc]
        """H of rows of bits."""

        def _evaluate(self, X: NDArray[Any], out: dict[str, Vector], *args: Any, **kwargs: Any) -> None:
            out["F"] = model.energies(X)[:, None]

    problem = Bits(n_var=model.linear.size, n_obj=1, xl=0, xu=1, vtype=bool)
    algorithm = GA(
        pop_size=POPULATION,
        sampling=BinaryRandomSampling(),
        crossover=UniformCrossover(),
        mutation=BitflipMutation(),
        eliminate_duplicates=True,
    )
    algorithm.setup(problem, seed=seed, termination=NoTermination())
    while True:
        children = algorithm.infill()
        if children is None or len(children) == 0:
            return  # every state near by has been seen
        algorithm.evaluator.eval(problem, children, algorithm=algorithm)
        algorithm.advance(infills=children)
        yield children.get("X").astype(np.int8), len(children)
