"""Run tasks in threads: numba kernels, torch operators and LAPACK release the interpreter's lock, so threads help."""

import ctypes
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

ShareDone = Callable[[float], None]
"""A function that long work calls with the share that is done, 0 to 1."""

MMAP_THRESHOLD = -3  # the number of this setting in glibc's malloc.h
LARGE = 1 << 20  # bytes of an array that gets pages of its own; our choice

Task = TypeVar("Task")
Result = TypeVar("Result")


def in_threads(work: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
    """Run tasks in one thread per processor; results come in the order of the tasks.

    Inside a task torch and BLAS use one thread, so that results do not depend on the number of processors and
    threads do not wait for each other. At most two tasks per processor are submitted before the next result is
    taken, which bounds the memory that waiting results hold.
    """
    workers = os.cpu_count() or 1
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


@cache
def _libc() -> ctypes.CDLL | None:
    """The C library, if it has glibc's calls; large arrays then go back to the system when they are freed."""
    library = ctypes.CDLL(None) if os.name == "posix" else None
    if library is None or not hasattr(library, "malloc_trim"):
        return None
    library.mallopt(MMAP_THRESHOLD, LARGE)  # otherwise glibc raises it to the size of what was freed, up to 32 MB
    return library


def release_memory() -> None:
    """Give memory that was freed back to the system, where the C library has calls for that (glibc).

    Threads free arrays of many sizes; without this, what they took at most would add up from step to step.
    """
    library = _libc()
    if library is not None:
        library.malloc_trim(0)
