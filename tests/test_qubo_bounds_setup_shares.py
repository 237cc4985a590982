"""Bounds with setups: below the optimum by brute force, close to the linear relaxation, and exact to the last bit."""

from fractions import Fraction
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp
from test_qubo_selection import random_selection
from test_qubo_setups import everything, random_setups

import qubo
from qubo import Selection, Setup
from qubo.bounds.setup_shares import without_setups
from qubo.formats.setups import uses


def optimum(selection):
    """The least energy over all feasible choices."""
    return min(selection.energy(choice) for choice in everything(selection) if selection.feasible(choice))


def layered(family, *, groups=200, sets=4, factor=10.0, seed=0):
    """A family in sets of neighbouring groups whose codes take up to `factor` times a mean group's 1-bit cells once."""
    plain = qubo.generate(family, groups=groups, seed=seed)
    rng = np.random.default_rng((seed, 7))
    size = factor * float(plain.cost[:, 1].mean()) / 2 * groups / (50 * sets)
    setup = []
    for members in np.array_split(np.arange(groups), sets):
        setup.append(Setup(members, size * rng.random(plain.codes) * (np.arange(plain.codes) > 0)))
    return Selection(plain.loss, plain.cost, plain.budget, plain.blocks, tuple(setup))


def linear_relaxation(selection):
    """The least of the linear programme with x_gk ≤ y_k, by HiGHS; for selections without couplings."""
    G, K = selection.loss.shape
    found = uses(selection)
    size = G * K + len(found)
    link = [(use.label, v, i) for i, use in enumerate(found) for v in use.users.tolist()]
    below, sums = np.zeros((len(link), size)), np.zeros((G, size))
    for row, (_, v, i) in enumerate(link):
        below[row, v], below[row, G * K + i] = 1.0, -1.0
    sums[np.repeat(np.arange(G), K), np.arange(G * K)] = 1.0
    cells = np.concatenate([selection.cost.ravel(), [use.cells for use in found]])
    loss = np.concatenate([selection.loss.ravel(), np.zeros(len(found))])
    rows = [(sums, 1, 1), (below, -np.inf, 0), (cells[None], -np.inf, selection.limit)]
    return float(milp(loss, bounds=Bounds(0, 1), constraints=[LinearConstraint(*row) for row in rows]).fun)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.booleans(), st.booleans(), st.sampled_from([0, 2, 4]), st.sampled_from([1.0, 8.0]))
def test_no_bound_with_setups_exceeds_the_optimum(seed, gram, missing, block, size):
    selection = random_setups(random_selection(seed, gram=gram, missing=missing, block=block), seed, size=size)
    least = optimum(selection)
    scale = max(1.0, np.abs(selection.loss[selection.offered]).max())
    exact = qubo.lower_bound(selection)
    with mock.patch("qubo.bounds.banded.STATES", 0):  # too small for the exact dual of anything
        plain, tight = qubo.lower_bound(selection, effort=0), qubo.lower_bound(selection, effort=0.01)
    assert exact.method == "lagrangian dual, setups shared"
    assert plain.method == ("convex relaxation" if block else "lagrangian dual") + ", setups shared"
    for proof in (exact, plain, tight):
        assert proof.bound <= least + 1e-12 * scale
        assert proof.multiplier >= 0
        assert proof.selection is selection


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.booleans())
def test_shares_never_make_a_choice_dearer_not_even_by_rounding(seed, missing):
    selection = random_setups(random_selection(seed, missing=missing), seed)
    shared = without_setups(selection)
    assert shared.setup == ()
    for choice in everything(selection):
        true = sum(Fraction(selection.cost[g, k]) for g, k in enumerate(choice.tolist()))
        for setup in selection.setup:
            true += sum(Fraction(setup.cost[k]) for k in set(choice[setup.groups].tolist()))
        assert sum(Fraction(shared.cost[g, k]) for g, k in enumerate(choice.tolist())) <= true
        assert not selection.feasible(choice) or shared.feasible(choice)


@pytest.mark.parametrize("factor", [4.0, 10.0, 40.0])
@pytest.mark.parametrize("seed", range(2))
def test_without_couplings_the_bound_is_within_half_a_percent_of_the_linear_relaxation(factor, seed):
    selection = layered("S", groups=120, sets=3, factor=factor, seed=seed)
    relaxed = linear_relaxation(selection)
    bound = qubo.lower_bound(selection).bound
    assert 0.995 * relaxed <= bound <= relaxed * (1 + 1e-7)  # HiGHS' own tolerance
    # Without the setups it is far from it.
    assert qubo.lower_bound(Selection(selection.loss, selection.cost, selection.budget)).bound < 0.95 * relaxed


@pytest.mark.parametrize("family", ["Q", "D"])
def test_shares_lift_the_bound_of_coupled_groups(family):
    selection = layered(family, groups=96, factor=20.0)
    free = Selection(selection.loss, selection.cost, selection.budget, selection.blocks)
    bound, without = (qubo.lower_bound(s, effort=0).bound for s in (selection, free))
    assert bound > 1.3 * without


@pytest.mark.parametrize("family", ["S", "Q"])
def test_a_code_too_dear_to_set_up_leaves_the_bound_as_it_is(family):
    selection = layered(family, groups=32, sets=2)
    wider = Selection(
        loss=np.hstack([selection.loss, np.zeros((32, 1))]),
        cost=np.hstack([selection.cost, np.zeros((32, 1))]),
        budget=selection.budget,
        blocks=tuple(
            qubo.Block.from_factors(b.groups, np.concatenate([b.factors, b.factors[:, :1]], axis=1))
            for b in selection.blocks
        ),
        setup=tuple(Setup(s.groups, np.append(s.cost, 2 * selection.budget)) for s in selection.setup),
    )
    assert qubo.lower_bound(wider).bound == qubo.lower_bound(selection).bound


def test_the_bound_with_setups_does_not_depend_on_chance():
    selection = layered("D", groups=48, sets=2)
    assert qubo.lower_bound(selection, effort=0.2).bound == qubo.lower_bound(selection, effort=0.2).bound
