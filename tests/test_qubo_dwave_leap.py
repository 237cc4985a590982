"""Leap's hybrid solvers: the real clients against a local server that solves what it is sent."""

import socket
import time
from pathlib import Path

import numpy as np
import pytest
from loopback_sapi import connected, hybrid_solvers, isolated, qpu_solver, serving
from test_qubo_selection import random_selection

import qubo
from qubo import Selection
from qubo.dwave.leap import index_model
from qubo.search.arrays import lay_out

__all__ = ["isolated"]  # a fixture used by every test of this file

LEAP = ["leap-cqm", "leap-nl"]
# Ocean's own temporary files for models are closed by the garbage collector only.
pytestmark = pytest.mark.filterwarnings(
    "ignore:unclosed file:ResourceWarning",
    "ignore:Exception ignored in. <_io.FileIO:pytest.PytestUnraisableExceptionWarning",
)


def small() -> Selection:
    """Few enough variables for the server to try everything."""
    return qubo.generate("D", groups=4, codes=3, seed=7)


def best(selection: Selection) -> float:
    choices = (np.array(c) for c in np.ndindex(*[selection.codes] * selection.groups))
    return min(selection.energy(c) for c in choices if selection.feasible(c))


@pytest.mark.parametrize("solver", LEAP)
def test_the_real_client_brings_back_the_optimum(isolated: Path, solver: str) -> None:
    selection = small()
    seen: list[float] = []
    with serving(*hybrid_solvers(), qpu_solver((1, 4))) as service:
        connected(isolated, service.url)
        found = qubo.solve(selection, solver, progress=lambda share, _: seen.append(share))
    assert service.tokens == {"loopback"}
    (job,) = service.asked
    assert job["type"] == ("cqm" if solver == "leap-cqm" else "nl")
    assert job["params"]["time_limit"] == 5
    assert found.energy == pytest.approx(best(selection), rel=1e-12)
    assert found.kind == "hybrid"
    assert found.feasible
    assert found.feasible_before_repair == 1.0
    assert found.details["run_time_s"] == 5.0
    assert found.details["leap_run_time_s"] == pytest.approx(5.0)
    assert ("leap_qpu_access_time_s" in found.details) == (solver == "leap-cqm")
    assert seen[-1] == 1.0


@pytest.mark.parametrize("solver", LEAP)
def test_a_longer_run_time_is_asked_for(isolated: Path, solver: str) -> None:
    with serving(*hybrid_solvers()) as service:
        connected(isolated, service.url)
        qubo.solve(small(), solver, run_time_s=12.5)
    assert service.asked[0]["params"]["time_limit"] == 12.5


@pytest.mark.parametrize("solver", LEAP)
@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"run_time_s": 1.0}, "runs at least 5 s on this problem, got run_time_s 1"),
        ({"time_limit_s": 3.0}, "runs 5 s on this problem, time_limit_s is 3"),
        ({"run_time_s": -1.0}, "run_time_s must be a number above 0"),
    ],
)
def test_a_run_time_that_cannot_be_had_is_refused_in_one_line(
    isolated: Path, solver: str, arguments: dict[str, float], line: str
) -> None:
    with serving(*hybrid_solvers()) as service:
        connected(isolated, service.url)
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            qubo.solve(small(), solver, **arguments)  # type: ignore[arg-type]
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not service.asked


@pytest.mark.parametrize("solver", LEAP)
def test_without_a_token_one_line_says_what_to_set(solver: str) -> None:
    with pytest.raises(ValueError, match=r"`dwave config create` or set DWAVE_API_TOKEN") as caught:
        qubo.solve(small(), solver)
    assert solver in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("solver", LEAP)
def test_an_account_without_hybrid_solvers_is_one_line(isolated: Path, solver: str) -> None:
    with serving(qpu_solver((1, 4))) as service:
        connected(isolated, service.url)
        with pytest.raises(ValueError, match="dwave solvers --list"):
            qubo.solve(small(), solver)


@pytest.mark.parametrize("solver", LEAP)
def test_an_endpoint_that_never_answers_leaves_the_lagrangian_choice(isolated: Path, solver: str) -> None:
    selection = small()
    certificate = qubo.lower_bound(selection)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        connected(isolated, f"http://127.0.0.1:{deaf.getsockname()[1]}/sapi/v2/")
        started = time.perf_counter()
        found = qubo.solve(selection, solver, time_limit_s=1.0, certificate=certificate)
        assert time.perf_counter() - started < 3.0  # imports of Ocean included
    assert found.feasible
    assert found.kind == "classical"
    assert str(found.details["annealed"]).startswith("no")
    assert "no answer within the time limit" in str(found.details["stopped"])


@pytest.mark.parametrize("solver", LEAP)
def test_an_interrupt_leaves_the_best_so_far(isolated: Path, solver: str) -> None:
    def interrupt(share: float, energy: float) -> None:
        raise KeyboardInterrupt

    with serving(*hybrid_solvers()) as service:
        connected(isolated, service.url)
        found = qubo.solve(small(), solver, progress=interrupt)
    assert found.interrupted
    assert found.feasible
    assert found.kind == "classical"


@pytest.mark.parametrize("factors", [False, True])
def test_the_nonlinear_model_has_the_energies_and_costs_of_the_selection(
    monkeypatch: pytest.MonkeyPatch, factors: bool
) -> None:
    if factors:
        monkeypatch.setattr("qubo.search.arrays.GRAM_ENTRIES", 0)
        selection = qubo.generate("D", groups=20, codes=4, seed=1)
    else:
        selection = random_selection(5, groups=6, codes=4, missing=True, block=4)
    layout = lay_out(selection)
    model, chosen = index_model(layout)
    model.lock()
    model.states.resize(1)
    (row,) = model.iter_constraints()
    rng = np.random.default_rng(0)
    for _ in range(20):
        x = rng.integers(0, layout.arrays.codes)
        chosen.set_state(0, x)
        choice = layout.decode(x)
        assert float(model.objective.state(0)) * layout.scale == pytest.approx(
            selection.energy(choice), rel=1e-9, abs=1e-9
        )
        assert bool(row.state(0)) == selection.feasible(choice)


def test_a_nonlinear_model_too_large_for_tables_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DWAVE_API_TOKEN", "never sent")
    monkeypatch.setattr("qubo.dwave.leap.TABLE_ENTRIES", 100)
    with pytest.raises(ValueError, match="at most 100 inner products, got 144: use leap-cqm"):
        qubo.solve(small(), "leap-nl")
