"""The figure of a fit, read back from its axes: reads, the card's curves, intervals, residuals and decay."""

import math
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from scipy import stats

from devices import Fit, FitOptions, Measurements, fit_card, response
from devices.fitting import figure as module
from devices.fitting.figure import MOST_POINTS, draw_fit
from devices.fitting.writes import gather

Drawing = Callable[[Fit], list[Axes]]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Drawing:
    """Draws the figure of a fit and gives its axes instead of writing it."""

    def draw(fit: Fit) -> list[Axes]:
        found: list[Figure] = []

        def kept(*size: float) -> Figure:
            figure = Figure(figsize=(8.0, 4.0))
            found.append(figure)
            monkeypatch.setattr(figure, "savefig", lambda *_, **__: None)
            return figure

        @contextmanager
        def nowhere(path: Path) -> Any:
            yield path

        monkeypatch.setattr(module, "new_figure", kept)
        monkeypatch.setattr(module, "replacing", nowhere)
        draw_fit(fit, tmp_path / "fit.png")
        return found[0].axes

    return draw


def sweep(devices: int = 1, between: float = 0.0, cycles: int = 60) -> Fit:
    """Four voltages; the mean read is twice the voltage, the sd 0.1 within a device."""
    generator = np.random.default_rng(0)
    volts = np.tile(np.repeat([1.0, 2.0, 3.0, 4.0], cycles), devices)
    device = np.repeat(np.arange(devices), 4 * cycles)
    read = 2.0 * volts + generator.normal(0.0, between, devices)[device] + generator.normal(0.0, 0.1, volts.size)
    return fit_card(Measurements(volts, read, is_target=False, device=device), name="swept")


@pytest.fixture(scope="module")
def timed() -> Fit:
    """Cells at three targets read five times: exponent 0.06 ± 0.01, read noise of 1 % of the level a unit of growth."""
    generator = np.random.default_rng(1)
    target, times = np.repeat([5.0, 10.0, 20.0], 80), np.array([20.0, 60.0, 200.0, 2000.0, 20_000.0])
    exponent = generator.normal(0.06, 0.01, target.size)
    growth = np.sqrt(np.log((times + 250e-9) / 500e-9))
    level = target + generator.normal(0.0, 0.2, target.size)
    reads = [
        level * (t / 20.0) ** -exponent * (1 + 0.01 * g * generator.normal(size=target.size))
        for t, g in zip(times, growth, strict=True)
    ]
    measured = Measurements(
        np.tile(target, 5), np.concatenate(reads), True, np.repeat(times, target.size),
        cell=np.tile(np.arange(target.size), 5),
    )  # fmt: skip
    return fit_card(measured, name="timed")


def errorbars(axis: Axes) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """x, y, lower and upper end of every set of error bars."""
    found = []
    for item in axis.containers:
        assert isinstance(item, ErrorbarContainer)
        line, _, (bars,) = item.lines
        ends = np.array([segment[:, 1] for segment in bars.get_segments()])
        found.append((np.array(line.get_xdata(), float), np.array(line.get_ydata(), float), ends[:, 0], ends[:, 1]))
    return found


def test_the_first_panel_shows_writes_the_card_and_the_measured_means(drawn: Drawing) -> None:
    fit = sweep()
    axis = drawn(fit)[0]
    lines = {str(line.get_label()): line for line in axis.lines}
    writes = gather(fit.measurements)
    np.testing.assert_array_equal(lines["writes"].get_xdata(), writes.written[writes.level])
    assert sorted(np.asarray(lines["writes"].get_ydata()).tolist()) == sorted(writes.value.tolist())
    means = [fit.measurements.read[fit.measurements.written == v].mean() for v in (1.0, 2.0, 3.0, 4.0)]
    np.testing.assert_allclose(lines["means"].get_ydata(), means, rtol=1e-12)
    np.testing.assert_array_equal(lines["card"].get_ydata(), fit.shape.means)
    band = axis.collections[0].get_paths()[0].vertices
    at = band[np.abs(band[:, 0] - 2.0) < 1e-9, 1]
    sd = fit.shape.sd[1].value
    assert (at.min(), at.max()) == (pytest.approx(means[1] - sd), pytest.approx(means[1] + sd))
    assert axis.get_xlabel() == "write voltage (V)"
    assert axis.get_ylabel() == "conductance (µS)"


def test_of_many_writes_equally_many_of_each_level_are_shown(drawn: Drawing) -> None:
    axis = drawn(sweep(cycles=1500))[0]
    shown = np.asarray(axis.lines[0].get_xdata())
    assert np.unique(shown, return_counts=True)[1].tolist() == [MOST_POINTS // 4] * 4


def test_the_second_panel_shows_95_percent_chi_square_intervals(drawn: Drawing) -> None:
    """Of 60 normal writes: sd √(59 / χ²), with the quantiles of 59 degrees of freedom, within the kurtosis found."""
    fit = sweep()
    axis = drawn(fit)[1]
    ((x, sds, low, high),) = errorbars(axis)
    np.testing.assert_allclose(x, [level.mean for level in fit.report.levels])
    np.testing.assert_allclose(sds, [level.sd.value for level in fit.report.levels])
    for sd, bottom, top in zip(sds, low, high, strict=True):
        expected = sd * np.sqrt(59 / stats.chi2.ppf([0.975, 0.025], 59))
        np.testing.assert_allclose([bottom, top], expected, rtol=0.05)
    assert axis.get_ylim()[0] == 0.0
    assert axis.get_ylim()[1] > high.max()


def test_devices_that_differ_have_their_own_marks_and_a_line_for_one_device(drawn: Drawing) -> None:
    fit = sweep(devices=8, between=0.5, cycles=10)
    axis = drawn(fit)[1]
    assert fit.shape.separated
    labels = [text.get_text() for text in axis.get_legend().get_texts()]  # type: ignore[union-attr]
    assert set(labels) == {"any device", "within one device", "between devices"}
    between = next(line for line in axis.lines if line.get_label() == "between devices")
    expected = [level.device_sd.value for level in fit.report.levels if level.device_sd is not None]
    np.testing.assert_allclose(between.get_ydata(), expected)
    any_device, one_device = errorbars(axis)
    assert (one_device[1] < any_device[1]).all()


def test_the_third_panel_sorts_residuals_against_normal_quantiles(drawn: Drawing) -> None:
    fit = sweep()
    axis = drawn(fit)[2]
    x, y = (np.asarray(values) for values in (axis.lines[1].get_xdata(), axis.lines[1].get_ydata()))
    n = len(fit.report.normality.residuals)
    np.testing.assert_array_equal(y, np.sort(fit.report.normality.residuals))
    np.testing.assert_allclose(x, stats.norm.ppf((np.arange(n) + 0.5) / n), rtol=1e-9)
    (note,) = [text.get_text() for text in axis.texts if "skew" in text.get_text()]
    assert f"skew {fit.report.normality.skew:+.2f}" in note
    low, high = axis.get_xlim()
    assert low < min(x.min(), y.min())
    assert high > max(x.max(), y.max())


def test_so_many_residuals_are_thinned_and_keep_both_ends(drawn: Drawing) -> None:
    fit = sweep(cycles=1500)
    shown = np.asarray(drawn(fit)[2].lines[1].get_ydata())
    z = fit.report.normality.residuals
    assert len(shown) == MOST_POINTS < len(z)
    assert (shown[0], shown[-1]) == (z.min(), z.max())


def test_a_cut_range_is_marked(drawn: Drawing) -> None:
    generator = np.random.default_rng(2)
    volts = np.repeat(np.arange(0.0, 1.01, 0.1), 30)
    read = 1.0 - (volts - 0.7) ** 2 + generator.normal(0.0, 0.01, volts.size)
    axis = drawn(fit_card(Measurements(volts, read, is_target=False), name="turns"))[0]
    edges = [line.get_xdata()[0] for line in axis.lines if line.get_linestyle() == ":"]  # type: ignore[index]
    assert edges == pytest.approx([0.0, 0.7])


def test_the_fourth_panel_shows_mean_reads_beside_the_card(drawn: Drawing, timed: Fit) -> None:
    axis = drawn(timed)[3]
    sets, curves = errorbars(axis), [line for line in axis.lines if len(np.asarray(line.get_xdata())) == 60]
    assert len(sets) == len(curves) == 3
    m = timed.measurements
    assert m.time_s is not None
    for (when, mean, low, high), curve, target in zip(sets, curves, (5.0, 10.0, 20.0), strict=True):
        np.testing.assert_allclose(when, np.unique(m.time_s), rtol=1e-9)
        first = 20.0 * float(response(timed.card, 0.0).mean(timed.card.level.from_physical(target)))
        for i, t in enumerate(np.unique(m.time_s)):
            own = m.read[(m.written == target) & (m.time_s == t)]
            assert mean[i] == pytest.approx(own.mean() / first)
            assert high[i] - low[i] == pytest.approx(2.0 * own.std(ddof=1) / math.sqrt(80) / first)
        x, y = np.asarray(curve.get_xdata()), np.asarray(curve.get_ydata())
        assert (x[0], x[-1], y[0]) == (pytest.approx(20.0), pytest.approx(20_000.0), 1.0)
        # the card goes through what was measured within 4 standard errors
        assert (np.abs(np.interp(when, x, y) - mean) < 2.0 * (high - low)).all()


def test_exponents_and_read_noise_are_shown_with_their_intervals(drawn: Drawing, timed: Fit) -> None:
    axes = drawn(timed)
    levels = timed.report.levels
    ((x, mean, low, high),) = errorbars(axes[4])
    np.testing.assert_allclose(x, [level.mean for level in levels])
    for i, level in enumerate(levels):
        assert level.drift is not None
        assert mean[i] == level.drift.exponent_mean == pytest.approx(0.06, abs=0.006)
        assert high[i] - low[i] == pytest.approx(2 * 1.96 * level.drift.exponent_mean_error)
    ((_, q, _, _),) = errorbars(axes[5])
    np.testing.assert_array_equal(q, [level.drift.q for level in levels if level.drift is not None])
    np.testing.assert_allclose(q, 0.01, rtol=0.3)
    assert [axis.get_title(loc="left") or axis.get_title() for axis in axes[3:]] == [
        "decay: reads and card", "drift", "1/f read noise, 95 % intervals",
    ]  # fmt: skip


def test_many_times_are_gathered_in_bins_of_their_logarithm() -> None:
    time_s = np.geomspace(1.0, 1e4, 500)
    read = np.log(time_s)
    when, mean, error = module._by_time(time_s, read)
    assert len(when) == module.TIME_BINS
    np.testing.assert_allclose(np.log(when), mean, rtol=1e-9)  # the geometric mean of the times of a bin
    np.testing.assert_allclose(np.diff(np.log(when)), math.log(1e4) / module.TIME_BINS, rtol=0.06)
    # in a bin the logarithms are even over its width, of variance width² / 12, and the mean of 21 has a 21st of that
    width = math.log(1e4) / module.TIME_BINS
    np.testing.assert_allclose(error, width / math.sqrt(12 * 500 / module.TIME_BINS), rtol=0.08)


def test_a_fit_without_drift_but_with_read_noise_draws_its_reads_at_one_time(drawn: Drawing) -> None:
    generator = np.random.default_rng(3)
    target = np.repeat([5.0, 10.0, 20.0], 60)
    level = target + generator.normal(0.0, 0.3, target.size)
    reads = [level * (1 + 0.04 * generator.normal(size=target.size)) for _ in range(3)]
    fit = fit_card(
        Measurements(np.tile(target, 3), np.concatenate(reads), True, cycle=np.tile(np.arange(180), 3)), name="once",
        options=FitOptions(t0_s=20.0),
    )  # fmt: skip
    assert fit.card.drift is None
    axes = drawn(fit)
    for (when, mean, _, _), target_mean in zip(errorbars(axes[3]), (5.0, 10.0, 20.0), strict=True):
        assert when.tolist() == pytest.approx([20.0])
        assert mean[0] == pytest.approx(1.0, abs=0.02), target_mean
    assert not np.asarray(axes[4].lines[0].get_ydata()).any()  # no exponent
