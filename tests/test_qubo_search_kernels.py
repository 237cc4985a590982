"""Kernels against recomputation: moves and pairs, repair, fill, polish; annealing against Boltzmann's distribution."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from test_qubo_selection import random_selection

import qubo
from qubo import Block, Selection
from qubo.search.arrays import fields, lay_out
from qubo.search.block_totals import block_totals
from qubo.search.kernels import (
    TABLE,
    anneal,
    cross,
    delta,
    descend,
    fill,
    pair_across,
    pair_inside,
    polish,
    refresh,
    repair,
)


class State:
    """A choice of usable codes with its fields, in one problem."""

    def __init__(self, selection, x=None, *, factors=False):
        with pytest.MonkeyPatch.context() as patch:
            if factors:
                patch.setattr("qubo.search.arrays.GRAM_ENTRIES", 0)
            self.layout = lay_out(selection)
        self.selection, self.a = selection, self.layout.arrays
        self.x = (self.layout.cheapest() if x is None else np.asarray(x)).copy()
        self.F, self.S = fields(self.a)
        refresh(self.a, self.x, self.F, self.S)

    @property
    def all(self):
        """What kernels take first."""
        return self.a, self.x, self.F, self.S

    def energy(self, x=None):
        """Energy by the definition, scaled."""
        return self.selection.energy(self.layout.decode(self.x if x is None else x)) / self.layout.scale

    def cost(self, x=None):
        """Cells by the definition, scaled."""
        return self.selection.total_cost(self.layout.decode(self.x if x is None else x)) / self.layout.cells

    def singles(self):
        """Every single move (g, k)."""
        return [(g, k) for g in range(self.x.size) for k in range(self.a.codes[g]) if k != self.x[g]]

    def moved(self, *moves):
        """The choice after some moves."""
        x = self.x.copy()
        for g, k in moves:
            x[g] = k
        return x


def random_state(seed, *, groups=5, block=4, gram=True, factors=False, missing=False, tight=False):
    selection = random_selection(seed, groups=groups, block=block, gram=gram and not factors, missing=missing)
    state = State(selection if tight else selection.with_budget(1e9), factors=factors)
    state.x[:] = np.random.default_rng(seed).integers(0, state.a.codes)
    refresh(*state.all)
    return state


SEEDS = st.integers(0, 10**6)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(SEEDS, st.booleans(), st.booleans())
def test_the_change_of_a_move_and_of_a_pair_are_those_of_the_definition(seed, factors, missing):
    state = random_state(seed, factors=factors, missing=missing)
    energy, size = state.energy(), 1 + np.abs(state.a.loss[np.isfinite(state.a.loss)]).max()
    singles = state.singles()
    for g, k in singles:
        assert delta(*state.all, g, k) == pytest.approx(state.energy(state.moved((g, k))) - energy, abs=1e-11 * size)
    for (g, k), (h, q) in itertools.combinations(singles, 2):
        if g != h:
            both = delta(*state.all, g, k) + delta(*state.all, h, q) + cross(state.a, state.x, g, k, h, q)
            assert both == pytest.approx(state.energy(state.moved((g, k), (h, q))) - energy, abs=1e-11 * size)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(SEEDS, st.booleans())
def test_blocks_shares_are_their_energies_and_costs(seed, factors):
    rng = np.random.default_rng(seed)
    one, two = (random_selection(s, groups=4, codes=3, block=n) for s, n in ((seed, 3), (seed + 1, 4)))
    order = rng.permutation(8)
    blocks = tuple(
        Block(groups=order[first + part.blocks[0].groups], factors=part.blocks[0].factors)
        for first, part in ((0, one), (4, two))
    )
    loss, cost = np.zeros((8, 3)), np.zeros((8, 3))
    loss[order], cost[order] = np.concatenate([one.loss, two.loss]), np.concatenate([one.cost, two.cost])
    state = State(Selection(loss=loss, cost=cost, budget=1e9, blocks=blocks), factors=factors)
    state.x[:] = rng.integers(0, 3, 8)
    refresh(*state.all)
    energy, cells = np.zeros(2), np.zeros(2)
    block_totals(*state.all, energy, cells)
    choice = state.layout.decode(state.x)
    for b, block in enumerate(blocks):
        codes = choice[block.groups]
        expected = loss[block.groups, codes].sum() + block.pair_energy(codes)
        assert energy[b] * state.layout.scale == pytest.approx(expected, rel=1e-9, abs=1e-9)
        assert cells[b] * state.layout.cells == pytest.approx(cost[block.groups, codes].sum())


@settings(max_examples=60, deadline=None, derandomize=True)
@given(SEEDS, st.booleans(), st.booleans())
def test_repair_meets_every_budget_that_can_be_met_and_only_frees_cells(seed, factors, missing):
    state = random_state(seed, groups=6, factors=factors, missing=missing, tight=True)
    before = state.x.copy()
    repair(*state.all, state.layout.limit)
    assert state.selection.feasible(state.layout.decode(state.x))
    spared = state.a.cost[np.arange(6), before] - state.a.cost[np.arange(6), state.x]
    assert (spared >= 0).all()
    if state.cost(before) <= state.layout.limit:
        assert np.array_equal(before, state.x)
    fields = state.F.copy()
    refresh(*state.all)
    assert fields == pytest.approx(state.F, abs=1e-9)


def test_repair_frees_cells_where_they_are_cheapest():
    """Without couplings: of three groups, the one that loses least per cell freed is relieved first."""
    loss = [[9.0, 0.0], [1.0, 0.0], [4.0, 0.0]]
    state = State(Selection(loss=loss, cost=[[0.0, 2.0], [0.0, 2.0], [0.0, 2.0]], budget=4.0), [1, 1, 1])
    repair(*state.all, state.layout.limit)
    assert state.x.tolist() == [1, 0, 1]
    tighter = State(Selection(loss=loss, cost=[[0.0, 2.0], [0.0, 2.0], [0.0, 2.0]], budget=2.0), [1, 1, 1])
    repair(*tighter.all, tighter.layout.limit)
    assert tighter.x.tolist() == [1, 0, 0]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(SEEDS, st.booleans(), st.booleans())
def test_filling_leaves_no_single_move_that_fits_and_helps(seed, factors, missing):
    state = random_state(seed, groups=6, factors=factors, missing=missing, tight=True)
    repair(*state.all, state.layout.limit)
    before = state.energy()
    made = fill(*state.all, state.layout.limit)
    assert state.selection.feasible(state.layout.decode(state.x))
    assert state.energy() <= before + 1e-12 * (1 + abs(before))
    assert (made == 0) == (state.energy() == pytest.approx(before, abs=1e-12))
    for move in state.singles():
        if state.cost(state.moved(move)) <= state.layout.limit:
            assert state.energy(state.moved(move)) >= state.energy() - 1e-9


@settings(max_examples=40, deadline=None, derandomize=True)
@given(SEEDS, st.booleans(), st.floats(0.0, 2.0))
def test_descent_ends_where_no_single_move_lowers_the_priced_energy(seed, factors, lam):
    state = random_state(seed, groups=6, factors=factors)
    before = state.energy() + lam * state.cost()
    only = np.array([0, 2, 4])
    kept = state.x.copy()
    descend(*state.all, only, lam, 100)
    assert np.array_equal(state.x[[1, 3, 5]], kept[[1, 3, 5]])
    value = state.energy() + lam * state.cost()
    assert value <= before + 1e-9
    for g, k in state.singles():
        if g in only:
            other = state.moved((g, k))
            assert state.energy(other) + lam * state.cost(other) >= value - 1e-9


def test_two_groups_that_only_help_together_are_found_by_a_pair():
    """Both errors cancel: either alone makes it worse, so single moves stay and a pair inside the block goes."""
    block = Block.from_factors([0, 1], [[[0.0], [2.0]], [[0.0], [-2.0]]])
    loss = [[1.0, 2.5], [1.0, 2.5]]
    for factors in (False, True):
        state = State(Selection(loss=loss, cost=np.ones((2, 2)), budget=2.0, blocks=(block,)), [0, 0], factors=factors)
        assert fill(*state.all, state.layout.limit) == 0
        assert pair_inside(*state.all, state.layout.limit) == 1
        assert state.x.tolist() == [1, 1]
        assert state.energy() * state.layout.scale == pytest.approx(1.0)


def test_a_pair_that_does_not_fit_the_budget_is_not_made():
    block = Block.from_factors([0, 1], [[[0.0], [2.0]], [[0.0], [-2.0]]])
    selection = Selection(loss=[[1.0, 2.5]] * 2, cost=[[1.0, 2.0]] * 2, budget=3.0, blocks=(block,))
    state = State(selection, [0, 0])
    assert pair_inside(*state.all, state.layout.limit) == 0


def test_cells_move_from_one_block_to_another_by_a_pair_across():
    """One group gives up a cell that the other needs more; each move alone either costs energy or does not fit."""
    selection = Selection(loss=[[2.0, 0.0], [5.0, 0.0]], cost=[[0.0, 1.0], [0.0, 1.0]], budget=1.0)
    state = State(selection, [1, 0])
    assert fill(*state.all, state.layout.limit) == 0
    assert pair_across(*state.all, state.layout.limit, 3.0 * state.layout.cells / state.layout.scale, 100) == 1
    assert state.x.tolist() == [0, 1]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(SEEDS, st.booleans(), st.booleans())
def test_a_polished_choice_has_no_pair_inside_its_block_that_fits_and_helps(seed, factors, missing):
    state = random_state(seed, groups=6, factors=factors, missing=missing, tight=True)
    repair(*state.all, state.layout.limit)
    energy, cost = polish(*state.all, state.layout.limit, 0.1, True)
    assert energy == pytest.approx(state.energy(), abs=1e-9)
    assert cost == pytest.approx(state.cost())
    members = set(state.selection.blocks[0].groups.tolist())
    inside = [move for move in state.singles() if move[0] in members]
    for one, two in itertools.combinations(inside, 2):
        if one[0] < two[0] and state.cost(state.moved(one, two)) <= state.layout.limit:
            assert state.energy(state.moved(one, two)) >= state.energy() - 1e-9


def annealed(state, temperatures, *, lam=0.0, aim=0.0, pairs=0.4, seed=1, best=np.inf, random=None):
    """Runs the annealing kernel; the least energy met, λ, and the choice that had it."""
    if random is None:
        random = np.random.SeedSequence(seed).generate_state(2, np.uint64) | np.uint64(1)
    best_x = state.x.copy()
    temperatures = np.asarray(temperatures, dtype=float)
    left = 1 - np.arange(temperatures.size) / max(1, temperatures.size)
    a, x, F, S = state.all
    limit = state.layout.limit
    found = anneal(a, x, best_x, F, S, random, TABLE, temperatures, left, lam, aim, limit, best, pairs)
    return (*found, best_x)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(SEEDS, st.booleans(), st.booleans(), st.floats(0.0, 1.0))
def test_annealing_never_overspends_and_keeps_the_best_it_met(seed, factors, missing, pairs):
    state = random_state(seed, groups=6, factors=factors, missing=missing, tight=True)
    repair(*state.all, state.layout.limit)
    best, lam, best_x = annealed(state, np.geomspace(3.0, 0.01, 33), pairs=pairs, seed=seed)
    for x in (state.x, best_x):
        assert state.selection.feasible(state.layout.decode(x))
    assert best == pytest.approx(state.energy(best_x), abs=1e-9)
    assert best <= state.energy() + 1e-9
    assert lam == 0.0
    fields = state.F.copy()
    refresh(*state.all)
    assert fields == pytest.approx(state.F, abs=1e-9)


def test_a_better_choice_known_before_is_not_overwritten():
    state = random_state(3)
    x = state.x.copy()
    best, _, best_x = annealed(state, [1.0] * 20, best=-1e9)
    assert best == -1e9
    assert np.array_equal(best_x, x)


@pytest.mark.parametrize("pairs", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("factors", [False, True])
def test_at_a_fixed_temperature_choices_follow_boltzmanns_distribution(factors, pairs):
    """Three coupled groups of three codes within a budget: 20,000 sweeps, thinned by five, chi-square at 0.1 %."""
    rng = np.random.default_rng(0)
    block = Block.from_factors([0, 1, 2], rng.normal(size=(3, 3, 2)) * 0.7)
    cost = [[0.0, 1.0, 2.0]] * 3
    selection = Selection(loss=rng.random((3, 3)), cost=cost, budget=5.0, blocks=(block,))
    state = State(selection, [0, 0, 0], factors=factors)
    everything = [x for x in itertools.product(range(3), repeat=3) if state.cost(np.array(x)) <= state.layout.limit]
    assert len(everything) == 26  # all but (2, 2, 2)
    lam, T = 0.05, 0.6
    weight = np.exp([-(state.energy(np.array(x)) + lam * state.cost(np.array(x))) / T for x in everything])
    number = {x: i for i, x in enumerate(everything)}
    counts = np.zeros(26)
    random = np.random.SeedSequence(7).generate_state(2, np.uint64) | np.uint64(1)
    for _ in range(20_000):
        annealed(state, [T] * 5, lam=lam, pairs=pairs, random=random)
        counts[number[tuple(state.x.tolist())]] += 1
    if pairs == 1.0:  # a pair changes two groups at once: every choice is still reached
        assert (counts > 0).all()
    assert chisquare(counts, weight / weight.sum() * counts.sum()).pvalue > 1e-3


def test_the_table_holds_the_quantiles_of_an_exponential():
    assert TABLE.mean() == pytest.approx(1.0, abs=1e-3)
    assert (np.diff(TABLE) < 0).all()
    assert np.exp(-TABLE[-1]) == pytest.approx(1 - 0.5 / 4096)


def test_lambda_is_steered_until_the_cells_aimed_at_are_free():
    problem = qubo.generate("Q", groups=100, seed=1)
    multiplier = qubo.lower_bound(problem).multiplier
    free, steered = {}, {}
    for aim in (0.0, 2.0):
        state = State(problem)
        a, x, F, S = state.all
        random = np.random.SeedSequence(1).generate_state(2, np.uint64) | np.uint64(1)
        left, limit, lam = np.full(1000, 0.5), state.layout.limit, 0.3 * multiplier / state.layout.price
        found = anneal(a, x, x.copy(), F, S, random, TABLE, np.full(1000, 1e-3), left, lam, aim, limit, np.inf, 0.4)
        free[aim], steered[aim] = limit - state.cost(), found[1] / lam
    # A λ this low jams the state at the budget; steered, it rises until half of what is aimed at is free.
    assert free[0.0] < 0.1
    assert steered[0.0] == 1.0
    assert free[2.0] == pytest.approx(0.51 * 2.0, rel=0.35)  # steps of cells are that coarse
    assert steered[2.0] > 2.0
