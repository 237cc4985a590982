"""From reads to what a card states: read noise taken out, errors carried, clamping undone, one level at a time."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from devices import FitOptions, Measurements
from devices.fitting.drift import LevelDrift, folded_to_normal, noise_growth, noise_of_pairs
from devices.fitting.drift_and_read_noise import nearest
from devices.fitting.moments import level_fit
from devices.fitting.report import LevelFit
from devices.fitting.spread import Estimate, spread_of, unclamped
from devices.fitting.writes import Writes, gather

SIGMAS = 4.0
PLAIN = FitOptions()


def one_level(read: NDArray[np.float64], **labels: object) -> Writes:
    return gather(Measurements(np.full(len(read), 3.0), read, is_target=True, **labels))  # type: ignore[arg-type]


def fitted(writes: Writes, options: FitOptions = PLAIN, q: tuple[float, float] = (0.0, 0.0), sign: int = 1,
           at_0: float | None = None) -> LevelFit:  # fmt: skip
    return level_fit(writes, 0, at_0, sign, None, q, 0.0, options)


def test_plain_writes_give_their_mean_and_sd_with_textbook_errors() -> None:
    """Of n normal values: sd / √n, and sd / √(2 (n - 1))."""
    read = np.random.default_rng(0).normal(5.0, 0.3, 200)
    found = fitted(one_level(read))
    assert (found.written, found.writes, found.devices, found.device_sd) == (3.0, 200, 1, None)
    assert (found.mean, found.sd.value) == (pytest.approx(read.mean()), pytest.approx(read.std(ddof=1)))
    assert found.mean_error == pytest.approx(read.std(ddof=1) / math.sqrt(200), rel=1e-6)
    assert found.sd.error == pytest.approx(read.std(ddof=1) / math.sqrt(2 * 199), rel=1e-6)
    assert found.cycle_sd == found.sd


@pytest.mark.parametrize(("at_0", "sign"), [(0.0, 1), (10.0, -1), (-4.0, 1)])
def test_where_level_0_lies_moves_neither_mean_nor_sd(at_0: float, sign: int) -> None:
    writes = one_level(np.random.default_rng(1).normal(5.0, 0.3, 100))
    plain, moved = fitted(writes), fitted(writes, at_0=at_0, sign=sign)
    assert (moved.mean, moved.sd.value) == (pytest.approx(plain.mean), pytest.approx(plain.sd.value))


def test_known_read_noise_is_taken_out_and_its_error_carried() -> None:
    """E[read²] = E[level²] (1 + n²), n = q √ln((t + t_read) / (2 t_read)); d sd / d q = -n² (sd² + m²) / (q sd)."""
    generator = np.random.default_rng(2)
    level = generator.normal(8.0, 0.4, 20_000)
    n = 0.01 * float(noise_growth(20.0, 250e-9))
    read = level * (1.0 + n * generator.normal(0.0, 1.0, 20_000))
    options = FitOptions(t0_s=20.0)
    writes = one_level(read, time_s=np.full(20_000, 20.0), cell=np.arange(20_000))
    exact = fitted(writes, options, q=(0.01, 0.0), at_0=0.0)
    assert exact.sd.value == pytest.approx(0.4, abs=SIGMAS * exact.sd.error)
    assert exact.sd.value < 0.95 * read.std()
    unsure = fitted(writes, options, q=(0.01, 0.001), at_0=0.0)
    more = math.sqrt(unsure.sd.error**2 - exact.sd.error**2)
    slope = n**2 / (1 + n**2) * (exact.sd.value**2 + exact.mean**2) / (0.01 * exact.sd.value)
    assert more == pytest.approx(slope * 0.001, rel=0.01)


def test_the_mean_of_repeats_has_less_new_noise_and_all_of_the_common() -> None:
    """Three reads a second apart at 20 s: variance c + (1 - c) / 3 of one read's, c = 0.17 (pcm-nandakumar)."""
    generator = np.random.default_rng(3)
    count, options = 30_000, FitOptions(t0_s=20.0, apart_s=1.0)
    growth = float(noise_growth(20.0, 250e-9)) ** 2
    new = math.log(1.0 / 500e-9)
    common = generator.normal(0.0, math.sqrt(growth - new), count)
    reads = [8.0 * (1 + 0.02 * (common + generator.normal(0.0, math.sqrt(new), count))) for _ in range(3)]
    level = generator.normal(0.0, 0.3, count)
    writes = one_level(
        np.concatenate([read + level for read in reads]), time_s=np.full(3 * count, 20.0),
        cell=np.tile(np.arange(count), 3),
    )  # fmt: skip
    found = fitted(writes, options, q=(0.02, 0.0), at_0=0.0)
    assert found.writes == count
    assert found.sd.value == pytest.approx(0.3, abs=0.012)  # what is subtracted is three times as much


def test_without_read_noise_the_sd_is_that_of_one_read_even_where_several_were_averaged() -> None:
    generator = np.random.default_rng(4)
    cell = np.repeat(np.arange(5000), 4)
    read = generator.normal(2.0, 0.3, 5000)[cell] + generator.normal(0.0, 0.4, 20_000)
    found = fitted(one_level(read, cycle=cell))
    assert found.writes == 5000
    assert found.sd.value == pytest.approx(0.5, rel=SIGMAS / math.sqrt(2 * 5000))


def test_a_clamped_level_is_the_normal_before_clamping() -> None:
    """Target 0 of a card that cannot go below: half of the cells read 0."""
    read = np.maximum(np.random.default_rng(5).normal(0.3, 1.0, 40_000), 0.0)
    found = fitted(one_level(read), FitOptions(clamp_at_0=True), at_0=0.0)
    assert found.mean == pytest.approx(0.3, abs=SIGMAS * found.mean_error)
    assert found.sd.value == pytest.approx(1.0, abs=SIGMAS * found.sd.error)
    assert 0.0 < found.sd.error < 0.05
    bare = fitted(one_level(read), at_0=0.0)
    assert bare.sd.value == pytest.approx(read.std(ddof=1))


def test_the_stated_errors_are_how_far_clamped_fits_scatter() -> None:
    """300 samples of 400 writes: the scatter of the fitted sds is their stated error within 15 %."""
    generator = np.random.default_rng(6)
    options = FitOptions(clamp_at_0=True)
    found = [fitted(one_level(np.maximum(generator.normal(0.5, 1.0, 400), 0.0)), options, at_0=0.0) for _ in range(300)]
    for values, errors in (
        ([fit.mean for fit in found], [fit.mean_error for fit in found]),
        ([fit.sd.value for fit in found], [fit.sd.error for fit in found]),
    ):
        assert np.std(values) == pytest.approx(np.mean(errors), rel=0.15)


def test_devices_are_told_apart_in_the_stated_parts() -> None:
    generator = np.random.default_rng(7)
    device = np.repeat(np.arange(60), 30)
    read = generator.normal(0.0, 0.6, 60)[device] + generator.normal(5.0, 0.8, 1800)
    found = fitted(one_level(read, device=device))
    assert found.device_sd is not None
    assert found.devices == 60
    assert found.sd.value**2 == pytest.approx(found.cycle_sd.value**2 + found.device_sd.value**2)
    for estimate, true in ((found.device_sd, 0.6), (found.cycle_sd, 0.8), (found.sd, 1.0)):
        assert estimate.value == pytest.approx(true, abs=SIGMAS * estimate.error)
    means = np.bincount(device, read) / 30
    assert found.alike_p == pytest.approx(float(stats.f_oneway(*read.reshape(60, 30)).pvalue))
    assert found.mean == pytest.approx(means.mean())


def test_values_without_any_spread_have_sd_0_and_no_error() -> None:
    same = spread_of(np.full(12, 4.0), np.repeat(np.arange(3), 4), 0.0)
    assert (same.within, same.total, same.alike_p) == (0.0, 0.0, 1.0)
    apart = spread_of(np.repeat([1.0, 2.0, 3.0], 4), np.repeat(np.arange(3), 4), 0.0)
    assert apart.alike_p == 0.0  # no spread within, some between
    assert Estimate.of_variance(0.0, 0.0) == Estimate(0.0, 0.0)


def test_an_sd_of_0_has_an_interval_from_0_and_one_without_error_has_none() -> None:
    assert Estimate(0.0, 0.1).interval() == (0.0, pytest.approx(0.196))
    assert Estimate(0.5, 0.0).interval() == (0.5, 0.5)
    assert Estimate(0.5, 0.0).dof == math.inf
    assert Estimate.of_variance(-1.0, 0.0001) == Estimate(0.0, 0.1)
    low, high = Estimate(1.0, 0.05).interval(0.5)
    assert 0.95 < low < 1.0 < high < 1.05  # half of the probability lies within 0.67 errors


def test_a_mean_below_any_clamped_normal_is_the_half_normal_of_the_same_square() -> None:
    mean, variance = unclamped(0.0, 0.5)
    assert (mean, variance) == (0.0, 1.0)  # E max(0, z)² = ½
    assert unclamped(5.0, 1.0) == (5.0, 1.0)
    assert unclamped(5.0, -1e-3) == (5.0, -1e-3)


def test_too_small_a_mean_of_sizes_is_that_of_a_normal_about_0() -> None:
    assert folded_to_normal(0.1, 1.0) == (0.0, pytest.approx(math.hypot(0.1, 1.0)))
    assert folded_to_normal(1.0, 0.0) == (1.0, 0.0)
    assert folded_to_normal(7.0, 1.0) == (7.0, 1.0)


def test_pairs_tell_nothing_without_two_reads_or_a_signal() -> None:
    once = np.arange(3)
    assert noise_of_pairs(once, np.zeros(3), np.ones(3), np.ones(3), 0.0) is None
    cell, log_time = np.repeat([0, 1, 2], 2), np.tile([0.0, 1.0], 3)
    assert noise_of_pairs(cell, log_time, np.ones(6), np.tile([1.0, -1.0], 3), 0.0) is None
    assert noise_of_pairs(cell, log_time, np.ones(6), np.ones(6), 0.0) is None  # no noise at all: q is 0


def test_a_level_without_drift_takes_that_of_the_nearest_that_has_one() -> None:
    one = LevelDrift(9, 0.05, 0.01, 0.02, 0.01, 0.3, 0.1)
    far = LevelDrift(9, math.nan, math.nan, math.nan, math.nan, 0.7, 0.1)
    found = [None, one, None, None, far]
    assert [nearest(found, i, "q") for i in range(5)] == [0.3, 0.3, 0.3, 0.7, 0.7]
    assert nearest(found, 4, "exponent_mean") == 0.05  # of the nearest that tells one
    assert nearest([None, None], 0, "q") == 0.0
