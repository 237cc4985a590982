"""Network calls: within the time limit, their errors in one line each, nothing that keeps the process from ending."""

import threading
import time
from typing import Any

import pytest
from dwave.cloud.api.exceptions import RequestError
from dwave.cloud.exceptions import (
    CanceledFutureError,
    PollingTimeout,
    ProblemUploadError,
    SolverAuthenticationError,
    SolverNotFoundError,
)
from requests.exceptions import ConnectionError as RequestsConnectionError

from qubo.dwave.cloud import REQUEST_S, close, request_defaults, within
from qubo.search.watch import Watch
from qubo.solvers.penalty_loop import GaveUpError


def failing(error: Exception) -> Any:
    def call() -> None:
        raise error

    return call


def test_an_answer_in_time_is_returned() -> None:
    assert within(lambda: 7, Watch(5.0), "asking") == 7
    assert within(lambda: None, Watch(), "asking") is None


def test_a_call_that_outlasts_the_limit_is_left_behind() -> None:
    hanging = threading.Event()
    started = time.perf_counter()
    with pytest.raises(GaveUpError, match=r"^connecting: no answer within the time limit$"):
        within(hanging.wait, Watch(0.1), "connecting")
    assert time.perf_counter() - started < 2.0
    left = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    assert all(thread.daemon for thread in left)  # the process can end
    hanging.set()


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RequestsConnectionError("no\nroute"), "asking: no route"),
        (RequestError("503"), "asking: 503"),
        (PollingTimeout(), "asking: PollingTimeout"),
        (CanceledFutureError(), f"asking: {CanceledFutureError()}"),
        (ProblemUploadError("x" * 500), "asking: " + "x" * 197 + "..."),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_service_that_fails_is_given_up_with_its_reason_in_one_line(error: Exception, line: str) -> None:
    with pytest.raises(GaveUpError) as caught:
        within(failing(error), Watch(), "asking")
    assert str(caught.value) == line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (SolverAuthenticationError(), "asking: D-Wave refused the token: check DWAVE_API_TOKEN or run `dwave config"),
        (SolverNotFoundError("no solver"), "asking: no solver: ask `dwave solvers --list` for those of your account"),
    ],
    ids=["token", "solver"],
)
def test_what_the_user_can_mend_is_a_value_error_with_the_cure(error: Exception, line: str) -> None:
    with pytest.raises(ValueError, match=r"^asking") as caught:
        within(failing(error), Watch(), "asking")
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_other_errors_are_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        within(lambda: 1 / 0, Watch(), "asking")
    with pytest.raises(KeyboardInterrupt):
        within(failing(KeyboardInterrupt()), Watch(), "asking")  # type: ignore[arg-type]


def test_requests_are_as_short_as_the_time_left_but_at_least_a_second() -> None:
    assert request_defaults(Watch()) == {}
    assert request_defaults(Watch(0.01)) == {"request_timeout": 1.0, "http_retry_total": 1}
    assert request_defaults(Watch(1e6))["request_timeout"] == REQUEST_S
    assert 9.0 < request_defaults(Watch(10.0))["request_timeout"] <= 10.0


def test_a_sampler_is_closed_without_waiting_for_it() -> None:
    closed, go = threading.Event(), threading.Event()

    class Slow:
        def close(self) -> None:
            go.wait()
            closed.set()

    close(Slow())
    assert not closed.is_set()
    go.set()
    assert closed.wait(5.0)
    close(None)
    close(object())  # a stand-in without anything to close
