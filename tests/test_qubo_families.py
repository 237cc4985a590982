"""Families: what each promises about its losses, couplings and budget, whatever the seed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qubo
from qubo.families import BITS, BLOCK_GROUPS, BUDGET_BITS, RELATIVE_LOSS

COUPLED = ("Q", "R", "D")


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.sampled_from("SQRD"), st.integers(1, 40), st.integers(2, 9))
def test_losses_fall_as_cells_grow_and_the_budget_is_three_bits_a_weight(seed, family, groups, codes):
    problem = qubo.generate(family, groups=groups, codes=codes, seed=seed)
    assert problem.loss.shape == problem.cost.shape == (groups, codes)
    assert (np.diff(problem.loss, axis=1) <= 0).all()
    assert (np.diff(problem.cost, axis=1) > 0).all()
    assert (problem.cost[:, 0] == 0).all()
    # The last code takes 8 bits a weight, so a group has cost / 8 weights; the budget is 3 bits of each.
    assert problem.budget == pytest.approx(BUDGET_BITS / 8 * problem.cost[:, -1].sum(), rel=1e-12)
    assert problem.smallest_cost == 0
    assert not problem.feasible(np.full(groups, codes - 1))


@pytest.mark.parametrize("family", COUPLED)
def test_the_own_term_of_every_code_is_its_loss(family):
    problem = qubo.generate(family, groups=20, seed=3)
    for block in problem.blocks:
        assert 0.5 * np.einsum("gkd,gkd->gk", block.factors, block.factors) == pytest.approx(problem.loss[block.groups])


@pytest.mark.parametrize("family", COUPLED)
def test_the_energy_is_half_the_squared_length_of_the_summed_errors(family):
    problem = qubo.generate(family, groups=40, seed=5)
    rng = np.random.default_rng(0)
    for _ in range(5):
        choice = rng.integers(0, 6, 40)
        sums = [
            block.factors[np.arange(block.groups.size), choice[block.groups]].sum(axis=0) for block in problem.blocks
        ]
        assert problem.energy(choice) == pytest.approx(0.5 * sum(float(s @ s) for s in sums), rel=1e-9)
        assert problem.energy(choice) >= 0


def reach(block):
    """How many places apart groups of a block are coupled."""
    matrix = np.abs(block.matrix()).reshape(block.groups.size, block.codes, block.groups.size, block.codes)
    i, j = np.nonzero(matrix.max(axis=(1, 3)) > 1e-12 * matrix.max())
    return int(np.abs(i - j).max())


@pytest.mark.parametrize(("family", "places"), [("Q", 2), ("R", 2), ("D", BLOCK_GROUPS - 1)])
def test_blocks_of_sixteen_couple_as_far_as_the_family_says(family, places):
    problem = qubo.generate(family, groups=40, seed=1)
    assert [block.groups.size for block in problem.blocks] == [16, 16, 8]
    assert np.concatenate([block.groups for block in problem.blocks]).tolist() == list(range(40))
    assert [reach(block) for block in problem.blocks] == [places, places, min(places, 7)]


def test_the_separable_family_has_no_couplings():
    assert qubo.generate("S", groups=40).blocks == ()


def test_couplings_of_the_rugged_family_are_stronger():
    def strength(family):
        """Mean |cosine| between neighbours' errors."""
        found = []
        for seed in range(5):
            for block in qubo.generate(family, groups=64, seed=seed).blocks:
                unit = block.factors / np.linalg.norm(block.factors, axis=2, keepdims=True)
                found.append(np.abs(np.einsum("gkd,gld->gkl", unit[1:], unit[:-1])).mean())
        return np.mean(found)

    assert strength("R") > 1.4 * strength("Q")


def test_six_codes_have_the_measured_losses_and_others_are_interpolated():
    six, twelve = (qubo.generate("S", groups=2000, codes=n, seed=1) for n in (6, 12))
    # Noise of 15 % a code, sorted: the median over groups is the table's value to some percent.
    measured = np.median(six.loss / six.loss[:, :1], axis=0)
    assert measured[1:5] == pytest.approx(RELATIVE_LOSS[1:5], rel=0.05)
    assert np.unique(six.cost / six.cost[:, -1:] * 8, axis=0) == pytest.approx(BITS[None])
    bits = np.linspace(0, 8, 12)
    line = np.exp(np.interp(bits, BITS, np.log(RELATIVE_LOSS)))
    assert np.median(twelve.loss / twelve.loss[:, :1], axis=0)[1:] == pytest.approx(line[1:], rel=0.1)


def test_sensitivities_are_heavy_tailed():
    largest = qubo.generate("S", groups=5000, seed=0).loss[:, 0]
    top = np.sort(largest)[-50:]
    assert top.sum() > 0.15 * largest.sum()  # one in a hundred holds it; of a Gaussian spread it would be 0.03


@pytest.mark.parametrize("family", "SQRD")
def test_the_same_arguments_give_the_same_problem_and_each_argument_counts(family):
    def numbers(**changes):
        problem = qubo.generate(**{"family": family, "groups": 20, "codes": 4, "seed": 1, **changes})
        return [problem.loss.tobytes(), problem.cost.tobytes(), *(block.factors.tobytes() for block in problem.blocks)]

    assert numbers() == numbers()
    for changes in ({"seed": 2}, {"groups": 21}, {"codes": 5}):
        assert numbers(**changes)[0] != numbers()[0]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"family": "X"}, "family must be S, Q, R or D, got 'X': pass one of these letters"),
        ({"family": "SQ"}, "family must be S, Q, R or D, got 'SQ'"),
        ({"family": "S", "groups": 0}, "groups must be a whole number of at least 1, got 0: pass a count"),
        ({"family": "D", "codes": 1}, "codes must be a whole number of at least 2, got 1: pass a count"),
        ({"family": ["Q"]}, "family must be S, Q, R or D, got ['Q']: pass one of these letters"),
        ({"family": np.array(["S", "Q"])}, "family must be S, Q, R or D, got array(['S', 'Q'], dtype='<U1')"),
        ({"family": "Q", "groups": "3"}, "groups must be a whole number of at least 1, got '3': pass a count"),
        ({"family": "Q", "groups": 1.5}, "groups must be a whole number of at least 1, got 1.5: pass a count"),
        ({"family": "Q", "groups": None}, "groups must be a whole number of at least 1, got None: pass a count"),
        ({"family": "Q", "codes": True}, "codes must be a whole number of at least 2, got True: pass a count"),
        ({"family": "Q", "codes": np.ones((9, 9))}, "codes must be a whole number of at least 2, got array([[1., 1.,"),
        ({"family": "Q", "seed": -1}, "seed must be a whole number of at least 0, got -1: pass one, such as 0"),
        ({"family": "Q", "seed": 1.5}, "seed must be a whole number of at least 0, got 1.5"),
        ({"family": "Q", "seed": 2**63}, "seed must be below 2^63, got 9223372036854775808: pass a smaller one"),
    ],
)
def test_a_bad_family_is_refused_in_one_line(arguments, line):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        qubo.generate(**arguments)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_whole_numbers_of_numpy_are_whole_numbers():
    plain, other = qubo.generate("Q", groups=9, seed=3), qubo.generate("Q", groups=np.int32(9), seed=np.uint64(3))
    assert np.array_equal(plain.loss, other.loss)
    assert qubo.generate("S", groups=2, seed=2**63 - 1).groups == 2
