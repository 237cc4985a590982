"""Studies of kind `annealing`: compare solvers on problems whose optimum is known or bounded.

They test two claims of Wang et al. (arXiv 2505.16332) on quantum annealing for network compression: that it is faster
than genetic algorithms and reinforcement learning, and that it finds global optima.

The folder of a run holds, besides the files of all runs: `results.md`, and energy-over-time, time-to-target,
gap-against-size, feasible-before-repair, accuracy-against-energy and annealing .png and .svg.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import polars as pl

import qubo
from qubo.families import Family
from simulations.annealing import figures
from simulations.annealing.problems import NETWORK, AnnealingStudy, Bench, family_of
from simulations.annealing.report import Findings, markdown, sections, summarize
from simulations.annealing.time_to_target import scores
from simulations.annealing.trials import Problem, RunKey, SolverRun, check_solvers, fingerprint, measure, warm_up
from simulations.runs.kind import Kind, Tables
from simulations.runs.progress import Progress

OVERRUN = 10
"""A solver that exceeds the time limit by this factor on a problem is not run on it again."""


class Annealing(Kind[AnnealingStudy, RunKey]):
    """Timed runs of solvers, one after the other. A folder with results may be extended by solvers or runs."""

    model = AnnealingStudy
    key = RunKey
    doing = "running solvers"
    in_turn = True

    def __init__(self, study: AnnealingStudy, folder: Path, progress: Progress) -> None:
        super().__init__(study, folder, progress)
        check_solvers(study.solvers)
        self.bench = Bench(study, progress)
        self.skipped: dict[tuple[str, str], str] = {}

    @property
    def numbers(self) -> tuple[str, ...]:
        """The metrics that every run has, whatever the problem."""
        return ("energy", "seconds", "evaluations")

    def fingerprints(self) -> dict[str, str]:
        """Fingerprints of everything that results depend on: not the list of solvers, nor the number of runs."""
        study = self.study
        asked = {name: str(getattr(study, name)) for name in ("time_limit", "seed", "test_images")}
        return asked | {f"problem {name}": fingerprint(problem) for name, problem in self.bench.problems.items()}

    def tasks(self) -> Iterator[list[RunKey]]:
        """All runs, repeat by repeat, so that changes in the load of the machine affect all solvers alike."""
        self.problems = self._bounded()
        study = self.study
        for repeat in range(study.repeats):
            for problem in self.problems.values():
                solvers = study.solvers
                if isinstance(problem.problem, qubo.Magnitude):
                    solvers = ("sorting", *(s for s in solvers if s in problem.solvers and s != "sorting"))
                for solver in solvers:
                    if solver in problem.solvers:
                        at = (problem.name, problem.family, problem.size)
                        yield [RunKey(*at, solver, repeat, study.seed + repeat, study.time_limit)]

    def _bounded(self) -> dict[str, Problem]:
        """Compute the bounds of the problems."""
        for family in get_args(Family):  # compile or load the kernels of bounds outside all timed runs
            Problem.of("warm-up", qubo.generate(family, groups=20))
        bounded = {}
        with self.progress.bar("proving lower bounds") as bar:
            for count, (name, problem) in enumerate(self.bench.problems.items(), start=1):
                family = (family_of(name) or [name])[0]
                bounded[name] = Problem.of(name, problem, family=family)
                bar(count / len(self.bench.problems))
        return bounded

    def begin(self, left: Sequence[Sequence[RunKey]]) -> None:
        """Import and compile, outside all timed runs."""
        with self.progress.step("compiling kernels and importing solvers"):
            warm_up(dict.fromkeys(key.solver for keys in left for key in keys))

    def measure(self, keys: Sequence[RunKey]) -> list[dict[str, Any] | None]:
        """Do one run; None if the solver cannot solve the problem, or took far too long on it before."""
        (key,) = keys
        if (key.problem, key.solver) in self.skipped:
            return [None]
        study = self.study
        try:
            run, choice = measure(
                self.problems[key.problem], key.solver, key.repeat, seed=study.seed, limit_s=study.time_limit
            )
        except ValueError as error:
            self.skipped[key.problem, key.solver] = str(error)
            return [None]
        if run.seconds > OVERRUN * study.time_limit:
            self.skipped[key.problem, key.solver] = (
                f"again, because one run took {run.seconds:.0f} s, which it cannot cut short"
            )
        return [run.metrics | (self.bench.metrics(choice) if key.problem == NETWORK else {})]

    def findings(self, trials: pl.DataFrame) -> Findings:
        """Evaluate the runs.

        Raises:
            ValueError: there are no runs.
        """
        if trials.is_empty():
            raise ValueError("no solver could run: " + "; ".join(dict.fromkeys(self.skipped.values())))
        runs = [SolverRun.of(row) for row in trials.to_dicts()]
        scorer = self.bench.scorer
        clean = None if scorer is None else scorer.clean_score.accuracy
        found = scores(runs, target=self.study.target)
        of = Findings(self.study, tuple(self.problems.values()), runs, found, self.skipped, clean)
        return of if scorer is None else replace(of, test_samples=len(scorer.images), metric=scorer.task.metric)

    def tables(self, trials: pl.DataFrame) -> Tables:
        """A table for each problem, then the findings; also written as `results.md`."""
        found = self.findings(trials)
        return Tables(summarize(found), sections(found), texts={"results.md": markdown(found)})

    def figures(self, trials: pl.DataFrame, summary: dict[str, Any]) -> Iterable[Path]:
        """Energy over time, time to target, gap against size, feasibility, accuracy, and an overview."""
        found = self.findings(trials)
        bounds = {score.problem: score.lower_bound for score in found.scores}
        return [
            *figures.energy_over_time(found.runs, self.folder, bounds=bounds),
            *figures.times_to_target(found.scores, self.folder),
            *figures.gaps_against_size(found.scores, self.folder),
            *figures.feasibility(found.scores, self.folder),
            *figures.accuracy_against_energy(found.runs, self.folder, clean=found.clean_accuracy, metric=found.metric),
            *figures.overview(found.runs, found.scores, self.folder, bounds=bounds, name="annealing"),
        ]
