"""Shapes of a card's curves, each against its formula written another way, and what a bad one is told."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.cards.curves import KINDS, parse, sqrt_grid, tabulate
from devices.cards.shapes import (
    ClippedLog,
    ClippedPower,
    Constant,
    Curve,
    Joined,
    Log10,
    Nearest,
    OverPhysical,
    Points,
    Polynomial,
    Saturating,
    Scaled,
)

RANGES = [(0.0, 25.0), (9.0, 88.2), (5.731, 5.018), (-2.0, 3.0)]  # one of them falls


def from_physical(at_0: float, at_1: float) -> Callable[[float], float]:
    return lambda value: (value - at_0) / (at_1 - at_0)


def test_a_constant_keeps_the_shape_and_is_float64_even_of_whole_levels() -> None:
    found = Constant(0.25)(np.zeros((2, 3), dtype=np.int64))
    assert (found.shape, found.dtype) == ((2, 3), np.float64)
    assert (found == 0.25).all()


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=7), st.floats(0, 1))
def test_a_polynomial_is_the_sum_of_its_powers(coefficients: list[float], x: float) -> None:
    expected = math.fsum(c * x**k for k, c in enumerate(coefficients))
    assert float(Polynomial(tuple(coefficients))(np.array(x))) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("at_0", "at_1"), RANGES)
def test_points_pass_through_what_was_measured_whichever_way_the_range_runs(at_0: float, at_1: float) -> None:
    physical = at_0 + (at_1 - at_0) * np.array([0.0, 0.1, 0.45, 1.0])
    values = np.array([3.0, 1.0, 2.0, 5.0])
    for at, given_values in ((physical, values), (physical[::-1], values[::-1])):
        curve = Points(tuple(at), tuple(given_values)).on_levels(from_physical(at_0, at_1))
        np.testing.assert_allclose(curve(np.array([0.0, 0.1, 0.45, 1.0])), values, rtol=1e-9)
        # a straight line between neighbours: half-way is their mean
        np.testing.assert_allclose(curve(np.array([0.05, 0.275, 0.725])), [2.0, 1.5, 3.5], rtol=1e-9)


@pytest.mark.parametrize(("at_0", "at_1"), RANGES)
def test_nearest_takes_the_closest_point_and_half_way_the_upper_one(at_0: float, at_1: float) -> None:
    at = at_0 + (at_1 - at_0) * np.array([1.0, 0.0, 0.5])  # in any order
    curve = Nearest(tuple(at), (30.0, 10.0, 20.0)).on_levels(from_physical(at_0, at_1))
    x = np.linspace(0.0, 1.0, 997)
    away = np.abs(x[:, None] - np.array([0.0, 0.5, 1.0]))
    clear = np.abs(away[:, :2].min(axis=1) - 0.25) > 1e-6
    np.testing.assert_array_equal(curve(x)[clear], np.array([10.0, 20.0, 30.0])[away.argmin(axis=1)][clear])
    exact = Nearest((0.0, 0.5, 1.0), (10.0, 20.0, 30.0))
    assert exact(np.array([0.25, 0.75])).tolist() == [20.0, 30.0]


@given(st.floats(-3, 3).filter(lambda slope: abs(slope) > 0.1), st.floats(-1, 1))
def test_a_clipped_logarithm_ends_at_its_bound_at_level_0(slope: float, offset: float) -> None:
    curve = ClippedLog(slope, offset, low=-2.0, high=2.0)
    assert float(curve(np.array(0.0))) == (2.0 if slope < 0.0 else -2.0)
    assert float(curve(np.array(1.0))) == pytest.approx(offset)
    inside = math.exp((0.5 - offset) / slope)  # where the unclipped curve is 0.5
    if 1e-20 < inside < 1.0:
        assert float(curve(np.array(inside))) == pytest.approx(0.5, abs=1e-9)


def test_a_clipped_power_doubles_as_its_exponent_says_until_its_bound() -> None:
    curve = ClippedPower(factor=0.0088, exponent=-0.65, low=0.0, high=0.2)  # read noise of pcm-nandakumar
    x = np.geomspace(0.02, 0.5, 20)
    np.testing.assert_allclose(curve(x) / curve(2.0 * x), 2.0**0.65, rtol=1e-12)
    edge = (0.2 / 0.0088) ** (-1 / 0.65)
    assert curve(np.array([0.0, 0.99 * edge])).tolist() == [0.2, 0.2]
    assert float(curve(np.array(1.01 * edge))) < 0.2
    assert float(ClippedPower(1.0, 0.5, 0.1, 2.0)(np.array(0.0))) == 0.1


def test_log10_gains_its_factor_a_decade() -> None:
    curve = Log10(0.0277316)
    np.testing.assert_allclose(np.diff(curve(np.array([1.0, 10.0, 100.0]))), 0.0277316, rtol=1e-12)


def test_a_saturating_curve_starts_with_slope_height_over_scale_and_is_half_way_at_ln_2() -> None:
    curve = Saturating(height=20.0, scale=176.0)
    assert float(curve(np.array(1e-6))) == pytest.approx(1e-6 * 20.0 / 176.0, rel=1e-6)
    assert float(curve(np.array(176.0 * math.log(2.0)))) == pytest.approx(10.0)
    assert float(curve(np.array(1e5))) == pytest.approx(20.0)


def test_joined_curves_change_at_the_stated_argument_which_belongs_to_the_upper() -> None:
    curve = Joined(0.5, Constant(1.0), Polynomial((0.0, 4.0)))
    assert curve(np.array([0.0, np.nextafter(0.5, 0.0), 0.5, 1.0])).tolist() == [1.0, 1.0, 2.0, 4.0]


@given(st.sampled_from(RANGES), st.floats(0, 1))
def test_a_curve_over_the_physical_value_is_the_curve_there(limits: tuple[float, float], x: float) -> None:
    at_0, at_1 = limits
    inner = Polynomial((1.0, -2.0, 0.5))
    value = at_0 + (at_1 - at_0) * x
    found = Scaled(OverPhysical(inner, at_0, at_1 - at_0), 1 / abs(at_1 - at_0))(np.array(x))
    assert float(found) == pytest.approx((1.0 - 2.0 * value + 0.5 * value**2) / abs(at_1 - at_0), abs=1e-9)


SPECS: dict[str, dict[str, Any]] = {
    "constant": {"value": 2.0},
    "polynomial": {"coefficients": [1.0, 2.0]},
    "points": {"at": [0.0, 12.5, 25.0], "values": [1.0, 3.0, 2.0]},
    "clipped-log": {"slope": -1.0, "offset": 1.0, "low": 0.5, "high": 5.0},
    "clipped-power": {"factor": 2.0, "exponent": -0.5, "low": 0.0, "high": 9.0},
    "nearest": {"at": [0.0, 25.0], "values": [1.0, 3.0]},
    "log10": {"factor": 3.0},
    "saturating": {"height": 2.0, "scale": 0.3},
    "joined": {
        "at": 0.3,
        "below": {"kind": "constant", "value": 1.0},
        "above": {"kind": "joined", "at": 0.6, "below": {"kind": "constant", "value": 2.0},
                  "above": {"kind": "constant", "value": 3.0}},
    },
}  # fmt: skip


def parsed(spec: object) -> Curve:
    """The curve of a card from 0 to 25 µS; in µS it is divided by the range."""
    return parse(spec, units={"1": 1.0, "µS": 1 / 25}, to_level=lambda g: g / 25, physical=("µS", 0.0, 25.0))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_scales_with_its_unit_and_needs_each_of_its_fields(kind: str) -> None:
    fields = SPECS[kind]
    x = np.linspace(0.0, 1.0, 50)
    plain, in_unit = (parsed({"kind": kind, "unit": unit, **fields}) for unit in ("1", "µS"))
    np.testing.assert_allclose(in_unit(x), plain(x) / 25.0, rtol=1e-12)
    for name in fields:
        less = {key: value for key, value in fields.items() if key != name}
        with pytest.raises(ValueError, match=rf"^needs the fields [^\n]*; wrong or missing: {name}$"):
            parsed({"kind": kind, "unit": "1", **less})
    with pytest.raises(ValueError, match=r"^needs the fields [^\n]*; wrong or missing: colour$"):
        parsed({"kind": kind, "unit": "1", "colour": 1.0, **fields})


def test_curves_may_be_joined_in_more_than_two_pieces() -> None:
    curve = parsed({"kind": "joined", "unit": "1", **SPECS["joined"]})
    assert curve(np.array([0.1, 0.4, 0.8])).tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ({"kind": "constant", "value": [1.0]}, r"needs value = a number, not \[1.0\]"),
        ({"kind": "constant", "value": {"kind": "constant", "value": 1.0}}, "needs value = a number, not {"),
        ({"kind": "polynomial", "coefficients": 1.0}, "needs coefficients = a list of numbers, not 1.0"),
        ({"kind": "polynomial", "coefficients": []}, r"needs at least one coefficient, not \[\]"),
        ({"kind": "joined", "at": 0.5, "below": 1.0, "above": 2.0}, "needs below = a table with kind, not 1.0"),
        ({"kind": "joined", "at": 0.5, "below": {"kind": "points", "at": [0.0, 25.0], "values": [1.0, 1.0]},
          "above": {"kind": "constant", "value": 1.0}}, "needs no points inside another curve, not {"),
        ({"kind": "joined", "at": 0.5, "below": {"kind": "cubic"}, "above": {"kind": "constant", "value": 1.0}},
         "needs kind = one of constant, .*, not 'cubic'"),
        ({"kind": "nearest", "at": [0.0, 0.0], "values": [1.0, 2.0]}, "needs different 'at' and as many 'values', "
         "not 1 and 2"),
        ({"kind": "nearest", "at": [], "values": []}, "needs different 'at' and as many 'values', not 0 and 0"),
        ({"kind": "points", "at": [0.0], "values": [1.0]}, "needs two or more 'at' and as many 'values', not 1 and 1"),
        ({"kind": "clipped-power", "factor": 1.0, "exponent": 1.0, "low": 2.0, "high": 1.0},
         "needs low below high, not 2 and 1"),
        ({"kind": "saturating", "height": 1.0, "scale": -1.0}, "needs scale above 0, not -1"),
        ({"kind": "log10", "factor": math.inf}, "needs a finite number, not inf"),
        ({"kind": "constant", "value": 1.0, "over": "nA"}, "needs over = 1 or µS, not 'nA'"),
    ],
)  # fmt: skip
def test_a_curve_that_cannot_be_is_refused_in_one_line(spec: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=rf"^{line}[^\n]*$"):
        parsed({"unit": "1", **spec})


def test_a_table_that_overflows_float32_is_infinite_without_a_warning() -> None:
    table = tabulate(Constant(1e300))
    assert np.isinf(table).all()
    assert table.shape == sqrt_grid().shape
