"""HiGHS against brute force, its bound, and where it refuses; the corner cases the other baselines share."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_qubo_selection import random_selection

import qubo
from qubo import Block, Selection

# Problems at the edges of what is allowed, each small enough for brute force.
CORNERS = {
    "one of each": Selection(loss=[[1.0]], cost=[[2.0]], budget=2.0),
    "one code per group": Selection(loss=[[1.0], [-2.0], [3.0]], cost=[[2.0], [1.0], [0.0]], budget=3.0),
    "one offered code per group": Selection(
        loss=[[np.inf, 1.0], [2.0, np.inf]],
        cost=[[0.0, 2.0], [1.0, 9.0]],
        budget=3.0,
        blocks=(Block.from_factors([0, 1], np.ones((2, 2, 1))),),
    ),
    "one group": Selection(loss=[[3.0, 1.0, 2.0]], cost=[[0.0, 5.0, 1.0]], budget=1.0),
    "equal costs": Selection(loss=[[3.0, 1.0], [2.0, 5.0]], cost=np.ones((2, 2)), budget=2.0),
    "all equal": Selection(loss=np.zeros((3, 2)), cost=np.ones((3, 2)), budget=3.0),
    "all zero": Selection(loss=np.zeros((3, 2)), cost=np.zeros((3, 2)), budget=0.0),
    "loose": Selection(loss=[[1.0, 2.0], [5.0, 1.0]], cost=np.ones((2, 2)), budget=1e30),
    "huge and tiny": Selection(loss=[[1.0, 1e12], [5.0, 1e-12]], cost=[[1.0, 0.0], [0.3, 0.6]], budget=0.9),
    "huge losses": Selection(loss=[[1e12, 3e12], [5e12, 1e12]], cost=[[2.0, 1.0], [1.0, 2.0]], budget=3.0),
    "tiny losses and costs": Selection(
        loss=[[1e-12, 3e-12], [5e-12, 1e-12]], cost=[[2e-12, 1e-12], [1e-12, 2e-12]], budget=3e-12
    ),
    "smallest budget": Selection(
        loss=[[1.0, 2.0], [3.0, 4.0]],
        cost=[[0.1, 0.2], [0.2, 0.1]],
        budget=0.2,
        blocks=(Block.from_factors([1], np.ones((1, 2, 1))), Block.from_gram([0], np.ones((1, 2, 1, 2)))),
    ),
}


def brute_force(selection):
    """The least energy over all feasible choices."""
    everything = itertools.product(range(selection.codes), repeat=selection.groups)
    return min(selection.energy(np.array(c)) for c in everything if selection.feasible(np.array(c)))


def sound(solution, selection):
    """What every answer must be, whatever found it."""
    assert solution.feasible
    assert selection.feasible(solution.choice)
    assert solution.cost <= selection.limit
    assert solution.energy == selection.energy(solution.choice)
    assert solution.lower_bound <= solution.energy + 1e-300
    assert solution.kind == "classical"
    assert solution.evaluations > 0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.booleans(), st.sampled_from([0, 1, 3, 5]))
def test_exact_is_brute_force_on_tiny_problems_and_its_bound_says_so(seed, gram, missing, block):
    selection = random_selection(seed, groups=5, gram=gram, missing=missing, block=block)
    optimum = brute_force(selection)
    found = qubo.solve(selection, "exact")
    sound(found, selection)
    scale = np.abs(selection.loss[np.isfinite(selection.loss)]).max() + 50
    assert abs(found.energy - optimum) <= 1e-9 * scale
    assert found.lower_bound <= optimum + 1e-12 * scale
    # Both bound and HiGHS' own tolerance are within 1e-9 of the largest energy, whichever is larger.
    assert found.lower_bound >= optimum - 1e-7 * scale


@pytest.mark.parametrize("family", ["S", "Q", "R", "D"])
@pytest.mark.parametrize("seed", [0, 1])
def test_exact_is_brute_force_on_every_family(family, seed):
    problem = qubo.generate(family, groups=6, codes=4, seed=seed)
    found = qubo.solve(problem, "exact")
    sound(found, problem)
    assert found.energy == pytest.approx(brute_force(problem), rel=1e-9)
    assert found.gap < 1e-6
    assert found.details["status"] == "Optimal"


@pytest.mark.parametrize("family", ["S", "Q", "D"])
def test_no_other_solver_is_below_the_optimum_and_its_bound_is_the_tighter(family):
    problem = qubo.generate(family, groups=10, codes=4, seed=4)
    proof = qubo.lower_bound(problem)
    exact = qubo.solve(problem, "exact", certificate=proof)
    other = qubo.solve(problem, "annealer", certificate=proof)
    assert exact.energy <= other.energy * (1 + 1e-9)
    assert proof.bound <= exact.lower_bound * (1 + 1e-9)
    assert exact.gap < 1e-6


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([-12, -6, 0, 6, 12]), st.sampled_from([-12, -6, 0, 6, 12]))
def test_coefficients_from_1e_minus_12_to_1e12_at_once_are_answered_soundly(seed, low, high):
    rng = np.random.default_rng(seed)
    loss = rng.normal(size=(4, 3)) * 10.0 ** rng.choice([low, high, 0], (4, 3))
    cost = rng.integers(0, 6, (4, 3)) * 10.0 ** rng.choice([low, high, 0], (4, 3))
    base = Selection(loss=loss, cost=cost, budget=float(cost.max(axis=1).sum()))
    selection = base.with_budget(base.smallest_cost + rng.random() ** 4 * (base.budget - base.smallest_cost))
    found = qubo.solve(selection, "exact")
    sound(found, selection)
    optimum, largest = brute_force(selection), np.abs(loss).max()
    # Exact to HiGHS' tolerance on the largest loss; what is finer is left to the polish.
    assert found.energy <= optimum + 1e-8 * largest
    assert found.lower_bound <= optimum + 1e-12 * largest


@pytest.mark.parametrize("name", CORNERS)
def test_corner_cases_are_solved_to_the_optimum(name):
    solution = qubo.solve(CORNERS[name], "exact")
    sound(solution, CORNERS[name])
    assert solution.energy == pytest.approx(brute_force(CORNERS[name]), rel=1e-12, abs=1e-300)


def test_factor_blocks_and_gram_blocks_have_the_same_optimum(monkeypatch):
    problem = qubo.generate("D", groups=6, codes=4, seed=3)
    dense = qubo.solve(problem, "exact")
    monkeypatch.setattr("qubo.search.arrays.GRAM_ENTRIES", 0)
    wide = Selection(
        loss=problem.loss,
        cost=problem.cost,
        budget=problem.budget,
        blocks=tuple(Block.from_factors(b.groups, b.factors[:, :, :8]) for b in problem.blocks),
    )
    assert qubo.solve(wide, "exact").energy == pytest.approx(brute_force(wide), rel=1e-9)
    assert qubo.solve(problem, "exact").energy == pytest.approx(dense.energy, rel=1e-9)


def test_too_many_products_are_refused_with_their_number():
    problem = qubo.generate("D", groups=16 * 75)
    with pytest.raises(ValueError, match=r"exact linearises at most 300000 products of coupled codes, got 30\d{4} or"):
        qubo.solve(problem, "exact", certificate=qubo.lower_bound(problem, effort=0))


def test_a_time_limit_returns_the_best_so_far_with_a_valid_bound():
    problem = qubo.generate("D", groups=32)
    seen = []
    proof = qubo.lower_bound(problem, effort=0)
    solution = qubo.solve(
        problem, "exact", certificate=proof, time_limit_s=0.5, progress=lambda share, best: seen.append((share, best))
    )
    sound(solution, problem)
    assert solution.seconds < 10  # HiGHS looks at the clock between its steps
    assert solution.energy < qubo.solve(problem, "random", certificate=proof).energy  # it starts from far better
    shares = [share for share, _ in seen]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert seen[-1][1] == solution.energy


def test_an_interrupt_returns_the_best_so_far():
    def interrupt(share, best):
        raise KeyboardInterrupt

    problem = qubo.generate("D", groups=32)
    solution = qubo.solve(
        problem, "exact", certificate=qubo.lower_bound(problem, effort=0), progress=interrupt, time_limit_s=30.0
    )
    assert solution.interrupted
    assert solution.seconds < 20
    sound(solution, problem)


def test_the_same_seed_gives_the_same_answer():
    problem = qubo.generate("Q", groups=16, codes=4)
    first, second = (qubo.solve(problem, "exact", seed=3) for _ in range(2))
    assert np.array_equal(first.choice, second.choice)
    assert first.lower_bound == second.lower_bound


def test_an_option_is_refused_because_there_is_none():
    with pytest.raises(ValueError, match="solver 'exact' has no option 'sweeps': it has none"):
        qubo.solve(qubo.generate("S", groups=2), "exact", sweeps=3)


@pytest.mark.parametrize("shape", [(0, 3), (2, 0)])
def test_an_empty_problem_is_refused_before_any_solver(shape):
    with pytest.raises(ValueError, match="loss must be a table of groups × codes"):
        Selection(loss=np.zeros(shape), cost=np.zeros(shape), budget=1.0)
