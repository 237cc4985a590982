"""From constrained models: groups that hang together as networkx says, Gram blocks that hold every coupling once."""

import dimod
import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_qubo_selection import random_selection

import qubo
from qubo.formats.constrained import blocks_of, from_cqm, own_blocks


def random_pairs(seed, groups, codes, count):
    """Couplings between variables, some of one group, some zero, some named twice."""
    rng = np.random.default_rng(seed)
    i, j = rng.integers(0, groups * codes, (2, count))
    return np.minimum(i, j), np.maximum(i, j), rng.choice([0.0, -1.5, 0.25, 3.0], count)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 4), st.integers(0, 12))
def test_blocks_are_the_components_of_the_couplings_and_hold_each_once(seed, groups, codes, count):
    i, j, value = random_pairs(seed, groups, codes, count)
    blocks = blocks_of(groups, codes, i, j, value, None)
    triples = [(a, b, v) for a, b, v in zip(i, j, value, strict=True) if v and a // codes != b // codes]
    graph = nx.Graph((a // codes, b // codes) for a, b, _ in triples)
    expected = {frozenset(component) for component in nx.connected_components(graph)}
    assert {frozenset(block.groups.tolist()) for block in blocks} == expected
    rng = np.random.default_rng(seed)
    for _ in range(4):
        choice = rng.integers(0, codes, groups)
        on = np.arange(groups) * codes + choice
        pairs = sum(v for a, b, v in triples if a in on and b in on)
        assert sum(block.pair_energy(choice[block.groups]) for block in blocks) == pytest.approx(pairs, abs=1e-12)
    for block in blocks:
        assert np.linalg.eigvalsh(block.matrix())[0] >= -1e-9  # raised until it is a Gram matrix


def test_no_coupling_makes_no_block():
    none = np.zeros(0, dtype=np.int64)
    assert blocks_of(3, 2, none, none, np.zeros(0), None) == ()
    assert blocks_of(3, 2, np.array([0]), np.array([1]), np.array([2.0]), None) == ()  # within a group


def test_couplings_that_fill_too_large_a_matrix_are_refused_in_one_line(monkeypatch):
    monkeypatch.setattr("qubo.formats.constrained.GRAM_ENTRIES", 35)
    line = "couplings fill Gram blocks of 36 entries, at most 35 fit: cut weak ones"
    with pytest.raises(ValueError, match=line):
        blocks_of(4, 3, np.array([0]), np.array([3]), np.array([1.0]), None)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.booleans(), st.booleans())
def test_a_selection_comes_back_from_its_model_with_the_groups_own_blocks(seed, gram, missing):
    selection = random_selection(seed, groups=5, gram=gram, missing=missing, block=3)
    again = from_cqm(qubo.to_cqm(selection), codes=3, own=own_blocks(selection))
    assert np.array_equal(again.loss, selection.loss)
    assert np.array_equal(again.offered, selection.offered)
    assert again.budget == pytest.approx(selection.budget, rel=1e-12)
    rng = np.random.default_rng(seed)
    for _ in range(6):
        choice = np.array([rng.choice(np.flatnonzero(row)) for row in selection.offered])
        assert again.energy(choice) == pytest.approx(selection.energy(choice), rel=1e-12, abs=1e-12)
        assert again.total_cost(choice) == selection.total_cost(choice)
    if again.blocks and not missing:
        (one,), (other,) = selection.blocks, again.blocks
        place = np.argsort(one.groups)
        order = (place[:, None] * 3 + np.arange(3)).reshape(-1)
        # A group that no other couples to falls out of the block.
        if other.groups.size == one.groups.size:
            assert other.matrix() == pytest.approx(one.matrix()[np.ix_(order, order)], rel=1e-9, abs=1e-9)


def test_the_order_of_constraints_and_variables_does_not_matter():
    selection = random_selection(2, groups=4, codes=3)
    plain = qubo.to_cqm(selection)
    shuffled = dimod.ConstrainedQuadraticModel()
    shuffled.add_variables("BINARY", range(12))
    shuffled.set_objective(dimod.BinaryQuadraticModel(plain.objective.linear, plain.objective.quadratic, 0.0, "BINARY"))
    shuffled.add_constraint_from_iterable(
        [(int(v), float(selection.cost.flat[v])) for v in reversed(range(12))], "<=", selection.limit, label="cells"
    )
    for g in (2, 0, 3, 1):
        members = [g * 3 + k for k in (2, 0, 1)]
        shuffled.add_constraint_from_iterable([(v, 1) for v in members], "==", 1, label=f"one-{g}")
    again = from_cqm(shuffled)
    for choice in np.ndindex(3, 3, 3, 3):
        assert again.energy(np.array(choice)) == pytest.approx(selection.energy(np.array(choice)), abs=1e-12)
        assert again.feasible(np.array(choice)) == selection.feasible(np.array(choice))


def test_constants_of_the_objective_and_of_the_budget_are_kept():
    cqm = dimod.ConstrainedQuadraticModel()
    x, y = dimod.Binaries(["x", "y"])
    cqm.set_objective(3 * x + 2 * y + 7)
    cqm.add_constraint(x + y == 1, label="one")
    cqm.add_constraint(4 * x + 1 * y + 2 <= 6, label="cells")
    selection = from_cqm(cqm)
    assert [selection.energy([k]) for k in (0, 1)] == [10.0, 9.0]
    assert selection.budget == pytest.approx(4.0)
    assert selection.feasible([0])


def test_a_code_missing_from_objective_and_budget_costs_nothing():
    cqm = dimod.ConstrainedQuadraticModel()
    cqm.add_variables("BINARY", ["a", "b"])
    cqm.set_objective(dimod.BinaryQuadraticModel({"a": 2.0}, {}, "BINARY"))
    cqm.add_discrete(["a", "b"])
    cqm.add_constraint_from_iterable([("a", 5.0)], "<=", 9.0, label="cells")
    selection = from_cqm(cqm)
    assert selection.loss.tolist() == [[2.0, 0.0]]
    assert selection.cost.tolist() == [[5.0, 0.0]]


def test_numbers_that_do_not_fit_the_menu_are_refused_in_one_line():
    with pytest.raises(ValueError, match="variables are not numbered group × 2 \\+ code: leave codes out"):
        from_cqm(qubo.to_cqm(qubo.generate("S", groups=2, codes=3)), codes=2)


def test_a_menu_of_a_billion_codes_is_refused_before_a_table_is_made():
    with pytest.raises(ValueError, match="a menu has 1 to 65536 codes, got 1000000000: leave codes out"):
        from_cqm(qubo.to_cqm(qubo.generate("S", groups=1, codes=3)), codes=10**9)


def test_a_variable_of_the_objective_in_no_group_is_refused_in_one_line():
    cqm = qubo.to_cqm(qubo.generate("S", groups=2, codes=2))
    cqm.add_variable("BINARY", "y")
    cqm.add_constraint_from_iterable([(0, 1.0), ("y", -1.0)], "<=", 0.0, label="link")
    cqm.constraints["budget"].lhs.add_linear("y", 1.0)
    cqm.objective.add_linear("y", 2.0)
    with pytest.raises(ValueError, match="variable 'y' is in the objective but in no group: a setup takes cells only"):
        from_cqm(cqm)
