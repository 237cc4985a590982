"""Time to target: how long restarts of a solver take to reach a target energy with high probability.

TTS(t) = t · max(1, ln(1 − 0.99) / ln(1 − p(t))) is the time in which restarts of length t reach the target at least
once with 99 % confidence, where p(t) is the probability that one restart does. The least TTS over t counts (Rønnow et
al. 2014, doi 10.1126/science.1252319).

With few runs, both p and the best t are uncertain. We choose p(t) = k / (n + 1) if k of n runs are at the target after
t seconds, the mean of the k-th of n sorted uniform numbers: three of three runs do not prove 99 %. And no restart is
shorter than the median time of the runs that reached the target, since the shortest of few times are luck.

The interval is a bootstrap over runs, reflected in the logarithm. (A minimum is biased, resamples repeat the bias, and
reflection removes it: Davison and Hinkley 1997, §5.2.) On memoryless runs the interval, nominally of 95 %, was measured
to cover the truth in 70 % of cases with five runs and in 80 % with ten to forty.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qubo.solution import Kind
from simulations.annealing.trials import SolverRun

Vector = NDArray[np.float64]

CONFIDENCE = 0.99
RESAMPLES = 2000
"""Number of bootstrap samples."""


@dataclass(frozen=True)
class TimeToTarget:
    """A time to target: seconds until restarts have reached it with 99 % confidence.

    Attributes:
        seconds: the time; inf if no run reached the target.
        low: lower end of the 95 % bootstrap interval.
        high: its upper end; inf if some resamples never reached the target.
        restart_s: the best length of restarts.
        share: estimated probability that a restart of this length reaches the target.
        runs: number of runs.
        reached: number of runs that reached the target at all.
    """

    seconds: float
    low: float
    high: float
    restart_s: float
    share: float
    runs: int
    reached: int


def time_to_target(
    trials: Sequence[SolverRun], energy: float, *, confidence: float = CONFIDENCE, seed: int = 0
) -> TimeToTarget:
    """Estimate the time to target from the runs of one solver on one problem.

    Args:
        trials: the runs.
        energy: the target energy.
        confidence: the probability of at least one success that is asked for.
        seed: seed of the bootstrap.

    Raises:
        ValueError: no runs, or a confidence outside (0, 1).
    """
    if not trials:
        raise ValueError("time to target: there are no runs; pass at least one")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}: pass 0.99")
    times = np.array([trial.reached_s(energy) for trial in trials])
    seconds, at = _least(np.sort(times)[None], confidence)
    rng = np.random.default_rng(seed)
    drawn = np.sort(times[rng.integers(0, times.size, (RESAMPLES, times.size))], axis=1)
    resampled = np.sort(_least(drawn, confidence)[0])
    low, high = (float(resampled[round(q * (RESAMPLES - 1))]) for q in (0.025, 0.975))
    least = float(seconds[0])
    if math.isfinite(high):  # else some resamples hold no success, and the upper end is open
        low, high = min(least, least**2 / high), max(least, least**2 / low)
    reached = int(np.isfinite(times).sum())
    restart = float(np.sort(times)[at[0]])
    return TimeToTarget(
        seconds=least, low=low, high=high, restart_s=restart,
        share=float((at[0] + 1) / (times.size + 1)) if reached else 0.0, runs=times.size, reached=reached,
    )  # fmt: skip


def _least(times: Vector, confidence: float) -> tuple[Vector, NDArray[np.int64]]:
    """The least TTS over lengths of restarts, and the index of that length, for rows of sorted times (N, n)."""
    n = times.shape[1]
    share = np.arange(1, n + 1) / (n + 1)
    restarts = np.maximum(1.0, math.log(1 - confidence) / np.log1p(-share))
    reached = np.isfinite(times).sum(axis=1)
    long_enough = 2 * np.arange(1, n + 1) >= reached[:, None]
    value = np.where(long_enough, times * restarts, np.inf)
    at = value.argmin(axis=1)
    return value[np.arange(len(times)), at], at


@dataclass(frozen=True)
class TargetEnergy:
    """The energy that counts as success on a problem, and the energy from which it is measured.

    Attributes:
        energy: a run with at most this energy has reached the target.
        reference: the energy from which the gap is measured.
        proven: True if the reference is the lower bound, False if it is the least energy of any run.
    """

    energy: float
    reference: float
    proven: bool


def target_of(trials: Sequence[SolverRun], gap: float) -> TargetEnergy:
    """Set the target of a problem: `gap` above the lower bound, if any run came so near.

    A bound may be further below the optimum than the gap. Then the least energy of all runs is used in place of the
    bound, and results say so.

    Args:
        trials: all runs on one problem, of all solvers.
        gap: relative gap, such as 0.01.

    Raises:
        ValueError: no runs, or a gap that is not above 0.
    """
    if not trials or not gap > 0:
        raise ValueError(f"target: needs runs and a gap above 0, got {len(trials)} runs and {gap}")
    bound, best = max(t.lower_bound for t in trials), min(t.energy for t in trials)
    proven = best <= bound + gap * abs(bound)
    reference = bound if proven else best
    return TargetEnergy(reference + gap * abs(reference), reference, proven)


SAME = 1e-6
"""Energies whose relative difference is below this count as equal (our choice)."""


@dataclass(frozen=True)
class SolverScore:
    """The score of one solver on one problem, over its runs.

    Attributes:
        problem: name of the problem.
        family: its family.
        size: groups, or variables of a magnitude Hamiltonian.
        solver: name of the solver.
        kind: classical, quantum-inspired, quantum or hybrid.
        runs: number of runs.
        energy: least, median and largest energy of the answers.
        lower_bound: the best lower bound known.
        gap: least, median and largest (energy − lower bound) / |energy|.
        at_best: number of runs that ended at the least energy of all runs, see `SAME`.
        seconds: median wall-clock time of a run.
        target: the target energy.
        to_target: time to the target.
        feasible_before_repair: mean share of raw samples that needed no repair; None if the solver has no raw samples.
        accuracy: mean and standard deviation over runs; only for networks.
    """

    problem: str
    family: str
    size: int
    solver: str
    kind: Kind
    runs: int
    energy: tuple[float, float, float]
    lower_bound: float
    gap: tuple[float, float, float]
    at_best: int
    seconds: float
    target: TargetEnergy
    to_target: TimeToTarget
    feasible_before_repair: float | None
    accuracy: tuple[float, float] | None


def scores(trials: Sequence[SolverRun], *, target: float = 0.01) -> list[SolverScore]:
    """Score every solver on every problem, in the order of the runs.

    Args:
        trials: runs of any solvers on any problems.
        target: the relative gap that counts as success.
    """
    found = []
    for problem in dict.fromkeys(trial.problem for trial in trials):
        of_problem = [trial for trial in trials if trial.problem == problem]
        aim = target_of(of_problem, target)
        bound = max(trial.lower_bound for trial in of_problem)
        best = min(trial.energy for trial in of_problem)
        for solver in dict.fromkeys(trial.solver for trial in of_problem):
            runs = [trial for trial in of_problem if trial.solver == solver]
            found.append(_score(runs, bound, best, aim))
    return found


def _score(runs: Sequence[SolverRun], bound: float, best: float, aim: TargetEnergy) -> SolverScore:
    first = runs[0]
    energies = np.sort([trial.energy for trial in runs])
    gaps = (energies - bound) / np.maximum(np.abs(energies), np.finfo(np.float64).tiny)
    clean = [t.feasible_before_repair for t in runs if t.feasible_before_repair is not None]
    right = [t.accuracy for t in runs if t.accuracy is not None]
    return SolverScore(
        problem=first.problem,
        family=first.family,
        size=first.size,
        solver=first.solver,
        kind=first.kind,
        runs=len(runs),
        energy=(float(energies[0]), float(np.median(energies)), float(energies[-1])),
        lower_bound=bound,
        gap=(float(gaps[0]), float(np.median(gaps)), float(gaps[-1])),
        at_best=int((energies <= best + SAME * abs(best)).sum()),
        seconds=float(np.median([trial.seconds for trial in runs])),
        target=aim,
        to_target=time_to_target(runs, aim.energy),
        feasible_before_repair=float(np.mean(clean)) if clean else None,
        accuracy=(float(np.mean(right)), float(np.std(right, ddof=1)) if len(right) > 1 else 0.0) if right else None,
    )
