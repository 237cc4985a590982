"""A fit as text: the TOML says what the fit found, in every unit and for every option, and the report reads well."""

import math
import tomllib
from typing import Any

import numpy as np
import pytest
from scipy import stats

from devices import Card, CardLabels, Fit, FitOptions, Measurements, fit_card, load_card, program
from devices.fitting.report import FitReport, LevelFit, Normality, alike_p, normality, plus_minus
from devices.fitting.spread import Estimate

VOLTS = np.repeat([1.0, 2.0, 3.0, 4.0], 30)
ERRORS = np.random.default_rng(0).normal(0.0, 1.0, 120)


def straight(scale: float = 1.0, offset: float = 0.0, **labels: Any) -> Measurements:
    """Four voltages, the mean read 2 V + offset times a scale, sd 0.1 times the scale."""
    return Measurements(VOLTS, scale * (2.0 * VOLTS + offset + 0.1 * ERRORS), is_target=False, **labels)


def content(fit: Fit) -> dict[str, Any]:
    return tomllib.loads(fit.text)


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 1.0, 1e6, 1e12])
def test_numbers_keep_their_digits_whatever_the_unit(scale: float) -> None:
    """The same data in siemens or in picosiemens: the same card, but for the unit."""
    fit, plain = (fit_card(straight(factor), name="mine") for factor in (scale, 1.0))
    found = content(fit)
    assert found["level"]["at_0"] == pytest.approx(scale * content(plain)["level"]["at_0"], rel=1e-6)
    sds = [found["programming"]["sd"]["values"], content(plain)["programming"]["sd"]["values"]]
    np.testing.assert_allclose(sds[0], scale * np.array(sds[1]), rtol=1e-4)
    x = np.linspace(0.0, 1.0, 9)
    np.testing.assert_allclose(fit.card.programming_sd(x), plain.card.programming_sd(x), rtol=2e-4)


def test_the_text_says_where_the_data_came_from_and_every_label() -> None:
    labels = CardLabels("A cell", "current", "nA", "gate voltage", "mV", "lab book 7", "10.1/2", "CC BY 4.0")
    fit = fit_card(straight(source="run 3.csv"), name="mine", labels=labels)
    found = content(fit)
    assert fit.text.startswith("# Fitted to 120 reads of 120 writes in run 3.csv\n")
    assert (found["format"], found["name"], found["title"]) == (1, "mine", "A cell")
    (source,) = found["sources"]
    assert (source["paper"], source["doi"], source["licence"]) == ("lab book 7", "10.1/2", "CC BY 4.0")
    assert (found["level"]["quantity"], found["level"]["unit"]) == ("current", "nA")
    assert (found["drive"]["quantity"], found["drive"]["unit"]) == ("gate voltage", "mV")
    plain = content(fit_card(straight(source="run 3.csv"), name="mine"))
    assert (plain["title"], plain["sources"][0]["paper"]) == (
        "mine: fitted to measurements",
        "measurements in run 3.csv",
    )


def test_every_value_of_a_curve_has_its_error_beside_it() -> None:
    fit = fit_card(straight(), name="mine")
    for level in fit.report.levels:
        assert f"{float(f'{level.sd.value:.5g}')!r}, # ± {level.sd.error:.2g}" in fit.text
    zero = fit_card(straight(), name="zero", options=FitOptions(at_0=-0.0))
    assert "at_0 = 0.0\n" in zero.text


def test_options_become_fields_and_choices() -> None:
    free = content(fit_card(straight(), name="mine"))
    assert (free["level"]["clamp_at_0"], free["time"]) == (False, {"t0_s": 0.0, "max_s": 0.0})
    assert any("a monotone cubic through them" in choice for choice in free["choices"])
    options = FitOptions(curve="isotonic", clamp_at_0=True, max_s=86400.0, t0_s=5.0)
    held = content(fit_card(straight(), name="mine", options=options))
    assert (held["level"]["clamp_at_0"], held["level"]["at_0"]) == (True, 0.0)
    assert held["time"] == {"t0_s": 5.0, "max_s": 86400.0}
    assert any("straight lines; usable" in choice for choice in held["choices"])
    assert any(
        "held until 86400 s, as stated by the user and not measured here" in choice for choice in held["choices"]
    )


def timed(spread: float, count: int = 60, noise: float = 0.01) -> Measurements:
    """Reads of the same cells at four times: exponent 0.05 ± spread, with read noise."""
    generator = np.random.default_rng(1)
    target = np.repeat([5.0, 10.0, 20.0], count)
    times = np.array([20.0, 100.0, 1000.0, 10_000.0])
    exponent = generator.normal(0.05, spread, target.size) if spread else np.zeros(target.size)
    reads = [target * (t / 20.0) ** -exponent * (1 + noise * generator.normal(size=target.size)) for t in times]
    cells = np.tile(np.arange(target.size), 4)
    return Measurements(np.tile(target, 4), np.concatenate(reads), True, np.repeat(times, target.size), cell=cells)


def test_drift_and_read_noise_have_tables_of_their_own() -> None:
    fit = fit_card(timed(0.01), name="timed", options=FitOptions(t_read_s=1e-6, apart_s=2.0))
    found = content(fit)
    assert found["time"] == {"t0_s": 20.0, "max_s": 9980.0}
    assert (found["read_noise"]["t_read_s"], found["read_noise"]["apart_s"]) == (1e-6, 2.0)
    assert fit.shape.drift is not None
    tables = (found["drift"]["exponent_mean"], found["drift"]["exponent_sd"], found["read_noise"]["q"])
    for curve, values in zip(tables, fit.shape.drift, strict=True):
        assert (curve["kind"], curve["unit"]) == ("points", "1")
        np.testing.assert_allclose(curve["values"], [e.value for e in values], rtol=1e-4)
        assert curve["at"][0] == found["level"]["at_0"]
        assert curve["at"][-1] == found["level"]["at_1"]
    assert np.mean(tables[0]["values"]) == pytest.approx(0.05, abs=0.005)
    assert any("read time: 1e-06 s, which scales q; reads of one time are 2 s apart" in x for x in found["choices"])


def test_a_card_that_cannot_say_growth_has_no_drift_but_may_have_read_noise() -> None:
    grows = timed(0.0)
    text = content(fit_card(Measurements(
        grows.written, grows.read * (grows.time_s / 20.0) ** 0.02, True, grows.time_s, cell=grows.cell,
    ), name="grows"))  # fmt: skip
    assert "drift" not in text
    assert "read_noise" in text
    assert text["time"]["max_s"] == 0.0  # reads later than measured would not be known


def test_devices_that_differ_make_two_variants_and_say_so() -> None:
    generator = np.random.default_rng(2)
    device = np.tile(np.repeat(np.arange(6), 5), 4)
    read = 2.0 * VOLTS + generator.normal(0.0, 0.5, 6)[device] + 0.1 * ERRORS
    fit = fit_card(Measurements(VOLTS, read, is_target=False, device=device), name="apart")
    found = content(fit)
    assert found["default_variant"] == "any-device"
    assert set(found["variants"]) == {"any-device", "one-device"}
    wide, narrow = (np.mean(found["variants"][name]["programming"]["sd"]["values"]) for name in found["variants"])
    assert narrow == pytest.approx(0.1, rel=0.3)
    assert wide > 3.0 * narrow
    lines = fit.report.lines()
    assert any("% of the variance lies between devices, the rest within one" in line for line in lines)
    assert any(line.endswith("alike has p below 1e-16") for line in lines)


def test_a_card_of_a_simulated_card_reads_like_it() -> None:
    """Round trip through text: rram-cmo written at 8 targets, its spread as a card of points within 4 errors."""
    card = load_card("rram-cmo:accept-2-percent")
    x = np.repeat(np.linspace(0.0, 1.0, 8), 400)
    physical = 9.0 + 79.2 * x
    read = 9.0 + 79.2 * program(card, x, seed=3).read(time_s=0.0).astype(np.float64)
    fit = fit_card(Measurements(physical, read, is_target=True), name="again")
    again = Card.from_text(fit.text)
    true = np.array([1e-3 * (11.290 * g + 11.219) for g in np.linspace(9.0, 88.2, 8)])
    # one read adds relaxation at 1 s, 0.411833 µS, and read noise
    extra = np.array([0.411833**2 + (0.0277316 * math.log10(g)) ** 2 * math.log(1e6 / 2) for g in
                      np.linspace(9.0, 88.2, 8)])  # fmt: skip
    expected = np.sqrt(true**2 + extra)
    found = again.programming_sd(np.linspace(0.0, 1.0, 8)) * (again.level.at_1 - again.level.at_0)
    np.testing.assert_allclose(found, expected, rtol=4 / math.sqrt(2 * 399))


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (5.0123, 0.0234, "5.012 ± 0.023"),
        (5012.3, 234.0, "5012 ± 234"),
        (0.5, 1.0, "0.5 ± 1.0"),
        (-0.00123, 4e-5, "-0.001230 ± 0.000040"),
        (3.14159, 0.0, "3.142"),
        (3.14159, math.nan, "3.142"),
        (3.14159, math.inf, "3.142"),
    ],
)
def test_a_value_is_shown_to_two_digits_of_its_error(value: float, error: float, text: str) -> None:
    assert plus_minus(value, error) == text


ONE = Estimate(1.0, 0.1)


def level(alike: float, device_sd: Estimate | None = ONE) -> LevelFit:
    return LevelFit(1.0, 10, 2, 1.0, 0.1, ONE, ONE, device_sd, alike, None)


def test_p_values_of_levels_are_combined_by_fisher() -> None:
    """-2 Σ ln p is chi-square with 2 degrees of freedom a level (Fisher 1925)."""
    p = [0.3, 0.04, 0.8]
    expected = stats.chi2.sf(-2.0 * sum(map(math.log, p)), 6)
    assert alike_p([level(x) for x in p]) == pytest.approx(expected)
    assert alike_p([level(0.3), level(0.01, None)]) == pytest.approx(0.3)
    assert alike_p([level(0.3, None)]) is None
    assert alike_p([level(0.0)]) == pytest.approx(1e-300)


def report(**changes: Any) -> FitReport:
    z = Normality(np.zeros(96), 0.05, 0.6, -0.12, 0.34)
    given = {
        "reads": 40, "levels": (level(0.4), level(0.2)), "usable": (0.5, 4.0), "mean_chi_square": 6.0, "mean_dof": 4,
        "interpolation_error": 0.25, "device_share": None, "normality": z, "notes": ("a note",),
    }  # fmt: skip
    return FitReport(**{**given, **changes})


def test_the_report_says_its_numbers_in_order() -> None:
    assert report().lines() == [
        "40 reads, 20 writes, 2 levels of 10 to 10 writes",
        "usable monotone range: 0.5 to 4",
        "mean curve: reduced χ² 1.50 (6.0 of 4, p 0.2); leaving a level out moves the curve there by 0.25 sd (RMS)",
        "residuals against the normal: KS 0.050, p 0.600 by simulation, since mean and sd were estimated from the same "
        "writes",
        # √(6 / 96) and √(24 / 96)
        "residuals: skew -0.12 ± 0.25, excess kurtosis +0.34 ± 0.50 (the card's noise is normal: both 0)",
        "note: a note",
    ]
    assert report(mean_dof=0).reduced_chi_square is None
    shared = report(device_share=0.25).lines()
    p = stats.chi2.sf(-2.0 * math.log(0.4 * 0.2), 4)
    assert shared[5] == f"25 % of the variance lies between devices, the rest within one; that all devices are alike " \
        f"has p {p:.2g}"  # fmt: skip


def test_residuals_of_single_writes_a_device_are_left_out() -> None:
    """Three groups of one: nothing to compare within a group, so no residual and nothing against the normal."""
    found = normality(np.array([1.0, 2.0, 4.0]), np.arange(3), np.zeros(3, dtype=np.int64), 0)
    assert (len(found.residuals), found.ks_distance, found.ks_p, found.skew) == (0, 0.0, 1.0, 0.0)


def test_the_p_value_of_a_seed_is_the_same_again() -> None:
    values = np.random.default_rng(4).normal(size=60)
    groups = np.repeat(np.arange(3), 20)
    found = [normality(values, groups, groups, seed).ks_p for seed in (1, 1, 2)]
    assert found[0] == found[1]
    # the distance to the normal is that of the standardised values
    z = np.concatenate([(v - v.mean()) / v.std(ddof=1) / math.sqrt(1 - 1 / 20) for v in values.reshape(3, 20)])
    one = normality(values, groups, groups, 1)
    np.testing.assert_allclose(one.residuals, z, rtol=1e-9)
    assert one.ks_distance == pytest.approx(stats.kstest(z, "norm").statistic)
