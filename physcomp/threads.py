"""Run tasks in threads: numba kernels, torch operators and LAPACK release the interpreter's lock, so threads help."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

ShareDone = Callable[[float], None]
"""A function that long work calls with the share that is done, 0 to 1."""

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
