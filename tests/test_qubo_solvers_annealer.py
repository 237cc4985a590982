"""The annealer: early ends, progress, blocks kept as factors, fields kept current by moves."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_qubo_selection import random_selection

import qubo
from qubo import Block, Selection
from qubo.search.arrays import fields, lay_out
from qubo.search.kernels import apply, delta, polish, refresh
from qubo.solvers.annealer import _Problem, _recombine


def test_the_search_ends_once_the_answer_is_proven_good_enough():
    problem = qubo.generate("Q", groups=1000)
    certificate = qubo.lower_bound(problem)
    soon = qubo.solve(problem, certificate=certificate, within=1e-2)
    late = qubo.solve(problem, certificate=certificate, within=1e-9, sweeps=50, restarts=2)
    assert soon.gap <= 1e-2
    assert soon.evaluations < 0.2 * late.evaluations
    assert late.energy <= soon.energy


def test_progress_falls_to_the_energy_returned():
    seen = []
    problem = qubo.generate("R", groups=200)
    found = qubo.solve(problem, progress=lambda share, best: seen.append((share, best)), sweeps=100)
    energies = [best for _, best in seen]
    assert energies[-1] == found.energy
    # Sums are refreshed at the end: equal up to rounding.
    assert all(later <= earlier * (1 + 1e-9) for earlier, later in itertools.pairwise(energies))
    assert energies[0] > energies[-1]


@pytest.mark.parametrize("family", ["S", "Q", "R"])
def test_thousands_of_groups_come_within_a_thousandth_of_the_bound(family):
    problem = qubo.generate(family, groups=4000)
    found = qubo.solve(problem, certificate=qubo.lower_bound(problem, effort=0), sweeps=20, restarts=2, rounds=1)
    assert found.feasible
    assert 0 <= found.gap < 1e-3


def test_no_matrix_over_all_variables_is_laid_out(monkeypatch):
    monkeypatch.setattr("qubo.search.arrays.GRAM_ENTRIES", 0)
    problem = qubo.generate("D", groups=160, codes=12)
    arrays = lay_out(problem).arrays
    # Factors of width 18 where a block's Gram matrix would be 192 wide.
    assert (arrays.width == 18).all()
    assert arrays.data.size == 160 * 12 * 18
    # Wide factors of few codes are kept as the smaller Gram matrix.
    block = Block.from_factors([0, 1], np.ones((2, 2, 9)))
    small = lay_out(Selection(loss=np.ones((2, 2)), cost=np.ones((2, 2)), budget=2.0, blocks=(block,))).arrays
    assert small.width[0] == 0
    assert small.data.size == 16


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.booleans())
def test_moves_keep_fields_energy_and_cost_current(seed, gram, shuffled):
    selection = random_selection(seed, groups=6, gram=gram, block=5 if shuffled else 6)
    if not shuffled:  # members in order: fields are one run
        (block,) = selection.blocks
        selection = Selection(
            loss=selection.loss,
            cost=selection.cost,
            budget=selection.budget,
            blocks=(Block(groups=np.arange(6), factors=block.factors, gram=block.gram),),
        )
    layout = lay_out(selection.with_budget(1e9))
    a, rng = layout.arrays, np.random.default_rng(seed)
    x, (F, S) = layout.cheapest(), fields(a)
    energy, _ = refresh(a, x, F, S)
    for _ in range(20):
        g = int(rng.integers(6))
        k = int(rng.integers(a.codes[g]))
        energy += delta(a, x, F, S, g, k)
        apply(a, x, F, S, g, k)
    assert energy * layout.scale == pytest.approx(selection.energy(layout.decode(x)), rel=1e-9, abs=1e-9)
    kept, sums = F.copy(), S.copy()
    refresh(a, x, F, S)
    assert kept == pytest.approx(F, abs=1e-9)
    assert sums == pytest.approx(S, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_a_polished_choice_is_feasible_and_no_single_move_improves_it(seed, factors):
    selection = random_selection(seed, groups=6, gram=not factors, block=4)
    with pytest.MonkeyPatch.context() as patch:
        if factors:
            patch.setattr("qubo.search.arrays.GRAM_ENTRIES", 0)
        layout = lay_out(selection)
    a = layout.arrays
    x, (F, S) = layout.cheapest(), fields(a)
    before = selection.energy(layout.decode(x))
    energy, cost = polish(a, x, F, S, layout.limit, 0.1, True)
    choice = layout.decode(x)
    assert selection.feasible(choice)
    assert cost <= layout.limit
    assert selection.energy(choice) == pytest.approx(energy * layout.scale, rel=1e-9, abs=1e-9)
    assert selection.energy(choice) <= before + 1e-9
    for g in range(6):
        for k in np.flatnonzero(selection.offered[g]):
            moved = choice.copy()
            moved[g] = k
            if selection.feasible(moved):
                assert selection.energy(moved) >= selection.energy(choice) - 1e-9


@pytest.mark.parametrize("seed", range(4))
def test_recombining_takes_the_best_mixture_of_whole_blocks(seed):
    """Three blocks and two lone groups: against every mixture of the choices found, within the budget."""
    rng = np.random.default_rng(seed)
    blocks = tuple(Block.from_factors(range(3 * b, 3 * b + 3), rng.normal(size=(3, 3, 2))) for b in range(3))
    cost = rng.integers(0, 5, (11, 3)).astype(float)
    budget = float(cost.mean(axis=1).sum())
    layout = lay_out(Selection(loss=rng.random((11, 3)), cost=cost, budget=budget, blocks=blocks))
    problem = _Problem.of(layout, 0.1)
    problem.columns = [layout.cheapest(), *(rng.integers(0, layout.arrays.codes) for _ in range(4))]
    mixed = _recombine(problem, seed)
    selection = Selection(loss=rng.random((11, 3)), cost=cost, budget=budget)  # for costs alone
    assert selection.feasible(layout.decode(mixed))

    def energy(x):
        F, S = np.zeros_like(layout.arrays.loss), np.zeros(int(layout.arrays.sums[-1]))
        return refresh(layout.arrays, x, F, S)

    least = np.inf
    for pick in itertools.product(range(5), repeat=3):
        for alone in itertools.product(*(range(n) for n in layout.arrays.codes[9:])):
            x = np.concatenate([problem.columns[p][3 * b : 3 * b + 3] for b, p in enumerate(pick)] + [np.array(alone)])
            value, cells = energy(x)
            least = min(least, value) if cells <= layout.limit else least
    assert energy(mixed)[0] == pytest.approx(least)


def test_temperatures_are_measured_in_gaps_between_the_best_codes():
    loss, cost = [[0.0, 4.0, 9.0], [1.0, 1.0, 7.0], [2.0, 10.0, 3.0]], np.zeros((3, 3))
    layout = lay_out(Selection(loss=loss, cost=cost, budget=0.0))
    # Gaps 4, 0 and 1: the median of those above zero.
    assert _Problem.of(layout, 0.0).unit * layout.scale == 2.5
    assert _Problem.of(layout, 0.0).aim == 0.0
    flat = lay_out(Selection(loss=np.ones((2, 2)), cost=np.ones((2, 2)), budget=2.0))
    assert _Problem.of(flat, 0.0).unit == 1.0
    single = lay_out(Selection(loss=np.ones((2, 1)), cost=np.ones((2, 1)), budget=2.0))
    assert (_Problem.of(single, 0.5).unit, _Problem.of(single, 0.5).aim) == (1.0, 0.0)


def test_cells_aimed_at_are_steps_between_neighbouring_codes():
    groups = 400
    cost = np.tile([0.0, 1.0, 3.0], (groups, 1))
    layout = lay_out(Selection(loss=np.tile([3.0, 1.0, 0.0], (groups, 1)), cost=cost, budget=1.5 * groups))
    # Steps of 1 and 2 cells, 20 of them on average; fewer where groups are below 200.
    assert _Problem.of(layout, 0.1).aim * layout.cells == pytest.approx(20 * 1.5)
    small = lay_out(Selection(loss=np.tile([3.0, 1.0, 0.0], (50, 1)), cost=cost[:50], budget=75.0))
    assert _Problem.of(small, 0.1).aim * small.cells == pytest.approx(20 * 1.5 * 50 / 200)
