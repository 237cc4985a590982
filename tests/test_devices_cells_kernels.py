"""The compiled loops against plain numpy, cut into chunks, and at the edges of their range."""

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from devices import Card, Cells, load_card, program
from devices.cards.curves import interpolate, sqrt_grid, tabulate
from devices.cells import counter_random, kernels
from devices.cells.tables import programming_table

njit: Any = numba.njit
Floats = NDArray[np.float32]


@njit  # type: ignore[untyped-decorator]
def powers(a: Any, out: Any) -> None:
    for i in range(a.size):
        out[i] = kernels.power_of_two(a[i])


def numpy_normals(seed: int, stream: int, n: int) -> NDArray[np.float64]:
    """The draws of the first n cells, in plain numpy: exact integers, then the table at its own nodes."""
    key_0, key_1 = counter_random.keys(seed, stream)

    def mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))

    h = mix(mix(np.arange(n, dtype=np.uint64) * np.uint64(kernels.GOLDEN) + key_0) ^ key_1)
    octave = np.repeat(2.0 ** np.arange(-1, 33), 128) * np.tile(1.0 + np.arange(128) / 128, 34)
    nodes = np.append(octave, [2.0**33, 2.0**33 * 129 / 128])[: counter_random.QUANTILES.size]
    z = np.interp((h >> np.uint64(32)).astype(np.float64) + 0.5, nodes, counter_random.QUANTILES)
    return np.where(h & np.uint64(1), -z, z)


def test_programming_is_what_plain_numpy_makes_of_it() -> None:
    card = load_card("pcm-nandakumar")
    x = np.linspace(0.0, 1.0, 20_001, dtype=np.float32)
    expected = x + interpolate(programming_table(card), x.astype(np.float64)) * numpy_normals(3, 0, x.size)
    found = program(card, x, seed=3).programmed
    # float32 arithmetic on levels around 1, noise below 0.25: a few roundings of 6e-8
    np.testing.assert_allclose(found, np.maximum(expected, 0.0), atol=3e-7)


def numpy_read(cells: Cells, time_s: float, read: int) -> NDArray[np.float64]:
    """A read written out in plain numpy from the card's curves at the nodes of the tables, all parts of all cards."""
    card, seed, n = cells.card, cells.seed, cells.levels.size
    x, t_s = cells.levels.astype(np.float64), time_s + cells.card.t0_s
    first = numpy_normals(seed, counter_random.READ, n)
    common, own = numpy_normals(seed, counter_random.COMMON, n), numpy_normals(seed, counter_random.READ + read, n)
    y = cells.programmed.astype(np.float64)
    if card.rereads is not None and read > 0:
        c, sd = card.rereads, interpolate(programming_table(card), x)
        y = x + c * (y - x) + sd * (np.sqrt(c - c**2) * common + np.sqrt(1.0 - c) * own)
    if card.relaxation is not None:
        moved = numpy_normals(seed, counter_random.RELAXATION, n)
        shift, spread = (interpolate(f(sqrt_grid(), t_s), x) for f in (card.relaxation.shift, card.relaxation.spread))
        y = y + shift + spread * moved
        y = np.maximum(y, 0.0) if card.level.clamp_at_0 else y
    if card.drift is not None:
        mean, sd = (interpolate(tabulate(c), x) for c in (card.drift.exponent_mean, card.drift.exponent_sd))
        y = y * (t_s / card.t0_s) ** -np.abs(mean + sd * numpy_normals(seed, counter_random.DRIFT, n))
    if card.read_noise is not None:
        c, growth = card.read_noise.common(t_s), card.read_noise.growth(t_s)
        z = own if read == 0 else c * first + np.sqrt(c - c**2) * common + np.sqrt(1.0 - c) * own
        q, sd = (growth * interpolate(tabulate(curve), x) for curve in (card.read_noise.q, card.read_noise.sd))
        y = y * (1.0 + q * z)
        y = y + sd * (numpy_normals(seed, counter_random.ADDED + read, n) if q.any() and sd.any() else z)
    return y


@pytest.mark.parametrize("read", [0, 5])
@pytest.mark.parametrize(
    ("name", "time_s"),
    [
        ("pcm-nandakumar", 86400.0),
        ("pcm-nandakumar", 0.0),
        ("pcm-hermes:one-device", 3e7),
        ("pcm-zarcone", 0.0),
        ("rram-neurram", 1.0),
        ("rram-neurram", 172800.0),
        ("rram-cmo", 3600.0),
        ("rram-radar", 1e7),
        ("sonos", 100_000.0),
        ("rram-multilevel:8-levels", 0.0),
        ("both noises", 3600.0),
    ],
)
def test_reading_is_what_plain_numpy_makes_of_it(name: str, time_s: float, read: int) -> None:
    card = load_card("pcm-nandakumar" if name == "both noises" else name)
    if name == "both noises":
        card = Card.from_text(card.text + 'sd = { kind = "constant", unit = "µS", value = 0.5 }\n')
    cells = program(card, np.linspace(0.0, 1.0, 20_001, dtype=np.float32), seed=4)
    # float32 tables and arithmetic on levels around 1
    np.testing.assert_allclose(cells.read(time_s=time_s, read=read), numpy_read(cells, time_s, read), atol=2e-6)


def test_powers_of_two_are_exact_to_float32_and_one_at_zero() -> None:
    a = np.linspace(-60.0, 0.0, 1_000_001, dtype=np.float32)
    found = np.empty_like(a)
    powers(a, found)
    np.testing.assert_allclose(found, np.exp2(a.astype(np.float64)), rtol=2.5e-7)  # four float32 roundings
    assert found[-1] == 1.0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 5000), max_size=6), st.integers(0, 2**40))
def test_cutting_into_chunks_changes_no_bit(cuts: list[int], first: int) -> None:
    x = np.random.default_rng(0).random(5000, dtype=np.float32)
    sd = programming_table(load_card("pcm-zarcone"))
    keys = counter_random.keys(1, counter_random.PROGRAMMING)
    whole, parts = np.empty_like(x), np.empty_like(x)
    kernels.program_cells(x, sd, counter_random.QUANTILES, keys, first, 0.0, whole)
    edges = [0, *sorted(cuts), x.size]
    for a, b in pairwise(edges):
        kernels.program_cells(x[a:b], sd, counter_random.QUANTILES, keys, first + a, 0.0, parts[a:b])
    assert parts.tobytes() == whole.tobytes()


@pytest.mark.parametrize("card", ["pcm-nandakumar", "pcm-zarcone", "rram-multilevel"])
def test_two_threads_give_the_bits_of_one(card: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(1).random(2 * kernels.CHUNK_CELLS + 12_345, dtype=np.float32)
    found = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(kernels, "config", SimpleNamespace(NUMBA_NUM_THREADS=threads))
        cells = program(card, x, seed=5, stuck_low=0.01, stuck_high=0.02)
        found.append(cells.programmed.tobytes() + cells.read(time_s=0.0, read=1).tobytes())
    assert found[0] == found[1] == found[2]


def test_an_error_in_a_thread_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "config", SimpleNamespace(NUMBA_NUM_THREADS=2))

    def work(start: int, stop: int) -> None:
        raise ValueError(f"cells {start} to {stop}")

    with pytest.raises(ValueError, match="cells 0 to"):
        kernels.in_chunks(2 * kernels.CHUNK_CELLS, work)


def test_levels_no_caller_should_pass_read_no_memory_beyond_the_tables() -> None:
    """A loop never trusts its input: NaN and levels outside [0, 1] stay inside the table."""
    x = np.array([np.nan, -1.0, 2.0, np.inf, -np.inf, 1e30] * 4, dtype=np.float32)
    out = np.empty_like(x)
    kernels.program_cells(
        x, programming_table(load_card("ideal")), counter_random.QUANTILES, counter_random.keys(0, 0), 0, 0.0, out
    )
    np.testing.assert_array_equal(out[2::6], 2.0)


def test_a_level_is_snapped_to_the_value_of_its_interval() -> None:
    thresholds, values = np.array([0.25, 0.75], np.float32), np.array([0.0, 0.4, 1.0], np.float32)
    x = np.array([0.0, 0.2499, 0.25, 0.5, 0.7499, 0.75, 1.0, np.nan], np.float32)
    out = np.empty_like(x)
    kernels.snap_cells(x, thresholds, values, out)
    np.testing.assert_array_equal(out, np.array([0.0, 0.0, 0.4, 0.4, 0.4, 1.0, 1.0, 0.0], np.float32))


def test_without_a_folder_to_write_to_the_loops_still_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    """numba refuses to cache where neither the installation nor the home may be written to."""

    def refusing(**options: bool) -> Any:
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return njit(**options)

    monkeypatch.setattr(kernels, "njit", refusing)
    x = np.zeros(5, np.float32)
    kernels.compiled(kernels.stick_cells.py_func)(0.0, 1.0, counter_random.keys(0, counter_random.STUCK), 0, x)
    np.testing.assert_array_equal(x, 1.0)
