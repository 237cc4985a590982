"""Reads gathered into writes: against a plain dictionary, and at the edges of what counts as one write."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices import Measurements
from devices.fitting.writes import SAME_TIME, Writes, gather

TIMES_S = (20.0, 20.5, 100.0)  # the second counts as the first: 2.5 % later


def table(rows: list[tuple[int, int, int, int, float]]) -> Measurements:
    """Rows of target, device, cell and time by number, and a read."""
    target, device, cell, time, read = (np.array(column) for column in zip(*rows, strict=True))
    return Measurements(
        target * 0.1, read, is_target=True, time_s=np.array(TIMES_S)[time], device=device, cell=cell, source="lab.csv"
    )


ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 1), st.integers(0, 2), st.integers(0, 2), st.floats(0.0, 10.0)),
    min_size=1,
    max_size=40,
)


@settings(max_examples=80, deadline=None)
@given(ROWS)
def test_writes_are_what_a_dictionary_of_labels_makes_of_the_reads(
    rows: list[tuple[int, int, int, int, float]],
) -> None:
    found = gather(table(rows))
    first_s = min(TIMES_S[row[3]] for row in rows)
    at_first, others = defaultdict(list), defaultdict(list)
    for target, device, cell, time, read in rows:
        key = (target, device, cell)
        others[key].append(read)
        if TIMES_S[time] <= SAME_TIME * first_s:
            at_first[key].append(read)
    assert found.t0_s == first_s
    assert len(found.value) == len(at_first)  # a write without a read at the first time is left out
    assert found.reads == sum(len(others[key]) for key in at_first)
    assert sorted(found.repeats.tolist()) == sorted(float(len(reads)) for reads in at_first.values())
    expected = {(round(0.1 * key[0], 9), key[1]): [] for key in at_first}
    for key, reads in at_first.items():
        expected[(round(0.1 * key[0], 9), key[1])].append(float(np.mean(reads)))
    assert found.device is not None
    given_devices = np.unique([row[1] for row in rows])
    for (target, device), values in expected.items():
        own = (np.abs(found.written[found.level] - target) < 1e-9) & (given_devices[found.device] == device)
        assert sorted(found.value[own].tolist()) == pytest.approx(sorted(values))
    lost = len(others) - len(at_first)
    assert found.notes == ((f"{lost} writes have no read at {first_s:g} s and are left out",) if lost else ())


@settings(max_examples=40, deadline=None)
@given(ROWS)
def test_the_order_of_rows_does_not_matter(rows: list[tuple[int, int, int, int, float]]) -> None:
    one, other = gather(table(rows)), gather(table(rows[::-1]))
    np.testing.assert_array_equal(one.written, other.written)
    np.testing.assert_array_equal(one.level, other.level)
    np.testing.assert_allclose(one.value, other.value, rtol=1e-12)
    np.testing.assert_allclose(one.repeat_variance, other.repeat_variance, rtol=1e-9, atol=1e-12)


def test_targets_that_differ_by_rounding_are_one_level() -> None:
    found = gather(Measurements([0.1 + 0.2, 0.3, 1.0, 0.1], [1.0, 2.0, 3.0, 4.0], is_target=True))
    assert found.written.tolist() == [0.1, 0.3, 1.0]
    assert found.level.tolist() == [1, 1, 2, 0]


def test_without_cycle_and_time_every_read_is_a_write_of_its_own() -> None:
    plain = Measurements([1.0, 1.0, 2.0], [1.0, 1.2, 2.0], is_target=False, device=["a", "a", "a"])
    found = gather(plain)
    assert (len(found.value), found.repeats.tolist(), found.t0_s) == (3, [1.0, 1.0, 1.0], 0.0)
    cycled = Measurements([1.0, 1.0, 2.0], [1.0, 1.2, 2.0], is_target=False, device=["a"] * 3, cycle=[0, 0, 0])
    assert gather(cycled).value.tolist() == [pytest.approx(1.1), 2.0]


def test_repeated_reads_tell_their_variance_by_level() -> None:
    """Level 1: squares about the writes' own means, 2 · 0.01 + 2 · 0.04, over two degrees of freedom."""
    found = gather(Measurements(
        [1.0] * 4 + [2.0] * 2, [1.0, 1.2, 3.0, 3.4, 7.0, 7.0], is_target=True, cycle=[0, 0, 1, 1, 0, 1],
    ))  # fmt: skip
    assert found.value.tolist() == [pytest.approx(1.1), pytest.approx(3.2), 7.0, 7.0]
    np.testing.assert_allclose(found.repeat_variance, [(0.02 + 0.08) / 2, 0.0], atol=1e-12)


def test_cells_stand_for_devices_where_no_device_is_named() -> None:
    found = gather(Measurements([1.0] * 4, [1.0, 2.0, 3.0, 4.0], is_target=True, cell=[5, 5, 9, 9], cycle=[0, 1, 0, 1]))
    assert found.device is not None
    assert found.group(0).tolist() == [0, 0, 1, 1]
    nameless = gather(Measurements([1.0] * 3, [1.0, 2.0, 3.0], is_target=True))
    assert nameless.device is None
    assert nameless.group(0).tolist() == [0, 0, 0]


def test_devices_of_a_level_are_numbered_without_gaps() -> None:
    found = gather(Measurements([1.0, 1.0, 2.0], [1.0, 2.0, 3.0], is_target=True, device=["x", "z", "y"]))
    assert (found.group(0).tolist(), found.group(1).tolist()) == ([0, 1], [0])


def part_of(whole: Writes, start: int, stop: int) -> None:
    part = whole.only_levels(start, stop)
    own = (whole.level >= start) & (whole.level < stop)
    np.testing.assert_array_equal(part.written, whole.written[start:stop])
    np.testing.assert_array_equal(part.value, whole.value[own])
    np.testing.assert_array_equal(part.written[part.level], whole.written[whole.level[own]])
    reads = (whole.level_of_read >= start) & (whole.level_of_read < stop)
    np.testing.assert_array_equal(part.read, whole.read[reads])
    assert part.reads == int(reads.sum())
    assert part.repeat_variance.shape == (stop - start,)


def test_a_range_of_levels_keeps_the_writes_and_reads_of_these() -> None:
    generator = np.random.default_rng(0)
    written = np.repeat(np.arange(5.0), 6)
    measured = Measurements(
        np.tile(written, 2), generator.normal(size=60), is_target=True, time_s=np.repeat([1.0, 10.0], 30),
        cell=np.tile(np.arange(30), 2),
    )  # fmt: skip
    whole = gather(measured)
    for start, stop in ((0, 5), (1, 4), (4, 5)):
        part_of(whole, start, stop)


def test_reads_at_several_times_need_a_label_that_tells_writes_apart() -> None:
    with pytest.raises(ValueError, match=r"^lab: reads at several times need a column device, cell or cycle: which"):
        gather(Measurements([1.0, 1.0], [1.0, 2.0], is_target=True, time_s=[1.0, 2.0], source="lab"))
    once = gather(Measurements([1.0, 1.0], [1.0, 2.0], is_target=True, time_s=[3.0, 3.0]))
    assert (once.t0_s, len(once.value)) == (3.0, 2)
