"""The walk as an environment, checked move by move, and what the learnt policy promises."""

import random

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st
from test_qubo_selection import random_selection
from test_qubo_solvers_exact import CORNERS, brute_force, sound

import qubo
from qubo import Selection
from qubo.search.arrays import lay_out
from qubo.solvers.reinforce import Walk

LITTLE = {"episodes": 12}


def walked(walk, actions):
    """The rewards and observations of a whole episode."""
    seen, rewards = [walk.reset()[0]], []
    for action in actions:
        observation, reward, done, truncated, _ = walk.step(np.int64(action))
        assert not truncated
        seen.append(observation)
        rewards.append(reward)
    assert done
    return np.array(rewards), np.array(seen)


@pytest.mark.parametrize("family", ["S", "D"])
def test_gymnasium_finds_nothing_wrong_with_the_environment(family):
    check_env(Walk(lay_out(qubo.generate(family, groups=20))), skip_render_check=True)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.booleans(), st.floats(0, 1))
def test_any_actions_end_within_the_budget_and_the_rewards_sum_to_minus_the_energy(seed, gram, missing, tightness):
    base = random_selection(seed, groups=5, gram=gram, missing=missing)
    dearest = np.where(base.offered, base.cost, 0).max(axis=1).sum()
    selection = base.with_budget(base.smallest_cost + tightness * (dearest - base.smallest_cost))
    layout = lay_out(selection)
    walk = Walk(layout, seed=seed)
    actions = np.random.default_rng(seed).integers(0, walk.action_space.n, 5)
    rewards, seen = walked(walk, actions)
    choice = layout.decode(walk.x)
    assert selection.feasible(choice)
    assert -rewards.sum() * walk.unit * layout.scale == pytest.approx(selection.energy(choice), rel=1e-9, abs=1e-9)
    assert np.abs(seen).max() <= 1.0
    assert seen.dtype == np.float32


def test_an_action_that_leaves_too_little_becomes_the_dearest_that_does_not():
    # Costs 0, 1, 2, 3 for two groups and 4 cells: the second group gets what the first leaves.
    selection = Selection(loss=np.zeros((2, 4)), cost=[[0, 1, 2, 3], [0, 1, 2, 3]], budget=4.0)
    walk = Walk(lay_out(selection))
    walked(walk, [3, 3])
    assert walk.x.tolist() == [3, 1]
    walked(walk, [1, 3])
    assert walk.x.tolist() == [1, 3]
    # The second group's cheapest code takes 2: the first may take at most 2 of the 4.
    walk = Walk(lay_out(Selection(loss=np.zeros((2, 4)), cost=[[0, 1, 2, 3], [2, 3, 4, 5]], budget=4.0)))
    walked(walk, [3, 0])
    layout = walk.layout
    assert walk.layout.decode(walk.x).tolist() == [2, 0]
    assert layout.arrays.cost[[0, 1], walk.x].sum() == layout.limit / (1 + 1e-12)


def test_the_couplings_felt_are_those_of_the_codes_given_so_far(monkeypatch):
    problem = qubo.generate("D", groups=16, codes=3)
    gram = Walk(lay_out(problem))
    monkeypatch.setattr("qubo.search.arrays.GRAM_ENTRIES", 0)
    factors = Walk(lay_out(problem))
    assert factors.layout.arrays.width.max() > 0
    actions = np.random.default_rng(1).integers(0, 3, 16)
    one, two = walked(gram, actions), walked(factors, actions)
    assert one[0] == pytest.approx(two[0], rel=1e-9, abs=1e-12)
    assert one[1] == pytest.approx(two[1], abs=1e-5)
    assert one[0].sum() * gram.unit * gram.layout.scale == pytest.approx(-problem.energy(gram.layout.decode(gram.x)))


@pytest.mark.parametrize(
    "family",
    [
        "S",
        pytest.param("Q", marks=pytest.mark.slow),
        pytest.param("R", marks=pytest.mark.slow),
        "D",
    ],
)
def test_the_search_is_sound_on_every_family(family):
    problem = qubo.generate(family, groups=20, seed=2)
    sound(qubo.solve(problem, "reinforce", seed=3, **LITTLE), problem)


def test_the_policy_learns():
    problem = qubo.generate("S", groups=20, seed=1)
    walk, rng = Walk(lay_out(problem)), np.random.default_rng(0)
    drawn = []
    for _ in range(250):
        walked(walk, rng.integers(0, 6, 20))
        drawn.append(walk.energy * walk.layout.scale)
    learnt = qubo.solve(problem, "reinforce", seed=1, episodes=250)
    # As many episodes by chance: the best of them is not as good, their mean far worse.
    assert learnt.energy < 0.9 * min(drawn)
    assert learnt.energy < 0.4 * np.mean(drawn)


@pytest.mark.parametrize("name", CORNERS)
def test_corner_cases_are_solved_to_the_optimum(name):
    solution = qubo.solve(CORNERS[name], "reinforce", episodes=40)
    sound(solution, CORNERS[name])
    assert solution.energy == pytest.approx(brute_force(CORNERS[name]), rel=1e-12, abs=1e-300)


def test_the_same_seed_gives_the_same_choice_and_leaves_the_global_generators_alone():
    problem = qubo.generate("R", groups=20)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    expected = random.random(), np.random.random(), float(torch.rand(1))  # noqa: NPY002
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    first, second, other = (qubo.solve(problem, "reinforce", seed=s, **LITTLE) for s in (7, 7, 8))
    assert (random.random(), np.random.random(), float(torch.rand(1))) == expected  # noqa: NPY002
    assert np.array_equal(first.choice, second.choice)
    assert not np.array_equal(first.choice, other.choice)


def test_a_reward_of_ones_own_decides_what_is_best():
    problem = qubo.generate("S", groups=8)
    wanted = np.array([1, 0, 1, 0, 1, 0, 1, 0])
    seen = []

    def reward(choice):
        seen.append(-float(np.abs(choice - wanted).sum()))
        return seen[-1]

    found = qubo.solve(problem, "reinforce", reward=reward, episodes=120)
    sound(found, problem)
    assert -np.abs(found.choice - wanted).sum() == max(seen)
    assert max(seen) > np.mean(seen[:50])


def test_a_time_limit_progress_and_an_interrupt_are_honoured():
    problem, seen = qubo.generate("S", groups=20), []
    solution = qubo.solve(problem, "reinforce", time_limit_s=1.0, progress=lambda *both: seen.append(both))
    sound(solution, problem)
    assert solution.seconds < 10
    assert [s for s, _ in seen] == sorted(s for s, _ in seen)
    assert seen[-1] == (1.0, solution.energy)

    def interrupt(share, best):
        raise KeyboardInterrupt

    stopped = qubo.solve(problem, "reinforce", progress=interrupt)
    assert stopped.interrupted
    sound(stopped, problem)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"reward": 3.0}, "reward must be a function, got 3.0"),
        ({"episodes": 1.5}, "episodes must be a whole number of at least 1, got 1.5"),
        ({"sweeps": 2}, "solver 'reinforce' has no option 'sweeps': it has episodes, reward"),
    ],
)
def test_a_bad_option_is_refused_in_one_line(options, line):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        qubo.solve(qubo.generate("S", groups=3), "reinforce", **options)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
