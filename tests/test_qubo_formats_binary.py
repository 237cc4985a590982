"""Ocean's forms: the same energies as the selection, and ground states with one code per group."""

import dimod
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_qubo_selection import random_selection

import qubo
from qubo import Selection
from qubo.formats import binary


def one_hot_sample(selection, choice):
    """The binary sample of a choice."""
    offered = np.flatnonzero(selection.offered.reshape(-1))
    on = {g * selection.codes + k for g, k in enumerate(choice)}
    return {int(v): int(v in on) for v in offered}


def offered_choices(selection, count, seed):
    rng = np.random.default_rng(seed)
    return [np.array([rng.choice(np.flatnonzero(row)) for row in selection.offered]) for _ in range(count)]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.booleans())
def test_bqm_cqm_and_selection_agree_on_every_choice(seed, gram, missing):
    selection = random_selection(seed, groups=5, codes=4, gram=gram, missing=missing, block=3)
    bqm, cqm = qubo.to_bqm(selection, 0.7), qubo.to_cqm(selection)
    for choice in offered_choices(selection, 10, seed):
        sample = one_hot_sample(selection, choice)
        energy, cost = selection.energy(choice), selection.total_cost(choice)
        # Terms of up to about 1e3 cancel in the λ form.
        assert bqm.energy(sample) == pytest.approx(energy + 0.7 * (cost - selection.budget), rel=1e-9, abs=1e-9)
        assert cqm.objective.energy(sample) == pytest.approx(energy, rel=1e-12, abs=1e-10)
        assert cqm.check_feasible(sample) == selection.feasible(choice)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.floats(0, 3))
def test_ground_states_of_the_lambda_form_have_one_code_per_group(seed, gram, multiplier):
    selection = random_selection(seed, groups=4, codes=3, gram=gram)
    found = dimod.ExactSolver().sample(qubo.to_bqm(selection, multiplier)).lowest()
    choices, one_hot = binary.decode(selection, found.record.sample, list(found.variables))
    assert one_hot.all()
    best = selection.energy(choices[0]) + multiplier * selection.total_cost(choices[0])
    for choice in np.ndindex(3, 3, 3, 3):
        value = selection.energy(np.array(choice)) + multiplier * selection.total_cost(np.array(choice))
        assert value >= best - 1e-9 * max(1.0, abs(best))


def test_the_budget_is_one_linear_row_and_groups_are_discrete():
    selection = qubo.generate("Q", groups=20)
    cqm = qubo.to_cqm(selection)
    assert len(cqm.discrete) == 20
    assert len(cqm.constraints) == 21
    assert cqm.constraints["budget"].lhs.is_linear()
    assert set(cqm.variables) == set(range(120))


def test_the_lambda_form_stays_sparse():
    selection = qubo.generate("Q", groups=64)
    # 4 blocks of 16 groups, 14 pairs two apart and 15 one apart, 36 couplings each; 15 pairs of codes in a group.
    assert qubo.to_bqm(selection, 1.0).num_interactions == 4 * (14 + 15) * 36 + 64 * 15


def test_decode_gives_one_code_to_broken_groups():
    selection = Selection(
        loss=[[1.0, 2.0, np.inf], [1.0, 2.0, 3.0]], cost=[[1.0, 2.0, 0.0], [4.0, 5.0, 6.0]], budget=99.0
    )
    labels = [0, 1, 3, 4, 5]
    samples = [[1, 0, 0, 1, 0], [0, 0, 1, 0, 1]]
    choices, one_hot = binary.decode(selection, samples, labels)
    assert choices.tolist() == [[0, 1], [0, 2]]
    assert one_hot.tolist() == [True, False]


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda s: qubo.to_bqm(s, -1.0), "multiplier must be at least 0, got -1.0"),
        (lambda s: qubo.to_bqm(s, float("nan")), "multiplier must be at least 0, got nan"),
        (lambda s: qubo.to_bqm(s, 1.0, one_hot=np.ones(3)), "one_hot must be (2,) weights, got (3,)"),
    ],
)
def test_a_bad_form_is_refused_in_one_line(call, line):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        call(qubo.generate("S", groups=2))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
