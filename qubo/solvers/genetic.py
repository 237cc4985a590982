"""Genetic search (classical): pymoo's genetic algorithm within the budget, and its NSGA-II over the whole frontier.

A genome holds one integer a group, the place of its code among the group's usable ones, so that every operator keeps
one code per group: uniform crossover takes each group's code from either parent, mutation draws a code anew. Within a
budget every child is repaired to it and filled by single moves (our kernels, as for samples of an annealer); the
frontier is NSGA-II's own, without repair or descent.

Sources: pymoo, Blank and Deb 2020, doi 10.1109/ACCESS.2020.2990567; NSGA-II, Deb et al. 2002, doi 10.1109/4235.996017.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.algorithms.soo.nonconvex.ga import GA
from pymoo.core.algorithm import Algorithm
from pymoo.core.mutation import Mutation
from pymoo.core.problem import Problem
from pymoo.core.repair import Repair
from pymoo.core.termination import NoTermination
from pymoo.operators.crossover.ux import UniformCrossover
from pymoo.operators.mutation.bitflip import BitflipMutation
from pymoo.operators.sampling.rnd import BinaryRandomSampling

from qubo.magnitude.binary_model import BinaryModel, Read
from qubo.magnitude.hamiltonian import Magnitude
from qubo.search.arrays import Layout, fields, lay_out
from qubo.search.kernels import Indices, fill, refresh, repair
from qubo.search.watch import Outcome, Watch
from qubo.selection import Selection
from qubo.solvers.solver import Prepared, Solver

Vector = NDArray[np.float64]

MUTATED = 2.0
"""Groups whose code mutation draws anew, on average (our choice)."""
MATINGS = 5
"""Matings tried for children that are not in the population already; then a generation makes do with fewer."""
BIT_POPULATION = 100
"""States a generation, of a magnitude Hamiltonian."""


class _Energy(Problem):  # type: ignore[misc]
    """Energy of genomes, and their cells if asked, both scaled."""

    def __init__(self, layout: Layout, objectives: int) -> None:
        a = layout.arrays
        super().__init__(n_var=a.codes.size, n_obj=objectives, xl=0, xu=a.codes - 1, vtype=int)
        self.arrays = a
        self.F, self.S = fields(a)

    def _evaluate(self, X: Indices, out: dict[str, Vector], *args: Any, **kwargs: Any) -> None:
        out["F"] = np.array([refresh(self.arrays, x, self.F, self.S) for x in X])[:, : self.n_obj]


class _Redraw(Mutation):  # type: ignore[misc]
    """Each group draws a usable code anew with probability `MUTATED` / groups."""

    def _do(
        self, problem: _Energy, X: Indices, *args: Any, random_state: np.random.Generator, **kwargs: Any
    ) -> Indices:
        codes = problem.arrays.codes
        drawn = np.floor(random_state.random(X.shape) * codes).astype(np.int64)
        return np.where(random_state.random(X.shape) < MUTATED / codes.size, drawn, X)


class _Budget(Repair):  # type: ignore[misc]
    """Genomes brought within the budget, then filled by single moves that lower the energy."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit

    def _do(self, problem: _Energy, X: Indices, **kwargs: Any) -> Indices:
        a, F, S = problem.arrays, problem.F, problem.S
        X = X.astype(np.int64)
        for x in X:
            refresh(a, x, F, S)
            repair(a, x, F, S, self.limit)
            fill(a, x, F, S, self.limit)
        return X


def search(problem: Prepared, watch: Watch, *, population: int = 100, generations: int = 200) -> Outcome:
    """Generations from uniform choices; the best ever seen is the answer.

    Args:
        population: genomes, and children a generation.
        generations: generations; with a time limit, as many as fit.
    """
    layout = problem.layout
    a = layout.arrays
    rng = np.random.default_rng(problem.seed)
    first = np.floor(rng.random((population, a.codes.size)) * a.codes).astype(np.int64)
    first[0] = layout.cheapest()
    algorithm = GA(
        pop_size=population,
        sampling=first,
        crossover=UniformCrossover(),
        mutation=_Redraw(),
        repair=_Budget(layout.limit),
    )
    best = evolve(algorithm, _Energy(layout, 1), layout, watch, problem.seed, generations)
    x = layout.cheapest() if best is None else best[0]
    return Outcome(layout.decode(x), watch.evaluations)


def evolve(
    algorithm: Algorithm, problem: _Energy, layout: Layout, watch: Watch, seed: int, generations: int
) -> Indices | None:
    """Runs an algorithm; the genomes of its optimum (N, G), or None where it was stopped before it had any."""
    algorithm.setup(problem, seed=seed, termination=NoTermination())
    algorithm.mating.n_max_iterations = MATINGS
    watch.expect(generations)
    number = 0
    try:
        while not (watch.stopped() and number) and (number < generations or watch.limit is not None):
            children = algorithm.infill()
            if children is None or len(children) == 0:
                break  # every genome there is has been seen
            algorithm.evaluator.eval(problem, children, algorithm=algorithm)
            algorithm.advance(infills=children)
            number += 1
            watch.add(1)
            watch.report(float(algorithm.opt.get("F")[:, 0].min()) * layout.scale)
    except KeyboardInterrupt:
        watch.interrupted = True
    watch.evaluations = int(algorithm.evaluator.n_eval)
    return None if algorithm.opt is None else np.asarray(algorithm.opt.get("X"), dtype=np.int64)


def trade_off(
    selection: Selection, *, seed: int, watch: Watch, population: int, generations: int
) -> tuple[Indices, Vector, Vector]:
    """NSGA-II's last front: choices (N, G) with their energies and costs, by rising cost. See `qubo.frontier`."""
    offered = np.where(selection.offered, selection.cost, 0.0)
    setups = sum(float(setup.cost[np.isfinite(setup.cost)].sum()) for setup in selection.setup)
    layout = lay_out(selection.with_budget(float(offered.max(axis=1).sum()) + setups))
    rng = np.random.default_rng(seed)
    algorithm = NSGA2(
        pop_size=population,
        sampling=_spread(layout, population, rng),
        crossover=UniformCrossover(),
        mutation=_Redraw(),
    )
    found = evolve(algorithm, _Energy(layout, 2), layout, watch, seed, generations)
    if found is None:
        raise KeyboardInterrupt  # before there was anything to keep
    choices = np.unique([layout.decode(x) for x in found], axis=0)
    energies = np.array([selection.energy(choice) for choice in choices])
    costs = np.array([selection.total_cost(choice) for choice in choices])
    order = np.lexsort((energies, costs))
    best = np.concatenate([[np.inf], np.minimum.accumulate(energies[order])[:-1]])
    order = order[energies[order] < best]
    return choices[order], energies[order], costs[order]


def _spread(layout: Layout, population: int, rng: np.random.Generator) -> Indices:
    """Genomes from all groups' cheapest codes to their dearest, ever more groups dear: the front gets both ends."""
    kept = layout.kept()
    cheap, dear = layout.cheapest(), np.where(kept, layout.arrays.cost, -1.0).argmax(axis=1)
    uniform = np.floor(rng.random((population, cheap.size)) * layout.arrays.codes).astype(np.int64)
    share = np.linspace(0.0, 1.0, population)[:, None]
    end = np.where(rng.random(uniform.shape) < share, dear, cheap)
    # Half of the codes in the middle are drawn, none at the two ends.
    drawn = rng.random(uniform.shape) < 2 * share * (1 - share)
    return np.asarray(np.where(drawn, uniform, end))


def reads(problem: Magnitude, seed: int) -> Iterator[Read]:
    """Generations of pymoo's genetic algorithm on the bits of a magnitude Hamiltonian, until all near by are seen."""
    model = BinaryModel.of(problem)

    class Bits(Problem):  # type: ignore[misc]
        """H of rows of bits."""

        def _evaluate(self, X: NDArray[Any], out: dict[str, Vector], *args: Any, **kwargs: Any) -> None:
            out["F"] = model.energies(X)[:, None]

    bits = Bits(n_var=problem.variables, n_obj=1, xl=0, xu=1, vtype=bool)
    algorithm = GA(
        pop_size=BIT_POPULATION,
        sampling=BinaryRandomSampling(),
        crossover=UniformCrossover(),
        mutation=BitflipMutation(),
        eliminate_duplicates=True,
    )
    algorithm.setup(bits, seed=seed, termination=NoTermination())
    while True:
        children = algorithm.infill()
        if children is None or len(children) == 0:
            return
        algorithm.evaluator.eval(bits, children, algorithm=algorithm)
        algorithm.advance(infills=children)
        states = children.get("X").astype(np.int8)
        yield Read(states, model.energies(states), len(children))


SOLVER = Solver(
    "genetic",
    "classical",
    search,
    reads=reads,
    colour="#D55E00",
    dashes="-.",
    reference="Blank and Deb 2020, doi 10.1109/ACCESS.2020.2990567",
)
