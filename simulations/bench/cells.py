"""Programming and reading cells, against numpy's normals and a multiply-add over as many.

One thread and two, memory, linearity from ten thousand to a hundred million cells, compile time in an empty cache, and
the same work by aihwkit where that is installed.
"""

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import devices
from simulations.bench.timing import REPEATS, median_s

CELLS = 4_000_000
SIZES = (10_000, 1_000_000, 100_000_000)
PCM = "pcm-nandakumar"
OTHERS = ("pcm-zarcone", "pcm-hermes", "rram-neurram", "rram-cmo", "rram-radar", "sonos", "rram-multilevel")
DAY = 86400.0


def yardstick(cells: int = CELLS) -> None:
    """numpy's float32 normals and a multiply-add over as many cells."""
    noise = np.random.default_rng(0).standard_normal(cells, dtype=np.float32)
    noise *= np.float32(0.1)
    noise += np.float32(0.5)


def levels_of(cells: int) -> NDArray[np.float32]:
    """Targets all over the range."""
    return np.random.default_rng(1).random(cells, dtype=np.float32)


def write_and_read(card: devices.Card, levels: NDArray[np.float32]) -> None:
    """Program cells, age them to the card's latest time up to a day, and read them."""
    last = card.times.only_s[-1] if card.times.only_s else min(card.max_s, DAY)
    devices.program(card, levels, seed=0).read(time_s=last)


def ratios(yard: float) -> None:
    """Print what the work on phase-change cells takes, in yardsticks; run by main and, with two threads, apart."""
    levels, card = levels_of(CELLS), devices.load_card(PCM)
    cells = devices.program(card, levels, seed=0)
    works: dict[str, Callable[[], object]] = {
        "program": lambda: devices.program(card, levels, seed=0),
        "program + drift + read": lambda: write_and_read(card, levels),
        "re-read, first read": lambda: cells.read(time_s=DAY),
        "re-read, further read (correlated)": lambda: cells.read(time_s=DAY, read=1),
    }
    for what, work in works.items():
        print(f"  {what}: {median_s(work) / yard:.2f} x")


def other_cards(yard: float) -> None:
    """Print what the other cards take, in yardsticks."""
    levels = levels_of(CELLS)
    for name in OTHERS:
        card = devices.load_card(name)
        took = median_s(partial(write_and_read, card, levels))
        print(f"{card.name}, program + age + read: {took / yard:.2f} x")


def child(code: str, **environment: str) -> str:
    """What a fresh interpreter prints, with some environment variables set."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
    return done.stdout.rstrip()


def extra_copies(work: Callable[[], object], cells: int) -> float:
    """Peak of new memory while working, in copies of the cells (float32)."""
    work()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    kept = work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    del kept
    return (peak - before) / (4 * cells)


def memory() -> None:
    """Print the new memory of programming and of reading: the result alone is one copy."""
    levels = levels_of(CELLS)
    cells = devices.program(PCM, levels, seed=0)
    programming = extra_copies(lambda: devices.program(PCM, levels, seed=0), CELLS)
    reading = extra_copies(lambda: cells.read(time_s=DAY), CELLS)
    print(f"memory beyond the targets, the result included: program {programming:.2f}, read {reading:.2f} copies")


def linearity() -> None:
    """Print seconds a cell from ten thousand to a hundred million cells, each beside the yardstick of that size."""
    card = devices.load_card(PCM)
    for size in SIZES:
        levels = levels_of(size)
        ours, theirs = (
            best_s(work, 5 if size < SIZES[-1] else 2)
            for work in (partial(write_and_read, card, levels), partial(yardstick, size))
        )
        per_cell = f"{1e9 * ours / size:.1f} ns a cell, {ours / theirs:.2f} x numpy's"
        print(f"{size:>11,} cells, program + drift + read: {per_cell}")


def best_s(work: Callable[[], object], repeats: int) -> float:
    """The least seconds of some repetitions: on a busy machine the one least disturbed."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


FIRST_CALL = """
import time, numpy as np, devices
started = time.perf_counter()
devices.program("pcm-nandakumar", np.zeros(10), seed=0).read(time_s=86400.0)
print(f"{time.perf_counter() - started:.1f}")
"""
TWO_THREADS = "from simulations.bench import cells; cells.ratios(float({yard!r}))"


def aihwkit(yard: float) -> None:
    """Print what the same programming and drift take in aihwkit, where it is installed."""
    if importlib.util.find_spec("aihwkit") is None:
        print("aihwkit is not installed: no comparison")
        return
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        noise: Any = importlib.import_module("aihwkit.inference").PCMLikeNoiseModel(g_max=25.0)
    weights = torch.from_numpy(levels_of(CELLS))

    def work() -> None:
        programmed, drifts = noise.apply_programming_noise(weights)
        noise.apply_drift_noise(programmed, drifts, DAY)

    print(f"aihwkit, program + drift + read of as many weights (pairs of cells): {median_s(work) / yard:.2f} x")


def main() -> None:
    """Print the speeds of the room `devices`."""
    yard = median_s(yardstick)
    print(f"yardstick: numpy standard_normal + multiply-add, {CELLS:,} float32: {yard:.4f} s (median of {REPEATS})")
    print(f"{PCM}, {os.environ.get('NUMBA_NUM_THREADS', 'all')} thread(s):")
    ratios(yard)
    print(f"{PCM}, 2 threads:\n{child(TWO_THREADS.format(yard=yard), NUMBA_NUM_THREADS='2')}")
    other_cards(yard)
    memory()
    linearity()
    with tempfile.TemporaryDirectory() as folder:
        print(f"first call in an empty cache, compiling included: {child(FIRST_CALL, NUMBA_CACHE_DIR=folder)} s")
    print(f"first call with a cache: {child(FIRST_CALL)} s")
    aihwkit(yard)
