"""The annealing experiment: solvers against each other on problems whose optimum is bounded or known.

It puts to the test what Wang et al. (arXiv 2505.16332) say of quantum annealing for network compression: that it is
faster than genetic and reinforcement learning, and that it finds global optima.

In the folder of an experiment:
    experiment.json   what was asked and the problems' fingerprints
    runs.csv          one line a run, appended as it ends
    summary.json, results.md
    energy-over-time, time-to-target, gap-against-size, feasible-before-repair, accuracy-against-energy .png and .svg
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray

import physcomp
import qubo
from devices.files import replacing
from physcomp.choice.magnitude import hamiltonian
from physcomp.storage.measure import measure as measure_plan
from qubo import files
from qubo.families import Family
from simulations.annealing.ledger import RunLedger
from simulations.annealing.trials import Problem, SolverRun, check_solvers, measure, warm_up
from simulations.runs.progress import Progress

SOLVERS = ("annealer", "lagrangian", "exact", "ocean-sa", "genetic", "reinforce", "random")
"""Compared unless others are named."""
NETWORK, MAGNITUDE = "network", "magnitude"
"""Problems of the network: its selection, and its magnitude Hamiltonian."""
BETA = 0.1
"""β of the magnitude Hamiltonian, as in `physcomp.choice.magnitude.plan_within`."""
OVERRUN = 10
"""A solver that needs so many times the time limit for one run on a problem is not run on it again."""
CHIPS = 2
"""Chips on which a network's accuracy is measured."""


@dataclass(frozen=True)
class Experiment:
    """What is compared on what.

    Attributes:
        problems: "Q-200" for 200 groups of family Q, a `.cqm` or `.coo` file, "network" or "magnitude".
        solvers: names; a Hamiltonian takes those that know it, and sorting.
        repeats: runs of each solver on each problem.
        time_limit_s: time of each run.
        target: gap that counts as reached, as a share.
        codes: codes a group in the families.
        network: description file, for "network" and "magnitude".
        images: folder with the parts `calibration` and `t10k`.
        card: device of the network.
        read_time_s: seconds from programming to reading.
        budget: cells per weight.
        shrinkage: factor on the couplings.
        removed: share of stored bits that the magnitude Hamiltonian's optimum removes, at least.
        calibration: calibration images for the loss model; None: all there are.
        test_images: images on which accuracy is measured.
        seed: of families, loss model and runs.
        name: what it is called.
        quick: the short variant of a study.
    """

    problems: tuple[str, ...]
    solvers: tuple[str, ...] = SOLVERS
    repeats: int = 10
    time_limit_s: float = 30.0
    target: float = 0.01
    codes: int = 6
    network: Path | None = None
    images: Path | None = None
    card: str = "pcm-zarcone:one-device"
    read_time_s: float = 0.0
    budget: float = 0.5
    shrinkage: float = 0.7
    removed: float = 0.75
    calibration: int | None = None
    test_images: int = 2000
    seed: int = 0
    name: str = "anneal"
    quick: bool = False

    def __post_init__(self) -> None:
        for name, low in (("repeats", 1), ("calibration", 1), ("test_images", 1), ("codes", 2), ("seed", 0)):
            value = getattr(self, name)
            if (name, value) != ("calibration", None) and (type(value) is not int or value < low):
                raise ValueError(f"{name} is a whole number, at least {low}, got {value!r}; correct it")
        for name, top in (("time_limit_s", np.inf), ("target", 1.0), ("budget", np.inf), ("removed", 1.0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < top:
                raise ValueError(f"{name} is above 0 and below {top:g}, got {value!r}; correct it")
        if not self.problems or not self.solvers:
            raise ValueError("an experiment needs at least one problem and one solver; name them")
        for name in ("problems", "solvers"):
            twice = [x for x in getattr(self, name) if getattr(self, name).count(x) > 1]
            if twice:
                raise ValueError(f"{name} names {twice[0]} twice; remove one")
        if {NETWORK, MAGNITUDE} & set(self.problems) and (self.network is None or self.images is None):
            raise ValueError(f"{NETWORK} and {MAGNITUDE} need a network and its images; name both")


@dataclass(eq=False)
class Bench:
    """The problems of an experiment, and what measures the accuracy of a network's choices."""

    problems: list[Problem]
    model: physcomp.LossModel | None = None
    test: physcomp.Images | None = None
    clean: physcomp.Score | None = None
    shrinkage: float = 0.0
    _scores: dict[bytes, tuple[float, float]] = field(default_factory=dict)

    def score(self, choice: NDArray[np.int64], seed: int) -> tuple[float, float]:
        """Mean accuracy and loss of a network's choice on test images, read back from `CHIPS` chips."""
        assert self.model is not None
        assert self.test is not None
        key = choice.tobytes()
        if key not in self._scores:
            plan = physcomp.plan_of(self.model, choice, method="anneal", shrinkage=self.shrinkage)
            card, network = self.model.medium.card, self.model.network
            seeds = range(seed, seed + CHIPS)
            scores = [score for (score,) in measure_plan(network, plan, self.test, card=card, seeds=seeds)]
            self._scores[key] = (
                sum(score.accuracy for score in scores) / CHIPS,
                sum(score.loss for score in scores) / CHIPS,
            )
        return self._scores[key]


def selections(experiment: Experiment, progress: Progress) -> tuple[dict[str, Any], Bench]:
    """The problems by name, not yet bounded, and a bench without them.

    Raises:
        ValueError: an unknown problem, an infeasible budget, or files that are missing.
    """
    bench = Bench([], shrinkage=experiment.shrinkage)
    found: dict[str, Any] = {}
    for name in experiment.problems:
        drawn = re.fullmatch(rf"([{''.join(get_args(Family))}])-(\d+)", name)
        if drawn:
            family: Any = drawn[1]
            found[name] = qubo.generate(family, groups=int(drawn[2]), codes=experiment.codes, seed=experiment.seed)
        elif name == NETWORK:
            found[name] = _selection(experiment, bench, progress)
        elif name == MAGNITUDE:
            assert experiment.network is not None
            found[name] = reward_for(physcomp.load_network(experiment.network), experiment.removed)
        elif Path(name).suffix in files.SUFFIXES:
            found[name] = files.load_selection(name)
        else:
            raise ValueError(
                f"problem '{name}': no family with its groups such as Q-200, no {', '.join(files.SUFFIXES)} file, "
                f"not {NETWORK} or {MAGNITUDE}; name one of these"
            )
    return found, bench


def _selection(experiment: Experiment, bench: Bench, progress: Progress) -> qubo.Selection:
    """The network's selection; fills the bench with what measures its accuracy."""
    assert experiment.network is not None
    assert experiment.images is not None
    network = physcomp.load_network(experiment.network)
    calibration = _part(experiment.images, "calibration", experiment.calibration)
    bench.test = _part(experiment.images, "t10k", experiment.test_images)
    with progress.bar("measuring what each code does to each filter") as bar:
        bench.model = physcomp.build_model(
            network, calibration, card=experiment.card, read_time_s=experiment.read_time_s, seed=experiment.seed,
            progress=bar,
        )  # fmt: skip
    bench.clean = physcomp.evaluate(network.module, bench.test)
    return bench.model.selection(experiment.budget, shrinkage=experiment.shrinkage)


def _part(folder: Path, part: str, count: int | None) -> physcomp.Images:
    images = physcomp.load_images(folder, part)
    if count is None:
        return images
    if len(images) < count:
        raise ValueError(f"{folder}: {part} has {len(images)} images, {count} are asked for; ask for fewer")
    return images[:count]


def reward_for(network: physcomp.Network, removed: float) -> qubo.Magnitude:
    """The magnitude Hamiltonian of the least reward γ, to 1 %, whose optimum removes a share of the stored bits."""
    low, high = 1e-9, 1e9
    while high > 1.01 * low:
        gamma = (low * high) ** 0.5
        problem = hamiltonian(network, beta=BETA, gamma=gamma)
        best = problem.optimum()
        q = np.array([[(8 - bits) >> k & 1 for k in range(3)] for bits in best.bits])
        low, high = (low, gamma) if problem.terms(np.concatenate(best.pruned), q)[2] >= removed else (gamma, high)
    return hamiltonian(network, beta=BETA, gamma=high)


@dataclass(frozen=True, eq=False)
class Findings:
    """A finished experiment.

    Attributes:
        experiment: what was asked.
        problems: with their bounds.
        trials: all runs.
        skipped: why a solver did not run on a problem, by (problem, solver).
        clean_accuracy: of the network as trained, on the test images.
    """

    experiment: Experiment
    problems: tuple[Problem, ...]
    trials: tuple[SolverRun, ...]
    skipped: dict[tuple[str, str], str]
    clean_accuracy: float | None

    def of(self, problem: str, solver: str | None = None) -> list[SolverRun]:
        """The runs on a problem, of one solver or all."""
        return [t for t in self.trials if t.problem == problem and solver in (None, t.solver)]


def run_experiment(experiment: Experiment, folder: Path, progress: Progress, *, fresh: bool = False) -> Findings:
    """Run an experiment, or what is left of it.

    Args:
        experiment: what is compared.
        folder: where the results go.
        progress: told what is being done.
        fresh: forget results of an earlier experiment there.

    Raises:
        ValueError: a solver that is unknown or without its token, or the folder holds another experiment.
    """
    check_solvers(experiment.solvers)
    torch.set_num_threads(1)
    bench = bounded(experiment, progress)
    _claim(folder, experiment, bench, fresh)
    ledger = RunLedger(folder / "runs.csv")
    done = {trial.key for trial in ledger.rows}
    left = [task for task in _tasks(experiment, bench) if (task[0].name, task[1], task[2]) not in done]
    if left:
        with progress.step("compiling kernels and importing solvers"):
            warm_up(dict.fromkeys(solver for _, solver, _ in left))
    skipped: dict[tuple[str, str], str] = {}
    with progress.bar(f"running solvers ({len(left)} runs of {experiment.time_limit_s:g} s at most)") as bar:
        for count, (problem, solver, repeat) in enumerate(left, start=1):
            if (problem.name, solver) not in skipped:
                try:
                    ledger.append(_run(experiment, bench, problem, solver, repeat))
                except ValueError as error:
                    skipped[problem.name, solver] = str(error)
                took = ledger.rows[-1].seconds if ledger.rows else 0.0
                if (problem.name, solver) not in skipped and took > OVERRUN * experiment.time_limit_s:
                    skipped[problem.name, solver] = (
                        f"again, because one run took {took:.0f} s, which it cannot cut short"
                    )
            bar(count / len(left))
    wanted = {(problem.name, solver, repeat) for problem, solver, repeat in _tasks(experiment, bench)}
    trials = tuple(trial for trial in ledger.rows if trial.key in wanted)
    if not trials:
        raise ValueError("no solver could run: " + "; ".join(dict.fromkeys(skipped.values())))
    clean = None if bench.clean is None else bench.clean.accuracy
    return Findings(experiment, tuple(bench.problems), trials, skipped, clean)


def bounded(experiment: Experiment, progress: Progress) -> Bench:
    """The problems with their bounds."""
    found, bench = selections(experiment, progress)
    for family in get_args(Family):  # the bounds' own kernels: compiled or loaded, on nobody's clock
        Problem.of("warm-up", qubo.generate(family, groups=20))
    with progress.bar("proving lower bounds") as bar:
        for count, (name, problem) in enumerate(found.items(), start=1):
            drawn = re.fullmatch(r"([A-Z])-\d+", name)
            bench.problems.append(Problem.of(name, problem, family=drawn[1] if drawn else name))
            bar(count / len(found))
    return bench


def _tasks(experiment: Experiment, bench: Bench) -> Iterator[tuple[Problem, str, int]]:
    """All runs, repeat by repeat, so that a change of the machine's load meets every solver alike."""
    for repeat in range(experiment.repeats):
        for problem in bench.problems:
            solvers = experiment.solvers
            if isinstance(problem.problem, qubo.Magnitude):
                solvers = ("sorting", *(s for s in solvers if s in problem.solvers and s != "sorting"))
            for solver in solvers:
                if solver in problem.solvers:
                    yield problem, solver, repeat


def _run(experiment: Experiment, bench: Bench, problem: Problem, solver: str, repeat: int) -> SolverRun:
    trial, choice = measure(problem, solver, repeat, seed=experiment.seed, limit_s=experiment.time_limit_s)
    if problem.name == NETWORK and bench.model is not None:
        trial = trial.measured(*bench.score(choice, experiment.seed))
    return trial


def _claim(folder: Path, experiment: Experiment, bench: Bench, fresh: bool) -> None:
    """Take the folder: empty, of the same experiment (more solvers or runs may be asked for), or emptied."""
    folder.mkdir(parents=True, exist_ok=True)
    mark, ledger = folder / "experiment.json", folder / "runs.csv"
    asked = {"time_limit_s": experiment.time_limit_s, "seed": experiment.seed, "test_images": experiment.test_images,
             "problems": {problem.name: problem.sha256 for problem in bench.problems}}  # fmt: skip
    if fresh:
        mark.unlink(missing_ok=True)
        ledger.unlink(missing_ok=True)
    if mark.exists() and json.loads(mark.read_text()) != asked:
        raise ValueError(
            f"{folder}: holds another experiment, with other problems, seed, images or time limit; name another folder "
            "with --out, or pass --fresh to start anew there"
        )
    with replacing(mark) as temporary:
        temporary.write_text(json.dumps(asked, indent=1) + "\n")
