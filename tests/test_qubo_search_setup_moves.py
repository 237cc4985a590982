"""Kernels and moves with setups: running costs against fresh ones, and barriers that single moves do not cross."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_qubo_selection import random_selection
from test_qubo_setups import random_setups

from qubo import Selection, Setup
from qubo.search.arrays import fields, lay_out, usable
from qubo.search.kernels import TABLE, anneal, apply, fill, opened, pair_across, pair_inside, refresh, repair, spent
from qubo.search.setup_moves import SetupMoves
from qubo.search.watch import Watch


def laid_out(seed, tightness=0.5, gram=True):
    selection = random_setups(random_selection(seed, groups=7, codes=4, gram=gram, block=4), seed, tightness=tightness)
    return selection, lay_out(selection)


def random_choice(layout, rng):
    return np.asarray(np.floor(rng.random(layout.code.shape[0]) * layout.arrays.codes), dtype=np.int64)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 10**6))
def test_a_moves_cells_are_the_difference_of_total_costs(seed):
    selection, layout = laid_out(seed)
    a, rng = layout.arrays, np.random.default_rng(seed)
    assume(layout.setup.size)
    x, (F, S) = random_choice(layout, rng), fields(a)
    refresh(a, x, F, S)
    before = selection.total_cost(layout.decode(x))
    g, h = rng.permutation(7)[:2]
    k, q = rng.integers(0, a.codes[g]), rng.integers(0, a.codes[h])
    for other in (-1, int(h)):
        y = x.copy()
        y[g] = k
        more = opened(a, x, S, int(g), int(k), other, int(q)) + a.cost[g, k] - a.cost[g, x[g]]
        if other >= 0:
            y[h] = q
            more += a.cost[h, q] - a.cost[h, x[h]]
        assert more * layout.cells == pytest.approx(selection.total_cost(layout.decode(y)) - before, abs=1e-12 * 100)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.booleans(), st.sampled_from([0.0, 0.3, 1.2]))
def test_searches_keep_the_cost_current_and_within_the_budget(seed, gram, tightness):
    selection, layout = laid_out(seed, tightness, gram)
    assume(layout.setup.size)
    a, rng = layout.arrays, np.random.default_rng(seed)
    x, (F, S) = random_choice(layout, rng), fields(a)
    refresh(a, x, F, S)
    repair(a, x, F, S, layout.limit)  # it is met whenever it can be, and it can
    searches = (
        lambda: fill(a, x, F, S, layout.limit),
        lambda: pair_inside(a, x, F, S, layout.limit),
        lambda: pair_across(a, x, F, S, layout.limit, 0.5, 4000),
        lambda: anneal(
            a, x, x.copy(), F, S, np.array([seed, 3], dtype=np.uint64), TABLE, np.full(10, 0.5), np.linspace(1, 0, 10),
            0.3, 0.0, layout.limit, np.inf, 0.5,
        ),
        lambda: SetupMoves(layout).anneal(x, 0.3, 1.0, rng),
        lambda: SetupMoves(layout).improve(x, 0.3, Watch()),
    )  # fmt: skip
    for search in searches:
        search()
        assert selection.feasible(layout.decode(x))
    refresh(a, x, F, S)
    apply(a, x, F, S, 2, int(a.codes[2]) - 1)
    running = spent(a, x, S)
    assert running == pytest.approx(refresh(a, x, F, S)[1], rel=1e-14)
    assert running * layout.cells == pytest.approx(selection.total_cost(layout.decode(x)), rel=1e-12)


def barrier():
    """Six groups that would all gain by code 1, whose codebook none can pay alone: others must give up code 2."""
    loss = np.array([[10.0, 1.0, 2.0]] * 6)
    cost = np.array([[0.0, 1.0, 3.0]] * 6)
    return Selection(loss=loss, cost=cost, budget=18.0, setup=(Setup(np.arange(6), [0.0, 12.0, 0.0]),))


def test_a_setup_is_begun_where_no_single_move_would():
    selection = barrier()
    layout = lay_out(selection)
    a, (F, S) = layout.arrays, fields(layout.arrays)
    x = layout.encode(np.full(6, 2))
    refresh(a, x, F, S)
    assert fill(a, x, F, S, layout.limit) + pair_across(a, x, F, S, layout.limit, 0.1, 4000) == 0
    assert SetupMoves(layout).improve(x, 0.1, Watch()) * layout.scale == 6.0
    assert layout.decode(x).tolist() == [1] * 6


def test_a_setup_is_ended_and_one_exchanged_for_another_where_that_pays():
    setup = Setup(np.arange(4), [0.0, 8.0, 4.0])
    cost = np.array([[0.0, 1.0, 1.0]] * 4)
    for loss, least in (([3.0, 1.0, 0.5], 2.0), ([1.0, 1.2, 1.3], 4.0)):
        selection = Selection(loss=[loss] * 4, cost=cost, budget=12.0, setup=(setup,))
        layout = lay_out(selection)
        x = layout.encode(np.ones(4, dtype=np.int64))
        assert SetupMoves(layout).improve(x, 0.05, Watch()) * layout.scale == least


def test_usable_codes_are_those_that_some_feasible_choice_uses():
    for seed in range(20):
        selection = random_setups(random_selection(seed, missing=seed % 2 == 0), seed, tightness=0.3)
        used = np.zeros(selection.loss.shape, dtype=bool)
        for choice in np.ndindex(*[selection.codes] * selection.groups):
            if selection.feasible(np.array(choice)):
                used[np.arange(selection.groups), choice] = True
        assert np.array_equal(usable(selection), used)


def test_repair_meets_the_budget_where_every_single_move_begins_a_setup():
    selection = Selection(
        loss=[[1.0, 0.0]] * 5, cost=[[1.0, 2.0]] * 5, budget=12.0, setup=(Setup(np.arange(5), [7.0, 7.0]),)
    )
    layout = lay_out(selection)
    a, (F, S) = layout.arrays, fields(layout.arrays)
    x = layout.encode(np.ones(5, dtype=np.int64))
    refresh(a, x, F, S)
    repair(a, x, F, S, layout.limit)
    assert selection.feasible(layout.decode(x))


def test_without_setups_kernels_are_compiled_without_them():
    layout = lay_out(Selection(loss=np.ones((3, 2)), cost=np.ones((3, 2)), budget=9.0))
    free = lay_out(Selection(np.ones((3, 2)), np.ones((3, 2)), 9.0, setup=(Setup([0, 1], [0.0, 0.0]),)))
    for each in (layout, free):
        assert type(each.arrays).__name__ == "Arrays"
        assert fields(each.arrays)[1].size == 0
