"""The parts that every card has, and the readers of its fields: closed forms, and one line for what is wrong."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import Card, Drive, Level, Source, Stuck, Temperature, Times, load_card
from devices.cards.fields import fields_of, positive, record_of, texts_of, value_of
from devices.cards.parts import curve_of, drive_of, levels_of, times_of

MICROSIEMENS = Level("conductance", "µS", 9.0, 88.2, clamp_at_0=False)
FALLING = Level("log10 resistance", "log10 Ω", 6.0, 4.0, clamp_at_0=False)


@given(st.floats(-100, 100), st.sampled_from([MICROSIEMENS, FALLING]))
def test_a_level_is_the_share_of_the_way_from_level_0_to_level_1(value: float, level: Level) -> None:
    x = level.from_physical(value)
    assert level.at_0 + x * (level.at_1 - level.at_0) == pytest.approx(value, abs=1e-9)
    assert (level.from_physical(level.at_0), level.from_physical(level.at_1)) == (0.0, 1.0)


def test_times_hold_up_to_their_end_or_at_stated_ones() -> None:
    times = Times(20.0, 60.0)
    assert [times.check("mine", value) for value in (0, 60, np.float32(3.5))] == [0.0, 60.0, 3.5]
    assert (str(times), str(Times(0.0, 8.0, (1.0, 8.0)))) == ("0 to 60 s", "only at 1, 8 s")
    assert Times(0.0, math.inf).check("mine", 1e30) == 1e30
    for value in (-1e-9, 60.1, math.nan, math.inf, None, "60"):
        with pytest.raises(ValueError, match=r"^card 'mine' holds from time_s = 0 to 60 s after programming, not at"):
            times.check("mine", value)
    with pytest.raises(ValueError, match=r"^card 'mine' holds only at time_s = 1, 8 s [^\n]* not at 2: read at one of"):
        Times(0.0, 8.0, (1.0, 8.0)).check("mine", 2)


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ({"t0_s": -1.0, "max_s": 5.0}, "time needs t0_s and max_s of 0 s or more, not -1 and 5"),
        ({"t0_s": 0.0, "max_s": math.nan}, "time.max_s needs a finite number, not nan"),
        ({"t0_s": math.inf, "max_s": 5.0}, "time.t0_s needs a finite number, not inf"),
        ({"t0_s": 0.0, "max_s": 5.0, "only_s": [1.0, 4.0]}, r"time.only_s needs times that rise .* max_s = 5, not \[1"),
        ({"t0_s": 0.0, "max_s": 5.0, "only_s": [5.0, 1.0]}, "time.only_s needs times that rise"),
        ({"t0_s": 0.0, "max_s": 5.0, "only_s": [1.0, 1.0, 5.0]}, "time.only_s needs times that rise"),
        ({"t0_s": 0.0, "max_s": 5.0, "only_s": [-1.0, 5.0]}, "time.only_s needs times that rise"),
        ({"t0_s": 0.0, "max_s": 5.0, "only_s": 5.0}, "time.only_s needs a list of numbers, not 5.0"),
        ({"max_s": 5.0}, "time needs the fields t0_s, max_s: missing t0_s, unknown none"),
        (5.0, "time needs a table with t0_s, max_s, not 5.0"),
    ],
)
def test_times_that_contradict_themselves_are_refused(table: object, line: str) -> None:
    with pytest.raises(ValueError, match=rf"^{line}[^\n]*$"):
        times_of(table)


def test_a_card_may_hold_for_ever() -> None:
    assert times_of({"t0_s": 0.0, "max_s": math.inf}).max_s == math.inf


def test_ageing_follows_arrhenius() -> None:
    """ln of the acceleration against 1/T is a line of slope -Ea/k (k = 8.617333262e-5 eV/K, CODATA 2018)."""
    law = Temperature(reference_k=358.0, activation_ev=2.25, min_k=300.0, max_k=400.0)
    kelvin = np.linspace(300.0, 400.0, 9)
    logs = np.log([law.acceleration(k) for k in kelvin])
    np.testing.assert_allclose(np.diff(logs) / np.diff(1.0 / kelvin), -2.25 / 8.617333262e-5, rtol=1e-9)
    assert law.acceleration(358.0) == 1.0


@pytest.mark.parametrize("numbers", [(358.0, 0.0, 338.0, 373.0), (400.0, 1.0, 338.0, 373.0), (1.0, 1.0, 0.0, 2.0)])
def test_a_temperature_range_without_its_reference_is_refused(numbers: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"^needs activation_ev above 0 and min_k, reference_k, max_k rising from abo"):
        Temperature(*numbers)


def test_stuck_shares_are_replaced_one_by_one() -> None:
    stuck = Stuck(0.1, 0.02)
    assert stuck.replaced(None, None) == stuck
    assert stuck.replaced(0.0, None) == Stuck(0.0, 0.02)
    assert stuck.replaced(None, 0.9) == Stuck(0.1, 0.9)
    assert [bool(shares) for shares in (Stuck(), Stuck(low=0.1), Stuck(high=0.1))] == [False, True, True]
    with pytest.raises(ValueError, match=r"together at most 1, not 0\.2 and 0\.9: pass for example stuck_low=0\.01$"):
        stuck.replaced(0.2, 0.9)


@pytest.mark.parametrize(
    ("values", "means", "line"),
    [
        ((1.0,), (1.0,), "needs as many values as means, two or more, not 1, 1"),
        ((1.0, 2.0), (1.0,), "needs as many values as means, two or more, not 2, 1"),
        ((1.0, 1.0), (1.0, 2.0), r"needs values that rise strictly, not \[1.0, 1.0\]"),
        ((1.0, 2.0, 3.0), (1.0, 3.0, 3.0), r"needs means that only rise or only fall \(cut to the monotone range\)"),
    ],
)
def test_a_drive_that_no_level_can_be_looked_up_in_is_refused(
    values: tuple[float, ...], means: tuple[float, ...], line: str
) -> None:
    with pytest.raises(ValueError, match=rf"^{line}[^\n]*$"):
        Drive("voltage", "V", values, means)


def test_the_means_of_a_drive_span_the_level_range_in_either_direction() -> None:
    table: dict[str, Any] = {"quantity": "voltage", "unit": "V", "values": [1.0, 2.0], "means": [4.0, 6.0]}
    assert drive_of(table, FALLING).means == (4.0, 6.0)
    with pytest.raises(ValueError, match=r"^drive\.means need to end at 6\.0 and 4\.0, not \[4\.0, 5\.0\]$"):
        drive_of({**table, "means": [4.0, 5.0]}, FALLING)
    with pytest.raises(ValueError, match=r"^drive needs the fields quantity, [^\n]* missing unit, unknown none$"):
        drive_of({name: value for name, value in table.items() if name != "unit"}, FALLING)


def test_a_falling_response_is_driven_back_to_its_levels() -> None:
    text = load_card("pcm-zarcone").text
    card = Card.from_text(text)
    assert card.drive is not None
    x = np.array([0.0, 0.13, 0.5, 0.77, 1.0])
    mean = np.interp(card.drive_for(x), card.drive.values, card.drive.means)  # what those voltages write
    np.testing.assert_allclose([card.level.from_physical(value) for value in mean], x, atol=1e-12)
    assert card.level.at_0 > card.level.at_1


def test_finite_levels_are_sorted_and_end_exactly_at_0_and_1() -> None:
    assert levels_of([4.0, 5.5, 6.0], FALLING) == (0.0, 0.25, 1.0)
    for values in ([9.0], [9.0, 9.0, 88.2], [9.0, 80.0], [10.0, 88.2]):
        with pytest.raises(ValueError, match=r"^programming\.levels needs two or more different levels from 9 to 8"):
            levels_of(values, MICROSIEMENS)


def test_a_spread_is_a_size_and_a_shift_keeps_the_direction_of_the_range() -> None:
    spec = {"kind": "constant", "unit": "log10 Ω", "value": 0.5}
    at = np.array(0.3)
    assert float(curve_of(spec, "sd", FALLING, in_levels=True)(at)) == 0.25
    assert float(curve_of(spec, "shift", FALLING, in_levels=True, signed=True)(at)) == -0.25
    with pytest.raises(ValueError, match=r"^q needs unit = one of 1, not 'log10 Ω'$"):
        curve_of(spec, "q", FALLING)
    with pytest.raises(ValueError, match=r"^sd needs finite values of 0 or more at every level, not -0\.25 to -0\.25$"):
        curve_of({**spec, "value": -0.5}, "sd", FALLING, in_levels=True)
    with pytest.raises(ValueError, match=r"^shift needs finite values at every level, not -inf to -inf$"):
        curve_of({**spec, "value": 1e300}, "shift", FALLING, in_levels=True, signed=True)


def test_fields_are_all_there_and_none_is_unknown() -> None:
    assert fields_of({"a": 1, "c": 3}, "it", ("a",), ("b", "c")) == {"a": 1, "c": 3}
    with pytest.raises(ValueError, match=r"^it needs the fields a, b: missing b, unknown z$"):
        fields_of({"a": 1, "z": 0}, "it", ("a", "b"))
    with pytest.raises(ValueError, match=r"^it needs the fields listed in the schema: missing none, unknown z$"):
        fields_of({"z": 0}, "it", ())
    with pytest.raises(ValueError, match=r"^it needs a table with a, not \[1\]$"):
        fields_of([1], "it", ("a",))


@pytest.mark.parametrize(
    ("value", "kind", "line"),
    [
        ("1", "float", "here needs a finite number, not '1'"),
        (1, "bool", "here needs true or false, not 1"),
        ("", "str", "here needs a text, not ''"),
        ([1.0, "2"], "tuple[float, ...]", "here needs a finite number, not '2'"),
        (1.0, "tuple[float, ...]", "here needs a list of numbers, not 1.0"),
    ],
)
def test_a_value_of_another_kind_is_refused(value: object, kind: str, line: str) -> None:
    with pytest.raises(ValueError, match=rf"^{line}$"):
        value_of(value, kind, "here")


def test_whole_numbers_of_toml_are_numbers() -> None:
    assert value_of([1, 2.5], "tuple[float, ...]", "here") == (1.0, 2.5)
    assert (positive(3, "here"), texts_of([], "here")) == (3.0, ())
    with pytest.raises(ValueError, match=r"^here needs more than 0, not -2$"):
        positive(-2, "here")
    with pytest.raises(ValueError, match=r"^here needs a list of texts, not 'one'$"):
        texts_of("one", "here")


def test_a_record_says_in_which_table_its_rule_was_broken() -> None:
    source = dict.fromkeys(("gives", "paper", "figure", "doi", "licence"), "x")
    assert record_of(Source, source, "sources 1") == Source("x", "x", "x", "x", "x")
    with pytest.raises(ValueError, match=r"^sources 1\.doi needs a text, not 3$"):
        record_of(Source, {**source, "doi": 3}, "sources 1")
    with pytest.raises(ValueError, match=r"^stuck stuck_low and stuck_high must be shares"):
        record_of(Stuck, {"low": 2.0, "high": 0.0}, "stuck")


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("reliable_bits = 4.0", "reliable_bits = 17.0", "reliable_bits needs at most 16, not 17: state what a real"),
        ("reliable_bits = 4.0", "reliable_bits = -1.0", "reliable_bits needs more than 0, not -1.0"),
        ("format = 1", 'format = "1"', "needs format = 1, the one this version reads, not '1'"),
        ("[level]", "[[level]]", "level needs a table with quantity, unit, at_0, at_1, clamp_at_0, not "),
    ],
)
def test_a_bad_ideal_card_is_refused_in_one_line(old: str, new: str, line: str) -> None:
    text = load_card("ideal").text
    assert text.count(old) == 1
    with pytest.raises(ValueError, match=rf"^card 'ideal': {line}[^\n]*$"):
        Card.from_text(text.replace(old, new))
