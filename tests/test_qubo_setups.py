"""Setups: cells that a code takes once in a set of groups, against plain loops and brute force."""

import itertools
import pickle
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_qubo_selection import random_selection

import qubo
from qubo import Selection, Setup
from qubo.setups import least_choice, least_with


def random_setups(selection, seed, *, sets=2, size=4.0, tightness=None):
    """The selection with setups drawn over some of its groups, a third of them free, and a budget between its ends."""
    rng = np.random.default_rng((seed, 11))
    owner = rng.integers(0, sets + 1, selection.groups)  # the last is no set
    owner[0] = 0
    setup = []
    for members in (np.flatnonzero(owner == s) for s in range(sets)):
        if members.size:
            cost = np.where(rng.random(selection.codes) < 0.3, 0.0, np.round(size * rng.random(selection.codes), 2))
            cost[~selection.offered[members].any(axis=0)] = rng.choice([np.inf, 1.0])
            setup.append(Setup(rng.permutation(members), cost))
    loose = Selection(selection.loss, selection.cost, 1e6, selection.blocks, tuple(setup))
    most = np.where(selection.offered, selection.cost, 0.0).max(axis=1).sum()
    share = float(rng.choice([0.0, rng.random(), rng.random(), 1.2])) if tightness is None else tightness
    return loose.with_budget(loose.smallest_cost + share * (most - selection.smallest_cost))


def plain_cost(selection, choice):
    """The definition, in plain loops."""
    cells = sum(selection.cost[g, k] for g, k in enumerate(choice))
    for setup in selection.setup:
        for k in range(selection.codes):
            if any(choice[g] == k for g in setup.groups):
                cells += setup.cost[k]
    return cells


def everything(selection):
    """All choices of offered codes."""
    return (np.array(c) for c in itertools.product(*(np.flatnonzero(row) for row in selection.offered)))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.booleans())
def test_cells_are_counted_once_a_set_and_code_and_the_smallest_budget_is_the_least_of_all(seed, missing):
    selection = random_setups(random_selection(seed, groups=5, missing=missing), seed)
    costs = []
    for choice in everything(selection):
        costs.append(plain_cost(selection, choice))
        assert selection.total_cost(choice) == pytest.approx(costs[-1], rel=1e-14)
        assert selection.feasible(choice) == (selection.total_cost(choice) <= selection.limit)
    assert selection.smallest_cost == pytest.approx(min(costs), rel=1e-13)
    assert selection.smallest_cost == selection.total_cost(selection.least_choice)
    smallest = selection.with_budget(selection.smallest_cost)
    assert smallest.feasible(smallest.least_choice)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.sampled_from([2**12, 0]))
def test_the_cheapest_choice_of_a_set_is_exact_by_subsets_and_by_highs(seed, subsets):
    rng = np.random.default_rng(seed)
    groups, codes = 5, 4
    cost = np.where(rng.random((groups, codes)) < 0.2, np.inf, rng.integers(0, 9, (groups, codes)).astype(float))
    cost[:, 0] = rng.integers(0, 9, groups)
    setup = np.where(rng.random(codes) < 0.2, 0.0, rng.integers(1, 12, codes)).astype(float)
    total = {
        choice: cost[np.arange(groups), list(choice)].sum() + setup[np.unique(choice)].sum()
        for choice in itertools.product(range(codes), repeat=groups)
    }
    with mock.patch("qubo.setups.SUBSETS", subsets):
        found, bounds = least_choice(cost, setup), least_with(cost, setup)
    assert total[tuple(found.tolist())] == min(total.values())
    for g, k in np.ndindex(groups, codes):
        least = min(cells for choice, cells in total.items() if choice[g] == k)
        assert bounds[g, k] == least if subsets or np.isinf(least) else min(total.values()) <= bounds[g, k] <= least


def test_many_codes_with_setups_are_settled_in_no_time_and_no_single_change_is_cheaper():
    rng = np.random.default_rng(0)
    cost, setup = rng.random((60, 20)), np.full(20, 1.5)
    found = least_choice(cost, setup)
    used = np.unique(found)

    def total(opened):
        return cost[:, opened].min(axis=1).sum() + setup[opened].sum()

    here = total(used)
    assert used.size < 20
    for k in range(20):
        changed = np.setxor1d(used, [k])
        assert changed.size == 0 or total(changed) >= here
        for q in np.setdiff1d(np.arange(20), used):
            assert k not in used or total(np.union1d(np.setdiff1d(used, [k]), [q])) >= here


def test_a_code_that_is_offered_and_not_used_takes_nothing():
    selection = random_setups(random_selection(3), 3)
    dear = np.where(np.isin(np.arange(4), np.concatenate([s.groups for s in selection.setup])), 0.0, 99.0)[:, None]
    wider = Selection(
        loss=np.hstack([selection.with_couplings(0).loss, dear]),
        cost=np.hstack([selection.cost, dear]),
        budget=selection.budget,
        setup=tuple(Setup(s.groups, np.append(s.cost, 1e9)) for s in selection.setup),
    )
    assert wider.smallest_cost == selection.smallest_cost
    for choice in everything(selection):
        assert wider.total_cost(choice) == selection.total_cost(choice)


def test_copies_keep_setups_and_other_selections_have_none():
    selection = random_setups(random_selection(8), 8)
    for other in (
        selection.with_budget(1e3),
        selection.with_couplings(0.5),
        selection.restrict(np.ones(3, dtype=bool)),
        pickle.loads(pickle.dumps(selection)),
    ):
        assert [s.groups.tolist() for s in other.setup] == [s.groups.tolist() for s in selection.setup]
        assert [s.cost.tolist() for s in other.setup] == [s.cost.tolist() for s in selection.setup]
    assert qubo.generate("S", groups=2).setup == ()


def test_what_is_no_longer_offered_is_no_longer_the_cheapest():
    setup = Setup([0, 1], [9.0, 1.0, 1.0])
    selection = Selection(loss=np.ones((2, 3)), cost=[[0.0, 2.0, 3.0]] * 2, budget=99.0, setup=(setup,))
    assert selection.least_choice.tolist() == [1, 1]
    assert selection.restrict(np.array([True, False, False])).smallest_cost == 9.0
    assert selection.restrict(np.array([True, False, True])).smallest_cost == 7.0


GOOD = {"loss": np.ones((3, 2)), "cost": np.ones((3, 2)), "budget": 9.0}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"setup": (Setup([0], [1.0, 1.0, 1.0]),)}, "setup 0 has 3 codes where the selection has 2: pass the cells of"),
        ({"setup": (Setup([1, 3], [1.0, 1.0]),)}, "setup 0 names groups 1..3, the selection has 0..2: renumber"),
        ({"setup": (Setup([0, 1], [1.0, 1.0]), Setup([1], [0.0, 0.0]))}, "group 1 is in two setups: merge"),
        ({"setup": (Setup([0, 2], [1.0, np.inf]),)}, "setup 0 takes inf cells for code 1, which group 0 is offered"),
        (
            {"setup": (Setup([0, 1], [4.0, 5.0]), Setup([2], [4.0, 4.0])), "budget": 10.0},
            "budget 10 cells is infeasible: the cheapest choice with its setups takes 11.0 cells; raise the budget to",
        ),
    ],
)
def test_a_selection_with_bad_setups_is_refused_in_one_line(change, line):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        Selection(**(GOOD | change))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("groups", "cost", "line"),
    [
        ([], [1.0], "setup.groups must be one row of integers"),
        ([0.5], [1.0], "setup.groups must be one row of integers"),
        ([1, 1], [1.0], "setup.groups must name each group once"),
        ([0], [[1.0]], "setup.cost must be one row of cells, got shape (1, 1): pass one number per code"),
        ([0], ["a"], "setup.cost must be numbers, got dtype <U1"),
        ([0], [1.0, -2.0], "setup.cost[1] is -2.0: pass cells, at least 0"),
        ([0], [np.nan], "setup.cost[0] is nan: pass cells, at least 0"),
    ],
)
def test_a_bad_setup_is_refused_in_one_line(groups, cost, line):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        Setup(groups, cost)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_setups_arrays_are_read_only_and_the_callers_stay_writable():
    cost = np.ones(2)
    setup = Setup([0, 1], cost)
    with pytest.raises(ValueError, match="read-only"):
        setup.cost[0] = 2.0
    cost[0] = 3.0
