"""Speeds as ratios to a yardstick measured in the same run: `make bench`. Medians of five repetitions, one thread."""

import os

os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import statistics
import time
from collections.abc import Callable
from typing import Literal

import numpy as np

import devices
import qubo

CELLS = 4_000_000
REPEATS = 5


def _median(work: Callable[[], object]) -> float:
    """Median seconds of some repetitions, after one that compiles and warms up."""
    work()
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def _yardstick() -> None:
    """numpy's float32 normals and a multiply-add over as many cells."""
    noise = np.random.default_rng(0).standard_normal(CELLS, dtype=np.float32)
    noise *= np.float32(0.1)
    noise += np.float32(0.5)


def main() -> None:
    """Print the ratios."""
    levels = np.random.default_rng(1).random(CELLS, dtype=np.float32)
    card = devices.load_card("pcm-nandakumar")
    yard = _median(_yardstick)
    cells = devices.program(card, levels, seed=0)
    print(f"yardstick: numpy standard_normal + multiply-add, {CELLS:,} float32: {yard:.4f} s (median of {REPEATS})")
    print(f"program pcm-nandakumar: {_median(lambda: devices.program(card, levels, seed=0)) / yard:.2f} x")
    print(f"read after a day: {_median(lambda: cells.read(time_s=86400.0)) / yard:.2f} x")
    families: tuple[Literal["S", "Q", "R", "D"], ...] = ("S", "Q", "R", "D")
    for family in families:
        selection = qubo.generate(family, groups=200, seed=0)
        proof = qubo.lower_bound(selection)
        ours = qubo.solve(selection, "annealer", certificate=proof)
        theirs = qubo.solve(selection, "ocean-sa", certificate=proof)
        print(
            f"{family}, 200 groups x 6 codes: annealer gap {100 * ours.gap:.2f} %, ocean-sa gap "
            f"{100 * theirs.gap:.2f} % in {theirs.seconds / max(ours.seconds, 1e-9):.1f} x the annealer's time"
        )


if __name__ == "__main__":
    main()
