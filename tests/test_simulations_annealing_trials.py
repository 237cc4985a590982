"""Repeated runs and their statistics: time to target against closed forms, courses, bounds, refusals before a run."""

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest

import qubo
from qubo.solvers.ground_state import ground_state
from qubo.solvers.registry import SAMPLERS
from simulations.annealing.time_to_target import scores, target_of, time_to_target
from simulations.annealing.trials import Problem, SolverRun, check_solvers, fingerprint, measure, warm_up


def trial(course: tuple[tuple[float, float], ...], **changes: Any) -> SolverRun:
    """A run with a course, everything else plain."""
    values: dict[str, Any] = {
        "problem": "P", "family": "P", "size": 4, "solver": "annealer", "kind": "classical", "repeat": 0, "seed": 0,
        "limit_s": 1.0, "energy": course[-1][1], "lower_bound": 1.0, "seconds": 1.0, "evaluations": 1,
        "feasible_before_repair": None, "course": course,
    }  # fmt: skip
    return SolverRun(**{**values, **changes})


@pytest.fixture(scope="module")
def layer() -> qubo.Magnitude:
    rng = np.random.default_rng(5)
    means = tuple(rng.gamma(2.0, 0.1, size) for size in (3, 4))
    return qubo.Magnitude(means, (np.full(3, 9.0), np.full(4, 27.0)), beta=0.3, gamma=0.4)


def test_four_successes_in_four_are_taken_for_four_in_five() -> None:
    found = time_to_target([trial(((0.1, 1.0),))] * 4, 1.0)
    assert found.seconds == found.low == found.high == pytest.approx(0.1 * math.log(0.01) / math.log(0.2))
    assert (found.share, found.reached) == (0.8, 4)


def test_a_hundred_successes_in_a_hundred_take_one_run() -> None:
    assert time_to_target([trial(((0.1, 1.0),))] * 100, 1.0).seconds == 0.1


def test_time_to_target_of_one_success_in_four_is_the_closed_form() -> None:
    runs = [trial(((0.2, 1.0),)), *(trial(((0.2, 5.0),)) for _ in range(3))]
    found = time_to_target(runs, 1.0)
    assert found.seconds == pytest.approx(0.2 * math.log(0.01) / math.log(0.8))
    assert (found.share, found.restart_s, found.reached, found.runs) == (0.2, 0.2, 1, 4)
    assert found.low <= found.seconds <= found.high == math.inf  # 0.75^4 = 32 % of resamples hold no success


def test_time_to_target_takes_the_restart_length_at_which_it_is_least() -> None:
    # One of two is there after 0.01 s, both after 10 s: restarts of 0.01 s take 0.01 ln 0.01 / ln(2/3), less than 10 s.
    runs = [trial(((0.01, 1.0),)), trial(((10.0, 1.0),))]
    assert time_to_target(runs, 1.0).seconds == pytest.approx(0.01 * math.log(0.01) / math.log(2 / 3))


def test_a_target_that_no_run_reaches_takes_for_ever() -> None:
    found = time_to_target([trial(((0.1, 3.0),))] * 3, 2.0)
    assert (found.seconds, found.share, found.reached) == (math.inf, 0.0, 0)


def test_the_bootstrap_interval_covers_the_true_time_of_exponential_runs() -> None:
    # A memoryless solver of rate 1: restarts of any length take ln 100 = 4.6 s. The interval covers that in 83 % of
    # experiments of 40 runs; of 60, 50 ± 3 are expected, and 41 are three standard deviations below.
    rng = np.random.default_rng(1)
    found = [
        time_to_target([trial(((float(seconds), 1.0),)) for seconds in rng.exponential(1.0, 40)], 1.0)
        for _ in range(60)
    ]
    assert sum(one.low <= math.log(100) <= one.high for one in found) >= 41
    assert np.median([one.seconds for one in found]) == pytest.approx(math.log(100), rel=0.25)


@pytest.mark.parametrize("confidence", [0.0, 1.0])
def test_a_confidence_outside_of_zero_to_one_is_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        time_to_target([trial(((0.1, 1.0),))], 1.0, confidence=confidence)


def test_no_runs_have_no_time_and_no_target() -> None:
    with pytest.raises(ValueError, match="no runs"):
        time_to_target([], 1.0)
    with pytest.raises(ValueError, match="needs runs"):
        target_of([], 0.01)


def test_a_target_is_measured_from_the_bound_where_a_run_got_that_near() -> None:
    near = target_of([trial(((0.1, 1.005),)), trial(((0.1, 9.0),))], 0.01)
    assert (near.energy, near.proven) == (pytest.approx(1.01), True)
    far = target_of([trial(((0.1, 2.0),)), trial(((0.1, 9.0),))], 0.01)
    assert (far.energy, far.proven) == (pytest.approx(2.02), False)


def test_a_target_above_a_negative_energy_lies_above_it() -> None:
    found = target_of([trial(((0.1, -2.0),), lower_bound=-2.0)], 0.01)
    assert found.energy == pytest.approx(-1.98)


def test_scores_count_runs_at_the_best_energy_met_by_anyone() -> None:
    runs = [trial(((0.1, 1.0),)), trial(((0.1, 1.5),), repeat=1), trial(((0.2, 1.0),), solver="genetic")]
    annealer, genetic = scores(runs)
    assert (annealer.at_best, annealer.runs, genetic.at_best) == (1, 2, 1)
    assert annealer.gap == pytest.approx((0.0, 0.5 / 1.5 / 2, 0.5 / 1.5))
    assert annealer.energy == (1.0, 1.25, 1.5)


@pytest.mark.parametrize("solver", ["annealer", "lagrangian", "exact", "ocean-sa", "genetic", "random"])
def test_a_run_never_goes_below_the_optimum_and_its_course_ends_at_its_answer(solver: str) -> None:
    selection = qubo.generate("R", groups=5, codes=3, seed=3)
    optimum = min(
        selection.energy(choice)
        for choice in map(np.array, itertools.product(range(3), repeat=5))
        if selection.feasible(choice)
    )
    problem = Problem.of("R-5", selection)
    found, choice = measure(problem, solver, 2, seed=7, limit_s=0.2)
    energies = [energy for _, energy in found.course]
    seconds = [second for second, _ in found.course]
    assert found.lower_bound <= optimum * (1 + 1e-12) <= found.energy * (1 + 1e-11)
    assert energies[-1] == pytest.approx(found.energy, rel=1e-9)
    assert energies == sorted(energies, reverse=True)
    assert seconds == sorted(seconds)
    assert seconds[-1] <= found.seconds + 1e-3
    assert found.seed == 9
    assert selection.feasible(choice)
    assert selection.energy(choice) == pytest.approx(found.energy)


@pytest.mark.parametrize("sampler", sorted(set(SAMPLERS) - {"random"}))
def test_every_sampler_finds_a_small_hamiltonians_ground_state(layer: qubo.Magnitude, sampler: str) -> None:
    # 13 variables: brute force over all 8,192 states.
    states = np.array(list(itertools.product((0, 1), repeat=layer.variables)))
    bqm = layer.to_bqm()
    least = float(bqm.energies((states, list(range(layer.variables)))).min())
    found = ground_state(layer, sampler, seed=1, time_limit_s=0.3)
    assert found.energy == pytest.approx(least, abs=1e-12)
    assert layer.decode(found.state).energy == found.energy


def test_random_states_are_no_better_than_the_optimum(layer: qubo.Magnitude) -> None:
    found = ground_state(layer, "random", time_limit_s=0.01)
    assert found.energy >= layer.optimum().energy


def test_a_hamiltonian_is_bounded_by_its_exact_optimum(layer: qubo.Magnitude) -> None:
    problem = Problem.of("magnitude", layer)
    found, state = measure(problem, "ocean-sa", 0, limit_s=0.1)
    assert problem.exact
    assert problem.lower_bound == layer.optimum().energy
    assert found.gap >= -1e-12
    assert state.shape == (13,)


@pytest.mark.parametrize("sampler", ["ocean-sa", "ocean-path-integral", "genetic", "random"])
def test_seed_zero_gives_the_same_states_again(layer: qubo.Magnitude, sampler: str) -> None:
    one, again = (ground_state(layer, sampler, time_limit_s=1e-9) for _ in range(2))
    assert (one.state == again.state).all()


def test_seeds_make_runs_differ_and_repeat(layer: qubo.Magnitude) -> None:
    first, again, other = (ground_state(layer, "random", seed=s, time_limit_s=1e-9) for s in (1, 1, 2))
    assert (first.state == again.state).all()
    assert (first.state != other.state).any()


def test_a_stopped_run_is_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Problem.of("S-5", qubo.generate("S", groups=5))
    plain = qubo.solve
    monkeypatch.setattr(
        "simulations.annealing.trials.solve", lambda *a, **k: dataclasses.replace(plain(*a, **k), interrupted=True)
    )
    with pytest.raises(KeyboardInterrupt):
        measure(problem, "lagrangian", 0, limit_s=0.1)


def test_solvers_are_refused_before_anything_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.delenv("DWAVE_API_TOKEN", raising=False)
    monkeypatch.setenv("DWAVE_CONFIG_FILE", str(tmp_path / "none.conf"))
    (tmp_path / "none.conf").write_text("[defaults]\n")
    with pytest.raises(ValueError, match="'qpu' needs a D-Wave token"):
        check_solvers(["annealer", "qpu"])
    with pytest.raises(ValueError, match="'oracle' is unknown"):
        check_solvers(["oracle"])
    check_solvers(["annealer", "sorting"])


def test_a_solver_that_does_not_know_the_problem_is_refused(layer: qubo.Magnitude) -> None:
    with pytest.raises(ValueError, match=r"magnitude: solver 'annealer' is none of"):
        measure(Problem.of("magnitude", layer), "annealer", 0, limit_s=0.1)
    with pytest.raises(ValueError, match="unknown"):
        ground_state(layer, "annealer")
    with pytest.raises(ValueError, match="above 0"):
        ground_state(layer, "random", time_limit_s=0.0)


def test_warming_up_skips_what_would_be_sent_away() -> None:
    warm_up(["qpu", "lagrangian", "random"])  # without a token the first would raise


def test_another_problem_has_another_fingerprint(layer: qubo.Magnitude) -> None:
    problems = (qubo.generate("Q", groups=5), qubo.generate("Q", groups=5, seed=1), layer)
    prints = [fingerprint(problem) for problem in problems]
    assert len(set(prints)) == 3
    assert prints[0] == fingerprint(qubo.generate("Q", groups=5))
