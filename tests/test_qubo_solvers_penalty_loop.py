"""Solve, check, rescale: what a sampler is asked, how its answers are repaired, and when the loop ends."""

import itertools

import dimod
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_qubo_selection import random_selection

import qubo
from qubo.search.watch import Watch
from qubo.solvers import penalty_loop
from qubo.solvers.lagrangian import price
from qubo.solvers.penalty_loop import BETA_RANGE, Draw, GaveUpError, Task
from qubo.solvers.solver import Prepared


def sample(selection, choice):
    """A draw of one choice, as a sampler would give it."""
    labels = np.flatnonzero(selection.offered.reshape(-1))
    on = np.arange(selection.groups) * selection.codes + choice
    return Draw(np.isin(labels, on)[None].astype(np.int8), labels.tolist(), 0, 1)


def run(selection, draw, *, rounds=2, watch=None, seed=0):
    return penalty_loop.search(Prepared.of(selection, seed=seed), watch or Watch(), draw, rounds=rounds, work=1)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.booleans(), st.booleans())
def test_the_model_asked_for_is_the_lambda_form_in_the_selections_own_unit(seed, gram, missing):
    selection = random_selection(seed, groups=4, gram=gram, missing=missing)
    asked = []

    def draw(task):
        asked.append(task)
        raise GaveUpError("seen")

    run(selection, draw)
    (task,) = asked
    lam = task.lam * task.layout.price
    model = task.model()
    for choice in itertools.islice(itertools.product(range(3), repeat=4), 0, 81, 5):
        if not np.isfinite(selection.energy(np.array(choice))):
            continue
        bits = sample(selection, np.array(choice))
        energy = float(model.energies((bits.samples, bits.labels))[0])
        expected = selection.energy(np.array(choice)) + lam * (
            selection.total_cost(np.array(choice)) - selection.budget
        )
        size = np.abs(list(model.linear.values())).sum() + abs(float(model.offset))
        assert energy == pytest.approx(expected, abs=1e-11 * size)
    assert task.beta_range == [beta / task.energy_unit for beta in BETA_RANGE]
    assert task.energy_unit == task.unit * task.layout.scale > 0


def test_the_unit_is_a_mean_cost_step_under_lambda_or_a_mean_loss_step_without_it():
    selection = qubo.generate("S", groups=20)
    prepared = Prepared.of(selection)
    start = price(prepared, Watch())
    unit = penalty_loop._unit(prepared.layout, start.lam) * prepared.layout.scale
    spans = selection.cost[:, -1] - selection.cost[:, 0]
    assert unit == pytest.approx(start.lam * prepared.layout.price * spans.mean() / 5)
    loose = Prepared.of(selection.with_budget(1e9))
    spread = selection.loss.max(axis=1) - selection.loss.min(axis=1)
    assert penalty_loop._unit(loose.layout, 0.0) * loose.layout.scale == pytest.approx(spread.mean() / 5)
    fixed = Prepared.of(qubo.Selection(loss=[[1.0]], cost=[[1.0]], budget=1.0))
    assert penalty_loop._unit(fixed.layout, 0.0) == 1.0


def test_first_weights_are_what_the_best_code_costs_with_a_tenth_to_spare():
    selection = qubo.generate("S", groups=20)
    prepared = Prepared.of(selection)
    start = price(prepared, Watch())
    unit = penalty_loop._unit(prepared.layout, start.lam)
    weights = penalty_loop._first_weights(prepared.layout, start, unit) * prepared.layout.scale
    least = (selection.loss + start.lam * prepared.layout.price * selection.cost).min(axis=1)
    assert weights == pytest.approx(1.1 * np.maximum(least, 0.1 * unit * prepared.layout.scale))


def test_groups_without_exactly_one_code_are_broken():
    selection = qubo.generate("S", groups=3, codes=2)
    samples = np.array([[1, 0, 0, 1, 0, 1], [1, 1, 0, 0, 0, 1]], dtype=np.int8)
    assert penalty_loop._broken(selection, samples, [0, 1, 2, 3, 4, 5]).tolist() == [[False] * 3, [True, True, False]]
    # Columns in another order, and one that is not there.
    assert penalty_loop._broken(selection, samples[:, [5, 0, 2, 3]], [5, 0, 2, 3]).tolist() == [
        [False] * 3,
        [False, True, False],
    ]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.booleans(), st.booleans())
def test_whatever_is_drawn_becomes_a_feasible_choice_with_its_energy(seed, gram, missing):
    selection = random_selection(seed, groups=5, gram=gram, missing=missing, block=3)
    labels = np.flatnonzero(selection.offered.reshape(-1))
    bits = np.random.default_rng(seed).integers(0, 2, (4, labels.size)).astype(np.int8)
    prepared = Prepared.of(selection)
    outcome = penalty_loop.search(prepared, Watch(), lambda task: Draw(bits, labels.tolist(), 1, 10), rounds=3, work=1)
    assert selection.feasible(outcome.choice)
    assert outcome.evaluations == 30
    choices, whole = qubo.formats.binary.decode(selection, bits, labels)
    within = [selection.total_cost(choice) <= selection.limit for choice in choices]
    clean = np.mean(whole & np.array(within))
    assert outcome.feasible_before_repair == pytest.approx(clean)
    # No single move that fits is left, but for the Lagrangian start, which is returned where nothing is better.
    energy = selection.energy(outcome.choice)
    for g in range(5):
        for k in np.flatnonzero(selection.offered[g]):
            moved = outcome.choice.copy()
            moved[g] = k
            if selection.feasible(moved):
                assert selection.energy(moved) >= energy - 1e-9 * (1 + abs(energy))


def test_a_feasible_sample_that_cannot_be_improved_is_the_answer():
    selection = qubo.generate("R", groups=5, codes=3, seed=2)
    choices = [np.array(c) for c in itertools.product(range(3), repeat=5)]
    best = min((c for c in choices if selection.feasible(c)), key=selection.energy)
    outcome = run(selection, lambda task: sample(selection, best), rounds=1)
    assert outcome.choice.tolist() == best.tolist()
    assert outcome.feasible_before_repair == 1.0


def test_rounds_have_seeds_of_their_own_below_two_to_the_31():
    selection = qubo.generate("S", groups=5)
    seeds = []

    def draw(task):
        seeds.append(task.seed)
        return sample(selection, np.zeros(5, dtype=np.int64))

    run(selection, draw, rounds=4, seed=2**31 - 1)
    assert len(set(seeds)) == 4
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert seeds[0] == 2**31 - 1


def test_a_sampler_that_gives_up_later_keeps_what_it_found_before():
    selection = qubo.generate("S", groups=5)

    def draw(task):
        if task.number == 2:
            raise GaveUpError("cable cut")
        return sample(selection, np.zeros(5, dtype=np.int64))

    outcome = run(selection, draw, rounds=9)
    assert outcome.details == {"stopped": "cable cut"}
    assert outcome.evaluations == 2
    assert outcome.feasible_before_repair == 1.0


def test_an_interrupt_of_a_sampler_keeps_what_was_found():
    selection = qubo.generate("S", groups=5)
    watch = Watch()

    def draw(task):
        raise KeyboardInterrupt

    outcome = run(selection, draw, watch=watch)
    assert watch.interrupted
    assert selection.feasible(outcome.choice)
    assert outcome.feasible_before_repair is None


def test_with_a_time_limit_rounds_go_on_until_it_is_over():
    selection = qubo.generate("S", groups=5)
    rounds = []

    def draw(task):
        rounds.append(task.number)
        return sample(selection, np.zeros(5, dtype=np.int64))

    run(selection, draw, rounds=1, watch=Watch(0.2))
    assert len(rounds) > 1
    assert rounds == list(range(len(rounds)))


def test_a_draw_takes_ocean_sample_sets_as_they_are():
    found = dimod.SampleSet.from_samples([{3: 1, 1: 0}, {3: 0, 1: 0}], "BINARY", energy=[2.0, -1.0])
    draw = Draw.of(found, 8)
    assert draw.lowest == 1
    assert draw.evaluations == 8
    assert draw.samples[0, draw.labels.index(3)] == 1


def test_a_task_is_asked_beside_the_best_choice_so_far():
    selection = qubo.generate("R", groups=6, codes=3, seed=1)
    choices = [np.array(c) for c in itertools.product(range(3), repeat=6)]
    best = min((c for c in choices if selection.feasible(c)), key=selection.energy)
    seen: list[Task] = []

    def draw(task):
        seen.append(task)
        return sample(selection, best)

    run(selection, draw, rounds=2)
    assert seen[1].layout.decode(seen[1].best).tolist() == best.tolist()
