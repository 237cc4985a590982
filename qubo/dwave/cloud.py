"""Common parts of solvers of D-Wave's service: time limits on network calls, and errors in one line.

Endpoint, token and choice of solver come from Ocean's own configuration alone (`dwave config create`, or environment
variables such as DWAVE_API_TOKEN), so that a test's server and the real service are reached by the same code.
"""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from qubo.search.watch import Watch
from qubo.solvers.penalty_loop import GaveUpError
from qubo.solvers.token import one_line

T = TypeVar("T")

REQUEST_S = 60.0
"""Seconds for a single request if there is no time limit: the default of Ocean."""


def request_defaults(watch: Watch) -> dict[str, float | int]:
    """Defaults of the client's network settings for our time limit; settings of the user take precedence."""
    if watch.left_s is None:
        return {}
    return {"request_timeout": min(REQUEST_S, max(1.0, watch.left_s)), "http_retry_total": 1}


def within(call: Callable[[], T], watch: Watch, what: str) -> T:
    """Call a function in a thread and return its result; after the time limit the thread is abandoned.

    Args:
        call: network calls, which block for as long as the service likes.
        watch: the clock.
        what: what is being done, for the reason given.

    Raises:
        GaveUpError: the time is over, or the service cannot be reached or fails.
        ValueError: the service refused the token, or has no such solver.
    """
    from dwave.cloud.api.exceptions import RequestError
    from dwave.cloud.exceptions import (
        CanceledFutureError,
        PollingTimeout,
        ProblemUploadError,
        SolverAuthenticationError,
        SolverNotFoundError,
    )
    from requests.exceptions import RequestException

    try:
        return _in_thread(call).result(timeout=watch.left_s)
    except concurrent.futures.TimeoutError:
        raise GaveUpError(f"{what}: no answer within the time limit") from None
    except SolverAuthenticationError:
        raise ValueError(
            f"{what}: D-Wave refused the token: check DWAVE_API_TOKEN or run `dwave config create`"
        ) from None
    except SolverNotFoundError as error:
        raise ValueError(f"{what}: {one_line(error)}: ask `dwave solvers --list` for those of your account") from None
    except (RequestError, RequestException, PollingTimeout, CanceledFutureError, ProblemUploadError) as error:
        raise GaveUpError(f"{what}: {one_line(error)}") from None


def _in_thread(call: Callable[[], T]) -> concurrent.futures.Future[T]:
    """`call` in a daemon thread: one that hangs does not keep the process from ending."""
    future: concurrent.futures.Future[T] = concurrent.futures.Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def close(sampler: Any) -> None:
    """Closes a sampler of Ocean's without waiting for requests that may never be answered."""
    if sampler is not None and hasattr(sampler, "close"):
        _in_thread(sampler.close)
