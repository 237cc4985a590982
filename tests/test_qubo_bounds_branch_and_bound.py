"""Dense blocks at a price: relaxation, dropped codes and branch and bound against brute force."""

import itertools
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qubo
from qubo import Block, Selection
from qubo.bounds.branch_and_bound import branch, dominated, settle, unary_parts
from qubo.bounds.dense import DenseBlock
from qubo.bounds.semidefinite import Lifted
from qubo.search.arrays import lay_out


def random_block(seed, *, groups=4, codes=3, kind="gram"):
    """Linear terms (n,), couplings (n, n) without in-group blocks, and where groups start."""
    rng = np.random.default_rng(seed)
    n = groups * codes
    matrix = {
        "gram": lambda: np.cov(rng.normal(size=(n, n + 2))) * 3,
        "indefinite": lambda: rng.normal(size=(n, n)),
        "near-singular": lambda: np.outer(*[rng.normal(size=n)] * 2) + 1e-9 * rng.normal(size=(n, n)),
        "wide-ranged": lambda: rng.normal(size=(n, n)) * np.outer(*[10.0 ** rng.uniform(-4, 4, n)] * 2),
        "none": lambda: np.zeros((n, n)),
    }[kind]()
    matrix = matrix + matrix.T
    group = np.repeat(np.arange(groups), codes)
    matrix[group[:, None] == group[None, :]] = 0.0
    return rng.normal(size=n) * 10.0 ** rng.integers(-1, 2), matrix, np.arange(groups + 1) * codes


def least(linear, pairs, starts):
    """The least value of the block and a choice that has it."""
    every = itertools.product(*(range(lo, hi) for lo, hi in itertools.pairwise(starts)))
    values = {rows: linear[list(rows)].sum() + 0.5 * pairs[np.ix_(rows, rows)].sum() for rows in every}
    best = min(values, key=values.get)
    return values[best], best


KINDS = st.sampled_from(["gram", "indefinite", "near-singular", "wide-ranged", "none"])


def convex(pairs):
    """Some convex form: the couplings with enough on the diagonal."""
    shift = max(0.0, -np.linalg.eigvalsh(pairs)[0]) + 1e-9 * np.abs(pairs).max()
    return pairs + shift * np.eye(pairs.shape[0])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), KINDS)
def test_dominated_codes_are_in_no_minimiser(seed, kind):
    linear, pairs, starts = random_block(seed, kind=kind)
    alive = np.ones(linear.size, dtype=np.bool_)
    dropped = dominated(linear, pairs, starts, alive, 0.0)
    assert dropped == (~alive).sum()
    assert alive[list(least(linear, pairs, starts)[1])].all()


def test_a_code_that_is_worse_whatever_the_others_do_is_dropped():
    pairs = np.zeros((4, 4))
    pairs[0, 2] = pairs[2, 0] = -0.5
    linear, starts = np.array([1.0, 0.4, 0.0, 0.0]), np.array([0, 2, 4])
    alive = np.ones(4, dtype=np.bool_)
    # Code 0 gains at most 0.5, which leaves it 0.1 above code 1; codes 2 and 3 are then alike, and ties stay.
    assert dominated(linear, pairs, starts, alive, 0.0) == 1
    assert alive.tolist() == [False, True, True, True]
    assert dominated(linear, pairs, starts, np.ones(4, dtype=np.bool_), 0.2) == 0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), KINDS)
def test_the_bound_of_a_convex_form_is_below_every_choice(seed, kind):
    linear, pairs, starts = random_block(seed, kind=kind)
    rng = np.random.default_rng(seed)
    # Any form will do, also one whose couplings are not the problem's: the parts make up for the difference.
    form = convex(pairs * rng.uniform(0.5, 1.5, pairs.shape)[:, :])
    form = 0.5 * (form + form.T) + np.abs(pairs).max() * np.eye(linear.size)
    form = form + max(0.0, -np.linalg.eigvalsh(form)[0]) * np.eye(linear.size)
    parts = np.zeros((linear.size, starts.size - 1))
    unary_parts(pairs, form, starts, parts)
    lin, h = linear - 0.5 * np.diag(form) + parts.sum(axis=1), np.empty_like(linear)
    y = np.repeat(1 / np.diff(starts), np.diff(starts))
    value = settle(lin, form, starts, y, h, 50, np.inf)
    minimum, choice = least(linear, pairs, starts)
    size = np.abs(linear).sum() + np.abs(pairs).sum() + np.abs(form).sum()
    assert value <= minimum + 1e-13 * size
    # The bound of each code holds for the best choice with that code.
    assert y.min() >= 0
    lows = np.minimum.reduceat(h, starts[:-1])
    for row in choice:
        assert value + h[row] - lows[row // np.diff(starts)[0]] <= minimum + 1e-13 * size


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), KINDS, st.integers(1, 5000))
def test_branch_and_bound_ends_at_the_minimum_and_is_below_it_when_cut_short(seed, kind, nodes):
    linear, pairs, starts = random_block(seed, groups=5, kind=kind)
    form = convex(pairs)
    parts = np.zeros((linear.size, 5))
    unary_parts(pairs, form, starts, parts)
    y = np.full(linear.size, 1 / 3)
    incumbent = starts[:-1].copy()
    size = np.abs(linear).sum() + np.abs(pairs).sum() + np.abs(form).sum()
    margin = 1e-12 * size
    lower, upper, used = branch(linear, pairs, form, parts, starts, y, incumbent, margin, 0.0, nodes)
    minimum, _ = least(linear, pairs, starts)
    assert lower <= minimum + margin
    assert minimum - 1e-13 * size <= upper
    value = linear[incumbent].sum() + 0.5 * pairs[np.ix_(incumbent, incumbent)].sum()
    assert value == pytest.approx(upper, abs=1e-12 * size)
    if used < nodes:
        assert lower >= minimum - 3 * margin
        assert upper == pytest.approx(minimum, abs=3 * margin)


def dense_block(seed, kind, groups=4, codes=3):
    """A block of a selection at price 0.3, its scale and its brute-force minimum."""
    linear, pairs, starts = random_block(seed, groups=groups, codes=codes, kind=kind)
    rng = np.random.default_rng(seed)
    selection = Selection(
        loss=linear.reshape(groups, codes),
        cost=rng.random((groups, codes)),
        budget=1e9,
        blocks=(Block.from_gram(np.arange(groups), pairs.reshape(groups, codes, groups, codes)),),
    )
    layout = lay_out(selection)
    a = layout.arrays
    minimum = least((a.loss + 0.3 * a.cost).reshape(-1), a.data.reshape(pairs.shape), starts)[0]
    return a, minimum


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), KINDS)
def test_rounds_and_branching_prove_the_minimum_of_a_block_and_never_pass_it(seed, kind):
    a, minimum = dense_block(seed, kind)
    block = DenseBlock(a, 0, 0.3, np.zeros(4, dtype=np.int64), -np.inf)
    size = np.abs(a.loss).max() + np.abs(a.data).max()
    for _ in range(6):
        if block.closed:
            break
        block.round()
        assert block.lower <= minimum + 1e-14 * size
        assert block.upper >= minimum - 1e-14 * size
        block.branch(2000)
        assert block.lower <= minimum + 1e-14 * size
    assert block.closed
    assert block.upper == pytest.approx(minimum, abs=1e-5 * abs(minimum) + 1e-10 * size)


def test_the_semidefinite_relaxation_is_far_tighter_than_the_plain_shift():
    problem = qubo.generate("D", groups=16)
    layout = lay_out(problem)
    found = qubo.solve(problem)
    x = layout.encode(found.choice)
    lam = found.multiplier / layout.price
    with mock.patch("qubo.bounds.dense.dominated", return_value=0):
        block = DenseBlock(layout.arrays, 0, lam, x, -np.inf)
    for _ in range(4):
        block.round()
    # Measured 2 %; the plain shift leaves 30 %.
    assert block.gap < 0.06 * abs(block.upper)


def test_codes_can_be_dropped_between_steps_of_the_relaxation():
    linear, pairs, starts = random_block(5, groups=4, codes=4)
    lifted = Lifted.of(linear, pairs, np.diff(starts))
    lifted.run(40)
    kept = np.ones(16, dtype=np.bool_)
    kept[[3, 6, 7]] = False
    lifted.keep(kept)
    form, y = lifted.run(40)
    assert form.shape == (13, 13)
    assert np.add.reduceat(y, [0, 3, 5, 9]) == pytest.approx(np.ones(4))
