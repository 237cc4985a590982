"""The Lagrangian choice: λ against the linear programme, choices against brute force, an end where the goal is met."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_qubo_selection import random_selection

import qubo
from qubo import Selection
from qubo.search.watch import Watch
from qubo.solvers.lagrangian import goal, price
from qubo.solvers.solver import Prepared


def brute_force(selection):
    choices = (np.array(c) for c in itertools.product(range(selection.codes), repeat=selection.groups))
    return min(selection.energy(c) for c in choices if selection.feasible(c))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.booleans(), st.booleans(), st.integers(1, 30))
def test_the_choice_is_feasible_with_its_energy_after_any_number_of_prices(seed, gram, missing, steps):
    selection = random_selection(seed, groups=5, gram=gram, missing=missing, block=4)
    prepared = Prepared.of(selection)
    found = price(prepared, Watch(), steps)
    choice = prepared.layout.decode(found.x)
    assert selection.feasible(choice)
    assert found.energy * prepared.layout.scale == pytest.approx(selection.energy(choice), rel=1e-9, abs=1e-9)
    assert found.lam >= 0
    assert selection.energy(choice) >= brute_force(selection) - 1e-9


@pytest.mark.parametrize("seed", range(5))
def test_without_couplings_no_more_than_one_groups_step_is_lost(seed):
    """A separable problem's linear relaxation splits at most one group between two codes (Sinha and Zoltners 1979)."""
    problem = qubo.generate("S", groups=200, seed=seed)
    found = qubo.solve(problem, "lagrangian")
    steps = -np.diff(problem.loss, axis=1)
    assert 0 <= found.energy - found.lower_bound <= steps.max()
    assert found.gap < 2e-3


def test_a_budget_that_does_not_bind_takes_every_groups_best_code():
    problem = qubo.generate("S", groups=20).with_budget(1e9)
    found = qubo.solve(problem, "lagrangian")
    assert found.choice.tolist() == problem.loss.argmin(axis=1).tolist()
    assert found.multiplier == 0.0
    assert found.energy == pytest.approx(found.lower_bound)


def test_a_budget_of_nothing_to_spare_takes_every_groups_cheapest_code():
    problem = qubo.generate("Q", groups=20).with_budget(0.0)
    assert qubo.solve(problem, "lagrangian").choice.tolist() == [0] * 20


def test_more_budget_never_costs_energy_and_the_price_falls():
    """Energies at rising budgets fall, and each price is near the slope between its neighbours."""
    problem = qubo.generate("S", groups=300, seed=2)
    budgets = problem.budget * np.array([0.8, 0.9, 1.0, 1.1, 1.2])
    found = [qubo.solve(problem.with_budget(float(budget)), "lagrangian") for budget in budgets]
    energies, prices = np.array([s.energy for s in found]), np.array([s.multiplier for s in found])
    assert (np.diff(energies) < 0).all()
    assert (np.diff(prices) < 0).all()
    slopes = -np.diff(energies) / np.diff(budgets)
    assert (slopes <= prices[:-1] * 1.01).all()
    assert (slopes >= prices[1:] * 0.99).all()


def test_the_search_ends_once_it_is_near_enough_to_the_bound():
    prepared = Prepared.of(qubo.generate("Q", groups=100, seed=1))
    far, near = Watch(), Watch()
    price(prepared, far, 30)
    found = price(prepared, near, 30, within=0.5)
    assert near.evaluations < far.evaluations
    assert found.energy <= goal(prepared, 0.5)


@pytest.mark.parametrize("within", [0.0, 0.25])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_goal_is_a_share_above_the_bound_whatever_its_sign(within, sign):
    prepared = Prepared.of(Selection(loss=[[sign * 8.0]], cost=[[1.0]], budget=1.0))
    expected = (sign * 8.0 + within * 8.0) / prepared.layout.scale
    assert goal(prepared, within) == pytest.approx(expected, rel=1e-12)


def test_an_interrupt_keeps_the_best_price_so_far_and_one_before_the_first_has_nothing_to_keep():
    prepared = Prepared.of(qubo.generate("R", groups=50))
    seen = []

    def second(share, best):
        seen.append(best)
        if len(seen) == 2:
            raise KeyboardInterrupt

    watch = Watch(progress=second)
    found = price(prepared, watch)
    assert watch.interrupted
    assert found.energy * prepared.layout.scale <= min(seen) * (1 + 1e-9)

    class Impatient(Watch):
        def add(self, evaluations):
            raise KeyboardInterrupt

    assert price(prepared, Impatient()).x.size == 50  # the first choice was there already

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qubo.solvers.lagrangian.repair", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            price(prepared, Watch())


def test_the_seed_plays_no_part():
    problem = qubo.generate("D", groups=32)
    certificate = qubo.lower_bound(problem, effort=0)
    one, other = (qubo.solve(problem, "lagrangian", seed=seed, certificate=certificate) for seed in (1, 2))
    assert np.array_equal(one.choice, other.choice)
