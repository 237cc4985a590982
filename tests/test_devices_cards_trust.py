"""Every card, variants spelled out: are its simulated cells what its formulas say?

Tolerances: a mean of n draws is within 5 of its standard errors; a Kolmogorov-Smirnov distance is below 1.95/√n, which
is exceeded once in 1,000. Seeds are fixed, so a pass stays a pass.
"""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from devices import Card, card_names, load_card, program, response
from devices.cards.curves import interpolate
from devices.cells import kernels
from devices.cells.moments import read_tables
from devices.cells.tables import programming_table
from devices.check import check_times

NAMES = card_names()
NOISY = [name for name in NAMES if name != "ideal"]
CASES = [(name, time_s) for name in NAMES for time_s in check_times(load_card(name))]
KS_LIMIT = 1.95


def targets(card: Card, count: int) -> NDArray[np.float64]:
    """So many levels over the range, or the finite ones of the card."""
    return np.array(card.written_levels) if card.written_levels else np.linspace(0.0, 1.0, count)


def last(card: Card) -> float:
    return check_times(card)[-1]


@pytest.mark.parametrize(("name", "time_s"), CASES)
@pytest.mark.parametrize("stuck", [(0.0, 0.0), (0.135, 0.02)])
def test_mean_and_variance_of_reads_are_the_closed_form(name: str, time_s: float, stuck: tuple[float, float]) -> None:
    """16 levels (or the card's), 20,000 cells each, the further read 3 as good as the first; also with stuck cells."""
    n, low, high = 20_000, *stuck
    x = targets(load_card(name), 16)
    cells = program(name, np.repeat(x, n), seed=17, stuck_low=low, stuck_high=high)
    expected = response(name, time_s, stuck_low=low, stuck_high=high)
    mean, variance = expected.mean(x), expected.variance(x)
    for read in (0, 3):
        off = cells.read(time_s=time_s, read=read).reshape(x.size, n).astype(np.float64) - mean[:, None]
        rounding = 2e-7  # of float32 levels
        assert (np.abs(off.mean(axis=1)) <= 5.0 * np.sqrt(variance / n) + rounding).all()
        squares = off**2
        slack = 5.0 * squares.std(axis=1) / math.sqrt(n) + rounding * np.sqrt(variance) + rounding**2
        assert (np.abs(squares.mean(axis=1) - variance) <= slack).all()


def programming_z(name: str, n: int, seed: int) -> NDArray[np.float64]:
    """The standardised programming errors of cells so far from 0 that none is clamped."""
    card = load_card(name)
    x = np.random.default_rng(3).uniform(0.5, 1.0, n)
    cells = program(card, x, seed=seed)
    wide = cells.levels.astype(np.float64)
    return (cells.programmed.astype(np.float64) - wide) / interpolate(programming_table(card), wide)


@pytest.mark.parametrize("name", NOISY)
def test_programming_noise_is_normal_to_its_tails(name: str) -> None:
    n = 200_000
    z = programming_z(name, n, seed=4)
    assert stats.kstest(z, "norm").statistic < KS_LIMIT / math.sqrt(n)
    for edge in (3.0, 4.0):
        expected = 2.0 * stats.norm.sf(edge) * n
        assert abs((np.abs(z) > edge).sum() - expected) < 5.0 * math.sqrt(expected)


@pytest.mark.parametrize("name", NOISY)
def test_neither_neighbours_nor_seeds_correlate(name: str) -> None:
    n = 200_000
    a, b = programming_z(name, n, seed=1), programming_z(name, n, seed=2)
    for first, second in ((a, b), (a[:-1], a[1:]), (a[:-64], a[64:])):
        assert abs((first * second).mean()) < 5.0 / math.sqrt(first.size)
        sizes = ((first**2 - 1.0) * (second**2 - 1.0)).mean()  # nor do their sizes: Var z² = 2
        assert abs(sizes) < 5.0 * 2.0 / math.sqrt(first.size)


@pytest.mark.parametrize("name", [name for name in NOISY if load_card(name).relaxation is not None])
def test_what_relaxation_adds_is_normal_and_independent_of_programming(name: str) -> None:
    card, n = load_card(name), 200_000
    tables = read_tables(card, last(card))
    assert tables is not None
    assert tables.spread is not None
    x = np.random.default_rng(3).uniform(0.6, 1.0, n).astype(np.float32)
    quiet = without(card, "read_noise")
    cells = program(quiet, x, seed=5)
    wide = x.astype(np.float64)
    shift = 0.0 if tables.shift is None else interpolate(tables.shift, wide)
    moved = cells.read(time_s=last(card)).astype(np.float64) - cells.programmed - shift
    z = moved / interpolate(tables.spread, wide)
    assert stats.kstest(z, "norm").statistic < KS_LIMIT / math.sqrt(n)
    programmed = (cells.programmed - wide) / interpolate(programming_table(card), wide)
    assert abs((z * programmed).mean()) < 5.0 / math.sqrt(n)


@pytest.mark.parametrize("name", [name for name in NOISY if load_card(name).read_noise is not None])
def test_read_noise_is_normal_and_correlates_between_reads_as_stated(name: str) -> None:
    card, n = load_card(name), 100_000
    quiet = without(card, "read_noise")
    time_s, x = last(card), np.full(n, 0.7)
    still = program(quiet, x, seed=6).read(time_s=time_s).astype(np.float64)
    noisy = program(card, x, seed=6)
    tables = read_tables(card, time_s)
    assert tables is not None
    table, size = (tables.noise, still) if tables.noise is not None else (tables.added, 1.0)
    assert table is not None
    sd = interpolate(table, np.array([0.7])) * size
    z = np.array([(noisy.read(time_s=time_s, read=read) - still) / sd for read in range(4)])
    for row in z:
        assert stats.kstest(row, "norm").statistic < KS_LIMIT / math.sqrt(n)
    found = np.corrcoef(z)[np.triu_indices(4, 1)]
    np.testing.assert_allclose(found, tables.common, atol=5.0 / math.sqrt(n))
    assert (tables.common > 0.1) == (name.partition(":")[0] != "sonos")


def without(card: Card, part: str) -> Card:
    """The card less one of its tables, in all variants."""
    kept, skipping = [], False
    for line in card.text.splitlines():
        if line.startswith("["):
            names = line.strip("[] ").split("#")[0].strip("[] ").replace('"', "").split(".")
            skipping = part in names
        if not skipping:
            kept.append(line)
    return Card.from_text("\n".join(kept), card.variant)


@pytest.mark.parametrize("name", [name for name in NAMES if load_card(name).drift is not None])
def test_without_read_noise_every_drifting_cell_only_falls(name: str) -> None:
    cells = program(without(load_card(name), "read_noise"), np.random.default_rng(7).random(20_000), seed=7)
    before = cells.read(time_s=0.0)
    np.testing.assert_array_equal(before, cells.programmed)
    for time_s in (1.0, 60.0, 3600.0, 86400.0, 31536000.0):
        now = cells.read(time_s=time_s)
        assert (now <= before).all()
        assert (now < before).mean() > 0.95  # not the cells clamped to 0
        before = now


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_bits_on_any_threads_and_in_any_order(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "CHUNK_CELLS", 1000)  # so that few cells are cut as many are
    x = np.random.default_rng(9).random((40, 101), dtype=np.float32)
    times = check_times(load_card(name))
    wanted = [(times[-1], 3), (times[0], 0), (times[0], 2)]
    found = []
    for threads, order in ((1, wanted), (2, wanted[::-1]), (3, wanted)):
        monkeypatch.setattr(kernels, "config", SimpleNamespace(NUMBA_NUM_THREADS=threads))
        cells = program(name, x, seed=1, stuck_low=0.01, stuck_high=0.02)
        reads = {at: cells.read(time_s=at[0], read=at[1]).tobytes() for at in order}
        found.append(cells.programmed.tobytes() + b"".join(reads[at] for at in wanted))
    assert found[0] == found[1] == found[2]
    other = program(name, x, seed=2)
    assert (other.programmed.tobytes() == program(name, x, seed=1).programmed.tobytes()) == (name == "ideal")


@pytest.mark.parametrize("name", NAMES)
def test_the_first_cells_of_many_are_those_of_few(name: str) -> None:
    x = np.random.default_rng(10).random(3000, dtype=np.float32)
    few, many = program(name, x[:777], seed=3), program(name, x, seed=3)
    for read in (0, 1):
        time_s = last(few.card)
        assert few.read(time_s=time_s, read=read).tobytes() == many.read(time_s=time_s, read=read)[:777].tobytes()


# levels 0, 0.1, 0.5, 1 of seed 2024 as version 0.1.0 made them: chips and plans of it stay what they were
EARLIER = [
    ("pcm-nandakumar", 86400.0, [0.0093693, 0.1196658, 0.4873338, 0.9606056],
     [0.0031414, 0.0993206, 0.3092489, 0.5854289]),
    ("pcm-zarcone", 0.0, [0.0084785, 0.15488, 0.481001, 0.9476476], [0.0084785, 0.15488, 0.481001, 0.9476476]),
    ("pcm-zarcone:aligned", 60.0, [0.0099747, 0.1650591, 0.4669293, 0.892154],
     [0.0099747, 0.1650591, 0.4669293, 0.892154]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "time_s", "programmed", "read"), EARLIER)
def test_a_seed_gives_the_cells_of_earlier_versions(
    name: str, time_s: float, programmed: list[float], read: list[float]
) -> None:
    cells = program(name, [0.0, 0.1, 0.5, 1.0], seed=2024)
    np.testing.assert_allclose(cells.programmed, programmed, atol=1e-7)
    np.testing.assert_allclose(cells.read(time_s=time_s), read, atol=1e-7)


def test_the_same_read_at_another_time_is_the_same_draw() -> None:
    """As stated: read k keeps its normal at every time, so what two times share beyond the cell is that number's."""
    card, n = load_card("pcm-nandakumar"), 100_000
    quiet, x = without(card, "read_noise"), np.full(n, 0.7)
    still, noisy = program(quiet, x, seed=8), program(card, x, seed=8)

    def z(time_s: float, read: int) -> NDArray[np.float64]:
        before = still.read(time_s=time_s).astype(np.float64)
        relative = noisy.read(time_s=time_s, read=read) / before - 1.0
        assert card.read_noise is not None
        return relative / (card.read_noise.growth(time_s + 20.0) * float(card.read_noise.q(np.array(0.7))))

    early, late, further = z(60.0, 0), z(86400.0, 0), z(86400.0, 1)
    np.testing.assert_allclose(early, late, atol=1e-3)  # float32 reads: 1e-7 of a noise of 0.05
    assert card.read_noise is not None
    expected = card.read_noise.common(86420.0)
    assert (early * further).mean() == pytest.approx(expected, abs=5.0 / math.sqrt(n))
