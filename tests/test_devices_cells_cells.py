"""Programming and reading: moments against closed form, what a seed fixes, and what is refused."""

import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from devices import Card, Cells, load_card, program, response


def test_a_cell_with_target_0_is_a_half_normal() -> None:
    """Nandakumar card: clamping leaves mean +0.105 µS and sd 0.154 µS (to the digits given)."""
    n = 1_000_000
    g = 25.0 * program("pcm-nandakumar", np.zeros(n), seed=2).programmed.astype(np.float64)
    assert g.mean() == pytest.approx(0.105, abs=0.0005 + 5 * 0.154 / math.sqrt(n))
    assert g.std() == pytest.approx(0.154, abs=0.0005 + 5 * 0.154 / math.sqrt(n))
    assert (g == 0.0).mean() == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(n))


@pytest.mark.parametrize("name", ["pcm-zarcone:one-device", "pcm-zarcone:aligned"])
def test_programming_noise_is_normal_at_every_level(name: str) -> None:
    n = 500_000
    x = np.random.default_rng(3).random(n).astype(np.float32)
    cells = program(name, x, seed=4)
    z = (cells.programmed.astype(np.float64) - x) / np.sqrt(response(name, 0.0).variance(x))
    assert stats.kstest(z, "norm").statistic < 1.95 / math.sqrt(n)  # exceeded once in 1000
    for edge in (3.0, 4.0):
        expected = 2.0 * stats.norm.sf(edge) * n
        assert abs((np.abs(z) > edge).sum() - expected) < 5.0 * math.sqrt(expected)


def test_drift_exponents_follow_the_folded_normal_and_stay_with_the_cell() -> None:
    card = without_read_noise()
    n = 200_000
    cells = program(card, np.full(n, 0.2), seed=6)
    assert card.drift is not None
    mean, sd = (float(curve(np.array(0.2))) for curve in (card.drift.exponent_mean, card.drift.exponent_sd))
    exponents = []
    for time_s in (3600.0, 86400.0):
        kept = cells.read(time_s=time_s).astype(np.float64) / cells.programmed
        exponents.append(-np.log(kept) / math.log((time_s + 20.0) / 20.0))
    # one exponent a cell whatever the time: float32 leaves 1e-7 / ln(180)
    np.testing.assert_allclose(exponents[0], exponents[1], atol=1e-6)
    folded = stats.foldnorm(mean / sd, scale=sd)
    assert stats.kstest(exponents[1], folded.cdf).statistic < 1.95 / math.sqrt(n)


def without_read_noise() -> Card:
    text = load_card("pcm-nandakumar").text
    return Card.from_text(text[: text.index("[read_noise]")])


def test_without_read_noise_every_cell_only_falls() -> None:
    cells = program(without_read_noise(), np.random.default_rng(7).random(50_000), seed=7)
    before = cells.read(time_s=0.0)
    np.testing.assert_array_equal(before, cells.programmed)
    for time_s in (1.0, 60.0, 3600.0, 86400.0, 31536000.0):
        now = cells.read(time_s=time_s)
        assert (now <= before).all()
        assert (now < before).sum() > 49_000  # not the cells clamped to 0
        before = now


def test_reads_share_the_cell_and_differ_in_noise() -> None:
    cells = program("pcm-nandakumar", np.full(100_000, 0.5), seed=8)
    reads = np.array([cells.read(time_s=3600.0, read=k) for k in range(4)], dtype=np.float64)
    again = cells.read(time_s=3600.0, read=2)
    assert again.tobytes() == cells.read(time_s=3600.0, read=2).tobytes()
    noise = reads / cells.read(time_s=3600.0, read=99) - 1.0
    assert np.abs(noise).max() < 1.0
    differences = reads - reads.mean(axis=0)
    # four independent noises less their mean correlate -1/3
    found = np.corrcoef(differences)[np.triu_indices(4, 1)]
    np.testing.assert_allclose(found, -1.0 / 3.0, atol=5.0 / math.sqrt(100_000))


def test_reads_of_two_seeds_do_not_correlate() -> None:
    n = 500_000
    x = np.full(n, 0.5, dtype=np.float32)
    a, b = (program("pcm-nandakumar", x, seed=seed).read(time_s=60.0) for seed in (1, 2))
    assert abs(np.corrcoef(a, b)[0, 1]) < 5.0 / math.sqrt(n)
    assert abs(np.corrcoef(a[:-1], a[1:])[0, 1]) < 5.0 / math.sqrt(n)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2000), st.integers(0, 2**64 - 1))
def test_the_first_n_levels_give_the_first_n_cells(n: int, seed: int) -> None:
    x = np.random.default_rng(10).random(2000, dtype=np.float32)
    whole = program("pcm-nandakumar", x, seed=seed, stuck_low=0.1)
    part = program("pcm-nandakumar", x[:n], seed=seed, stuck_low=0.1)
    assert part.programmed.tobytes() == whole.programmed[:n].tobytes()
    assert part.read(time_s=1e5).tobytes() == whole.read(time_s=1e5)[:n].tobytes()


@pytest.mark.parametrize("shape", [(), (0,), (1,), (0, 3), (2, 3, 4, 5)])
def test_any_shape_is_kept(shape: tuple[int, ...]) -> None:
    cells = program("pcm-nandakumar", np.full(shape, 0.5), seed=1)
    y = cells.read(time_s=0.0)
    assert cells.levels.shape == cells.programmed.shape == y.shape == shape
    assert cells.levels.dtype == cells.programmed.dtype == y.dtype == np.float32


def test_layout_of_the_input_does_not_matter() -> None:
    x = np.random.default_rng(11).random((40, 30), dtype=np.float32)
    expected = program("pcm-zarcone", x, seed=1).programmed
    for same in (np.asfortranarray(x), x.astype(np.float64), x.tolist(), np.repeat(x, 2, axis=1)[:, ::2]):
        np.testing.assert_array_equal(program("pcm-zarcone", same, seed=1).programmed, expected)


def test_cells_are_rebuilt_from_card_levels_programmed_and_seed() -> None:
    cells = program("pcm-nandakumar", np.random.default_rng(12).random(1000), seed=13)
    again = Cells(Card.from_text(cells.card.text), cells.levels.copy(), cells.programmed.copy(), cells.seed)
    assert again.read(time_s=1e4, read=1).tobytes() == cells.read(time_s=1e4, read=1).tobytes()
    pickled = pickle.loads(pickle.dumps(cells))  # as a Dask worker gets them
    assert pickled.read(time_s=1e4, read=1).tobytes() == cells.read(time_s=1e4, read=1).tobytes()


def test_an_ideal_cell_reads_exactly_what_was_written() -> None:
    x = np.random.default_rng(14).random(10_000, dtype=np.float32)
    x[:4] = [0.0, 1.0, np.float32(1e-45), np.nextafter(np.float32(1), np.float32(0))]
    cells = program("ideal", x, seed=15)
    for time_s, read in ((0.0, 0), (1e10, 7)):
        assert cells.read(time_s=time_s, read=read).tobytes() == x.tobytes()


def test_a_read_is_a_new_array_and_the_cells_are_locked() -> None:
    cells = program("ideal", [0.5, 0.25], seed=0)
    cells.read(time_s=0.0)[:] = 9.0
    assert cells.read(time_s=0.0).tolist() == [0.5, 0.25]
    with pytest.raises(ValueError, match="read-only"):
        cells.programmed[0] = 1.0
    with pytest.raises(ValueError, match="read-only"):
        cells.levels[0] = 1.0


def test_float32_levels_are_kept_without_a_copy() -> None:
    x = np.random.default_rng(16).random(1000, dtype=np.float32)
    assert np.shares_memory(program("pcm-zarcone", x, seed=0).levels, x)


def test_stuck_cells_come_at_their_rates_and_sit_at_the_ends() -> None:
    n = 1_000_000
    x = np.full(n, 0.5, dtype=np.float32)
    whole = program("pcm-nandakumar", x, seed=18)
    cells = program("pcm-nandakumar", x, seed=18, stuck_low=0.135, stuck_high=0.098)  # rates of Gong & Rasch 2022
    low, high = cells.programmed == 0.0, cells.programmed == 1.0
    assert abs(low.mean() - 0.135) < 5.0 * math.sqrt(0.135 * 0.865 / n)
    assert abs(high.mean() - 0.098) < 5.0 * math.sqrt(0.098 * 0.902 / n)
    healthy = ~(low | high)
    np.testing.assert_array_equal(cells.programmed[healthy], whole.programmed[healthy])
    # a cell stuck low stays at 0: drift and 1/f noise are factors of the level
    assert (cells.read(time_s=86400.0)[low] == 0.0).all()


def test_a_larger_share_of_stuck_cells_contains_a_smaller_one() -> None:
    x = np.full(100_000, 0.5, dtype=np.float32)
    few, many = (program("ideal", x, seed=19, stuck_low=rate, stuck_high=rate).programmed for rate in (0.05, 0.2))
    assert (many[few == 0.0] == 0.0).all()
    assert (many[few == 1.0] == 1.0).all()


def test_all_cells_can_be_stuck() -> None:
    assert (program("ideal", np.full(1000, 0.5), seed=0, stuck_low=1.0).programmed == 0.0).all()
    assert (program("ideal", np.full(1000, 0.5), seed=0, stuck_high=1.0).programmed == 1.0).all()


def test_rounding_beyond_the_ends_is_clipped() -> None:
    cells = program("ideal", [-9e-7, 1.0 + 9e-7], seed=0)
    assert cells.levels.tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("levels", "line"),
    [
        ([0.5, -1e-5], r"levels must lie in \[0, 1\], not from -1e-05 to 0\.5: scale them before programming"),
        ([0.5, 1.01], r"levels must lie in \[0, 1\], not from 0\.5 to 1\.01"),
        ([0.5, math.nan], r"levels must lie in \[0, 1\], not from nan to nan"),
        ([math.inf], r"levels must lie in \[0, 1\], not from inf to inf"),
    ],
)
def test_levels_outside_the_range_are_refused(levels: list[float], line: str) -> None:
    with pytest.raises(ValueError, match=rf"^{line}[^\n]*$"):
        program("ideal", levels, seed=0)


@pytest.mark.parametrize("rates", [(-0.1, 0.0), (0.0, 1.1), (0.6, 0.6), (math.nan, 0.0)])
def test_stuck_rates_that_are_no_shares_are_refused(rates: tuple[float, float]) -> None:
    with pytest.raises(
        ValueError, match=r"^stuck_low and stuck_high must be shares of the cells[^\n]*stuck_low=0\.01$"
    ):
        program("ideal", [0.5], seed=0, stuck_low=rates[0], stuck_high=rates[1])


@pytest.mark.parametrize("read", [-1, 2**32, 1.0, "0", True])
def test_a_read_number_that_is_none_is_refused(read: object) -> None:
    with pytest.raises(ValueError, match=r"^read must be a whole number from 0 to 2\^32 - 1, not [^\n]*$"):
        program("pcm-nandakumar", [0.5], seed=0).read(time_s=0.0, read=read)  # type: ignore[arg-type]


def test_a_read_outside_the_cards_time_is_refused_also_where_nothing_drifts() -> None:
    with pytest.raises(ValueError, match="holds from time_s = 0 to 60 s"):
        program("pcm-zarcone", [0.5], seed=0).read(time_s=86400.0)


def test_cells_whose_arrays_differ_in_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^cells need one programmed level a target, not shapes \(2,\) and \(3,\)"):
        Cells(load_card("ideal"), np.zeros(3, np.float32), np.zeros(2, np.float32), 0)


def test_unknown_cards_and_seeds_are_refused() -> None:
    with pytest.raises(ValueError, match="no card 'pcm'"):
        program("pcm", [0.5], seed=0)
    with pytest.raises(ValueError, match="seed must be a whole number"):
        program("ideal", [0.5], seed=-1)


def test_a_temperature_ages_as_its_equivalent_time() -> None:
    cells = program("rram-radar", np.random.default_rng(20).random(1000), seed=20)
    hot = cells.read(time_s=5.8e5, temperature_k=373.0)
    same = cells.read(time_s=cells.card.equivalent_time(5.8e5, 373.0))
    assert hot.tobytes() == same.tobytes()
    assert (hot != cells.read(time_s=5.8e5)).any()


@pytest.mark.parametrize(
    ("name", "temperature_k", "line"),
    [
        ("pcm-nandakumar", 300.0, "card 'pcm-nandakumar' says no activation energy, so no time at 300.0 K: leave"),
        ("rram-radar", 300.0, "card 'rram-radar' holds from 338 to 373 K, not at 300.0 K: keep the cells within"),
        ("rram-radar", math.nan, "holds from 338 to 373 K, not at nan K"),
        ("rram-radar", "85 °C", "holds from 338 to 373 K, not at '85 °C' K"),
    ],
)
def test_a_temperature_that_a_card_does_not_hold_at_is_refused(name: str, temperature_k: float, line: str) -> None:
    with pytest.raises(ValueError, match=rf"^[^\n]*{line}[^\n]*$"):
        program(name, [0.5], seed=0).read(time_s=1e5, temperature_k=temperature_k)


def test_an_equivalent_time_beyond_the_card_is_refused() -> None:
    with pytest.raises(ValueError, match=r"holds from time_s = 0 to 3e\+07 s"):
        program("rram-radar", [0.5], seed=0).read(time_s=2e7, temperature_k=373.0)


@pytest.mark.parametrize("name", ["pcm-zarcone:one-device", "pcm-zarcone:aligned", "pcm-zarcone:partial-reset"])
def test_reads_of_one_cell_correlate_as_zarcone_measured(name: str) -> None:
    """0.46 between any two reads, and the mean of r of them keeps 0.46 + 0.54 / r of the variance."""
    n = 200_000
    cells = program(name, np.full(n, 0.6), seed=21)
    reads = np.array([cells.read(time_s=0.0, read=k) for k in range(4)], dtype=np.float64) - 0.6
    assert reads[0].tobytes() == (cells.programmed.astype(np.float64) - 0.6).tobytes()
    np.testing.assert_allclose(np.corrcoef(reads)[np.triu_indices(4, 1)], 0.46, atol=5.0 / math.sqrt(n))
    variance = float(response(name, 0.0).variance(0.6))
    np.testing.assert_allclose(reads.var(axis=1), variance, rtol=5.0 * math.sqrt(2.0 / n))
    assert reads.mean(axis=0).var() == pytest.approx((0.46 + 0.54 / 4) * variance, rel=5.0 * math.sqrt(2.0 / n))


def test_a_cell_keeps_its_direction_of_relaxation() -> None:
    """NeuRRAM: the deviation at one day is that at 1 s plus a part of its own, which two days show again."""
    n = 100_000
    cells = program("rram-neurram", np.full(n, 0.75), seed=22)
    second, day, days = (cells.read(time_s=t).astype(np.float64) - 0.75 for t in (1.0, 86400.0, 172800.0))
    assert abs(np.corrcoef(second, day - second)[0, 1]) < 5.0 / math.sqrt(n)
    assert np.corrcoef(second, day)[0, 1] == pytest.approx(0.0383 / 0.0842, abs=0.01)  # published sd at 1 s, 1 day
    # the same normal, twice: float32 leaves 1e-7 of 0.07
    assert np.corrcoef(day - second, days - second)[0, 1] > 1.0 - 1e-8


def test_clamping_comes_after_relaxation() -> None:
    cells = program("rram-neurram", np.zeros(10_000), seed=23)
    assert (cells.programmed < 0.0).mean() == pytest.approx(0.5, abs=0.03)
    for time_s in (1.0, 86400.0):
        reads = cells.read(time_s=time_s)
        assert reads.min() == 0.0
        assert (reads == 0.0).mean() == pytest.approx(0.5, abs=0.03)


def test_finite_levels_take_the_nearest_target() -> None:
    cells = program("rram-multilevel:4-levels", [0.0, 0.1, 0.19, 0.2, 0.5, 0.6, 0.9, 1.0], seed=24)
    a, b, c, d = (np.float32(level) for level in (0.0, 0.38464387, 0.72165694, 1.0))
    assert cells.levels.tolist() == [a, a, a, b, b, c, d, d]
    assert (np.abs(cells.programmed - cells.levels) < 0.2).all()


def test_the_stuck_cells_of_a_card_are_those_of_its_share() -> None:
    card = Card.from_text(load_card("rram-cmo").text + "\n[stuck]\nlow = 0.1\nhigh = 0.05\n")
    x = np.full(100_000, 0.5)
    cells = program(card, x, seed=25)
    for read in (0, 1):
        late = cells.read(time_s=3600.0, read=read)
        # exactly at the ends, whatever the noise; a healthy cell never is
        assert (late == 0.0).mean() == pytest.approx(0.1, abs=5.0 * math.sqrt(0.09 / x.size))
        assert (late == 1.0).mean() == pytest.approx(0.05, abs=5.0 * math.sqrt(0.05 / x.size))
    assert not (program(card, x, seed=25, stuck_low=0.0, stuck_high=0.0).read(time_s=3600.0) == 0.0).any()
    rebuilt = Cells(card, cells.levels, cells.programmed, cells.seed)  # as from a chip file
    assert rebuilt.read(time_s=60.0).tobytes() == cells.read(time_s=60.0).tobytes()
