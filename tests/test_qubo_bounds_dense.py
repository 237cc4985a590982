"""Dense blocks at a price: bounds between the plain one and brute force, work shared out by gap, ends that hold."""

import itertools
import time

import numpy as np
import pytest
from test_qubo_bounds_branch_and_bound import dense_block, least

import qubo
from qubo.bounds import dense
from qubo.bounds.dense import DenseBlock, prove
from qubo.search.arrays import lay_out


def whole_problem(seed, groups=12, size=4):
    """Dense blocks of four groups with their brute-force minima at a price."""
    problem = qubo.generate("D", groups=groups, codes=3, seed=seed)
    blocks = tuple(
        qubo.Block.from_factors(np.arange(first, first + size), problem.blocks[0].factors[first : first + size])
        for first in range(0, groups, size)
    )
    layout = lay_out(qubo.Selection(problem.loss, problem.cost, problem.budget, blocks))
    a, lam = layout.arrays, 0.01
    n = size * a.loss.shape[1]
    minima = []
    for b in range(len(blocks)):
        members = a.members[a.start[b] : a.start[b + 1]]
        linear = (a.loss + lam * a.cost)[members].reshape(-1)
        pairs = a.data[a.offset[b] : a.offset[b] + n * n].reshape(n, n)
        assert np.isfinite(linear).all()
        minima.append(least(linear, pairs, np.arange(size + 1) * a.loss.shape[1])[0])
    return a, lam, np.array(minima)


@pytest.mark.parametrize("seed", range(3))
def test_every_block_is_proven_to_its_minimum_and_no_further(seed):
    a, lam, minima = whole_problem(seed)
    plain = minima - 1.0
    lower = prove(a, np.arange(3), lam, np.zeros(12, dtype=np.int64), plain, 1.0)
    assert (lower <= minima + 1e-12).all()
    assert lower == pytest.approx(minima, abs=1e-4 * np.abs(minima).max())


def test_without_effort_time_or_an_undisturbed_keyboard_the_plain_bounds_stay(monkeypatch):
    a, lam, minima = whole_problem(0)
    plain, x = minima - 1.0, np.zeros(12, dtype=np.int64)
    assert prove(a, np.arange(3), lam, x, plain, 0.0).tolist() == plain.tolist()
    assert prove(a, np.arange(3), lam, x, plain, 1.0, deadline=time.perf_counter()).tolist() == plain.tolist()

    def interrupt(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(DenseBlock, "round", interrupt)
    assert prove(a, np.arange(3), lam, x, plain, 1.0).tolist() == plain.tolist()


def test_blocks_are_proven_each_on_its_own():
    a, lam, _ = whole_problem(1)
    x, plain = np.zeros(12, dtype=np.int64), np.full(3, -1e3)
    together = prove(a, np.arange(3), lam, x, plain, 1.0)
    alone = [prove(a, np.array([b]), lam, x, plain, 1.0)[0] for b in range(3)]
    assert together == pytest.approx(alone, rel=1e-9)


def test_a_plain_bound_above_what_is_known_is_lowered_to_it():
    """A bound may be above the best value known by rounding only: it is then that value."""
    a, minimum = dense_block(3, "gram")
    block = DenseBlock(a, 0, 0.3, np.zeros(4, dtype=np.int64), 1e9)
    assert block.lower == block.upper >= minimum
    assert block.closed
    assert block.gap == 0.0


class Waiting:
    """A block as the sharing out of work sees it."""

    def __init__(self, gap, work, rounds=0, closed=False):
        self.gap, self.work, self.rounds, self.closed = gap, work, rounds, closed


@pytest.mark.parametrize(
    ("blocks", "left", "expected"),
    [
        ([Waiting(1.0, 1.0), Waiting(2.0, 1.0)], 100.0, [(1, 4), (0, 4)]),  # the larger gap first, a spell each
        ([Waiting(1.0, 1.0), Waiting(2.0, 10.0)], 100.0, [(0, 4), (1, 4)]),  # per work
        ([Waiting(1.0, 1.0), Waiting(2.0, 1.0)], 5.0, [(1, 4)]),  # one round is not worth starting with
        ([Waiting(1.0, 1.0, rounds=4), Waiting(2.0, 1.0)], 5.0, [(1, 4), (0, 1)]),  # but worth going on with
        ([Waiting(1.0, 1.0, closed=True), Waiting(1.0, 1.0, rounds=60)], 100.0, []),  # done, or tried enough
        ([Waiting(1.0, 1e9)], 100.0, []),
    ],
)
def test_work_goes_to_the_largest_gap_that_it_affords(blocks, left, expected):
    assert [(blocks.index(block), rounds) for block, rounds in dense._tasks(blocks, left)] == expected


@pytest.mark.parametrize("seed", range(4))
def test_codes_that_are_dropped_leave_the_best_choice_and_its_value(seed):
    a, minimum = dense_block(seed, "gram", groups=4, codes=4)
    start = np.random.default_rng(seed).integers(0, 4, 4)
    block = DenseBlock(a, 0, 0.3, start, -np.inf)
    value = block.upper
    assert block._value(block.best) == pytest.approx(value)
    for _ in range(5):
        if block.closed:
            break
        block.round()
        assert block._value(block.best) == pytest.approx(block.upper)
        assert minimum - 1e-9 <= block.upper <= value + 1e-12
        assert block.counts.min() >= 1
        assert block.starts[-1] == block.linear.size == block.pairs.shape[0]
        value = block.upper


def test_a_larger_effort_never_proves_less():
    problem = qubo.generate("D", groups=48, seed=3)
    bounds = [qubo.lower_bound(problem, effort=effort).bound for effort in (0, 0.02, 0.2, 1)]
    assert all(later >= earlier * (1 - 2e-3) for earlier, later in itertools.pairwise(bounds))
    assert bounds[-1] > 1.1 * bounds[0]
