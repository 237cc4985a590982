"""The kernels' view: usable codes against brute force, exact scaling, the way there and back."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_qubo_selection import random_selection
from test_qubo_setups import random_setups

import qubo
from qubo import Block, Selection
from qubo.search.arrays import lay_out, usable


def used(selection):
    """Codes that some feasible choice uses, by brute force."""
    mask = np.zeros(selection.loss.shape, dtype=bool)
    for choice in itertools.product(range(selection.codes), repeat=selection.groups):
        if selection.feasible(np.array(choice)):
            mask[np.arange(selection.groups), choice] = True
    return mask


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.booleans(), st.booleans())
def test_usable_codes_are_those_of_some_feasible_choice(seed, missing, with_setups):
    selection = random_selection(seed, missing=missing)
    if with_setups:
        selection = random_setups(selection, seed)
    assert np.array_equal(usable(selection), used(selection))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.booleans(), st.booleans())
def test_choices_go_there_and_back_and_menus_keep_their_order(seed, missing, gram):
    selection = random_selection(seed, groups=5, codes=4, missing=missing, gram=gram)
    layout = lay_out(selection)
    mask = usable(selection)
    assert layout.arrays.codes.tolist() == mask.sum(axis=1).tolist()
    for g in range(5):
        assert layout.code[g, : layout.arrays.codes[g]].tolist() == np.flatnonzero(mask[g]).tolist()
    inner = np.random.default_rng(seed).integers(0, layout.arrays.codes)
    assert np.array_equal(layout.encode(layout.decode(inner)), inner)
    outer = np.random.default_rng(seed).integers(0, 4, 5)
    encoded = layout.decode(layout.encode(outer))
    cells = np.where(mask, selection.cost, np.inf)
    for g, k in enumerate(outer):
        assert encoded[g] == k if mask[g, k] else selection.cost[g, encoded[g]] == cells[g].min()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(-300, 300), st.integers(-300, 300))
def test_scaling_is_by_powers_of_two_and_so_exact(seed, energy, cells):
    base = random_selection(seed, block=0).with_budget(1e9)
    scaled = Selection(loss=np.ldexp(base.loss, energy), cost=np.ldexp(base.cost, cells), budget=np.inf)
    layout = lay_out(scaled)
    kept = layout.kept()
    assert np.frexp(layout.scale)[0] == np.frexp(layout.cells)[0] == 0.5
    rows = np.arange(4)[:, None]
    assert np.array_equal((layout.arrays.loss * layout.scale)[kept], scaled.loss[rows, layout.code][kept])
    assert np.array_equal((layout.arrays.cost * layout.cells)[kept], scaled.cost[rows, layout.code][kept])
    assert 0.5 <= np.abs(layout.arrays.loss[kept]).max() <= 2
    assert layout.price == layout.scale / layout.cells


def couplings(layout):
    """The couplings of all variables as one matrix (G·C, G·C), by the layout of the arrays."""
    a = layout.arrays
    G, C = a.loss.shape
    full = np.zeros((G * C, G * C))
    for b in range(a.width.size):
        rows = (a.members[a.start[b] : a.start[b + 1], None] * C + np.arange(C)).reshape(-1)
        n, D = rows.size, int(a.width[b])
        part = a.data[a.offset[b] : a.offset[b] + n * (D or n)].reshape(n, -1)
        full[np.ix_(rows, rows)] = part @ part.T if D else part
    own = np.repeat(np.arange(G), C)
    full[own[:, None] == own[None, :]] = 0.0
    return full


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.booleans())
def test_gram_matrices_and_factors_hold_the_same_couplings_among_usable_codes(seed, missing):
    selection = random_selection(seed, groups=5, codes=3, missing=missing, block=4).with_budget(1e9)
    dense = lay_out(selection)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qubo.search.arrays.GRAM_ENTRIES", 0)
        factored = lay_out(selection)
    assert couplings(dense) == pytest.approx(couplings(factored), abs=1e-12)
    (block,) = selection.blocks
    gram = block.matrix().reshape(4, 3, 4, 3)
    C = dense.arrays.loss.shape[1]
    full = couplings(dense).reshape(5, C, 5, C)
    for i, g in enumerate(block.groups):
        for j, h in enumerate(block.groups):
            for k, q in itertools.product(range(dense.arrays.codes[g]), range(dense.arrays.codes[h])):
                held = 0.0 if g == h else gram[i, dense.code[g, k], j, dense.code[h, q]]
                assert full[g, k, h, q] * dense.scale == pytest.approx(held, abs=1e-12)


def test_places_and_members_name_each_group_of_a_block_once():
    problem = qubo.generate("Q", groups=40)
    a = lay_out(problem).arrays
    assert a.start.tolist() == [0, 16, 32, 40]
    for g in range(40):
        assert a.members[a.start[a.block[g]] + a.place[g]] == g
    assert a.offset.tolist() == [0, 96**2, 2 * 96**2]
    assert a.data.size == 2 * 96**2 + 48**2


def test_wide_factors_of_few_codes_become_the_smaller_gram_matrix(monkeypatch):
    monkeypatch.setattr("qubo.search.arrays.GRAM_ENTRIES", 0)
    for width, kept in ((7, 0), (6, 0), (5, 5)):  # three groups of two codes: six rows
        block = Block.from_factors(range(3), np.ones((3, 2, width)))
        a = lay_out(Selection(loss=np.ones((3, 2)), cost=np.ones((3, 2)), budget=9.0, blocks=(block,))).arrays
        assert a.width.tolist() == [kept]


def test_factors_without_columns_couple_nothing():
    block = Block.from_factors([0, 1], np.zeros((2, 2, 0)))
    selection = Selection(loss=[[1.0, 2.0]] * 2, cost=np.ones((2, 2)), budget=2.0, blocks=(block,))
    assert selection.energy([1, 1]) == 4.0
    assert not lay_out(selection).arrays.data.any()
