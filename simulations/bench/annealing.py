"""The annealer's time to a target against Ocean's simulated annealing, bounds, and the largest problem, in one run.

Times are read from the solvers' progress callbacks; ratios of medians over seeds are what counts on a shared machine.
"""

import resource
import statistics
import subprocess
import sys
import time
from typing import Any, get_args

import qubo
from qubo.families import Family

GROUPS, SEEDS, LIMIT_S = 200, 5, 3.0
TARGETS = (0.01, 0.001)
"""Shares above the best energy known to any solver of this run."""
OCEAN: tuple[dict[str, Any], ...] = ({"sweeps": 1000, "reads": 5}, {"sweeps": 200, "reads": 1})
"""Ocean's settings: the product's own and a quick one; the faster counts."""
LARGE, LARGEST = 4000, 100_000


def main() -> None:
    """Print the table of the room `qubo`."""
    for family in get_args(Family):
        _against_ocean(family)
    for family in get_args(Family):
        _bound_and_solve(family, LARGE, 6)
    for family in get_args(Family):
        # A process of its own, so that its peak memory is its own.
        subprocess.run([sys.executable, "-m", "simulations.bench.annealing", family, str(LARGEST), "12"], check=True)


def _against_ocean(family: Family) -> None:
    """Medians and ranges over seeds of the seconds to each target."""
    selection = qubo.generate(family, groups=GROUPS, seed=0)
    plain, tight = (qubo.lower_bound(selection, effort=effort) for effort in (0, 1))
    best = qubo.solve(selection, certificate=tight, seed=99, rounds=4).energy
    runs = {"annealer": [_run(selection, plain, "annealer", seed, {"time_limit_s": LIMIT_S}) for seed in range(SEEDS)]}
    for options in OCEAN:
        runs["ocean-sa " + str(options)] = [
            _run(selection, plain, "ocean-sa", seed, {"rounds": 1000, "time_limit_s": LIMIT_S, **options})
            for seed in range(SEEDS)
        ]
    best = min([best, *(energy for found in runs.values() for trace in found for _, energy in trace)])
    print(
        f"{family}, {GROUPS} groups x 6 codes: bound {100 * (1 - plain.bound / best):.2f} % below the best known in "
        f"{plain.seconds:.2f} s, with effort {100 * (1 - tight.bound / best):.2f} % in {tight.seconds:.2f} s",
        flush=True,
    )
    for target in TARGETS:
        medians = {}
        for name, found in runs.items():
            seconds = sorted(_reached(trace, best * (1 + target)) for trace in found)
            medians[name] = statistics.median(seconds)
            print(f"  {name}, to {100 * target:g} %: median {_s(medians[name])}, {_s(seconds[0])} to {_s(seconds[-1])}")
        ours, theirs = medians.pop("annealer"), min(medians.values())
        if ours == float("inf"):
            print(f"  to {100 * target:g} % neither as a rule", flush=True)
            continue
        ratio = f"{theirs / ours:.0f} x" if theirs < float("inf") else f"more than {LIMIT_S / ours:.0f} x"
        print(f"  to {100 * target:g} % the annealer is {ratio} faster", flush=True)


def _run(
    selection: qubo.Selection, certificate: qubo.Certificate, solver: str, seed: int, options: dict[str, Any]
) -> list[tuple[float, float]]:
    """(seconds, best energy) at every progress callback."""
    trace: list[tuple[float, float]] = []
    started = time.perf_counter()
    qubo.solve(
        selection,
        solver,
        seed=seed,
        certificate=certificate,
        progress=lambda _, best: trace.append((time.perf_counter() - started, best)),
        **options,
    )
    return trace


def _reached(trace: list[tuple[float, float]], energy: float) -> float:
    return next((seconds for seconds, best in trace if best <= energy), float("inf"))


def _s(seconds: float) -> str:
    return f"{seconds:.3f} s" if seconds < float("inf") else f"not in {LIMIT_S:g} s"


def _bound_and_solve(family: Family, groups: int, codes: int) -> None:
    """Bound at the cheapest effort, then the annealer: seconds, gap and peak memory of this process."""
    selection = qubo.generate(family, groups=groups, codes=codes)
    started = time.perf_counter()
    certificate = qubo.lower_bound(selection, effort=0)
    trace = _run(selection, certificate, "annealer", 0, {})
    whole, energy = time.perf_counter() - started, trace[-1][1]
    near = certificate.seconds + _reached(trace, energy * 1.001)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"{family}, {groups} groups x {codes} codes: gap {100 * (1 - certificate.bound / energy):.4f} %, to 0.1 % of "
        f"its result in {near:.2f} s, {whole:.1f} s in all, bound included; peak memory {peak:.2f} GB",
        flush=True,
    )


if __name__ == "__main__":
    _bound_and_solve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))  # type: ignore[arg-type]
