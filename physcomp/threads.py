"""Run tasks in threads: numba kernels, torch operators and LAPACK release the interpreter's lock, so threads help."""

import ctypes
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

ShareDone = Callable[[float], None]
"""A function that long work calls with the share that is done, 0 to 1."""

MMAP_THRESHOLD = -3  # the number of this setting in glibc's malloc.h
LARGE = 1 << 20  # bytes of an array that gets pages of its own; our choice

Task = TypeVar("Task")
Result = TypeVar("Result")


def in_threads(work: Callable[[Task], Result], tasks: Iterable[Task], *, most: int | None = None) -> Iterator[Result]:
    """Run tasks in one thread per processor, or in at most `most`; results come in the order of the tasks.

    Inside a task torch and BLAS use one thread, so that results do not depend on the number of processors and
    threads do not wait for each other. At most two tasks per processor are submitted before the next result is
    taken, which bounds the memory that waiting results hold.
    """
    workers = max(1, min(os.cpu_count() or 1, most or sys.maxsize))
    ahead: deque[Future[Result]] = deque()
    with (
        threadpool_limits(1, user_api="blas"),
        ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        try:
            for task in tasks:
                ahead.append(pool.submit(work, task))
                if len(ahead) > 2 * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:  # after an error, or when the caller stops early
            for future in ahead:
                future.cancel()


def _of_glibc(name: str, *numbers: int) -> None:
    """Call a function of the C library, if it is glibc."""
    call = getattr(ctypes.CDLL(None), name, None) if os.name == "posix" else None
    if call is not None:
        call(*numbers)


def release_memory() -> None:
    """Give memory that was freed back to the system, where the C library has a call for that (glibc).

    Threads free arrays of many sizes; without this, what they took at most would add up from step to step.
    """
    _of_glibc("malloc_trim", 0)


def release_large_arrays() -> None:
    """From now on give every large array back as soon as it is freed, where the C library is glibc.

    It otherwise keeps arrays of up to 32 MB for later ones, which is faster.
    """
    _of_glibc("mallopt", MMAP_THRESHOLD, LARGE)
