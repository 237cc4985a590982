"""A solution: its gap by the formula, details that nobody changes."""

from typing import Any

import numpy as np
import pytest

import qubo
from qubo.solution import Solution


def solution(**changes: Any) -> Solution:
    values: dict[str, Any] = {
        "choice": np.zeros(2, dtype=np.int64), "energy": 4.0, "cost": 1.0, "feasible": True, "lower_bound": 3.0,
        "multiplier": 0.5, "seconds": 0.1, "solver": "annealer", "kind": "classical", "evaluations": 7, "seed": 0,
    }  # fmt: skip
    return Solution(**(values | changes))


@pytest.mark.parametrize(
    ("energy", "bound", "gap"),
    [(4.0, 3.0, 0.25), (-4.0, -5.0, 0.25), (4.0, 4.0, 0.0), (2.0, -2.0, 2.0), (0.0, 0.0, 0.0)],
)
def test_the_gap_is_the_share_of_the_energy_that_may_still_be_won(energy: float, bound: float, gap: float) -> None:
    assert solution(energy=energy, lower_bound=bound).gap == gap


def test_an_energy_of_zero_above_its_bound_has_a_gap_without_a_warning() -> None:
    assert solution(energy=0.0, lower_bound=-1e-300).gap == pytest.approx(1e-300 / np.finfo(np.float64).tiny)


def test_details_are_copied_and_read_only() -> None:
    details: dict[str, float | str] = {"qubits": 5.0}
    found = solution(details=details)
    details["qubits"] = 6.0
    assert dict(found.details) == {"qubits": 5.0}
    with pytest.raises(TypeError):
        found.details["qubits"] = 7.0  # type: ignore[index]


def test_a_solution_says_what_solved_it_and_with_which_seed() -> None:
    problem = qubo.generate("Q", groups=8)
    found = qubo.solve(problem, "random", seed=11, samples=50)
    assert (found.solver, found.kind, found.seed, found.interrupted) == ("random", "classical", 11, False)
    assert found.energy == problem.energy(found.choice)
    assert found.multiplier == qubo.lower_bound(problem).multiplier
    assert found.gap == (found.energy - found.lower_bound) / found.energy
