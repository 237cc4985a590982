"""The command `physcomp anneal`: runs that resume, tables and files, bad input in one line, the shipped study."""

import csv
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import physcomp
import qubo
from qubo import files
from qubo.search.watch import Outcome, Watch
from qubo.solvers.solver import Prepared, Solver
from simulations.annealing import study
from simulations.annealing.problems import AnnealingStudy, reward_for, seconds
from simulations.annealing.report import markdown, sections
from simulations.annealing.trials import RunKey, SolverRun
from simulations.kinds import load_study, run_study
from simulations.runs.engine import Run as FinishedRun
from simulations.runs.ledger import Entry, Ledger
from simulations.runs.study import STUDIES, make_study

Run = Callable[..., tuple[int, str, str]]
QUICK = ("--repeats", "2", "--time-limit", "0.05s", "--quiet")


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "dwave.conf").write_text("[defaults]\n")
    monkeypatch.setenv("DWAVE_CONFIG_FILE", str(tmp_path / "dwave.conf"))
    monkeypatch.delenv("DWAVE_API_TOKEN", raising=False)


def entries_of(folder: Path) -> list[Entry[RunKey]]:
    return Ledger(folder / "trials.csv", RunKey).entries


@pytest.fixture(autouse=True)
def slow_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that overrun their time on a busy machine are repeated as often as asked."""
    monkeypatch.setattr(study, "OVERRUN", math.inf)


def asked(**changes: Any) -> AnnealingStudy:
    values: dict[str, Any] = {"name": "anneal", "repeats": 2, "time_limit": "0.05s"}
    return make_study(AnnealingStudy, **values | changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """A study of two problems of one family. Not to be changed."""
    names = ("annealer", "ocean-sa", "genetic", "random")
    return run_study(asked(problems=("Q-8", "Q-20"), solvers=names), tmp_path_factory.mktemp("anneal"))


def test_every_solver_runs_as_often_as_asked_and_every_run_is_labelled(finished: FinishedRun) -> None:
    with (finished.folder / "trials.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(finished.trials) == 2 * 4 * 2
    assert tuple(lines[0]) == (*RunKey._fields, "metrics")
    assert {json.loads(line["metrics"])["kind"] for line in lines} == {"classical"}
    assert {line["repeat"] for line in lines} == {"0", "1"}


def test_a_run_is_read_back_as_it_was(finished: FinishedRun) -> None:
    for entry in entries_of(finished.folder):
        run = SolverRun.of(entry.key._asdict() | dict(entry.metrics))
        assert json.loads(json.dumps(run.metrics)) == entry.metrics
        assert run.course[-1][1] == pytest.approx(run.energy, rel=1e-9)


def test_a_killed_run_resumes_where_it_stopped(
    finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = (finished.folder / "trials.csv").read_text().splitlines(keepends=True)
    (tmp_path / "trials.csv").write_text("".join(lines[:6]) + lines[6][:20])
    (tmp_path / "study.toml").write_text((finished.folder / "study.toml").read_text())
    measured: list[tuple[str, str, int]] = []
    plain = study.measure

    def counted(problem: Any, solver: str, repeat: int, **options: Any) -> Any:
        measured.append((problem.name, solver, repeat))
        return plain(problem, solver, repeat, **options)

    monkeypatch.setattr(study, "measure", counted)
    again = run_study(finished.kind.study, tmp_path)
    keys = finished.trials.select("problem", "solver", "repeat").rows()
    assert measured == keys[5:]
    assert again.trials.select("problem", "solver", "repeat").rows() == keys
    assert (tmp_path / "trials.csv").read_text().startswith("".join(lines[:6]))


def test_more_solvers_and_runs_may_be_asked_of_a_folder_and_fewer_are_shown(tmp_path: Path) -> None:
    few = asked(problems=("S-6",), solvers=("lagrangian",), repeats=1)
    run_study(few, tmp_path)
    first = (tmp_path / "trials.csv").read_text()
    more = run_study(asked(problems=("S-6",), solvers=("lagrangian", "random")), tmp_path)
    assert len(more.trials) == 4
    assert (tmp_path / "trials.csv").read_text().startswith(first)
    assert run_study(few, tmp_path).trials["solver"].to_list() == ["lagrangian"]
    for changes in ({"seed": 1}, {"problems": ("S-6", "S-7")}, {"time_limit": "0.06s"}):
        with pytest.raises(ValueError, match="holds results of another study"):
            run_study(asked(**{"problems": ("S-6",), **changes}), tmp_path)


def test_an_interrupt_keeps_what_was_measured(command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, count = study.measure, iter(range(3))

    def stopped(*arguments: Any, **options: Any) -> Any:
        if next(count) == 2:
            raise KeyboardInterrupt
        return plain(*arguments, **options)

    monkeypatch.setattr(study, "measure", stopped)
    words = ("anneal", "S", "--groups", "6", "--solver", "lagrangian,random", *QUICK, "--out", tmp_path / "out")
    code, _, error = command(*words)
    assert code == 130
    assert "the same command resumes" in error
    assert len(entries_of(tmp_path / "out")) == 2
    monkeypatch.setattr(study, "measure", plain)
    assert command(*words)[0] == 0
    assert len(entries_of(tmp_path / "out")) == 4


def test_a_folder_of_another_study_is_not_mixed_up(finished: FinishedRun, command: Run) -> None:
    code, _, error = command("anneal", "R", "--groups", "6", *QUICK, "--out", finished.folder)
    assert code == 2
    assert "holds results of another study" in error
    assert error.count("\n") == 1


def test_tables_name_the_kind_and_findings_say_that_no_quantum_hardware_ran(finished: FinishedRun) -> None:
    findings = finished.kind.findings(finished.trials)
    *tables, last = sections(findings)
    assert [table.title.split(":")[0] for table in tables] == ["Q-8", "Q-20"]
    for table in tables:
        assert {row[0] for row in table.rows} == {"annealer", "ocean-sa", "genetic", "random"}
        assert {len(row) for row in table.rows} == {len(table.columns)}
    assert any("faster than genetic?" in line and "TTS99" in line for line in last.lines)
    assert any("global optimum?" in line and "of 2 runs" in line for line in last.lines)
    assert "No quantum hardware was used" in last.lines[-1]
    assert "| annealer | classical |" in markdown(findings)


def test_the_command_writes_tables_numbers_and_figures(command: Run, tmp_path: Path) -> None:
    code, printed, _ = command(
        "anneal", "S,Q", "--groups", "6,12", "--solver", "lagrangian,ocean-greedy", *QUICK, "--out", tmp_path / "out"
    )
    assert code == 0
    assert "Q-12: 12 groups, lower bound" in printed
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [s["solver"] for s in summary["scores"]] == ["lagrangian", "ocean-greedy"] * 4
    for name in ("energy-over-time", "time-to-target", "gap-against-size", "feasible-before-repair", "annealing"):
        for ending in ("png", "svg"):
            assert (tmp_path / "out" / f"{name}.{ending}").stat().st_size > 1000
    assert not list((tmp_path / "out").glob("*.tmp*"))


def test_a_network_is_measured_on_images_beside_its_energy(command: Run, tiny_folder: Path, tmp_path: Path) -> None:
    code, printed, error = command(
        "anneal", tiny_folder / "net.toml", "--images", tiny_folder / "images", "--model", "both", "--budget", "2.5",
        "--test-images", "100", "--solver", "annealer,ocean-sa", *QUICK, "--out", tmp_path / "out",
    )  # fmt: skip
    assert (code, error) == (0, "")
    assert "accuracy %" in printed
    runs = [SolverRun.of(entry.key._asdict() | dict(entry.metrics)) for entry in entries_of(tmp_path / "out")]
    network = [run for run in runs if run.problem == "network"]
    assert [run.solver for run in network] == ["annealer", "ocean-sa"] * 2
    assert all(0 <= (run.accuracy or -1) <= 1 for run in network)
    magnitude = [run for run in runs if run.problem == "magnitude"]
    assert [run.solver for run in magnitude] == ["sorting", "ocean-sa"] * 2
    assert [run.gap for run in magnitude] == pytest.approx([0.0] * 4, abs=1e-9)
    assert (tmp_path / "out" / "accuracy-against-energy.png").exists()


def test_a_solver_that_cannot_take_a_problem_is_left_out_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qubo.solvers.exact.PRODUCTS", 10)
    monkeypatch.setattr(study, "warm_up", lambda solvers: None)
    run = run_study(asked(problems=("D-20",), solvers=("exact", "lagrangian"), repeats=1), tmp_path)
    assert run.trials["solver"].to_list() == ["lagrangian"]
    lines = sections(run.kind.findings(run.trials))[-1].lines
    assert any(line.startswith("Not run: exact on D-20") for line in lines)


def test_a_solver_that_outlasts_its_time_by_far_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "OVERRUN", 0.0)
    run = run_study(asked(problems=("S-6",), solvers=("lagrangian", "random"), repeats=3), tmp_path)
    assert run.trials.select("solver", "repeat").rows() == [("lagrangian", 0), ("random", 0)]
    assert "which it cannot cut short" in run.kind.skipped["S-6", "random"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("Q", "--solver", "annealer,qpu"), "needs a D-Wave token"),
        (("Q", "--solver", "leap-cqm"), "needs a D-Wave token"),
        (("Q", "--solver", "oracle"), "solver 'oracle' is unknown"),
        (("X",), "problem 'X': no family"),
        (("Q,Q",), "problems: holds the same twice (Q-200, Q-200)"),
        (("Q", "--groups", "a"), "--groups: whole numbers"),
        (("Q", "--time-limit", "soon"), "time limit: a time above 0"),
        (("Q", "--target", "120%"), "--target"),
        (("Q", "--repeats", "0"), "repeats should be greater than or equal to 1, got 0; correct it"),
        (("net.toml",), "--data"),
        (("none.cqm", "--solver", "random"), "no such file"),
        (("Q,R", "--save", "two.cqm"), "--save writes one problem"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(command: Run, words: tuple[str, ...], says: str, tmp_path: Path) -> None:
    code, _, error = command("anneal", *words, "--quiet", "--out", tmp_path / "out")
    assert code == 2
    assert says in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()  # nothing was begun


def test_a_saved_problem_is_solved_from_its_file(command: Run, tmp_path: Path) -> None:
    path = tmp_path / "q.cqm"
    code, printed, _ = command("anneal", "Q", "--groups", "8", "--save", path, "--quiet")
    assert code == 0
    assert "8 groups, 48 binary variables" in printed
    again, first = files.load_selection(path), qubo.generate("Q", groups=8)
    assert again.energy(np.full(8, 3)) == pytest.approx(first.energy(np.full(8, 3)))
    code, printed, _ = command("anneal", path, "--solver", "lagrangian", *QUICK, "--out", tmp_path / "out")
    assert code == 0
    assert "8 groups, lower bound" in printed


def test_a_dry_run_says_what_a_quantum_processor_would_need(command: Run, tmp_path: Path) -> None:
    code, printed, _ = command("anneal", "S", "--groups", "3", "--codes", "4", "--dry-run", "--quiet")
    assert code == 0
    assert "4,800 qubits" in printed
    assert "Nothing was sent" in printed


@pytest.mark.parametrize(("text", "value"), [("30", 30.0), ("30s", 30.0), ("2m", 120.0), ("0.5", 0.5), ("1h", 3600.0)])
def test_times_are_read_with_or_without_a_unit(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "s", "-1", "0", "1d", "nan", "1e3"])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="30, 30s or 2m"):
        seconds(text)


def test_the_shipped_study_compares_what_is_promised_and_has_a_quick_variant() -> None:
    path = STUDIES / "annealing.toml"
    full, quick = load_study(path), load_study(path, quick=True)
    assert isinstance(full, AnnealingStudy)
    assert isinstance(quick, AnnealingStudy)
    promised = "annealer lagrangian exact ocean-sa ocean-tabu ocean-greedy ocean-path-integral genetic reinforce random"
    assert set(full.solvers) == set(promised.split())
    assert {"Q-200", "R-200", "D-200", "network", "magnitude"} <= set(quick.problems) <= set(full.problems)
    assert full.network is not None
    assert Path(full.network).exists()
    runs = len(quick.problems) * len(quick.solvers) * quick.repeats * quick.time_limit
    assert runs <= 300  # seconds at most: under five minutes


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ('problems = ["Z-5"]', "problems[0]: problem 'Z-5': no family"),
        ('problems = ["network"]', "network and magnitude need a network and its data"),
        ('problems = ["S-6"]\ntime_limit = "soon"', "time limit: a time above 0"),
        ('problems = ["S-6"]\ntarget = 1.0', "target should be less than 1, got 1.0; correct it"),
        ('problems = ["S-6"]\nsolvers = []', "solvers should have at least 1 item"),
        ('problems = ["S-6"]\ncodes = 1', "codes should be greater than or equal to 2, got 1; correct it"),
    ],
)
def test_a_flawed_study_is_refused_in_one_line(tmp_path: Path, field: str, told: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'kind = "annealing"\nname = "mine"\n{field}\n')
    with pytest.raises(ValueError, match=re.escape(told)) as caught:
        load_study(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_problem_of_a_file_is_found_beside_the_study(tmp_path: Path) -> None:
    files.save(qubo.generate("Q", groups=5), tmp_path / "q.cqm")
    (tmp_path / "mine.toml").write_text('kind = "annealing"\nname = "mine"\nproblems = ["q.cqm"]\n')
    found = load_study(tmp_path / "mine.toml")
    assert isinstance(found, AnnealingStudy)
    assert found.problems == (str(tmp_path / "q.cqm"),)


def test_a_study_of_its_kind_is_run_by_the_command_run(command: Run, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('kind = "annealing"\nname = "mine"\nproblems = ["S-6"]\nsolvers = ["lagrangian"]\nrepeats = 1\n')
    code, printed, _ = command("run", path, "--out", tmp_path / "out", "--quiet")
    assert code == 0
    assert "S-6: 6 groups" in printed
    path.write_text(path.read_text() + "colour = 1\n")
    code, _, error = command("run", path, "--quiet")
    assert code == 2
    assert "unknown field colour" in error


def test_the_reward_is_the_least_that_removes_the_share(tiny: physcomp.Network) -> None:
    problem = reward_for(tiny, 0.6)

    def removed(hamiltonian: qubo.Magnitude) -> float:
        best = hamiltonian.optimum()
        q = np.array([[(8 - bits) >> k & 1 for k in range(3)] for bits in best.bits])
        return hamiltonian.terms(np.concatenate(best.pruned), q)[2]

    less = qubo.Magnitude(problem.means, problem.weights, problem.beta, problem.gamma / 1.02)
    assert removed(problem) >= 0.6 > removed(less)


def test_a_solver_from_outside_is_timed_tabled_and_drawn(
    command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def search(problem: Prepared, watch: Watch, *, tries: int = 1) -> Outcome:
        x = np.random.default_rng(problem.seed).integers(0, problem.layout.arrays.codes)
        choice = problem.layout.decode(x)
        cheap = problem.layout.decode(problem.layout.cheapest())
        return Outcome(choice if problem.selection.feasible(choice) else cheap, tries)

    mine = Solver("mine", "quantum-inspired", search, colour="#12ab9e", anneals=True, compared_with={"tries": 7})
    monkeypatch.setitem(qubo.SOLVERS, "mine", mine)
    words = ("anneal", "Q", "--groups", "8", "--solver", "mine,genetic", *QUICK, "--out", tmp_path / "out")
    code, printed, error = command(*words)
    assert (code, error) == (0, "")
    assert re.search(r"mine +quantum-inspired", printed)
    assert "faster than genetic? It" in printed  # it anneals, and is held against what does not
    mine_runs = [run for run in entries_of(tmp_path / "out") if run.key.solver == "mine"]
    assert [(run.metrics["evaluations"], run.key.seed) for run in mine_runs] == [(7, 0), (7, 1)]
    drawing = (tmp_path / "out" / "annealing.svg").read_text()
    assert "#12ab9e" in drawing
    assert "mine (quantum-inspired)" in (tmp_path / "out" / "results.md").read_text()
