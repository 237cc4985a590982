"""The curves of a fitted card: where level 0 lies, what was pooled, and which numbers each knot holds."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from devices import Card, FitOptions, Measurements, fit_card
from devices.fitting.curve import Knots, interpolation_error, isotonic, smooth
from devices.fitting.drift import LevelDrift
from devices.fitting.report import LevelFit
from devices.fitting.shape import Shape, shape_of
from devices.fitting.spread import Estimate


def level(
    written: float, mean: float, sd: float = 0.2, drift: LevelDrift | None = None, error: float = 0.01
) -> LevelFit:
    estimate = Estimate(sd, 0.1 * sd)
    return LevelFit(written, 100, 1, mean, error, estimate, estimate, None, 1.0, drift)


def knots_of(levels: Sequence[LevelFit], *, rising: bool = True) -> Knots:
    return isotonic(
        np.array([x.written for x in levels]), np.array([x.mean for x in levels]),
        np.array([x.mean_error for x in levels]), rising=rising,
    )  # fmt: skip


def shaped(
    levels: list[LevelFit], at_0: float | None = None, *, rising: bool = True, is_target: bool = False,
    smoothed: bool = False,
) -> Shape:  # fmt: skip
    return shape_of(knots_of(levels, rising=rising), levels, at_0, is_target=is_target, smoothed=smoothed)


RISING = [level(1.0, 2.0, 0.2), level(2.0, 3.0, 0.3), level(3.0, 5.0, 0.4)]
DESCENDING = [level(1.0, 5.0, 0.4), level(2.0, 3.0, 0.3), level(3.0, 2.0, 0.2)]


def test_without_a_level_0_the_curve_runs_through_the_means() -> None:
    found = shaped(RISING)
    assert (found.at.tolist(), found.drives.tolist(), found.means.tolist()) == (
        [2.0, 3.0, 5.0],
        [1.0, 2.0, 3.0],
        [2.0, 3.0, 5.0],
    )
    assert [e.value for e in found.sd] == [0.2, 0.3, 0.4]
    assert (found.drift, found.nominal, found.separated, found.notes) == (None, False, False, ())


@pytest.mark.parametrize(("levels", "rising", "drive"), [(RISING, True, -1.0), (DESCENDING, False, 5.0)])
def test_a_level_0_below_the_data_lies_on_a_straight_line_and_its_noise_is_held(
    levels: list[LevelFit], rising: bool, drive: float
) -> None:
    found = shaped(levels, 0.0, rising=rising)
    assert found.at.tolist() == [0.0, 2.0, 3.0, 5.0]  # from level 0 to level 1, whichever way the drive runs
    assert sorted(found.drives) == found.drives.tolist()
    assert drive in found.drives
    assert float(np.interp(drive, found.drives, found.means)) == 0.0
    assert [e.value for e in found.sd] == pytest.approx([0.2, 0.2, 0.3, 0.4])
    (note,) = found.notes
    assert note.startswith("below the mean 2 the response is a straight line on to level 0 at 0; sd, drift and read no")


@pytest.mark.parametrize(("levels", "rising"), [(RISING, True), (DESCENDING, False)])
def test_a_level_0_within_the_data_cuts_what_lies_below_it(levels: list[LevelFit], rising: bool) -> None:
    found = shaped(levels, 2.5, rising=rising)
    assert found.at.tolist() == [2.5, 3.0, 5.0]
    at_0 = float(np.interp(2.5, [2.0, 3.0], [1.0, 2.0] if rising else [3.0, 2.0]))
    assert float(np.interp(at_0, found.drives, found.means)) == pytest.approx(2.5)
    assert found.notes == ("means below level 0 at 2.5 are cut off",)
    assert [e.value for e in found.sd] == pytest.approx([0.25, 0.3, 0.4])  # between the levels measured


def test_a_level_0_within_the_errors_of_the_lowest_mean_is_that_mean() -> None:
    found = shaped([level(0.0, 0.02), *RISING], 0.0)
    assert (found.at.tolist(), found.notes) == ([0.0, 2.0, 3.0, 5.0], ())


def test_a_range_that_falls_has_level_1_at_its_lowest_mean() -> None:
    """Level 0 at 6 kΩ, level 1 at 2 kΩ: a set cell conducts."""
    found = shaped(DESCENDING, 6.0, rising=False)
    assert found.at.tolist() == [6.0, 5.0, 3.0, 2.0]
    assert [e.value for e in found.sd] == pytest.approx([0.4, 0.4, 0.3, 0.2])
    assert (np.diff(found.drives) > 0.0).all()
    assert found.drives.tolist() == [0.5, 1.0, 2.0, 3.0]


def test_levels_of_reversed_mean_become_one_knot_with_the_mean_of_their_variances() -> None:
    levels = [level(1.0, 2.0, 0.2), level(2.0, 3.1, 0.3), level(3.0, 2.9, 0.5), level(4.0, 5.0, 0.4)]
    found = shaped(levels)
    assert found.at.tolist() == pytest.approx([2.0, 3.0, 5.0])
    assert found.sd[1].value == pytest.approx(math.sqrt((0.3**2 + 0.5**2) / 2))
    # the error of a mean of two variances: √((2 s δ)² + …) / 2, and of its root
    variance_error = math.hypot(2 * 0.3 * 0.03, 2 * 0.5 * 0.05) / 2
    assert found.sd[1].error == pytest.approx(variance_error / (2 * found.sd[1].value))
    assert found.notes == ("1 level was pooled with a neighbour of equal or reversed mean",)
    more = [*levels, level(5.0, 4.9), level(6.0, 4.8)]
    assert shaped(more).notes == ("3 levels were pooled with a neighbour of equal or reversed mean",)


def told(exponent: float, q: float) -> LevelDrift:
    return LevelDrift(50, exponent, 0.01, 0.02, 0.01, q, 0.03)


def test_drift_is_taken_from_the_levels_that_tell_and_held_between_and_beyond() -> None:
    """Level 1 was too noisy for an exponent (NaN), level 3 tells nothing at all."""
    levels = [
        level(1.0, 2.0, drift=told(math.nan, 0.4)), level(2.0, 3.0, drift=told(0.06, 0.2)),
        level(3.0, 4.0), level(4.0, 5.0, drift=told(0.10, 0.1)),
    ]  # fmt: skip
    found = shaped(levels)
    assert found.drift is not None
    mean, sd, q = ([e.value for e in values] for values in found.drift)
    assert mean == pytest.approx([0.06, 0.06, 0.08, 0.10])
    assert sd == pytest.approx([0.02] * 4)
    assert q == pytest.approx([0.4, 0.2, 0.15, 0.1])
    nothing = shaped([level(1.0, 2.0, drift=told(math.nan, 0.4)), level(2.0, 3.0), level(3.0, 4.0)])
    assert nothing.drift is not None
    assert [e.value for e in nothing.drift[0]] == [0.0, 0.0, 0.0]  # no exponent anywhere


def test_pooled_levels_share_the_mean_of_their_drifts() -> None:
    levels = [level(1.0, 2.0), level(2.0, 3.1, drift=told(0.04, 0.2)), level(3.0, 2.9, drift=told(0.08, 0.4)),
              level(4.0, 5.0)]  # fmt: skip
    found = shaped(levels)
    assert found.drift is not None
    assert found.drift[0][1].value == pytest.approx(0.06)
    assert found.drift[0][1].error == pytest.approx(math.hypot(0.01, 0.01) / 2)
    assert found.drift[2][1].value == pytest.approx(0.3)


def test_means_that_are_their_targets_make_these_the_levels() -> None:
    levels = [level(0.0, 0.01), level(1.0, 0.99), level(2.0, 2.01)]
    found = shaped(levels, is_target=True)
    assert found.nominal
    assert found.at.tolist() == [0.0, 1.0, 2.0]
    assert (found.chi_square, found.dof) == (pytest.approx(3.0), 3)
    assert found.notes == ("the means are the targets within their errors (χ² 3.0 of 3): levels are targets",)
    assert not shaped([level(0.0, 0.1), level(1.0, 0.99), level(2.0, 2.01)], is_target=True).nominal
    # a mean without an error can be within none
    assert not shaped([level(0.0, 0.0, error=0.0), *levels[1:]], is_target=True).nominal


def test_a_smooth_curve_passes_through_the_knots_and_stays_monotone() -> None:
    found = shaped(RISING, smoothed=True)
    assert len(found.drives) == 4 * 2 + 1
    for knot, mean in zip([1.0, 2.0, 3.0], [2.0, 3.0, 5.0], strict=True):
        assert float(found.means[found.drives == knot][0]) == mean
    assert (np.diff(found.means) > 0.0).all()


def close_targets(seed: int) -> Measurements:
    """Targets 2 and 2.02 µS with a noise of 0.3: their means often stand in the wrong order."""
    targets = np.repeat([0.0, 1.0, 2.0, 2.02, 3.0, 4.0], 40)
    return Measurements(targets, targets + np.random.default_rng(seed).normal(0.0, 0.3, 240), is_target=True)


@pytest.mark.parametrize("seed", [0, 3, 9])
def test_a_card_of_targets_is_usable_over_all_of_them_and_errs_in_the_sds_of_its_own_knots(seed: int) -> None:
    """Isotonic regression pools the reversed pair, so there are fewer knots than levels of the card."""
    fit = fit_card(close_targets(seed), name="close")
    levels = list(fit.report.levels)
    knots = knots_of(levels)
    assert fit.shape.nominal
    assert len(knots.drives) == 5 < len(fit.shape.at)
    assert fit.report.usable == (0.0, 4.0)
    sds = np.array([math.sqrt(np.mean([levels[i].sd.value ** 2 for i in of])) for of in knots.of])
    np.testing.assert_allclose(fit.shape.sd_at_knots, sds, rtol=1e-9)
    assert fit.report.interpolation_error == pytest.approx(interpolation_error(knots, sds))


def test_targets_pooled_at_the_end_of_the_range_stay_usable() -> None:
    """Two last means in the wrong order: the isotonic knot stands at the inner one, the card's level 1 at the outer."""
    generator = np.random.default_rng(0)
    targets = np.repeat([0.0, 1.0, 2.0, 2.02], 40)
    read = targets + generator.normal(0.0, 0.3, 160)
    read[120:] -= read[120:].mean() - read[80:120].mean() + 0.05
    fit = fit_card(Measurements(targets, read, is_target=True), name="ends")
    assert fit.shape.nominal
    assert fit.report.usable == (0.0, 2.02)
    assert fit.card.level.at_1 == 2.02


def test_the_written_card_has_the_curves_of_the_shape_at_every_knot() -> None:
    generator = np.random.default_rng(3)
    volts = np.repeat([1.0, 2.0, 3.0, 4.0], 60)
    measured = Measurements(volts, 9.0 - 2.0 * volts + generator.normal(0.0, 0.05, 240), is_target=False)
    for options in (FitOptions(), FitOptions(at_0=0.0), FitOptions(at_0=12.0), FitOptions(curve="isotonic")):
        fit = fit_card(measured, name="falling", options=options)
        card = Card.from_text(fit.text)
        x = np.array([card.level.from_physical(value) for value in fit.shape.at])
        span = abs(card.level.at_1 - card.level.at_0)
        np.testing.assert_allclose(card.programming_sd(np.clip(x, 0, 1)) * span, [e.value for e in fit.shape.sd],
                                   rtol=1e-4)  # fmt: skip
        assert card.drive is not None
        np.testing.assert_allclose(card.drive.values, fit.shape.drives, rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(card.drive.means, fit.shape.means, atol=1e-6)
        order = np.argsort(fit.shape.means)
        lowest = np.interp(card.level.at_0, fit.shape.means[order], fit.shape.drives[order])
        assert float(card.drive_for(0.0)) == pytest.approx(float(lowest), abs=1e-6)


def test_leaving_a_knot_out_is_measured_in_its_own_sd() -> None:
    """Of the parabola 0, 1, 4, 9 the monotone cubic through the others misses each inner knot by a known amount."""
    knots = Knots(np.arange(4.0), np.arange(4.0) ** 2, tuple(np.array([i]) for i in range(4)), 0.0, 0)
    one, half = (interpolation_error(knots, np.full(4, sd)) for sd in (1.0, 0.5))
    assert half == pytest.approx(2.0 * one)
    assert 0.0 < one < 1.0
    assert interpolation_error(knots, np.zeros(4)) == 0.0
    assert math.isnan(interpolation_error(Knots(np.arange(2.0), np.arange(2.0), (), 0.0, 0), np.ones(2)))


def test_a_smooth_curve_of_a_straight_line_is_the_line() -> None:
    knots = Knots(np.array([0.0, 1.0, 4.0]), np.array([1.0, 3.0, 9.0]), (), 0.0, 0)
    drives, means = smooth(knots, pieces=5)
    np.testing.assert_allclose(means, 1.0 + 2.0 * drives, rtol=1e-12)
    assert len(drives) == 11
