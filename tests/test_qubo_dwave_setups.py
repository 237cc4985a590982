"""D-Wave's solvers on selections with setups, through the local server: feasible choices, true costs."""

from pathlib import Path

import numpy as np
import pytest
from loopback_sapi import connected, hybrid_solvers, isolated, qpu_solver, serving
from test_qubo_bounds_setup_shares import optimum
from test_qubo_selection import random_selection
from test_qubo_setups import everything, random_setups

import qubo
from qubo import Selection
from qubo.dwave.leap import index_model
from qubo.search.arrays import lay_out

__all__ = ["isolated"]  # a fixture used by the tests of this file

pytestmark = pytest.mark.filterwarnings(
    "ignore:unclosed file:ResourceWarning",
    "ignore:Exception ignored in. <_io.FileIO:pytest.PytestUnraisableExceptionWarning",
)


def small(seed: int) -> Selection:
    """Few enough variables, those of setups included, for the server to try everything."""
    return random_setups(random_selection(seed, groups=4, block=3), seed, sets=1, size=6.0, tightness=0.4)


@pytest.mark.parametrize("solver", ["leap-cqm", "leap-nl", "qpu"])
@pytest.mark.parametrize("seed", [1, 2])
def test_what_comes_back_is_feasible_and_its_cost_true(isolated: Path, solver: str, seed: int) -> None:
    selection = small(seed)
    assert selection.setup[0].cost.max() > 0
    with serving(*hybrid_solvers(), qpu_solver()) as service:
        connected(isolated, service.url)
        found = qubo.solve(selection, solver, **({"reads": 50, "rounds": 2} if solver == "qpu" else {}))
    assert service.asked
    assert found.feasible
    assert found.cost == selection.total_cost(found.choice) <= selection.limit
    assert found.lower_bound <= found.energy
    if solver != "qpu":  # the server tries every choice
        assert found.energy == pytest.approx(optimum(selection), rel=1e-12)
        assert found.feasible_before_repair == 1.0


@pytest.mark.parametrize("seed", range(3))
def test_the_nonlinear_model_holds_setups_below_the_budget(seed: int) -> None:
    selection = random_setups(random_selection(seed, groups=5, missing=True, block=3), seed, tightness=0.4)
    layout = lay_out(selection)
    model, chosen = index_model(layout)
    model.lock()
    model.states.resize(1)
    (row,) = model.iter_constraints()
    feasible = 0
    for choice in everything(selection):
        x = layout.encode(choice)
        if not np.array_equal(layout.decode(x), choice):
            continue  # a code that no feasible choice uses
        chosen.set_state(0, x)
        assert bool(row.state(0)) == selection.feasible(choice)
        feasible += int(row.state(0))
    assert feasible > 0
