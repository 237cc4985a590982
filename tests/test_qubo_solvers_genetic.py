"""The genetic search within a budget, and NSGA-II's frontier, against brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_qubo_selection import random_selection
from test_qubo_solvers_exact import CORNERS, brute_force, sound

import qubo

SMALL = {"population": 20, "generations": 20}


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.booleans())
def test_tiny_problems_are_solved_to_the_optimum(seed, gram, missing):
    selection = random_selection(seed, groups=4, gram=gram, missing=missing)
    found = qubo.solve(selection, "genetic", **SMALL)
    sound(found, selection)
    assert found.energy == pytest.approx(brute_force(selection), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    "family",
    [
        "S",
        pytest.param("Q", marks=pytest.mark.slow),
        pytest.param("R", marks=pytest.mark.slow),
        "D",
    ],
)
def test_the_search_is_sound_on_every_family_and_better_than_chance(family):
    problem = qubo.generate(family, groups=60, seed=2)
    proof = qubo.lower_bound(problem)
    found = qubo.solve(problem, "genetic", seed=3, certificate=proof, **SMALL)
    sound(found, problem)
    assert found.energy < qubo.solve(problem, "random", certificate=proof, samples=2000).energy


@pytest.mark.parametrize("name", CORNERS)
def test_corner_cases_are_solved_to_the_optimum(name):
    solution = qubo.solve(CORNERS[name], "genetic", **SMALL)
    sound(solution, CORNERS[name])
    assert solution.energy == pytest.approx(brute_force(CORNERS[name]), rel=1e-12, abs=1e-300)


def test_the_same_seed_gives_the_same_choice_and_another_seed_another():
    problem = qubo.generate("R", groups=40)
    first, second, other = (qubo.solve(problem, "genetic", seed=s, population=10, generations=2) for s in (7, 7, 8))
    assert np.array_equal(first.choice, second.choice)
    assert not np.array_equal(first.choice, other.choice)


def test_a_time_limit_progress_and_an_interrupt_are_honoured():
    problem, seen = qubo.generate("R", groups=50), []
    qubo.solve(problem, "genetic", population=4, generations=1)  # compiled before the clock counts
    solution = qubo.solve(problem, "genetic", time_limit_s=0.5, progress=lambda *both: seen.append(both))
    sound(solution, problem)
    assert solution.seconds < 5
    assert [s for s, _ in seen] == sorted(s for s, _ in seen)
    bests = np.array([best for _, best in seen])
    assert (np.diff(bests) <= 1e-12 * bests[0]).all()  # the best is never lost, up to the order of sums
    assert seen[-1] == (1.0, solution.energy)

    def interrupt(share, best):
        raise KeyboardInterrupt

    stopped = qubo.solve(problem, "genetic", progress=interrupt)
    assert stopped.interrupted
    sound(stopped, problem)


def true_frontier(selection):
    """Costs and energies of the choices that no other dominates, by brute force."""
    choices = [np.array(c) for c in itertools.product(range(selection.codes), repeat=selection.groups)]
    table = sorted((selection.total_cost(c), selection.energy(c)) for c in choices if np.isfinite(selection.energy(c)))
    front, least = [], np.inf
    for cost, energy in table:
        if energy < least:
            front.append((cost, energy))
            least = energy
    return np.array(front)


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_the_frontier_of_a_tiny_problem_is_the_true_one(seed):
    selection = random_selection(seed, groups=5, gram=seed % 2 == 0, missing=seed > 1)
    found = qubo.frontier(selection, population=60, generations=60, seed=1)
    front = true_frontier(selection)
    assert found.costs == pytest.approx(front[:, 0])
    assert found.energies == pytest.approx(front[:, 1], abs=1e-9)


@pytest.mark.parametrize("family", ["S", "Q", "D"])
def test_the_frontier_falls_spans_and_is_never_below_the_bound(family):
    problem = qubo.generate(family, groups=40, seed=3)
    found = qubo.frontier(problem, generations=60, seed=2)
    assert (np.diff(found.costs) > 0).all()
    assert (np.diff(found.energies) < 0).all()
    assert found.costs[0] <= 0.1 * problem.budget
    assert found.costs[-1] >= 1.5 * problem.budget  # beyond the problem's own budget
    for choice, energy, cost in zip(found.choices, found.energies, found.costs, strict=True):
        assert problem.energy(choice) == energy
        assert problem.total_cost(choice) == cost
    middle = len(found.costs) // 2
    proof = qubo.lower_bound(problem.with_budget(float(found.costs[middle])))
    assert proof.bound <= found.energies[middle]


def test_a_longer_run_draws_a_better_frontier_and_a_seed_the_same_one():
    problem = qubo.generate("S", groups=40)
    short, again, long = (qubo.frontier(problem, generations=n, seed=5) for n in (10, 10, 120))
    assert np.array_equal(short.choices, again.choices)

    def area(found):
        """Mean energy over evenly spaced budgets."""
        at = np.linspace(problem.budget * 0.2, problem.budget * 1.5, 50)
        return np.mean([found.energies[found.costs <= b].min() for b in at])

    assert area(long) < 0.7 * area(short)


def test_an_interrupted_frontier_is_what_there_was():
    def interrupt(share, best):
        raise KeyboardInterrupt

    found = qubo.frontier(qubo.generate("S", groups=20), progress=interrupt)
    assert found.interrupted
    assert found.costs.size > 5


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"population": 1}, "population must be a whole number of at least 2, got 1: pass a count"),
        ({"generations": 0}, "generations must be a whole number of at least 1, got 0: pass a count"),
        ({"time_limit_s": -1}, "time_limit_s must be above 0, got -1"),
    ],
)
def test_a_bad_frontier_is_refused_in_one_line(arguments, line):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        qubo.frontier(qubo.generate("S", groups=3), **arguments)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_population_of_one_still_searches():
    problem = qubo.generate("S", groups=10)
    solution = qubo.solve(problem, "genetic", population=1, generations=30)
    sound(solution, problem)
    assert solution.evaluations > 5


def test_a_population_of_nothing_is_refused():
    with pytest.raises(ValueError, match="population must be a whole number of at least 1, got 0"):
        qubo.solve(qubo.generate("S", groups=3), "genetic", population=0)
