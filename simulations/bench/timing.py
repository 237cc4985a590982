"""How every speed is measured: the median of some repetitions, after one that compiles and warms up."""

import statistics
import time
from collections.abc import Callable

REPEATS = 5


def median_s(work: Callable[[], object]) -> float:
    """Median seconds of `REPEATS` repetitions, after one that compiles and warms up."""
    work()
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)
