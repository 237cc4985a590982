"""Curves: each kind against its formula written out, and the tables made of them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.cards.curves import INTERVALS, Curve, interpolate, number, parse, sqrt_grid, tabulate

LEVELS = np.array([0.0, 1e-6, 0.01, 0.3, 1.0])


def make(**spec: object) -> Curve:
    return parse({"unit": "1", **spec}, units={"1": 1.0, "µS": 1 / 25}, to_level=lambda g: g / 25)


def test_each_kind_is_its_formula() -> None:
    x = LEVELS
    cases: list[tuple[Curve, object]] = [
        (make(kind="constant", value=2.0), np.full(5, 2.0)),
        (make(kind="polynomial", coefficients=[1.0, -2.0, 3.0]), 1.0 - 2.0 * x + 3.0 * x**2),
        (make(kind="points", at=[0.0, 12.5, 25.0], values=[1.0, 3.0, 2.0]), [1.0, 1.000004, 1.04, 2.2, 2.0]),
        (make(kind="points", at=[25.0, 0.0], values=[2.0, 1.0]), 1.0 + x),
        (make(kind="clipped-log", slope=-1.0, offset=1.0, low=1.5, high=5.0), [5.0, 5.0, 5.0, 1 - math.log(0.3), 1.5]),
        (make(kind="clipped-power", factor=2.0, exponent=-0.5, low=0.0, high=9.0), [9.0, 9.0, 9.0, 2 / 0.3**0.5, 2.0]),
        (make(kind="constant", unit="µS", value=5.0), np.full(5, 0.2)),
    ]  # fmt: skip
    for curve, expected in cases:
        np.testing.assert_allclose(curve(x), np.asarray(expected, dtype=np.float64), rtol=1e-12)


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ("1 + x", "needs a table with kind, unit and parameters, not '1 \\+ x'"),
        ({"kind": ["constant"], "unit": "1", "value": 1.0}, "needs kind = one of"),
        ({"kind": "constant", "unit": ["1"], "value": 1.0}, "needs unit = one of 1, not"),
        ({"kind": "constant", "unit": "1", "value": True}, "needs a finite number, not True"),
        ({"kind": "points", "unit": "1", "at": [0.0, 0.0, 1.0], "values": [1.0] * 3}, "strictly rising or falling"),
        ({"kind": "points", "unit": "1", "at": [0.1, 1.0], "values": [1.0, 1.0]}, "from one end of the level range"),
    ],
)  # fmt: skip
def test_a_bad_curve_is_refused_in_one_line(spec: object, line: str) -> None:
    with pytest.raises(ValueError, match=rf"^[^\n]*{line}[^\n]*$"):
        parse(spec, units={"1": 1.0}, to_level=lambda value: value)


@pytest.mark.parametrize("value", [math.nan, math.inf, "1", None, False])
def test_what_is_no_number_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="needs a finite number"):
        number(value)


def test_table_nodes_are_uniform_in_the_root_of_the_level() -> None:
    assert sqrt_grid().shape == (INTERVALS + 1,)
    np.testing.assert_allclose(np.diff(np.sqrt(sqrt_grid())), 1.0 / INTERVALS, rtol=1e-9)


@given(st.floats(0.0, 1.0))
def test_a_table_is_linear_in_the_root_of_the_level(x: float) -> None:
    table = tabulate(lambda x: 3.0 * np.sqrt(x) + 1.0)
    assert float(interpolate(table, np.array(x))) == pytest.approx(3.0 * math.sqrt(x) + 1.0, abs=3e-7)
