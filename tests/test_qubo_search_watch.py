"""The watch: time limits, shares that never fall, threads that are waited for, interrupts that are kept."""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from qubo.search.watch import Watch


def test_without_a_limit_nothing_stops_and_progress_is_the_share_of_the_work() -> None:
    seen: list[tuple[float, float]] = []
    watch = Watch(progress=lambda *both: seen.append(both))
    watch.expect(8)
    for done in (2, 2, 8):
        watch.add(done)
        watch.report(5.0 - done)
    assert [share for share, _ in seen] == [0.25, 0.5, 1.0]  # more work than expected is still all of it
    assert [best for _, best in seen] == [3.0, 3.0, -3.0]
    assert not watch.stopped()
    assert watch.left_s is None
    assert watch.evaluations == 12


def test_a_share_never_falls_when_more_work_turns_out_to_be_needed() -> None:
    seen: list[float] = []
    watch = Watch(progress=lambda share, _: seen.append(share))
    watch.expect(10)
    watch.add(9)
    watch.report(0.0)
    watch.expect(100)
    watch.report(0.0)
    assert seen == [0.9, 0.9]


def test_no_work_expected_is_one_piece_of_it() -> None:
    seen: list[float] = []
    watch = Watch(progress=lambda share, _: seen.append(share))
    watch.expect(0)
    watch.report(0.0)
    assert seen == [0.0]


def test_a_limit_stops_and_progress_is_the_share_of_the_time() -> None:
    seen: list[float] = []
    watch = Watch(0.05, lambda share, _: seen.append(share))
    watch.add(10**6)
    watch.report(0.0)
    assert seen[0] < 1.0  # time counts, not work
    assert watch.left_s is not None
    assert 0 < watch.left_s <= 0.05
    while not watch.stopped():
        time.sleep(0.005)
    assert watch.seconds >= 0.05
    assert watch.left_s == 0.0
    watch.report(0.0)
    assert seen[-1] == 1.0


def test_an_interrupted_watch_stops_and_tells_nobody_any_more() -> None:
    seen: list[float] = []
    watch = Watch(progress=lambda share, _: seen.append(share))
    watch.interrupted = True
    watch.report(1.0)
    watch.finish(1.0)
    assert watch.stopped()
    assert seen == []


def test_work_of_many_threads_is_all_counted() -> None:
    watch = Watch()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: [watch.add(1) for _ in range(500)], range(8)))
    assert watch.evaluations == 4000


def test_waiting_reports_the_best_until_all_is_done() -> None:
    seen: list[float] = []
    watch = Watch(progress=lambda _, best: seen.append(best))
    go = threading.Event()
    best = iter([3.0, 2.0, 1.0, *[0.5] * 100])

    def value() -> float:
        found = next(best)
        if found == 1.0:
            go.set()
        return found

    with ThreadPoolExecutor(1) as pool:
        watch.wait([pool.submit(go.wait)], value)
    assert seen[:3] == [3.0, 2.0, 1.0]


def test_an_interrupt_while_waiting_stops_the_threads_and_is_remembered() -> None:
    def interrupt(share: float, best: float) -> None:
        raise KeyboardInterrupt

    watch = Watch(progress=interrupt)

    def work() -> int:
        while not watch.stopped():
            time.sleep(0.001)
        return 1

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(work) for _ in range(2)]
        watch.wait(futures, lambda: 0.0)
    assert watch.interrupted
    assert [future.result() for future in futures] == [1, 1]


def test_what_a_thread_raises_is_raised_where_it_is_waited_for() -> None:
    failed: Future[int] = Future()
    failed.set_exception(RuntimeError("out of helium"))
    with pytest.raises(RuntimeError, match="out of helium"):
        Watch().wait([failed], lambda: 0.0)
