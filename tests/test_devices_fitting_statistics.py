"""The statistics of a fit, one by one: against closed forms, scipy and known distributions."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from devices.fitting.curve import interpolation_error, isotonic, monotone_range, smooth
from devices.fitting.drift import drift_of, fit_cells, folded_to_normal, fresh_growth, noise_growth, noise_of_pairs
from devices.fitting.report import normality
from devices.fitting.spread import Estimate, read_noise_removed, spread_of, unclamped


def test_balanced_variances_are_those_of_the_analysis_of_variance() -> None:
    """Where it is positive, REML is the ANOVA estimate exactly (Searle, Casella & McCulloch 1992, ch. 4)."""
    generator = np.random.default_rng(0)
    values = generator.normal(0, 1, (8, 1)) * 2.0 + generator.normal(0, 1, (8, 12))
    spread = spread_of(values.reshape(-1), np.repeat(np.arange(8), 12), 0.0)
    inside = values.var(axis=1, ddof=1).mean()
    outside = 12 * values.mean(axis=1).var(ddof=1)
    assert spread.within == pytest.approx(inside, rel=1e-6)
    assert spread.between == pytest.approx((outside - inside) / 12, rel=1e-6)
    assert spread.mean == pytest.approx(values.mean())
    assert spread.alike_p == pytest.approx(float(stats.f_oneway(*values).pvalue))
    assert spread.mean_variance == pytest.approx(outside / 96, rel=1e-6)


def test_unbalanced_restricted_likelihood_is_at_its_maximum() -> None:
    """Against the likelihood written out with full covariance matrices."""
    generator = np.random.default_rng(1)
    device = np.repeat(np.arange(5), [3, 9, 4, 12, 6])
    values = generator.normal(0, 0.7, 5)[device] + generator.normal(0, 1.0, len(device))
    spread = spread_of(values, device, 0.0)
    assert spread.between is not None

    def minus_twice_log(within: float, between: float) -> float:
        covariance = within * np.eye(len(device)) + between * (device[:, None] == device)
        inverse, ones = np.linalg.inv(covariance), np.ones(len(device))
        information = ones @ inverse @ ones
        off = values - (ones @ inverse @ values) / information
        return float(np.linalg.slogdet(covariance)[1] + math.log(information) + off @ inverse @ off)

    best = minus_twice_log(spread.within, spread.between)
    for factor in (0.97, 1.03):
        assert minus_twice_log(spread.within * factor, spread.between) > best
        assert minus_twice_log(spread.within, spread.between * factor) > best


def test_intervals_of_the_sd_cover_the_truth_as_often_as_they_say() -> None:
    """95 % intervals, 400 samples each: 4 sd of the count are 4.4 %. Devices: Satterthwaite is known to be rough."""
    generator = np.random.default_rng(2)
    single, within, total = 0, 0, 0
    device = np.repeat(np.arange(10), 8)
    for _ in range(400):
        spread = spread_of(generator.normal(0, 2.0, 30), None, 0.0)
        low, high = Estimate.of_variance(spread.total, spread.total_variance).interval()
        single += low < 2.0 < high
        values = generator.normal(0, 1.0, 10)[device] + generator.normal(0, 1.0, 80)
        spread = spread_of(values, device, 0.0)
        low, high = Estimate.of_variance(spread.within, spread.within_variance).interval()
        within += low < 1.0 < high
        low, high = Estimate.of_variance(spread.total, spread.total_variance).interval()
        total += low < math.sqrt(2.0) < high
    assert single / 400 == pytest.approx(0.95, abs=0.044)
    assert within / 400 == pytest.approx(0.95, abs=0.044)
    assert 0.88 < total / 400 <= 1.0


def test_heavy_tails_widen_the_error_of_the_sd() -> None:
    """Student's t with 6 degrees of freedom: excess kurtosis 3, so the variance of s² is 2.5 times the normal one."""
    generator = np.random.default_rng(3)
    found = [generator.standard_t(6, 100).var(ddof=1) for _ in range(4000)]
    spread = spread_of(np.asarray(generator.standard_t(6, 100)), None, 3.0)
    stated = math.sqrt(spread.within_variance) / spread.within
    assert stated == pytest.approx(math.sqrt(2 / 99 + 3 / 100))
    assert np.std(found) / np.mean(found) == pytest.approx(stated, rel=0.15)


@given(mean=st.floats(-0.5, 8.0), sd=st.floats(0.2, 3.0))
@settings(max_examples=60, deadline=None)
def test_clamping_is_undone(mean: float, sd: float) -> None:
    above = stats.norm.cdf(mean / sd)
    density = sd * stats.norm.pdf(mean / sd)
    first = mean * above + density
    variance = (mean**2 + sd**2) * above + mean * density - first**2
    found = unclamped(float(first), float(variance))
    assert found[0] == pytest.approx(mean, abs=2e-3 * sd)
    assert math.sqrt(found[1]) == pytest.approx(sd, rel=2e-3)


def test_read_noise_is_removed_exactly_in_the_mean() -> None:
    generator = np.random.default_rng(4)
    level = generator.normal(3.0, 0.5, 400_000)
    reads = level * (1 + 0.2 * generator.normal(0, 1, 400_000))
    assert read_noise_removed(reads.mean(), reads.var(), 0.2) == pytest.approx(0.25, rel=0.02)


@given(mean=st.floats(0.0, 0.2), sd=st.floats(0.001, 0.1))
@settings(max_examples=60, deadline=None)
def test_folding_is_undone(mean: float, sd: float) -> None:
    folded = stats.foldnorm(mean / sd, scale=sd)
    found = folded_to_normal(float(folded.mean()), float(folded.std()))
    assert found[0] ** 2 + found[1] ** 2 == pytest.approx(mean**2 + sd**2, rel=1e-6)
    assert float(stats.foldnorm.mean(found[0] / found[1], scale=found[1])) == pytest.approx(float(folded.mean()))


def test_reads_without_noise_give_their_power_law_exactly() -> None:
    time_s = np.tile([20.0, 100.0, 1000.0, 5000.0], 3)
    cell, exponent = np.repeat(np.arange(3), 4), np.array([0.05, -0.02, 0.3])
    log_time = np.log(time_s / 20.0)
    fits = fit_cells(cell, log_time, np.ones(12), 7.0 * np.exp(-exponent[cell] * log_time), drifts=True)
    np.testing.assert_allclose(fits.exponent, exponent, atol=1e-9)
    np.testing.assert_allclose(fits.squares, 0.0, atol=1e-16)


def test_cells_that_cannot_tell_a_power_law_are_left_out() -> None:
    cell = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    log_time = np.array([0.0, 1.0, 2.0, 0.0, 1.0, 1.0, 1.0, 1.0])
    read = np.array([0.0, 0.0, 0.0, 1.0, 0.9, 1.0, 1.1, 0.9])  # dead, two reads only, one time only
    fits = fit_cells(cell, log_time, np.ones(8), read, drifts=True)
    assert np.isnan(fits.exponent).all()
    assert drift_of(fits, 1.0, drifts=True, least=1) is None


def test_q_of_pairs_is_right_where_single_reads_drown() -> None:
    """q = 0.2 at growth 4.18: a read has 84 % noise. 3000 cells of 4 reads; the stated error is 2 to 4 %."""
    generator = np.random.default_rng(5)
    cell, log_time = np.repeat(np.arange(3000), 4), np.tile([0.0, 2.0, 4.0, 6.0], 3000)
    level = np.abs(generator.normal(0.0, 1.0, 3000))[cell]
    read = level * np.exp(-0.07 * log_time) * (1 + 0.2 * 4.18 * generator.normal(0, 1, 12_000))
    found = noise_of_pairs(cell, log_time, np.full(12_000, 4.18), read, 0.07)
    assert found is not None
    assert 0.01 < found.q_error / found.q < 0.05
    assert found.q == pytest.approx(0.2, abs=4 * found.q_error)


def test_noise_that_is_new_lies_between_the_reads() -> None:
    write, time_s = np.array([0, 0, 0, 1]), np.array([20.0, 21.0, 2000.0, 50.0])
    growth = fresh_growth(write, time_s, 250e-9, 1.0)
    # s² = ln(Δ / (2 t_read)); one read alone shows all of its noise
    expected = [math.log(1.0 / 500e-9), math.log(1.0 / 500e-9), math.log(1979.0 / 500e-9), math.log(50.0 / 500e-9)]
    np.testing.assert_allclose(growth**2, expected, rtol=1e-6)
    close = fresh_growth(np.zeros(2, dtype=np.int64), np.array([20.0, 20.001]), 250e-9, 1.0)
    np.testing.assert_allclose(close**2, math.log(0.001 / 500e-9), rtol=1e-6)
    assert float(noise_growth(20.0, 250e-9)) == pytest.approx(4.184, abs=5e-4)  # Nandakumar et al. 2019


@pytest.mark.parametrize(
    ("means", "expected"),
    [
        ([0.0, 1.0, 2.0, 3.0], (0, 4, True, False)),
        ([3.0, 2.0, 1.0, 0.0], (0, 4, False, False)),
        ([0.0, 1.0, 2.0, 1.0, 0.5], (0, 3, True, True)),
        ([2.0, 0.0, 1.0, 3.0], (1, 4, True, True)),
        ([0.0, 1.0, 0.99, 2.0], (0, 4, True, False)),  # a reversal within the errors
        ([0.0, 1.0, 2.0, 1.99], (0, 4, True, False)),  # a flat end
    ],
)
def test_the_monotone_range_is_the_widest_without_a_significant_reversal(
    means: list[float], expected: tuple[int, int, bool, bool]
) -> None:
    found = monotone_range(np.array(means), np.full(len(means), 0.01))
    assert (found.start, found.stop, found.rising, found.cut) == expected


@given(means=st.lists(st.floats(-10, 10), min_size=3, max_size=12), rising=st.booleans())
@example(means=[3.218907229983248, 1.2189072299832482, 5.218907229983248], rising=False)
@settings(max_examples=100, deadline=None)
def test_knots_are_strictly_monotone_and_so_is_the_smooth_curve(means: list[float], rising: bool) -> None:
    knots = isotonic(np.arange(float(len(means))), np.array(means), np.full(len(means), 0.1), rising=rising)
    sign = 1.0 if rising else -1.0
    assert (np.diff(knots.drives) > 0.0).all()
    assert (sign * np.diff(knots.means) > 0.0).all()
    assert sum(len(of) for of in knots.of) == len(means)
    assert knots.dof == len(means) - len(knots.means)
    if len(knots.means) > 1:
        drives, curve = smooth(knots)
        assert (np.diff(drives) > 0.0).all()
        assert (sign * np.diff(curve) >= 0.0).all()


def test_a_straight_response_needs_no_inner_level() -> None:
    knots = isotonic(np.arange(5.0), 2.0 * np.arange(5.0), np.full(5, 0.1), rising=True)
    assert interpolation_error(knots, np.ones(5)) == pytest.approx(0.0, abs=1e-12)


def test_the_p_value_is_uniform_for_normal_residuals_and_small_for_others() -> None:
    """40 normal samples of 4 levels with 3 devices: the p values against uniform at the 0.1 % level."""
    generator = np.random.default_rng(6)
    level, group = np.repeat(np.arange(4), 30), np.repeat(np.arange(12), 10)
    found = [
        normality(generator.normal(0, 1, 12)[group] + (1.0 + level) * generator.normal(0, 1, 120), group, level, i)
        for i in range(40)
    ]
    assert stats.kstest([one.ks_p for one in found], "uniform").pvalue > 1e-3
    assert np.mean([one.residuals.std() for one in found]) == pytest.approx(1.0, abs=0.01)
    heavy = normality(generator.standard_t(3, 1200), np.repeat(np.arange(12), 100), np.repeat(np.arange(4), 300), 0)
    assert heavy.ks_p == 0.005  # the least that 199 samples can tell
    assert heavy.excess_kurtosis > 1.0
