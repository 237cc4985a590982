"""The decomposition workflow of dwave-hybrid, with local samplers."""

import dimod
import hybrid
import numpy as np
import pytest

import qubo
from qubo.search.watch import Watch
from qubo.solvers import decompose, penalty_loop
from qubo.solvers.solver import Prepared


def task(problem: qubo.Selection) -> penalty_loop.Task:
    """The first round's question about a problem."""
    kept: list[penalty_loop.Task] = []

    def draw(asked: penalty_loop.Task) -> penalty_loop.Draw:
        kept.append(asked)
        raise penalty_loop.GaveUpError("seen")

    penalty_loop.search(Prepared.of(problem), Watch(), draw, rounds=1, work=1)
    return kept[0]


def test_the_workflow_never_loses_what_it_was_given_and_reaches_a_local_optimum() -> None:
    asked = task(qubo.generate("Q", groups=20, codes=4))
    bqm = asked.model()
    flow = decompose._workflow(asked, np.random.default_rng(1), size=20, sweeps=50, iterations=8, limit_s=None)
    start = dict.fromkeys(bqm.variables, 0)
    found = flow.run(hybrid.State.from_sample(start, bqm)).result().samples.first
    assert found.energy < bqm.energy(start)
    assert found.energy == pytest.approx(bqm.energy(found.sample), rel=1e-9)
    flips = [bqm.energy({**found.sample, v: 1 - bit}) for v, bit in found.sample.items()]
    # Tabu search and cold annealing leave no single flip that pays.
    assert min(flips) >= found.energy - 1e-9 * abs(found.energy)


def test_the_workflow_solves_a_small_model_exactly() -> None:
    asked = task(qubo.generate("D", groups=4, codes=4))
    bqm = asked.model()
    exact = dimod.ExactSolver().sample(bqm).first.energy
    flow = decompose._workflow(asked, np.random.default_rng(2), size=8, sweeps=100, iterations=10, limit_s=None)
    start = dict.fromkeys(bqm.variables, 1)
    found = flow.run(hybrid.State.from_sample(start, bqm)).result().samples.first
    assert found.energy == pytest.approx(exact, rel=1e-9)


def test_a_subproblem_may_be_larger_than_the_problem() -> None:
    problem = qubo.generate("S", groups=3)
    assert qubo.solve(problem, "ocean-decompose", subproblem=1000, rounds=2).feasible
