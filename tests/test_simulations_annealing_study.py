"""The command `physcomp anneal`: runs that resume, tables and files, bad input in one line, the shipped study."""

import csv
import json
import re
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import physcomp
import qubo
from qubo import files
from qubo.search.watch import Outcome, Watch
from qubo.solvers.solver import Prepared, Solver
from simulations import cli
from simulations.annealing import study
from simulations.annealing.ledger import RunLedger
from simulations.annealing.report import columns, markdown, rows, score, sentences
from simulations.annealing.study import Experiment, reward_for, run_experiment
from simulations.annealing.trials import SolverRun
from simulations.commands.anneal import load_annealing, seconds
from simulations.runs.progress import Progress
from simulations.runs.study import STUDIES

Run = Callable[..., tuple[int, str, str]]
QUICK = ("--repeats", "2", "--time-limit", "0.05s", "--quiet")


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "dwave.conf").write_text("[defaults]\n")
    monkeypatch.setenv("DWAVE_CONFIG_FILE", str(tmp_path / "dwave.conf"))
    monkeypatch.delenv("DWAVE_API_TOKEN", raising=False)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in this process, its border included: exit code, standard output, standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["physcomp", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[study.Findings, Path]:
    """An experiment on two problems of one family. Not to be changed."""
    folder = tmp_path_factory.mktemp("anneal")
    experiment = Experiment(
        problems=("Q-8", "Q-20"), solvers=("annealer", "ocean-sa", "genetic", "random"), repeats=2, time_limit_s=0.05
    )
    return run_experiment(experiment, folder, Progress()), folder


def test_every_solver_runs_as_often_as_asked_and_every_run_is_labelled(
    finished: tuple[study.Findings, Path],
) -> None:
    findings, folder = finished
    with (folder / "runs.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(findings.trials) == 2 * 4 * 2
    assert tuple(lines[0]) == tuple(field.name for field in fields(SolverRun))
    assert {line["kind"] for line in lines} == {"classical"}
    assert {line["repeat"] for line in lines} == {"0", "1"}


def test_what_was_run_is_read_back_as_it_was(finished: tuple[study.Findings, Path]) -> None:
    findings, folder = finished
    again = RunLedger(folder / "runs.csv").rows
    assert [t.key for t in again] == [t.key for t in findings.trials]
    for one, other in zip(again, findings.trials, strict=True):
        assert (one.energy, one.lower_bound, one.feasible_before_repair) == (
            other.energy,
            other.lower_bound,
            other.feasible_before_repair,
        )
        assert [energy for _, energy in one.course] == [energy for _, energy in other.course]


def test_a_killed_experiment_resumes_where_it_stopped(
    finished: tuple[study.Findings, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    findings, folder = finished
    content = (folder / "runs.csv").read_text()
    lines = content.splitlines(keepends=True)
    (tmp_path / "runs.csv").write_text("".join(lines[:6]) + lines[6][:20])
    (tmp_path / "experiment.json").write_text((folder / "experiment.json").read_text())
    asked: list[tuple[str, str, int]] = []
    plain = study.measure

    def counted(problem: Any, solver: str, repeat: int, **options: Any) -> Any:
        asked.append((problem.name, solver, repeat))
        return plain(problem, solver, repeat, **options)

    monkeypatch.setattr(study, "measure", counted)
    again = run_experiment(findings.experiment, tmp_path, Progress())
    assert asked == [trial.key for trial in findings.trials[5:]]
    assert [trial.key for trial in again.trials] == [trial.key for trial in findings.trials]
    assert (tmp_path / "runs.csv").read_text().startswith("".join(lines[:6]))


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
    assert len(RunLedger(tmp_path / "out" / "runs.csv").rows) == 2
    monkeypatch.setattr(study, "measure", plain)
    assert command(*words)[0] == 0
    assert len(RunLedger(tmp_path / "out" / "runs.csv").rows) == 4


def test_a_folder_of_another_experiment_is_not_mixed_up(finished: tuple[study.Findings, Path], command: Run) -> None:
    _, folder = finished
    code, _, error = command("anneal", "R", "--groups", "6", *QUICK, "--out", folder)
    assert code == 2
    assert "holds another experiment" in error
    assert error.count("\n") == 1


def test_tables_name_the_kind_and_findings_say_that_no_quantum_hardware_ran(
    finished: tuple[study.Findings, Path],
) -> None:
    findings, _ = finished
    found = score(findings)
    table = rows(found, "Q-20")
    assert {row[0] for row in table} == {"annealer", "ocean-sa", "genetic", "random"}
    assert all(len(row) == len(columns(found, "Q-20")) for row in table)
    lines = sentences(findings, found)
    assert any("faster than genetic?" in line and "TTS99" in line for line in lines)
    assert any("global optimum?" in line and "of 2 runs" in line for line in lines)
    assert "No quantum hardware was used" in lines[-1]
    assert "| annealer | classical |" in markdown(findings, found)


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
    trials = RunLedger(tmp_path / "out" / "runs.csv").rows
    network = [trial for trial in trials if trial.problem == "network"]
    assert [trial.solver for trial in network] == ["annealer", "ocean-sa"] * 2
    assert all(0 <= (trial.accuracy or -1) <= 1 for trial in network)
    magnitude = [trial for trial in trials if trial.problem == "magnitude"]
    assert [trial.solver for trial in magnitude] == ["sorting", "ocean-sa"] * 2
    assert [trial.gap for trial in magnitude] == pytest.approx([0.0] * 4, abs=1e-9)
    assert (tmp_path / "out" / "accuracy-against-energy.png").exists()


def test_a_solver_that_cannot_take_a_problem_is_left_out_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qubo.solvers.exact.PRODUCTS", 10)
    experiment = Experiment(problems=("D-20",), solvers=("exact", "lagrangian"), repeats=1, time_limit_s=0.05)
    monkeypatch.setattr(study, "warm_up", lambda solvers: None)
    findings = run_experiment(experiment, tmp_path, Progress())
    assert [trial.solver for trial in findings.trials] == ["lagrangian"]
    assert any(line.startswith("Not run: exact on D-20") for line in sentences(findings, score(findings)))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("Q", "--solver", "annealer,qpu"), "needs a D-Wave token"),
        (("Q", "--solver", "leap-cqm"), "needs a D-Wave token"),
        (("Q", "--solver", "oracle"), "solver 'oracle' is unknown"),
        (("X",), "problem 'X': no family"),
        (("Q,Q",), "names Q-200 twice"),
        (("Q", "--groups", "a"), "--groups: whole numbers"),
        (("Q", "--time-limit", "soon"), "time limit: a time above 0"),
        (("Q", "--target", "120%"), "--target"),
        (("Q", "--repeats", "0"), "repeats is a whole number, at least 1"),
        (("net.toml",), "--images"),
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
    full, quick = load_annealing(path), load_annealing(path, quick=True)
    assert full is not None
    assert quick is not None
    promised = "annealer lagrangian exact ocean-sa ocean-tabu ocean-greedy ocean-path-integral genetic reinforce random"
    assert set(full.solvers) == set(promised.split())
    assert {"Q-200", "R-200", "D-200", "network", "magnitude"} <= set(quick.problems) <= set(full.problems)
    assert full.network is not None
    assert full.network.exists()
    runs = len(quick.problems) * len(quick.solvers) * quick.repeats * quick.time_limit_s
    assert runs <= 300  # seconds at most: under five minutes
    assert load_annealing(STUDIES / "demo.toml") is None


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


def test_a_ledger_of_another_kind_or_damaged_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="not a ledger"):
        RunLedger(path)
    names = [field.name for field in fields(SolverRun)]
    path.write_text(",".join(names) + "\n" + ",".join(["x"] * len(names)) + "\n")
    with pytest.raises(ValueError, match="is damaged; remove it"):
        RunLedger(path)


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
    mine_runs = [run for run in RunLedger(tmp_path / "out" / "runs.csv").rows if run.solver == "mine"]
    assert [(run.evaluations, run.seed) for run in mine_runs] == [(7, 0), (7, 1)]
    drawing = (tmp_path / "out" / "annealing.svg").read_text()
    assert "#12ab9e" in drawing
    assert "mine (quantum-inspired)" in (tmp_path / "out" / "results.md").read_text()
