"""Cutting planes over the price: the model's best price by a grid, columns by hand, exact parts against brute force."""

import itertools

import numpy as np
import pytest
from test_qubo_selection import random_selection

import qubo
from qubo.bounds.banded import exact_dual, minima, tractable
from qubo.bounds.cutting_planes import _Columns, best_price
from qubo.search.arrays import lay_out


def parts(selection, layout, choice):
    """Energy and cost (scaled) of the first block's groups in a choice of usable codes."""
    block = selection.blocks[0]
    codes = layout.decode(choice)[block.groups]
    energy = selection.loss[block.groups, codes].sum() + block.pair_energy(codes)
    return energy / layout.scale, selection.cost[block.groups, codes].sum() / layout.cells


@pytest.mark.parametrize("seed", range(5))
def test_columns_hold_each_blocks_energy_and_the_best_of_them_is_picked_at_every_price(seed):
    selection = random_selection(seed, groups=6, gram=seed % 2 == 0, block=4).with_budget(1e9)
    layout = lay_out(selection)
    columns, rng = _Columns(layout.arrays), np.random.default_rng(seed)
    choices = [rng.integers(0, layout.arrays.codes) for _ in range(5)]
    for choice in choices:
        columns.add(choice)
    held = [parts(selection, layout, choice) for choice in choices]
    assert np.array(columns.energy)[:, 0] == pytest.approx([energy for energy, _ in held])
    assert np.array(columns.cost)[:, 0] == pytest.approx([cost for _, cost in held])
    inside = selection.blocks[0].groups
    for lam in (0.0, 0.3, 5.0):
        best = int(np.argmin([energy + lam * cost for energy, cost in held]))
        assert columns.best(lam)[inside].tolist() == choices[best][inside].tolist()


@pytest.mark.parametrize("seed", range(5))
def test_the_proposed_price_maximises_the_model(seed):
    selection = random_selection(seed, groups=6, block=4)
    layout = lay_out(selection)
    a = layout.arrays
    columns, rng = _Columns(a), np.random.default_rng(seed)
    for _ in range(4):
        columns.add(rng.integers(0, a.codes))
    columns.add(layout.cheapest())  # else no price brings the model within the budget
    alone = np.flatnonzero(a.block < 0)

    def model(lam):
        block = min(e[0] + lam * c[0] for e, c in zip(columns.energy, columns.cost, strict=True))
        return block + (a.loss[alone] + lam * a.cost[alone]).min(axis=1).sum() - lam * layout.limit

    lam = columns.price(layout.limit)
    around = [model(p) for p in [*np.linspace(0, 2 * lam + 1, 400), lam]]
    assert model(lam) == pytest.approx(max(around), abs=1e-9 + 1e-3 * np.ptp(around))
    assert model(lam) >= max(around[:-1]) - 1e-9 * (1 + abs(model(lam)))


@pytest.mark.parametrize("family", ["Q", "R"])
def test_where_every_block_is_exact_the_price_is_the_duals(family):
    problem = qubo.generate(family, groups=60, seed=3)
    layout = lay_out(problem)
    a, bands = layout.arrays, tractable(layout.arrays)
    best, lam, x = exact_dual(a, bands, layout.limit, 1e-9)
    found = best_price(layout, bands, 0.3 * lam, x, 1.0)
    assert found.lower - found.lam * layout.limit == pytest.approx(best, rel=2e-3)
    assert found.lower - found.lam * layout.limit <= best * (1 + 1e-12)  # no price is better than the best
    at = minima(a, bands, found.lam)
    assert found.lower == at.value
    assert np.array_equal(found.x, at.x)


def test_groups_alone_and_narrow_blocks_are_minimised_exactly_and_dense_ones_never_better_than_brute_force():
    selection = random_selection(4, groups=6, codes=3, gram=True, block=4)
    layout = lay_out(selection)
    a = layout.arrays
    found = best_price(layout, np.array([-1]), 0.1, layout.cheapest(), 0.05)
    alone = np.flatnonzero(a.block < 0)
    value = a.loss + found.lam * a.cost
    assert found.lower == pytest.approx(value[alone].min(axis=1).sum())
    assert found.x[alone].tolist() == value[alone].argmin(axis=1).tolist()
    inside = selection.blocks[0].groups
    least = np.inf
    for codes in itertools.product(*(range(n) for n in a.codes[inside])):
        choice = found.x.copy()
        choice[inside] = codes
        energy, cost = parts(selection, layout, choice)
        least = min(least, energy + found.lam * cost)
    energy, cost = parts(selection, layout, found.x)
    assert energy + found.lam * cost == pytest.approx(least)  # 81 choices: annealing finds the best


def test_the_price_depends_on_nothing_but_the_arguments():
    problem = qubo.generate("D", groups=32, seed=1)
    layout = lay_out(problem)
    bands = tractable(layout.arrays)
    one, again = (best_price(layout, bands, 0.02, layout.cheapest(), 0.1) for _ in range(2))
    assert one.lam == again.lam
    assert np.array_equal(one.x, again.x)
