"""Exact minima of narrow blocks against brute force, from Gram matrices and from factors."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_qubo_selection import random_selection

import qubo
from qubo import Block, Selection
from qubo.bounds.banded import bandwidths, exact_dual, minima, tractable
from qubo.search.arrays import lay_out


def every_choice(layout):
    """All choices among usable codes."""
    return [np.array(c) for c in itertools.product(*(range(n) for n in layout.arrays.codes))]


def banded(seed, groups, codes, reach):
    """A selection whose one block couples groups up to `reach` apart, as factors."""
    rng = np.random.default_rng(seed)
    factors = np.zeros((groups, codes, groups + reach))
    for i in range(groups):
        factors[i, :, i : i + reach + 1] = rng.normal(size=(codes, reach + 1))
    loss, cost = rng.normal(size=(groups, codes)), rng.random((groups, codes))
    return Selection(
        loss=loss,
        cost=cost,
        budget=float(cost.mean(axis=1).sum()),
        blocks=(Block.from_factors(range(groups), factors),),
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 5), st.booleans(), st.booleans())
def test_dynamic_programming_finds_the_least_priced_energy(seed, multiplier, gram, missing):
    selection = random_selection(seed, groups=5, codes=3, gram=gram, missing=missing, block=4)
    layout = lay_out(selection)
    found = minima(layout.arrays, tractable(layout.arrays), multiplier / layout.price)
    least = min(
        selection.energy(layout.decode(c)) + multiplier * selection.total_cost(layout.decode(c))
        for c in every_choice(layout)
    )
    chosen = layout.decode(found.x)
    size = 1e-13 * (np.abs(selection.loss[np.isfinite(selection.loss)]).max() + 30 * (1 + multiplier))
    assert least - 1e-9 - 1e4 * size <= found.value * layout.scale <= least + size
    assert selection.energy(chosen) + multiplier * selection.total_cost(chosen) == pytest.approx(
        least, rel=1e-9, abs=1e-9
    )
    assert found.cost * layout.cells == pytest.approx(selection.total_cost(chosen), rel=1e-12)


@pytest.mark.parametrize("reach", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("dense", [True, False])
def test_every_bandwidth_is_recognised_and_minimised_from_gram_matrices_and_factors(reach, dense, monkeypatch):
    if not dense:
        monkeypatch.setattr("qubo.search.arrays.GRAM_ENTRIES", 0)
    selection = banded(reach, 6, 3, reach)
    layout = lay_out(selection)
    assert (layout.arrays.width[0] == 0) == dense
    bands = np.zeros(1, dtype=np.int64)
    bandwidths(layout.arrays, bands)
    assert bands[0] == reach
    for lam in (0.0, 0.4):
        found = minima(layout.arrays, tractable(layout.arrays), lam)
        price = lam * layout.price
        values = [selection.energy(c) + price * selection.total_cost(c) for c in every_choice(layout)]
        assert found.value * layout.scale == pytest.approx(min(values), rel=1e-10, abs=1e-10)


def test_bands_of_the_families_are_recognised():
    for family, width in (("Q", 2), ("R", 2), ("D", -1)):
        assert tractable(lay_out(qubo.generate(family, groups=16)).arrays) == [width]


def test_the_parts_of_a_large_problem_add_up(monkeypatch):
    arrays = lay_out(qubo.generate("R", groups=200)).arrays
    bands = tractable(arrays)
    whole = minima(arrays, bands, 0.01)
    monkeypatch.setattr("qubo.bounds.banded.THREADED", 10)
    parts = minima(arrays, bands, 0.01)
    assert np.array_equal(whole.x, parts.x)
    assert parts.value == pytest.approx(whole.value, rel=1e-12)


@pytest.mark.parametrize("family", ["S", "Q", "R"])
def test_the_dual_is_the_maximum_over_prices(family):
    layout = lay_out(qubo.generate(family, groups=60))
    a, bands = layout.arrays, tractable(layout.arrays)
    best, lam, _ = exact_dual(a, bands, layout.limit, 1e-9)
    around = [minima(a, bands, p).value - p * layout.limit for p in lam * np.linspace(0.5, 1.5, 201)]
    assert max(around) <= best * (1 + 1e-9)
    assert max(around) >= best * (1 - 1e-4)
    assert minima(a, bands, lam).value - lam * layout.limit == pytest.approx(best, rel=1e-12)
