"""Ocean's local samplers behind the one interface: feasible, reproducible, limited, interruptible, labelled."""

import itertools
import time

import numpy as np
import pytest

import qubo
from qubo import Selection
from qubo.search.watch import Watch
from qubo.solvers import SOLVERS, ocean, penalty_loop
from qubo.solvers.solver import Prepared

CHEAP = {
    "ocean-sa": {"sweeps": 50, "reads": 4},
    "ocean-tabu": {"updates": 100, "rounds": 3},
    "ocean-greedy": {"restarts": 20},
    "ocean-path-integral": {"sweeps": 20, "reads": 2, "rounds": 2},
    "ocean-decompose": {"subproblem": 30, "sweeps": 20, "iterations": 3, "rounds": 3},
}
KINDS = {"ocean-path-integral": "quantum-inspired"}


def best(selection: Selection) -> float:
    everything = map(np.array, itertools.product(range(selection.codes), repeat=selection.groups))
    return min(selection.energy(c) for c in everything if selection.feasible(c))


@pytest.mark.parametrize("solver", CHEAP)
@pytest.mark.parametrize("family", ["S", "R", "D"])
def test_a_sampler_is_feasible_above_the_bound_and_says_what_it_is(family: str, solver: str) -> None:
    problem = qubo.generate(family, groups=40, seed=2)  # type: ignore[arg-type]
    found = qubo.solve(problem, solver, seed=3, **CHEAP[solver])
    assert found.feasible
    assert found.lower_bound <= found.energy
    assert found.cost == problem.total_cost(found.choice) <= problem.limit
    assert found.kind == KINDS.get(solver, "classical")
    assert found.evaluations > 0
    assert found.feasible_before_repair is not None
    assert 0 <= found.feasible_before_repair <= 1


@pytest.mark.parametrize("solver", CHEAP)
def test_a_sampler_finds_the_optimum_of_a_small_problem(solver: str) -> None:
    problem = qubo.generate("D", groups=5, codes=4, seed=1)
    assert qubo.solve(problem, solver, seed=1).energy == pytest.approx(best(problem), rel=1e-9)


@pytest.mark.parametrize("solver", CHEAP)
def test_the_same_seed_gives_the_same_answer_and_another_seed_another_search(solver: str) -> None:
    problem = qubo.generate("R", groups=40, seed=4)
    certificate = qubo.lower_bound(problem)
    one, again, other = (
        qubo.solve(problem, solver, seed=s, certificate=certificate, **CHEAP[solver]) for s in (7, 7, 8)
    )
    assert np.array_equal(one.choice, again.choice)
    assert one.feasible_before_repair == again.feasible_before_repair
    assert not np.array_equal(one.choice, other.choice)


@pytest.mark.parametrize("solver", CHEAP)
def test_seed_zero_is_a_seed_like_any_other(solver: str) -> None:
    problem = qubo.generate("R", groups=40, seed=4)
    certificate = qubo.lower_bound(problem, effort=0)
    one, again = (qubo.solve(problem, solver, certificate=certificate, **CHEAP[solver]) for _ in range(2))
    assert np.array_equal(one.choice, again.choice)


@pytest.mark.parametrize("solver", CHEAP)
def test_a_time_limit_ends_the_search_and_progress_reaches_one(solver: str) -> None:
    problem = qubo.generate("D", groups=60, seed=1)
    certificate = qubo.lower_bound(problem)
    seen: list[float] = []
    started = time.perf_counter()
    found = qubo.solve(
        problem, solver, time_limit_s=0.4, certificate=certificate, progress=lambda share, _: seen.append(share),
        **CHEAP[solver],
    )  # fmt: skip
    # A round that has begun is finished: some tenths of a second here, more on a busy machine.
    assert time.perf_counter() - started < 4
    assert found.feasible
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


@pytest.mark.parametrize("solver", CHEAP)
def test_an_interrupt_returns_the_best_so_far(solver: str) -> None:
    def interrupt(share: float, energy: float) -> None:
        raise KeyboardInterrupt

    found = qubo.solve(qubo.generate("R", groups=40), solver, progress=interrupt, **CHEAP[solver])
    assert found.interrupted
    assert found.feasible
    assert found.feasible_before_repair is not None  # one round was drawn


@pytest.mark.parametrize("solver", CHEAP)
def test_an_option_that_is_no_count_is_refused_in_one_line(solver: str) -> None:
    name = next(iter(CHEAP[solver]))
    with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1, got 2.5"):
        qubo.solve(qubo.generate("S", groups=3), solver, **{name: 2.5})
    with pytest.raises(ValueError, match=f"solver '{solver}' has no option 'magic'"):
        qubo.solve(qubo.generate("S", groups=3), solver, magic=1)


def test_tabu_refuses_a_dense_matrix_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ocean, "TABU_VARIABLES", 17)
    with pytest.raises(ValueError, match="at most 17 variables, got 18: use ocean-sa"):
        qubo.solve(qubo.generate("S", groups=3), "ocean-tabu")


def test_every_solver_of_d_waves_is_in_the_table_with_its_kind() -> None:
    kinds = {name: entry.kind for name, entry in SOLVERS.items()}
    assert kinds["qpu"] == "quantum"
    assert kinds["leap-cqm"] == kinds["leap-nl"] == "hybrid"
    assert {name: kinds[name] for name in CHEAP} == {name: KINDS.get(name, "classical") for name in CHEAP}


def test_a_sampler_that_gives_up_leaves_the_lagrangian_choice_and_the_reason() -> None:
    problem = qubo.generate("Q", groups=20)

    def draw(task: penalty_loop.Task) -> penalty_loop.Draw:
        raise penalty_loop.GaveUpError("out of helium")

    outcome = penalty_loop.search(Prepared.of(problem), Watch(), draw, rounds=3, work=1)
    assert problem.feasible(outcome.choice)
    assert outcome.details == {"stopped": "out of helium"}
    assert outcome.feasible_before_repair is None


def test_lambda_rises_while_samples_overspend_and_falls_while_they_save() -> None:
    """The sampler answers with the dearest, then with the cheapest code of every group, whatever it is asked."""
    problem = qubo.generate("S", groups=10)
    asked: list[float] = []

    def draw(task: penalty_loop.Task) -> penalty_loop.Draw:
        asked.append(task.lam)
        samples = np.zeros((1, 60), dtype=np.int8)
        samples[0, np.arange(10) * 6 + (5 if task.number < 2 else 0)] = 1
        return penalty_loop.Draw(samples, list(range(60)), 0, 1)

    outcome = penalty_loop.search(Prepared.of(problem), Watch(), draw, rounds=4, work=1)
    assert asked[0] < asked[1] < asked[2]
    assert asked[3] == pytest.approx((asked[1] + asked[2]) / 2)
    assert outcome.feasible_before_repair == 0.5


def test_one_hot_weights_grow_only_where_samples_are_torn() -> None:
    problem = qubo.generate("S", groups=4)
    weights: list[np.ndarray] = []

    def draw(task: penalty_loop.Task) -> penalty_loop.Draw:
        weights.append(task.weights)
        samples = np.zeros((2, 24), dtype=np.int8)
        samples[:, [0, 6, 12, 13]] = 1  # group 2 has two codes, group 3 none
        return penalty_loop.Draw(samples, list(range(24)), 0, 1)

    penalty_loop.search(Prepared.of(problem), Watch(), draw, rounds=2, work=1)
    assert weights[1] / weights[0] == pytest.approx([1, 1, penalty_loop.GROWTH, penalty_loop.GROWTH])
