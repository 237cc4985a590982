"""Random choices: uniform where they fit, repaired by chance where not, and never better than they should be."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_qubo_selection import random_selection
from test_qubo_solvers_exact import CORNERS, brute_force, sound

import qubo
from qubo import Selection
from qubo.search.arrays import lay_out
from qubo.solvers.random import costs, lowered


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_enough_draws_find_the_optimum_of_a_tiny_problem(seed, missing):
    selection = random_selection(seed, groups=4, missing=missing)
    found = qubo.solve(selection, "random", seed=seed, samples=3000)
    sound(found, selection)
    # 81 choices at most and 3,000 draws: one is missed with probability below 1e-16 unless it is never drawn.
    optimum = brute_force(selection)
    assert found.energy == pytest.approx(optimum, rel=1e-9, abs=1e-9)


def test_draws_within_the_budget_are_uniform_over_the_feasible_choices(monkeypatch):
    # Two groups of three codes; the budget leaves 6 of 9 choices.
    selection = Selection(loss=np.zeros((2, 3)), cost=[[0, 1, 2], [0, 1, 2]], budget=2.0)
    layout = lay_out(selection)
    drawn = []
    monkeypatch.setattr(
        "qubo.solvers.random.refresh", lambda a, x, F, S: drawn.append(tuple(x)) or (float(len(drawn)), 0.0)
    )
    found = qubo.solve(selection, "random", seed=1, samples=18_000)
    feasible = [c for c in itertools.product(range(3), repeat=2) if sum(c) <= 2]
    assert set(drawn) == set(feasible)
    # 18,000 draws, two thirds feasible: 12,003 expected to fit, standard deviation 63.
    assert found.feasible_before_repair == pytest.approx(2 / 3, abs=4 * 63 / 18_000)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 3, (60_000, 2))
    fits = x[costs(layout, x) <= layout.limit]
    counts = [int((fits == c).all(axis=1).sum()) for c in feasible]
    # Each of six is drawn 6,667 times on average, standard deviation 77.
    assert np.abs(np.array(counts) - 60_000 / 9).max() < 5 * 77


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 1), st.booleans())
def test_repair_by_chance_always_meets_the_budget_and_only_frees_cells(seed, tightness, missing):
    base = random_selection(seed, groups=5, missing=missing)
    dearest = np.where(base.offered, base.cost, 0).max(axis=1).sum()
    selection = base.with_budget(base.smallest_cost + tightness * (dearest - base.smallest_cost))
    layout = lay_out(selection)
    rng = np.random.default_rng(seed)
    x = np.floor(rng.random((50, 5)) * layout.arrays.codes).astype(np.int64)
    repaired = lowered(layout, x, rng)
    groups = np.arange(5)
    assert (costs(layout, repaired) <= layout.limit).all()
    assert (layout.arrays.cost[groups, repaired] <= layout.arrays.cost[groups, x]).all()
    within = costs(layout, x) <= layout.limit
    assert np.array_equal(repaired[within], x[within])


@pytest.mark.parametrize("family", ["S", "Q", "R", "D"])
def test_random_is_sound_on_every_family_and_worse_than_a_search(family):
    problem = qubo.generate(family, groups=60, seed=2)
    proof = qubo.lower_bound(problem)
    found = qubo.solve(problem, "random", seed=3, certificate=proof, samples=2000)
    sound(found, problem)
    assert found.energy > 1.2 * qubo.solve(problem, "lagrangian", certificate=proof).energy


@pytest.mark.parametrize("name", CORNERS)
def test_corner_cases_are_solved_to_the_optimum(name):
    solution = qubo.solve(CORNERS[name], "random", samples=300)
    sound(solution, CORNERS[name])
    assert solution.energy == pytest.approx(brute_force(CORNERS[name]), rel=1e-12, abs=1e-300)


def test_the_same_seed_gives_the_same_choice_and_another_seed_another():
    problem = qubo.generate("R", groups=40)
    first, second, other = (qubo.solve(problem, "random", seed=s, samples=500) for s in (7, 7, 8))
    assert np.array_equal(first.choice, second.choice)
    assert not np.array_equal(first.choice, other.choice)


def test_more_samples_are_never_worse():
    problem = qubo.generate("S", groups=30)
    energies = [qubo.solve(problem, "random", seed=1, samples=n).energy for n in (10, 6_000, 20_000)]
    assert energies[0] > energies[1] >= energies[2]


def test_a_time_limit_progress_and_an_interrupt_are_honoured():
    problem, seen = qubo.generate("R", groups=50), []
    solution = qubo.solve(problem, "random", time_limit_s=0.3, progress=lambda share, best: seen.append((share, best)))
    sound(solution, problem)
    assert [s for s, _ in seen] == sorted(s for s, _ in seen)
    assert seen[-1] == (1.0, solution.energy)

    def interrupt(share, best):
        raise KeyboardInterrupt

    stopped = qubo.solve(problem, "random", progress=interrupt)
    assert stopped.interrupted
    sound(stopped, problem)
