"""Selection and Block: energies against plain loops, and one line for every bad input."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qubo
from qubo import Block, Selection


def random_selection(seed, *, groups=4, codes=3, gram=False, missing=False, block=None, dtype=np.float64):
    """A small selection with one block, for brute force; used by the other tests of this package."""
    rng = np.random.default_rng(seed)
    loss = rng.normal(size=(groups, codes)) * 10.0 ** rng.integers(-1, 2, (groups, 1))
    cost = rng.integers(0, 6, (groups, codes)).astype(float)
    if missing:
        loss[rng.random((groups, codes)) < 0.25] = np.inf
        loss[np.arange(groups), rng.integers(0, codes, groups)] = rng.normal(size=groups)
    members = rng.permutation(groups)[: groups if block is None else block]
    blocks = ()
    if members.size:
        factors = rng.normal(size=(members.size, codes, int(rng.integers(1, 7)))).astype(dtype)
        if gram:
            flat = factors.reshape(members.size * codes, -1)
            blocks = (Block.from_gram(members, (flat @ flat.T).reshape(members.size, codes, -1, codes)),)
        else:
            blocks = (Block.from_factors(members, factors),)
    offered = np.where(np.isfinite(loss), cost, np.nan)
    low, high = np.nanmin(offered, axis=1).sum(), np.nanmax(offered, axis=1).sum()
    budget = low + (high - low) * float(rng.choice([0.0, rng.random(), 1.5]))
    return Selection(loss=loss, cost=cost, budget=budget, blocks=blocks)


def plain_energy(selection, choice):
    """The definition, pair by pair in plain loops."""
    energy = sum(selection.loss[g, k] for g, k in enumerate(choice))
    for block in selection.blocks:
        for i, g in enumerate(block.groups):
            for j, h in enumerate(block.groups[:i]):
                if block.factors is not None:
                    energy += float(block.factors[i, choice[g]].astype(float) @ block.factors[j, choice[h]])
                else:
                    energy += float(block.gram[i, choice[g], j, choice[h]])
    return energy


@given(st.integers(0, 10**6), st.booleans(), st.sampled_from([np.float32, np.float64]))
def test_energy_is_the_sum_over_pairs(seed, gram, dtype):
    selection = random_selection(seed, groups=5, gram=gram, block=4, dtype=dtype)
    choice = np.random.default_rng(seed).integers(0, 3, 5)
    # Sums of at most 5·4/2 products of 6 terms; float32 Gram entries are symmetrised, hence 1e-6.
    tolerance = 1e-12 if dtype == np.float64 else 1e-5
    assert selection.energy(choice) == pytest.approx(
        plain_energy(selection, choice), rel=tolerance, abs=tolerance * 100
    )


def test_factors_and_their_gram_matrix_give_the_same_energy():
    by_factors, by_gram = random_selection(3), random_selection(3, gram=True)
    for choice in np.ndindex(3, 3, 3, 3):
        assert by_factors.energy(np.array(choice)) == pytest.approx(by_gram.energy(np.array(choice)), abs=1e-11)


@pytest.mark.parametrize("gram", [False, True])
def test_shrinkage_scales_the_pair_energy_alone(gram):
    selection, choice = random_selection(5, gram=gram), np.array([0, 1, 2, 0])
    alone = selection.with_couplings(0).energy(choice)
    pairs = selection.energy(choice) - alone
    assert abs(pairs) > 1e-3
    assert selection.with_couplings(0.3).energy(choice) == pytest.approx(alone + 0.3 * pairs, rel=1e-12)
    assert selection.with_couplings(0).blocks == ()


def test_smallest_cost_and_limit_say_what_is_feasible():
    selection = Selection(loss=[[0.0, np.inf, 1.0]], cost=[[3.0, 0.0, 2.0]], budget=2.0)
    assert selection.smallest_cost == 2.0  # code 1 is cheaper but not offered
    assert selection.feasible([2])
    assert not selection.feasible([0])
    assert not selection.feasible([1])
    assert selection.energy([1]) == np.inf


def test_restrict_keeps_only_the_allowed_codes():
    selection = Selection(loss=[[1.0, 2.0], [1.0, 2.0]], cost=[[1.0, 0.0], [1.0, 0.0]], budget=2.0)
    assert selection.restrict(np.array([True, False])).offered.tolist() == [[True, False], [True, False]]
    mask = np.array([[True, False], [True, True]])
    assert selection.restrict(mask).offered.tolist() == mask.tolist()


def test_arrays_inside_are_read_only_and_the_callers_stay_writable():
    loss = np.ones((1, 2))
    selection = Selection(loss=loss, cost=np.zeros((1, 2)), budget=0.0)
    with pytest.raises(ValueError, match="read-only"):
        selection.loss[0, 0] = 2.0
    loss[0, 0] = 3.0


GOOD = {"loss": np.ones((2, 2)), "cost": np.array([[1.0, 2.0], [1.0, 2.0]]), "budget": 3.0}
PAIR = np.ones((2, 2, 1))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"loss": np.ones(2)}, "loss must be a table of groups × codes, got shape (2,)"),
        ({"loss": np.array([["a", "b"]])}, "loss must be numbers, got dtype <U1"),
        ({"loss": np.array([[1j, 1.0]])}, "loss must be real, got dtype complex128"),
        ({"loss": np.array([[1.0, np.nan], [1.0, 1.0]])}, "loss[0, 1] is nan"),
        ({"loss": np.array([[1.0, 1.0], [-np.inf, 1.0]])}, "loss[1, 0] is -inf"),
        ({"loss": np.array([[1.0, 1.0], [np.inf, np.inf]])}, "group 1 has no code with a finite loss"),
        ({"cost": np.ones((2, 3))}, "cost must have the shape of loss (2, 2), got (2, 3)"),
        ({"cost": np.array([[1.0, -2.0], [1.0, 2.0]])}, "cost[0, 1] is -2.0"),
        ({"cost": np.array([[1.0, np.inf], [1.0, 2.0]])}, "cost[0, 1] is inf"),
        ({"loss": [[1.0, 2.0], [3.0]]}, "loss must be an array, got rows of different lengths: make them equally long"),
        ({"cost": [[1.0, 2.0], [3.0]]}, "cost must be an array, got rows of different lengths: make them equally long"),
        ({"loss": None}, "loss must be numbers, got dtype object"),
        ({"budget": float("nan")}, "budget is nan"),
        ({"budget": "a"}, "budget must be a number, got 'a': pass the cells that may be taken"),
        ({"budget": "3"}, "budget must be a number, got '3': pass the cells that may be taken"),
        ({"budget": None}, "budget must be a number, got None"),
        ({"budget": True}, "budget must be a number, got True"),
        ({"budget": 10**400}, "budget must be a number, got 1000"),
        ({"budget": np.array([[3.0], [4.0]])}, "budget must be a number, got array([[3.], [4.]])"),
        ({"blocks": 3}, "blocks must be a row of qubo.Block, got 3: pass a tuple of them"),
        ({"blocks": ["a"]}, "blocks must be a row of qubo.Block, got 'a': pass a tuple of them"),
        ({"setup": 3}, "setup must be a row of qubo.Setup, got 3: pass a tuple of them"),
        ({"setup": Block.from_factors([0, 1], PAIR)}, "setup must be a row of qubo.Setup, got Block("),
        ({"budget": 1.5}, "budget 1.5 cells is infeasible: the cheapest code of every group takes 2.0 cells"),
        ({"blocks": (Block.from_factors([0, 1], np.ones((2, 3, 1))),)}, "block 0 has 3 codes where"),
        ({"blocks": (Block.from_factors([0, 2], PAIR),)}, "block 0 names groups 0..2, the selection has 0..1"),
        ({"blocks": (Block.from_factors([0, 1], PAIR),) * 2}, "group 0 is in two blocks"),
    ],
)
def test_a_bad_selection_is_refused_in_one_line(change, line):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        Selection(**(GOOD | change))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert ": " in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"groups": [], "factors": PAIR}, "block.groups must be one row of integers"),
        ({"groups": [0.5, 1.0], "factors": PAIR}, "block.groups must be one row of integers"),
        ({"groups": [[0], [0, 1]], "factors": PAIR}, "block.groups must be an array, got rows of different lengths"),
        ({"groups": [0, 1], "factors": [[[1.0]], [1.0]]}, "block.factors must be an array, got rows of different"),
        ({"groups": [0], "gram": [[1.0, 2.0], [1.0]]}, "block.gram must be an array, got rows of different lengths"),
        ({"groups": [1, 1], "factors": PAIR}, "block.groups must name each group once"),
        ({"groups": [0, 1]}, "a block holds either factors or gram, got both or none"),
        ({"groups": [0, 1], "factors": np.ones((3, 2, 1))}, "block.factors must have shape (m, K, D) with m = 2"),
        ({"groups": [0, 1], "factors": PAIR * np.nan}, "block.factors must be finite"),
        ({"groups": [0, 1], "gram": np.ones((2, 2, 2, 3))}, "block.gram must have shape (m, K, m, K) with m = 2"),
        ({"groups": [0], "gram": np.full((1, 1, 1, 1), np.inf)}, "block.gram must be finite"),
        ({"groups": [0], "gram": np.array([[1.0, 0.5], [0.1, 1.0]]).reshape(1, 2, 1, 2)}, "must be symmetric"),
    ],
)
def test_a_bad_block_is_refused_in_one_line(arguments, line):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        Block(**arguments)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda s: s.energy([0]), "choice must be 2 integers, got shape (1,)"),
        (lambda s: s.energy([0.0, 1.0]), "choice must be 2 integers"),
        (lambda s: s.energy([0, 2]), "choice must lie in 0..1, got 0..2"),
        (lambda s: s.total_cost([-1, 0]), "choice must lie in 0..1, got -1..0"),
        (lambda s: s.energy([0, [1]]), "choice must be an array, got rows of different lengths"),
        (lambda s: s.with_couplings(1.5), "rho must lie in 0..1, got 1.5"),
        (lambda s: s.with_couplings("a"), "rho must lie in 0..1, got 'a'"),
        (lambda s: s.restrict([[True], True]), "allowed must be an array, got rows of different lengths"),
        (lambda s: s.with_budget("a"), "budget must be a number, got 'a'"),
        (lambda s: Block.from_factors([0, 1], PAIR).scaled("a"), "rho must be at least 0, got 'a'"),
        (lambda s: Block.from_factors([0, 1], [[[1.0]], [1.0]]), "block.factors must be an array, got rows"),
        (lambda s: s.restrict([1, 0]), "allowed must be bool of shape (2,) or (2, 2)"),
        (lambda s: s.restrict(np.array([False, False])), "group 0 has no code with a finite loss"),
        (lambda s: s.with_budget(0.0), "budget 0 cells is infeasible"),
        (lambda s: Block.from_factors([0, 1], PAIR).scaled(-1), "rho must be at least 0, got -1"),
    ],
)
def test_a_bad_call_is_refused_in_one_line(call, line):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        call(Selection(**GOOD))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("budget", [3, np.float32(3), np.int8(3), np.array(3.0), float("inf")])
def test_a_budget_is_any_real_number(budget):
    assert Selection(**(GOOD | {"budget": budget})).budget == float(budget)


@pytest.mark.parametrize("family", ["S", "Q", "R", "D"])
def test_a_family_is_reproducible_and_its_energy_is_half_the_squared_error(family):
    problem, again = (qubo.generate(family, groups=37, seed=4) for _ in range(2))
    assert np.array_equal(problem.loss, again.loss)
    assert problem.smallest_cost == 0
    choice = np.random.default_rng(0).integers(0, 6, 37)
    for block in problem.blocks:
        rows = block.factors[np.arange(block.groups.size), choice[block.groups]]
        half_squared = 0.5 * float((rows.sum(axis=0) ** 2).sum())
        own = problem.loss[block.groups, choice[block.groups]].sum()
        assert own + block.pair_energy(choice[block.groups]) == pytest.approx(half_squared, rel=1e-10)
    assert len(problem.blocks) == (0 if family == "S" else 3)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"family": "X"}, "family must be S, Q, R or D, got 'X'"),
        ({"family": "S", "groups": 0}, "groups must be a whole number of at least 1, got 0"),
        ({"family": "S", "codes": 1}, "codes must be a whole number of at least 2, got 1"),
    ],
)
def test_a_family_that_does_not_exist_is_refused(arguments, line):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        qubo.generate(**arguments)
    assert line in str(caught.value)
