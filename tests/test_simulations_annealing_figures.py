"""Figures of annealing studies: written whole as PNG and SVG, showing every solver, its kind and the bound."""

import math
from pathlib import Path
from typing import Any

import pytest
from test_simulations_annealing_trials import trial

from simulations.annealing import figures
from simulations.annealing.time_to_target import scores
from simulations.annealing.trials import SolverRun


@pytest.fixture(scope="module")
def trials() -> list[SolverRun]:
    made = []
    for problem, family, size in (("Q-20", "Q", 20), ("Q-60", "Q", 60)):
        for repeat in range(3):
            common: dict[str, Any] = {"problem": problem, "family": family, "size": size, "repeat": repeat}
            if problem == "Q-60":
                common |= {"accuracy": 0.8 + 0.01 * repeat, "loss": 0.5}
            made += [
                trial(((0.01 * (1 + repeat), 1.5), (0.1, 1.001)), **common),
                trial(((0.3, 1.4),), **common, solver="ocean-path-integral", kind="quantum-inspired",
                      feasible_before_repair=0.25),
                trial(((0.02, 3.0), (0.5, 1.5 + repeat)), **common, solver="genetic"),
            ]  # fmt: skip
    return made


@pytest.mark.parametrize("kind", ["energy", "sizes", "feasible", "accuracy", "overview"])
def test_every_figure_is_written_as_png_and_svg(trials: list[SolverRun], kind: str, tmp_path: Path) -> None:
    found, bounds = scores(trials), {"Q-20": 1.0, "Q-60": 1.0}
    paths = {
        "energy": lambda: figures.energy_over_time(trials, tmp_path, bounds=bounds),
        "sizes": lambda: figures.gaps_against_size(found, tmp_path),
        "feasible": lambda: figures.feasibility(found, tmp_path),
        "accuracy": lambda: figures.accuracy_against_energy(trials, tmp_path, clean=0.9),
        "overview": lambda: figures.overview(trials, found, tmp_path, bounds=bounds),
    }[kind]()
    assert [path.suffix for path in paths] == [".png", ".svg"]
    assert paths[0].read_bytes().startswith(b"\x89PNG")
    assert "<svg" in paths[1].read_text()
    assert sorted(tmp_path.iterdir()) == sorted(paths)  # nothing temporary is left


def test_the_same_runs_give_the_same_svg(trials: list[SolverRun], tmp_path: Path) -> None:
    made = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        one = [score for score in scores(trials) if score.problem == "Q-20"]
        made.append(figures.times_to_target(one, tmp_path / name)[1].read_bytes())
    assert made[0] == made[1]


def test_what_was_not_measured_is_not_drawn(trials: list[SolverRun], tmp_path: Path) -> None:
    one_size = [t for t in trials if t.problem == "Q-20" and t.solver != "ocean-path-integral"]
    assert figures.gaps_against_size(scores(one_size), tmp_path) == []
    assert figures.feasibility(scores(one_size), tmp_path) == []
    assert figures.accuracy_against_energy(one_size, tmp_path) == []


def test_the_median_over_runs_waits_for_half_of_them() -> None:
    import numpy as np

    rows = np.array([[1.0, 1.0, 1.0], [math.inf, 2.0, 2.0], [math.inf, math.inf, 3.0]])
    assert figures._median(rows).tolist() == [math.inf, 2.0, 2.0]
    assert figures._median(rows[:2]).tolist() == [math.inf, 1.5, 1.5]


def test_energy_above_the_bound_is_a_step_function_of_time() -> None:
    import numpy as np

    run = trial(((0.1, 2.0), (0.2, 1.5)))
    above = figures._above(run, np.array([0.05, 0.1, 0.15, 0.2, 1.0]), 1.0)
    assert above.tolist() == [math.inf, 100.0, 100.0, 50.0, 50.0]
