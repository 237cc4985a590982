"""What solvers say about themselves, and that one of somebody else's is a file and a line."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qubo
from qubo.search.arrays import lay_out
from qubo.search.watch import Outcome, Watch
from qubo.solvers.registry import SAMPLERS, SOLVERS, Registry, find
from qubo.solvers.solver import Prepared, Solver
from qubo.solvers.token import one_line, require_token
from simulations.commands.anneal import _solvers

HERE = [name for name in SOLVERS if name not in ("qpu", "leap-cqm", "leap-nl")]
LITTLE: dict[str, dict[str, Any]] = {
    "genetic": {"population": 4, "generations": 2}, "random": {"samples": 10}, "reinforce": {"episodes": 2},
    "ocean-decompose": {"iterations": 1, "rounds": 1},
}  # fmt: skip
OUTSIDE = '''
import numpy as np
from qubo.search.watch import Outcome, Watch
from qubo.solvers.solver import Prepared, Solver

def search(problem: Prepared, watch: Watch, *, swaps: int = 3, share: float = 0.5) -> Outcome:
    """Every group's cheapest code, then single moves that fit.

    Args:
        swaps: moves tried.
        share: of nothing,
            on two lines.
    """
    x = problem.layout.cheapest()
    watch.add(swaps)
    return Outcome(problem.layout.decode(x), watch.evaluations, details={"swaps": float(swaps)})

SOLVER = Solver("cheapest", "quantum-inspired", search, colour="#12ab9e", compared_with={"swaps": 7})
'''


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A solver in a file of its own, registered by one line."""
    (tmp_path / "solver_from_outside.py").write_text(OUTSIDE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "solver_from_outside", raising=False)
    monkeypatch.setitem(SOLVERS, "cheapest", "solver_from_outside:SOLVER")  # type: ignore[arg-type]
    return "cheapest"


def test_names_are_listed_without_importing_what_solvers_need() -> None:
    text = (
        "import sys, qubo\n"
        "assert 'reinforce' in qubo.SOLVERS and len(list(qubo.SOLVERS)) > 10\n"
        "heavy = {'pymoo', 'stable_baselines3', 'torch', 'gymnasium', 'highspy', 'dwave.system', 'hybrid'}\n"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_says_what_it_is(name: str) -> None:
    solver = SOLVERS[name]
    assert solver.name == name
    assert solver.search is not None
    assert re.fullmatch(r"#[0-9A-F]{6}", solver.colour)
    assert (solver.client is None) == (solver.kind in ("classical", "quantum-inspired"))
    assert [option.name for option in solver.options.values() if not option.help] == []
    solver.check(solver.compared_with)
    solver.check({option.name: option.default for option in solver.options.values()})


def test_a_hamiltonian_is_offered_to_the_solvers_that_read_it_and_to_no_other() -> None:
    assert [name for name in SOLVERS if SOLVERS[name].reads is not None and name not in SAMPLERS] == []
    assert [name for name in SAMPLERS if SAMPLERS[name].reads is None] == []
    assert SAMPLERS["genetic"] is SOLVERS["genetic"]
    assert find("sorting").search is None


@pytest.mark.parametrize("name", HERE)
def test_a_solver_is_charged_for_the_bound_if_it_uses_it_and_only_then(name: str) -> None:
    class Untouchable:
        def __getattr__(self, name: str) -> float:
            raise AssertionError(f"looked at the bound's {name}")

    problem = qubo.generate("Q", groups=4)
    blind = Prepared(problem, lay_out(problem), Untouchable())  # type: ignore[arg-type]
    search = SOLVERS[name].search
    assert search is not None
    if SOLVERS[name].priced:
        with pytest.raises(AssertionError, match="looked at the bound's"):
            search(blind, Watch(), **LITTLE.get(name, {}))
    else:
        assert problem.feasible(search(blind, Watch(), **LITTLE[name]).choice)


def test_options_are_read_off_the_search() -> None:
    options = SOLVERS["annealer"].options
    assert list(options) == ["sweeps", "restarts", "rounds", "threads", "within"]
    assert (options["within"].values, options["within"].default) == ("number", 1e-5)
    assert (options["rounds"].values, options["rounds"].default) == ("count", 2)
    assert options["rounds"].help == "rounds; with a time limit, as many as fit."
    assert SOLVERS["reinforce"].options["reward"].values == "function"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"episodes": True}, "episodes must be a whole number of at least 1, got True: pass a count"),
        ({"episodes": None}, "episodes must be a whole number of at least 1, got None: pass a count"),
        ({"episodes": 2**63}, "episodes must be below 2^63, got 9223372036854775808: pass a smaller one"),
        ({"episodes": "3"}, "episodes must be a whole number of at least 1, got '3': pass a count"),
        ({"reward": 3}, "reward must be a function, got 3: pass one"),
        ({"rewards": len}, "solver 'reinforce' has no option 'rewards': it has episodes, reward"),
    ],
)
def test_options_that_do_not_fit_are_refused_in_one_line(options: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        SOLVERS["reinforce"].check(options)
    assert str(caught.value) == line


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan"), True, "much", None, 10**400, np.ones((9, 9))])
def test_a_number_is_finite_and_above_zero(value: Any) -> None:
    with pytest.raises(ValueError, match=r"within must be a number above 0, got .*: pass a finite one") as caught:
        SOLVERS["annealer"].check({"within": value})
    assert "\n" not in str(caught.value)
    SOLVERS["annealer"].check({"within": np.float32(0.5), "sweeps": np.int64(3), "threads": None})


@pytest.mark.parametrize("name", SOLVERS)
def test_none_is_passed_only_where_it_is_the_default(name: str) -> None:
    for option in SOLVERS[name].options.values():
        if option.default is None:
            SOLVERS[name].check({option.name: None})
        else:
            with pytest.raises(ValueError, match=rf"^{option.name} must be a .*, got None: pass a"):
                SOLVERS[name].check({option.name: None})


def test_a_solver_without_options_says_so() -> None:
    with pytest.raises(ValueError, match="solver 'exact' has no option 'gap': it has none"):
        SOLVERS["exact"].check({"gap": 0.1})
    assert find("sorting").options == {}


def test_a_solver_from_outside_runs_through_solve(outside: str) -> None:
    problem = qubo.generate("Q", groups=8)
    found = qubo.solve(problem, outside, swaps=5)
    assert found.feasible
    assert found.cost == problem.cost.min(axis=1).sum()
    assert (found.solver, found.kind, found.evaluations, dict(found.details)) == (
        "cheapest", "quantum-inspired", 5, {"swaps": 5.0},
    )  # fmt: skip
    assert SOLVERS[outside].options["share"].help == "of nothing, on two lines."
    with pytest.raises(ValueError, match="share must be a number above 0, got -1"):
        qubo.solve(problem, outside, share=-1)


def test_a_solver_is_registered_under_its_own_name() -> None:
    with pytest.raises(ValueError, match="the solver says its name is 'a', got 'b': use one name"):
        SOLVERS["b"] = Solver("a", "classical")
    assert "b" not in SOLVERS
    with pytest.raises(KeyError):
        find("b")


@pytest.mark.parametrize(
    ("name", "solver", "line"),
    [
        (3, "package.module:SOLVER", "a solver's name must be a text, got 3: use one such as 'mine'"),
        (None, Solver("a", "classical"), "a solver's name must be a text, got None: use one such as 'mine'"),
        ("x", 3, "solver 'x' must be a Solver, or its place as 'module:name of the record', got 3: pass one of these"),
        ("x", lambda problem, watch: None, "solver 'x' must be a Solver, or its place as 'module:name of the record'"),
        ("x", np.ones((9, 9)), "solver 'x' must be a Solver, or its place as 'module:name of the record', got array("),
        ("x", "package.module", "solver 'x' must be a Solver, or its place"),
        ("x", "package.module:", "solver 'x' must be a Solver, or its place"),
        ("x", ":SOLVER", "solver 'x' must be a Solver, or its place"),
        ("x", "a:b:c", "solver 'x' must be a Solver, or its place"),
        ("x", "package/module.py:SOLVER", "solver 'x' must be a Solver, or its place"),
        ("x", "", "solver 'x' must be a Solver, or its place"),
    ],
)
def test_what_cannot_be_a_solver_is_refused_when_it_is_set(name: Any, solver: Any, line: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        SOLVERS[name] = solver
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)
    assert name not in SOLVERS


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("no_such_module:SOLVER", "cannot be loaded from 'no_such_module:SOLVER' (No module named 'no_such_module')"),
        ("solver_from_outside:OTHER", "(module 'solver_from_outside' has no attribute 'OTHER'): correct the place"),
        ("solver_from_outside:search", "solver 'x' must be a Solver, got <function search at"),
        ("solver_from_outside:SOLVER", "the solver says its name is 'cheapest', got 'x': use one name"),
        ("solver_that_breaks:SOLVER", "(division by zero): correct the place, or the module"),
    ],
)
def test_a_place_without_a_solver_is_refused_at_use_and_hides_no_other(
    outside: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, line: str
) -> None:
    (tmp_path / "solver_that_breaks.py").write_text("1 / 0")
    held = Registry({"random": "qubo.solvers.random:SOLVER", "x": place, "cheapest": "solver_from_outside:SOLVER"})
    monkeypatch.setitem(SOLVERS, "x", place)
    for use in (lambda: held["x"], lambda: qubo.solve(qubo.generate("S", groups=3), "x")):
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            use()
        assert line in str(caught.value)
        assert "\n" not in str(caught.value)
    assert list(held) == ["random", "x", "cheapest"]
    with pytest.warns(UserWarning, match="solver.* 'x'.*; it is left out here|got 'x'.*; it is left out here"):
        assert [(name, solver.name) for name, solver in held.items()] == [("random",) * 2, ("cheapest",) * 2]
    with pytest.warns(UserWarning, match="it is left out here"):
        assert [solver.name for solver in held.values()] == ["random", "cheapest"]


def test_all_solvers_of_the_command_are_those_that_can_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    all_names = _solvers("all")
    monkeypatch.setitem(SOLVERS, "x", "no_such_module:SOLVER")
    with pytest.warns(UserWarning, match="No module named 'no_such_module'"):
        assert _solvers("all") == all_names
    assert {"annealer", "random"} <= set(all_names)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"selection": "abc"}, "selection must be a qubo.Selection, got 'abc': make one of losses and costs"),
        ({"selection": np.ones((9, 9))}, "selection must be a qubo.Selection, got array([[1., 1., 1., 1.,"),
        ({"solver": ["annealer"]}, "solver ['annealer'] is unknown: pass one of annealer, exact"),
        ({"solver": None}, "solver None is unknown: pass one of annealer, exact"),
        ({"time_limit_s": "1"}, "time_limit_s must be above 0, got '1': pass seconds, or None for none"),
        ({"time_limit_s": float("nan")}, "time_limit_s must be above 0, got nan: pass seconds, or None for none"),
        ({"time_limit_s": True}, "time_limit_s must be above 0, got True: pass seconds, or None for none"),
        ({"progress": 3}, "progress must be a function, got 3: pass one"),
        ({"certificate": 3}, "certificate must be a qubo.Certificate, got 3: pass qubo.lower_bound(selection)"),
        ({"seed": "a"}, "seed must be a whole number of at least 0, got 'a': pass one, such as 0"),
        ({"seed": None}, "seed must be a whole number of at least 0, got None: pass one, such as 0"),
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1: pass one, such as 0"),
        ({"seed": 1.5}, "seed must be a whole number of at least 0, got 1.5: pass one, such as 0"),
        ({"seed": True}, "seed must be a whole number of at least 0, got True: pass one, such as 0"),
        ({"seed": 2**70}, "seed must be below 2^63, got 1180591620717411303424: pass a smaller one"),
        ({"sweeps": 2**70}, "sweeps must be below 2^63, got 1180591620717411303424: pass a smaller one"),
    ],
)
def test_an_argument_of_solve_that_does_not_fit_is_refused_in_one_line(arguments: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        qubo.solve(**({"selection": qubo.generate("S", groups=3)} | arguments))
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda: qubo.lower_bound("abc"), "selection must be a qubo.Selection, got 'abc'"),  # type: ignore[arg-type]
        (lambda: qubo.lower_bound(qubo.generate("S", groups=3), effort="1"), "effort must be at least 0, got '1'"),  # type: ignore[arg-type]
        (lambda: qubo.frontier("abc"), "selection must be a qubo.Selection, got 'abc'"),  # type: ignore[arg-type]
        (lambda: qubo.frontier(qubo.generate("S", groups=3), population=2.5), "population must be a whole number"),  # type: ignore[arg-type]
        (lambda: qubo.frontier(qubo.generate("S", groups=3), seed=-1), "seed must be a whole number of at least 0"),
        (lambda: qubo.frontier(qubo.generate("S", groups=3), progress=3), "progress must be a function, got 3"),  # type: ignore[arg-type]
    ],
)
def test_bounds_and_frontiers_refuse_the_same(call: Callable[[], Any], line: str) -> None:
    with pytest.raises(ValueError, match=re.escape(line)):
        call()


def test_a_solver_of_hamiltonians_alone_is_refused_for_a_selection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOLVERS, "sorting", SAMPLERS["sorting"])
    with pytest.raises(ValueError, match="solver 'sorting' takes magnitude Hamiltonians only"):
        qubo.solve(qubo.generate("S", groups=3), "sorting")


def test_a_foreign_certificate_is_refused() -> None:
    one, other = (qubo.generate("S", groups=3) for _ in range(2))
    with pytest.raises(ValueError, match="the certificate is about another selection"):
        Prepared.of(one, certificate=qubo.lower_bound(other))


def test_a_configuration_that_cannot_be_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dwave.conf").write_text("no section\n")
    monkeypatch.setenv("DWAVE_CONFIG_FILE", str(tmp_path / "dwave.conf"))
    with pytest.raises(
        ValueError, match=r"solver 'qpu' cannot read D-Wave's configuration \(.*\): run `dwave"
    ) as caught:
        require_token(SOLVERS["qpu"])
    assert "\n" not in str(caught.value)


def test_nothing_is_computed_before_a_token_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dwave.conf").write_text("[defaults]\n")
    monkeypatch.setenv("DWAVE_CONFIG_FILE", str(tmp_path / "dwave.conf"))
    monkeypatch.delenv("DWAVE_API_TOKEN", raising=False)

    def prepared(*_: Any, **__: Any) -> Prepared:
        raise AssertionError("prepared")

    monkeypatch.setattr(Prepared, "of", prepared)
    with pytest.raises(ValueError, match="solver 'leap-nl' needs a D-Wave token, none is configured: run `dwave"):
        qubo.solve(qubo.generate("S", groups=3), "leap-nl")


def test_an_error_is_told_in_one_line_of_at_most_200_characters() -> None:
    assert one_line(ValueError("a\n  b")) == "a b"
    assert one_line(KeyError()) == "KeyError"
    assert one_line(ValueError("x" * 300)) == "x" * 197 + "..."


def test_an_outcome_names_what_really_ran() -> None:
    def search(problem: Prepared, watch: Watch) -> Outcome:
        return Outcome(problem.layout.decode(problem.layout.cheapest()), 1, kind="classical", lower_bound=1e300)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SOLVERS, "clouded", Solver("clouded", "hybrid", search))
        found = qubo.solve(qubo.generate("S", groups=3), "clouded")
    assert found.kind == "classical"
    assert found.lower_bound == 1e300  # the search's own bound, where it is better
    assert "clouded" not in SOLVERS
