"""Time to target of repeated runs, and the target they are held to.

TTS(t) = t · max(1, ln(1 − 0.99) / ln(1 − p(t))): the time in which restarts of length t reach the target at least once
with 99 % confidence. The best t counts (Rønnow et al. 2014, doi 10.1126/science.1252319).

Few runs make both p and the best t doubtful, so (our choices) p(t) = k / (n + 1) where k of n runs are at the target
after t seconds, the mean of what the k-th of n uniform numbers can be: three of three do not prove 99 %. And no restart
is shorter than the median time of the runs that got there: the shortest of few are luck.

The interval is a bootstrap over runs, reflected in the logarithm (Davison and Hinkley 1997, §5.2: resamples repeat the
bias of a least value, and reflection takes it off). On memoryless runs it covers the truth in 70 % of cases at five
runs and 80 % at ten to forty, measured, where 95 % is nominal.
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
"""Bootstrap samples of a time to target."""


@dataclass(frozen=True)
class TimeToTarget:
    """Seconds until restarts have reached a target with 99 % confidence.

    Attributes:
        seconds: inf where no run reached it.
        low: lower end of the 95 % bootstrap interval.
        high: upper end; inf where some resamples never reached it.
        restart_s: length of the restarts at which it is least.
        share: probability that a restart is at the target by then.
        runs: number of runs.
        reached: runs that reached it at all.
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
    """Time to target of runs of one solver on one problem.

    Args:
        trials: the runs.
        energy: the target.
        confidence: wanted probability of at least one success.
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
    """Least TTS over restart lengths for rows of sorted times (N, n), and the place of that length."""
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
    """The energy that counts as success, and what it is measured from.

    Attributes:
        energy: at most this.
        reference: the energy it is measured from.
        proven: the reference is the lower bound; otherwise the least energy any run met.
    """

    energy: float
    reference: float
    proven: bool


def target_of(trials: Sequence[SolverRun], gap: float) -> TargetEnergy:
    """The target of a problem: `gap` above the lower bound, where some run got that near.

    A bound may lie deeper below the optimum than the gap asked for. Then the least energy of all runs stands in for
    the optimum, and results say so.

    Args:
        trials: all runs on one problem, of all solvers.
        gap: such as 0.01.

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
"""Energies that differ by less than this share count as the same (our choice)."""


@dataclass(frozen=True)
class SolverScore:
    """One solver on one problem, over its runs.

    Attributes:
        problem: name of the problem.
        family: its family.
        size: groups, or variables of a magnitude Hamiltonian.
        solver: what ran.
        kind: classical, quantum-inspired, quantum or hybrid.
        runs: number of runs.
        energy: least, median and largest of the answers.
        lower_bound: the best that is known.
        gap: least, median and largest (energy − lower bound) / |energy|.
        at_best: runs that ended at the least energy any run met, see `SAME`.
        seconds: median wall-clock time of a run.
        target: what the time is to.
        to_target: the time.
        feasible_before_repair: mean share of raw samples that needed no repair, if the solver has any.
        accuracy: mean and standard deviation over runs, for networks.
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
    """What the runs show, problem by problem and solver by solver, in the order of the runs.

    Args:
        trials: runs of any solvers on any problems.
        target: gap that counts as reached.
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
