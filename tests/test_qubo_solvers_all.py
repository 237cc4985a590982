"""Solvers against brute force on tiny problems, and what every solver promises."""

import itertools
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_qubo_selection import random_selection

import qubo
from qubo import Block, Selection

CHEAP = {"annealer": {"sweeps": 100, "restarts": 4}, "lagrangian": {}, "ocean-sa": {"sweeps": 50, "reads": 4}}


def brute_force(selection):
    """The least energy over all feasible choices."""
    everything = itertools.product(range(selection.codes), repeat=selection.groups)
    return min(selection.energy(np.array(c)) for c in everything if selection.feasible(np.array(c)))


def close(energy, optimum, selection):
    """Equal up to rounding of the energies that were added."""
    scale = np.abs(selection.loss[np.isfinite(selection.loss)]).max() + 50
    return abs(energy - optimum) <= 1e-11 * scale


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.booleans(), st.sampled_from([0, 1, 3, 5]))
def test_the_annealer_finds_the_optimum_of_tiny_problems_and_no_bound_exceeds_it(seed, gram, missing, block):
    selection = random_selection(seed, groups=5, gram=gram, missing=missing, block=block)
    optimum = brute_force(selection)
    certificate = qubo.lower_bound(selection)
    assert certificate.method == "lagrangian dual"
    found = qubo.solve(selection, "annealer", certificate=certificate, **CHEAP["annealer"])
    assert found.feasible
    assert close(found.energy, optimum, selection)
    with mock.patch("qubo.bounds.banded.STATES", 0):  # too small for the exact dual of anything
        tight, plain = qubo.lower_bound(selection), qubo.lower_bound(selection, effort=0)
    assert plain.method == ("convex relaxation" if selection.blocks else "lagrangian dual")
    for proof in (certificate, tight, plain):
        assert proof.bound <= optimum + 1e-12 * max(1.0, abs(optimum))
        assert proof.multiplier >= 0
    # The dual over exact minima is the tightest of the three; each search over λ stops near it.
    slack = 1e-2 * (abs(optimum) + np.abs(selection.loss[np.isfinite(selection.loss)]).max())
    assert plain.bound <= tight.bound + 1e-12 * slack
    assert tight.bound <= certificate.bound + slack


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.booleans())
def test_the_lagrangian_answer_is_feasible_and_never_below_the_optimum(seed, gram, missing):
    selection = random_selection(seed, gram=gram, missing=missing)
    found = qubo.solve(selection, "lagrangian")
    assert found.feasible
    assert found.energy >= brute_force(selection) - 1e-10
    assert found.gap >= -1e-12


@pytest.mark.parametrize("solver", ["annealer", "lagrangian", "ocean-sa"])
@pytest.mark.parametrize("family", ["S", "Q", "R", "D"])
def test_every_solver_is_feasible_and_above_the_bound_on_every_family(family, solver):
    problem = qubo.generate(family, groups=60, seed=2)
    solution = qubo.solve(problem, solver, seed=3, **CHEAP[solver])
    assert solution.feasible
    assert solution.lower_bound <= solution.energy
    assert solution.energy == pytest.approx(problem.energy(solution.choice), rel=1e-14)
    assert solution.cost == problem.total_cost(solution.choice) <= problem.limit
    assert solution.kind == "classical"
    assert solution.evaluations > 0
    assert (solution.feasible_before_repair is not None) == (solver == "ocean-sa")


@pytest.mark.parametrize("family", ["S", "Q", "R", "D"])
def test_the_annealer_beats_the_lagrangian_heuristic_and_oceans_annealing(family):
    problem = qubo.generate(family, groups=100, seed=5)
    certificate = qubo.lower_bound(problem)
    ours = qubo.solve(problem, certificate=certificate).energy
    assert ours <= qubo.solve(problem, "lagrangian", certificate=certificate).energy * (1 + 1e-12)
    assert ours <= qubo.solve(problem, "ocean-sa", certificate=certificate, sweeps=200).energy * (1 + 1e-12)


@pytest.mark.parametrize("family", ["Q", "R", "D"])
def test_no_random_feasible_choice_is_below_the_bound(family):
    problem = qubo.generate(family, groups=48, seed=9)
    bound = qubo.lower_bound(problem).bound
    rng = np.random.default_rng(1)
    choices = [c for c in rng.integers(0, 5, (2000, 48)) if problem.feasible(c)]
    assert len(choices) > 100  # codes 0..4 take 3 bits on average, the budget is 3: half pass
    assert min(problem.energy(c) for c in choices) >= bound


@pytest.mark.parametrize("solver", ["annealer", "lagrangian", "ocean-sa"])
def test_the_same_seed_gives_the_same_choice(solver):
    problem = qubo.generate("R", groups=40)
    first, second = (qubo.solve(problem, solver, seed=7, **CHEAP[solver]) for _ in range(2))
    assert np.array_equal(first.choice, second.choice)
    assert first.energy == second.energy


def test_the_answer_does_not_depend_on_the_number_of_threads():
    problem, little = qubo.generate("D", groups=300), {"sweeps": 5, "restarts": 3, "rounds": 1}
    certificate = qubo.lower_bound(problem, effort=0)  # a better one holds the answer already
    one, two = (qubo.solve(problem, seed=1, threads=n, certificate=certificate, **little) for n in (1, 2))
    assert np.array_equal(one.choice, two.choice)
    # So little work that the answer depends on every draw: another seed, another answer.
    other = qubo.solve(problem, seed=2, threads=2, certificate=certificate, **little)
    assert not np.array_equal(one.choice, other.choice)


def test_factor_blocks_and_gram_blocks_are_solved_alike(monkeypatch):
    problem = qubo.generate("D", groups=48, seed=3)
    dense = qubo.solve(problem, sweeps=200)
    monkeypatch.setattr("qubo.search.arrays.GRAM_ENTRIES", 0)
    factored = qubo.solve(problem, sweeps=200)
    assert factored.feasible
    assert factored.lower_bound <= min(dense.energy, factored.energy)
    # Same problem, other rounding: both within the scatter of one another (1 % here).
    assert factored.energy == pytest.approx(dense.energy, rel=0.03)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("cells", [1e-12, 1.0, 1e12])
def test_units_do_not_matter(scale, cells):
    base = qubo.generate("Q", groups=32)
    blocks = tuple(Block.from_factors(b.groups, b.factors * np.sqrt(scale)) for b in base.blocks)
    scaled = Selection(loss=base.loss * scale, cost=base.cost * cells, budget=base.budget * cells, blocks=blocks)
    one, other = qubo.solve(base, seed=1), qubo.solve(scaled, seed=1)
    assert other.feasible
    assert other.energy == pytest.approx(one.energy * scale, rel=1e-3)
    # The bound is tightened step by step; other rounding takes other steps.
    assert 0 <= other.gap < 1.2 * one.gap


@pytest.mark.parametrize("solver", ["annealer", "lagrangian", "ocean-sa"])
@pytest.mark.parametrize(
    "selection",
    [
        Selection(loss=[[1.0]], cost=[[2.0]], budget=2.0),
        Selection(loss=[[3.0, 1.0, 2.0]], cost=[[0.0, 5.0, 1.0]], budget=1.0),
        Selection(loss=np.zeros((3, 2)), cost=np.ones((3, 2)), budget=3.0),
        Selection(loss=np.zeros((3, 2)), cost=np.zeros((3, 2)), budget=0.0),
        Selection(loss=[[1.0, 2.0], [5.0, 1.0]], cost=[[1.0, 1.0], [1.0, 1.0]], budget=1e30),
        Selection(loss=[[1.0, 1e12], [5.0, 1e-12]], cost=[[1.0, 0.0], [0.3, 0.6]], budget=0.9),
        Selection(
            loss=[[1.0, 2.0], [3.0, 4.0]],
            cost=[[0.1, 0.2], [0.2, 0.1]],
            budget=0.2,
            blocks=(Block.from_factors([1], np.ones((1, 2, 1))), Block.from_gram([0], np.ones((1, 2, 1, 2)))),
        ),
    ],
    ids=["one of each", "one group", "all equal", "all zero", "loose", "huge and tiny", "smallest budget"],
)
def test_corner_cases_are_solved_to_the_optimum(selection, solver):
    solution = qubo.solve(selection, solver)
    assert solution.feasible
    assert solution.energy == pytest.approx(brute_force(selection), rel=1e-12, abs=1e-300)
    assert solution.lower_bound <= solution.energy + 1e-300


def test_a_time_limit_and_progress_are_honoured():
    seen = []
    problem = qubo.generate("R", groups=100)
    qubo.solve(problem, sweeps=10, restarts=1)  # compiled before the clock counts
    solution = qubo.solve(problem, time_limit_s=0.5, progress=lambda share, best: seen.append((share, best)))
    assert solution.feasible
    shares = [share for share, _ in seen]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert seen[-1][1] == solution.energy


def test_an_interrupt_returns_the_best_so_far():
    def interrupt(share, best):
        raise KeyboardInterrupt

    solution = qubo.solve(qubo.generate("R", groups=100), progress=interrupt, sweeps=2000)
    assert solution.interrupted
    assert solution.feasible


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"solver": "magic"}, "solver 'magic' is unknown: pass one of annealer, "),
        ({"time_limit_s": 0}, "time_limit_s must be above 0, got 0"),
        ({"time_limit_s": float("nan")}, "time_limit_s must be above 0, got nan"),
        ({"certificate": qubo.lower_bound(qubo.generate("S", groups=2))}, "the certificate is about another"),
        ({"sweepz": 3}, "solver 'annealer' has no option 'sweepz': it has sweeps, restarts, rounds, threads"),
        ({"sweeps": 0}, "sweeps must be a whole number of at least 1, got 0"),
    ],
)
def test_a_bad_call_of_solve_is_refused_in_one_line(arguments, line):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        qubo.solve(qubo.generate("S", groups=3), **arguments)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
