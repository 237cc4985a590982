"""The parts of the bound: exact block minima, and convex forms that are convex and equal to the energy."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_qubo_selection import random_selection

import qubo
from qubo import Block, Selection
from qubo.arrays import lay_out
from qubo.convexity import Tightening, convexify
from qubo.narrow import bandwidths, minimise, tractable


def every_choice(layout):
    """All choices among usable codes."""
    return [np.array(c) for c in itertools.product(*(range(n) for n in layout.arrays.codes))]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 5), st.booleans(), st.booleans())
def test_dynamic_programming_finds_the_least_priced_energy(seed, multiplier, gram, missing):
    selection = random_selection(seed, groups=5, codes=3, gram=gram, missing=missing, block=4)
    layout = lay_out(selection)
    bands, x = tractable(layout.arrays), np.zeros(5, dtype=np.int64)
    value, cost = minimise(layout.arrays, bands, multiplier / layout.price, 0.0, x)
    least = min(
        selection.energy(layout.decode(c)) + multiplier * selection.total_cost(layout.decode(c))
        for c in every_choice(layout)
    )
    chosen = layout.decode(x)
    assert value * layout.scale == pytest.approx(least, rel=1e-9, abs=1e-9)
    assert selection.energy(chosen) + multiplier * selection.total_cost(chosen) == pytest.approx(
        least, rel=1e-9, abs=1e-9
    )
    assert cost * layout.cells == pytest.approx(selection.total_cost(chosen), rel=1e-12)


def test_bands_are_recognised():
    for family, width in (("Q", 2), ("R", 2), ("D", 15)):
        arrays = lay_out(qubo.generate(family, groups=16)).arrays
        bands = np.zeros(1, dtype=np.int64)
        bandwidths(arrays, bands)
        assert bands[0] == width
        assert (tractable(arrays) is None) == (family == "D")


@pytest.mark.parametrize("gram", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_convex_form_is_convex_on_the_simplices_and_equals_the_energy_on_choices(gram, dtype):
    selection = random_selection(8, groups=4, codes=3, gram=gram, dtype=dtype).with_budget(1e9)
    layout = lay_out(selection)
    plain = convexify(selection, layout)
    kept = layout.kept()
    tightening = Tightening(plain, kept / kept.sum(axis=1, keepdims=True), np.where(kept, 0.1, np.inf))
    tight = tightening.form(tightening.propose(), 1.0)
    for form in (plain, tight):
        a = form.arrays
        size = 4 * a.loss.shape[1]
        matrix = a.data.reshape(size, size)
        # Rows of the block are its groups in the block's order.
        order = np.array([a.members[i] for i in range(4)])
        tangent = np.eye(size) - np.kron(np.eye(4), np.full((size // 4,) * 2, 4 / size))
        assert kept.all()
        assert np.linalg.eigvalsh(tangent @ matrix @ tangent).min() >= -1e-12 * np.trace(matrix)
        for choice in every_choice(layout):
            x = np.zeros(a.loss.shape)
            x[np.arange(4), choice] = 1.0
            flat = x[order].reshape(-1)
            value = a.loss[np.arange(4), choice].sum() + 0.5 * flat @ matrix @ flat
            energy = selection.energy(layout.decode(choice))
            tolerance = 1e-9 * (1 + np.abs(a.loss[kept]).max() * layout.scale)
            assert value * layout.scale == pytest.approx(energy, rel=1e-9, abs=tolerance)


def test_the_bound_holds_for_gram_matrices_that_are_not_positive_semidefinite():
    rng = np.random.default_rng(2)
    matrix = rng.normal(size=(12, 12))
    block = Block.from_gram(np.arange(4), (matrix + matrix.T).reshape(4, 3, 4, 3))
    selection = Selection(loss=rng.normal(size=(4, 3)), cost=rng.random((4, 3)), budget=4.0, blocks=(block,))
    least = min(selection.energy(np.array(c)) for c in itertools.product(range(3), repeat=4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qubo.narrow.STATES", 0)
        certificate = qubo.lower_bound(selection)
    assert certificate.method == "convex relaxation"
    assert least - 20 < certificate.bound <= least  # 20: twelve entries of size 1 to 3, nothing like infinity


def test_tightening_closes_most_of_the_gap_of_the_plain_shift():
    problem = qubo.generate("D", groups=64)
    best = qubo.solve(problem).energy
    plain, tight = (1 - qubo.lower_bound(problem, effort=effort).bound / best for effort in (0, 1))
    assert plain > 0.5
    assert tight < 0.6 * plain


@pytest.mark.parametrize("effort", [-1.0, float("nan")])
def test_an_effort_below_zero_is_refused(effort):
    with pytest.raises(ValueError, match="effort must be at least 0, got"):
        qubo.lower_bound(qubo.generate("S", groups=2), effort=effort)
