"""Solvers on selections with setups: optima by brute force, budgets never overspent, true costs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_qubo_bounds_setup_shares import layered, optimum
from test_qubo_selection import random_selection
from test_qubo_setups import random_setups

import qubo
from qubo import Selection, Setup
from qubo.search.arrays import lay_out
from qubo.solvers.random import costs, lowered


def small(seed):
    """Six groups, sometimes coupled, sometimes with codes not offered, setups from cheap to dear."""
    plain = random_selection(seed, groups=6, gram=bool(seed % 2), missing=seed % 3 == 0, block=(0, 3, 6)[seed % 3])
    return random_setups(plain, seed, size=(4.0, 10.0)[seed % 2])


def checked(selection, solution):
    """The solution's energy, once all that it promises is so."""
    assert solution.feasible
    assert solution.cost == selection.total_cost(solution.choice) <= selection.limit
    assert solution.energy == pytest.approx(selection.energy(solution.choice), rel=1e-14)
    assert solution.lower_bound <= solution.energy + 1e-12 * max(1.0, abs(solution.energy))
    return solution.energy


def test_the_annealer_finds_the_optimum_of_small_problems_with_setups_and_exact_proves_it():
    found = 0
    for seed in range(40):
        selection = small(seed)
        least = optimum(selection)
        certificate = qubo.lower_bound(selection)
        slack = 1e-9 * max(1.0, np.abs(selection.loss[selection.offered]).max())
        exact = qubo.solve(selection, "exact", certificate=certificate)
        assert abs(checked(selection, exact) - least) <= slack
        assert least - 1e-6 * (1 + abs(least)) <= exact.lower_bound <= least + slack
        annealed = checked(selection, qubo.solve(selection, certificate=certificate, seed=seed, sweeps=100, restarts=4))
        found += annealed <= least + slack
        assert checked(selection, qubo.solve(selection, "lagrangian", certificate=certificate)) >= least - slack
    assert found >= 38


@pytest.mark.parametrize(("family", "gap"), [("S", 0.005), ("Q", 0.01)])
def test_two_hundred_groups_with_setups_are_solved_close_to_their_bound(family, gap):
    selection = layered(family, factor=10.0, seed=2)
    solution = qubo.solve(selection, seed=1)
    checked(selection, solution)
    assert 0 <= solution.gap < gap  # measured 0.03 % and 0.3 %
    assert checked(selection, qubo.solve(selection, "lagrangian")) < 1.01 * solution.energy


def test_exact_agrees_with_the_annealer_where_setups_decide():
    selection = layered("S", groups=40, sets=2, factor=20.0)
    exact, annealed = qubo.solve(selection, "exact"), qubo.solve(selection)
    assert checked(selection, annealed) == pytest.approx(checked(selection, exact), rel=1e-3)
    assert exact.gap < 1e-6
    ignored = qubo.solve(Selection(selection.loss, selection.cost, selection.budget), "exact")
    assert not selection.feasible(ignored.choice)  # without a thought for setups the budget would be overspent


def test_blocks_and_sets_that_cross_are_recombined_within_the_budget():
    plain = qubo.generate("D", groups=48, seed=3)
    owner = np.arange(48) % 2  # every set has half of every block
    cost = 0.3 * plain.cost.mean() * np.array([0, 4, 0, 8, 2, 4])
    setup = tuple(Setup(np.flatnonzero(owner == s), np.roll(cost, s)) for s in (0, 1))
    selection = Selection(plain.loss, plain.cost, plain.budget, plain.blocks, setup)
    solution = qubo.solve(selection, sweeps=200, rounds=2)
    assert checked(selection, solution) <= checked(selection, qubo.solve(selection, "lagrangian"))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 10**6))
def test_no_budget_is_overspent_by_a_hair(seed):
    selection = random_setups(random_selection(seed, groups=5), seed, tightness=0.0)
    for solver in ("annealer", "lagrangian"):
        checked(
            selection, qubo.solve(selection, solver, **({"sweeps": 20, "restarts": 2} if solver == "annealer" else {}))
        )


def test_a_code_that_is_not_worth_its_setup_leaves_the_optimum_as_it_is():
    selection = layered("S", groups=24, sets=2)
    wider = Selection(
        loss=np.hstack([selection.loss, np.zeros((24, 1))]),
        cost=np.hstack([selection.cost, np.zeros((24, 1))]),
        budget=selection.budget,
        setup=tuple(Setup(s.groups, np.append(s.cost, 2 * selection.budget)) for s in selection.setup),
    )
    for solver in ("exact", "annealer", "lagrangian"):
        first, second = (qubo.solve(problem, solver) for problem in (selection, wider))
        assert np.array_equal(first.choice, second.choice)


def test_with_setups_the_same_seed_gives_the_same_choice_on_any_number_of_threads():
    selection = layered("Q", groups=64, sets=2)
    certificate = qubo.lower_bound(selection)
    one, two = (
        qubo.solve(selection, seed=5, sweeps=40, restarts=3, threads=n, certificate=certificate) for n in (1, 2)
    )
    assert np.array_equal(one.choice, two.choice)


LITTLE = {
    "annealer": {"sweeps": 50, "restarts": 2, "rounds": 1},
    "exact": {},
    "genetic": {"population": 20, "generations": 20},
    "lagrangian": {},
    "random": {"samples": 500},
    "reinforce": {"episodes": 5},
    "ocean-sa": {"sweeps": 50, "reads": 2, "rounds": 2},
    "ocean-tabu": {"updates": 20, "reads": 2, "rounds": 2},
    "ocean-greedy": {"restarts": 20, "rounds": 2},
    "ocean-path-integral": {"sweeps": 20, "reads": 2, "rounds": 1},
    "ocean-decompose": {"sweeps": 20, "iterations": 2, "rounds": 1},
}


@pytest.mark.parametrize("solver", LITTLE)
@pytest.mark.parametrize("tightness", [0.0, 0.4])
def test_every_solver_returns_feasible_choices_with_true_costs(solver, tightness):
    for seed in range(4):
        selection = random_setups(random_selection(seed, groups=6, block=4), seed, size=8.0, tightness=tightness)
        found = checked(selection, qubo.solve(selection, solver, seed=seed, **LITTLE[solver]))
        assert found >= optimum(selection) - 1e-9 * (1 + abs(found))


def test_every_solver_that_searches_has_been_tried():
    local = {name for name, entry in qubo.SOLVERS.items() if entry.search is not None and entry.client is None}
    assert local == set(LITTLE)


def test_choices_drawn_too_dear_are_brought_within_the_budget_with_true_costs():
    selection = random_setups(random_selection(5, groups=5), 5, size=8.0, tightness=0.5)
    layout, rng = lay_out(selection), np.random.default_rng(0)
    x = np.floor(rng.random((300, 5)) * layout.arrays.codes).astype(np.int64)
    true = np.array([selection.total_cost(layout.decode(row)) for row in x])
    assert costs(layout, x) * layout.cells == pytest.approx(true, rel=1e-12)
    assert (true > selection.limit).sum() > 50
    assert all(selection.feasible(layout.decode(row)) for row in lowered(layout, x, rng))


def test_the_frontier_counts_setups():
    selection = layered("S", groups=12, sets=2)
    found = qubo.frontier(selection, population=20, generations=20)
    assert found.costs.tolist() == [selection.total_cost(choice) for choice in found.choices]
    assert (np.diff(found.costs) > 0).all()
    assert (np.diff(found.energies) < 0).all()
    assert found.costs[0] == selection.smallest_cost


def test_what_a_group_would_begin_is_what_the_others_do_without():
    selection = random_setups(random_selection(7, groups=6), 7, tightness=1.2)
    layout, rng = lay_out(selection), np.random.default_rng(1)
    for _ in range(10):
        x = np.floor(rng.random(6) * layout.arrays.codes).astype(np.int64)
        more = layout.beginning(x)
        for g, k in zip(*np.nonzero(layout.kept()), strict=True):
            others = np.delete(np.arange(6), g)
            slot = layout.slot[g, k]
            used = slot in layout.slot[others, x[others]]
            assert more[g, k] == (0.0 if slot < 0 or used else layout.setup[slot])
