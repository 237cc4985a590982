"""The result of a search, and its watch: time limit, progress, interruption."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qubo.solution import Kind

Report = Callable[[float, float], None]
"""Called with the share done and the best energy so far."""


@dataclass(frozen=True)
class Outcome:
    """The result of a search: a feasible choice of menu indices (G,), and the work done for it.

    Attributes:
        choice: (G,) int64.
        evaluations: moves proposed or variables visited.
        feasible_before_repair: share of raw samples that needed no repair, for samplers.
        kind: what really ran, if it differs from the kind of the solver.
        details: further results, see `Solution.details`.
        lower_bound: a bound that the search itself proved, in the loss's unit.
    """

    choice: NDArray[np.int64]
    evaluations: int
    feasible_before_repair: float | None = None
    kind: Kind | None = None
    details: Mapping[str, float | str] = field(default_factory=dict)
    lower_bound: float | None = None


class Watch:
    """Counts work and says when to stop: after `time_limit_s`, or once interrupted from the keyboard."""

    def __init__(self, time_limit_s: float | None = None, progress: Report | None = None) -> None:
        self.started = time.perf_counter()
        self.limit = time_limit_s
        self.progress = progress
        self.interrupted = False
        self.evaluations = 0
        self.expected = 1
        self._furthest = 0.0
        self._lock = threading.Lock()

    def expect(self, evaluations: int) -> None:
        """State the total work, for progress without a time limit."""
        self.expected = max(1, evaluations)

    def add(self, evaluations: int) -> None:
        """Counts work done, from any thread."""
        with self._lock:
            self.evaluations += evaluations

    @property
    def seconds(self) -> float:
        """Wall-clock time since the start."""
        return time.perf_counter() - self.started

    @property
    def left_s(self) -> float | None:
        """Wall-clock time left, at least 0; None without a limit."""
        return None if self.limit is None else max(0.0, self.limit - self.seconds)

    def stopped(self) -> bool:
        """Whether to stop at the next chance."""
        return self.interrupted or (self.limit is not None and self.seconds >= self.limit)

    def report(self, best: float) -> None:
        """Calls progress with the share done and the best energy so far."""
        if self.progress is not None and not self.interrupted:
            share = self.evaluations / self.expected if self.limit is None else self.seconds / self.limit
            self._furthest = max(self._furthest, min(1.0, share))
            self.progress(self._furthest, best)

    def finish(self, best: float) -> None:
        """Says that all is done, unless interrupted."""
        if self.progress is not None and not self.interrupted:
            self.progress(1.0, best)

    def wait(self, work: Sequence[Future[Any]], best: Callable[[], float]) -> None:
        """Waits for threads, reporting the best so far ten times a second; an interrupt makes them stop and be kept."""
        left = set(work)
        while left:
            try:
                left = wait(left, timeout=0.1, return_when=FIRST_COMPLETED).not_done
                self.report(best())
            except KeyboardInterrupt:
                self.interrupted = True
        for future in work:
            future.result()
