"""What happens to a level with time: relaxation and read noise against their formulas, and drift that ends at 0."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from devices import Card, Level, ReadNoise, Times, check_card, load_card, program, response
from devices.cards.curves import Constant, Polynomial, sqrt_grid
from devices.cards.drift import drift_of
from devices.cards.read_noise import read_noise_of, rereads_of
from devices.cards.relaxation import AtTimes, LogTime, PowerTime, relaxation_of

DAY = 86400.0
LEVEL = Level("conductance", "µS", 0.0, 20.0, clamp_at_0=False)
FALLING = Level("resistance", "kΩ", 20.0, 0.0, clamp_at_0=False)
X = np.array([0.0, 0.25, 1.0])


def constant(value: float, unit: str = "µS") -> dict[str, Any]:
    return {"kind": "constant", "unit": unit, "value": value}


def test_log_time_moves_by_the_logarithm_of_the_seconds() -> None:
    law = LogTime(Constant(-0.01), Constant(0.02), Polynomial((0.0, 0.001)))
    for t_s in (1.0, math.e, 60.0, DAY):
        np.testing.assert_allclose(law.shift(X, t_s), -0.01 * math.log(t_s), atol=1e-15)
        np.testing.assert_allclose(law.spread(X, t_s), 0.02 + 0.001 * X * math.log(t_s), rtol=1e-12)


def test_power_time_reaches_its_amplitude_at_its_scale() -> None:
    law = PowerTime(Polynomial((0.1, 0.2)), scale_s=3600.0, power=0.8)
    np.testing.assert_allclose(law.spread(X, 3600.0), 0.1 + 0.2 * X, rtol=1e-12)
    np.testing.assert_allclose(law.spread(X, 36_000.0) / law.spread(X, 3600.0), 10.0**0.8, rtol=1e-12)
    assert not law.spread(X, 0.0).any()
    assert not law.shift(X, 1e9).any()


@settings(max_examples=60, deadline=None)
@given(st.floats(0.0, 300.0))
def test_measured_times_are_met_and_joined_by_straight_lines(t_s: float) -> None:
    """The total sd, √(programming² + spread²), is what was published at each time and linear between."""
    programming = Constant(0.03)
    law = AtTimes(
        programming, (0.0, 100.0, 300.0), (programming, Constant(0.05), Constant(0.06)),
        (Constant(0.0), Constant(-0.02), Constant(0.04)),
    )  # fmt: skip
    total = np.sqrt(0.03**2 + law.spread(X, t_s) ** 2)
    np.testing.assert_allclose(total, np.interp(t_s, [0.0, 100.0, 300.0], [0.03, 0.05, 0.06]), rtol=1e-9)
    np.testing.assert_allclose(law.shift(X, t_s), np.interp(t_s, [0.0, 100.0, 300.0], [0.0, -0.02, 0.04]), atol=1e-12)


def test_a_shift_in_the_unit_of_a_falling_range_turns_its_sign() -> None:
    """A resistance that rises by 2 kΩ moves down from level 1 at 0 kΩ to level 0 at 20 kΩ."""
    table = {"kind": "at-times", "at": [{"time_s": 10.0, "sd": constant(2.0, "kΩ"), "shift": constant(2.0, "kΩ")}]}
    law = relaxation_of(table, FALLING, Times(0.0, 10.0), Constant(0.05))
    np.testing.assert_allclose(law.shift(X, 10.0), -0.1, rtol=1e-12)
    np.testing.assert_allclose(law.spread(X, 10.0), math.sqrt(0.1**2 - 0.05**2), rtol=1e-12)


def test_reads_before_the_first_further_time_start_from_programming() -> None:
    card = load_card("sonos:five-days")
    x = np.linspace(0.05, 1.0, 12)
    np.testing.assert_array_equal(response(card, 0.0).mean(x), np.interp(x, x, response(card, 0.0).mean(x)))
    assert card.relaxation is not None
    assert not card.relaxation.shift(sqrt_grid(), 0.0).any()
    assert not card.relaxation.spread(sqrt_grid(), 0.0).any()
    sds = [np.sqrt(response(card, days * DAY).variance(x)) for days in (0, 0.5, 1, 2, 3, 4, 5)]
    assert (np.diff(sds, axis=0) > 0.0).all()


RELAXATIONS: list[tuple[object, str]] = [
    ("none", "relaxation needs kind = one of log-time, power-time, at-times, not None"),
    ({"kind": "log-time"}, "relaxation needs the fields kind, shift_per_log, .* missing shift_per_log, spread_at_1_s"),
    ({"kind": "power-time", "amplitude": constant(1.0), "scale_s": 0.0, "power": 1.0},
     "relaxation.scale_s needs more than 0, not 0.0"),
    ({"kind": "power-time", "amplitude": constant(-1.0), "scale_s": 1.0, "power": 1.0},
     "relaxation.amplitude needs finite values of 0 or more"),
    ({"kind": "power-time", "amplitude": constant(1.0), "scale_s": 1e-3, "power": 80.0},
     "relaxation needs a finite shift and spread until time.max_s = 100 s, not inf: lower max_s or correct the curves"),
    ({"kind": "log-time", "shift_per_log": constant(-1e41), "spread_at_1_s": constant(0.1),
      "spread_per_log": constant(0.1)}, "relaxation.shift_per_log needs finite values"),
    ({"kind": "log-time", "shift_per_log": constant(-3e38 * 20), "spread_at_1_s": constant(0.1),
      "spread_per_log": constant(0.1)}, r"relaxation needs a finite shift .* not 1\.38\S*e\+39"),
    ({"kind": "at-times", "at": []}, r"relaxation needs at least one \[\[relaxation.at\]\] table with time_s and sd"),
    ({"kind": "at-times", "at": [{"time_s": 100.0}]}, "relaxation.at 1 needs the fields time_s, sd: missing sd"),
    ({"kind": "at-times", "at": [{"time_s": 50.0, "sd": constant(1.0)}]},
     r"relaxation.at needs times that rise from 0 s to time.max_s = 100, not \[50"),
    ({"kind": "at-times", "at": [{"time_s": 100.0, "sd": constant(0.5)}]},
     "relaxation.at 1.sd needs to be nowhere below programming.sd, since cells only spread: check it"),
]  # fmt: skip


@pytest.mark.parametrize(("table", "line"), RELAXATIONS)
def test_a_relaxation_that_cannot_be_is_refused_in_one_line(table: object, line: str) -> None:
    with pytest.raises(ValueError, match=rf"^{line}[^\n]*$"):
        relaxation_of(table, LEVEL, Times(1.0, 100.0), Constant(0.05))


def test_a_relaxation_that_grows_for_ever_is_refused() -> None:
    table = {"kind": "power-time", "amplitude": constant(1.0), "scale_s": 1.0, "power": 0.5}
    with pytest.raises(ValueError, match=r"finite shift and spread until time\.max_s = inf s, not inf: lower max_s"):
        relaxation_of(table, LEVEL, Times(0.0, math.inf), Constant(0.05))


@pytest.mark.parametrize("t_s", [20.0, 3600.0, DAY])
def test_read_noise_grows_as_the_integral_of_its_1_over_f_spectrum(t_s: float) -> None:
    """∫ df / f from 1 / (t + t_read) to 1 / (2 t_read) (Nandakumar et al. 2019), by quadrature in ln f."""
    noise = ReadNoise(t_read_s=250e-9, q=Constant(0.1), apart_s=1.0)
    low, high = 1.0 / (t_s + 250e-9), 1.0 / 500e-9
    whole = integrate.quad(lambda log_f: 1.0, math.log(low), math.log(high))[0]
    assert noise.growth(t_s) ** 2 == pytest.approx(whole)
    slow = integrate.quad(lambda log_f: 1.0, math.log(low), 0.0)[0]  # below 1 / apart_s: the same in both reads
    assert noise.common(t_s) == pytest.approx(slow / whole)


@given(st.floats(1e-9, 1.0), st.floats(2.0, 1e12), st.floats(0.0, 1e9))
def test_the_share_that_reads_have_in_common_is_a_share_and_only_grows(t_read: float, apart: float, t_s: float) -> None:
    noise = ReadNoise(t_read_s=t_read, q=Constant(0.1), apart_s=apart * t_read)
    early, late = noise.common(t_read + t_s), noise.common(t_read + 2.0 * t_s)
    assert 0.0 <= early <= late + 1e-12 <= 1.0 + 1e-12


def test_white_noise_never_grows_and_reads_share_none_of_it() -> None:
    white = ReadNoise(t_read_s=None, q=Constant(0.1))
    assert [white.growth(t_s) for t_s in (0.0, 1e9)] == [1.0, 1.0]
    assert (white.common(1e9), ReadNoise(1e-6, Constant(0.1)).common(1e9)) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ({"t_read_s": 1e-6}, r"read_noise needs q \(a share of the level read\), sd \(in levels\) or both: missing"),
        ({"q": constant(0.1, "µS")}, "read_noise.q needs unit = one of 1, not 'µS'"),
        (
            {"q": constant(0.1, "1"), "t_read_s": 0.0},
            "read_noise.t_read_s needs to lie above 0 s and within .* 20, not",
        ),
        ({"q": constant(0.1, "1"), "apart_s": 1.0}, "read_noise.apart_s needs 1/f noise and at least 2 t_read_s"),
        ({"q": constant(0.1, "1"), "t_read_s": 1e-6, "apart_s": 0}, "read_noise.apart_s needs more than 0, not 0"),
        ({"q": constant(0.1, "1"), "period": 1}, "read_noise needs the fields listed in the schema: .* unknown period"),
    ],
)
def test_read_noise_that_cannot_be_is_refused(table: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=rf"^{line}[^\n]*$"):
        read_noise_of(table, LEVEL, 20.0)


@pytest.mark.parametrize("part", ["clamped", "changing", "noisy"])
def test_a_correlation_of_reads_stands_alone(part: str) -> None:
    alone = {"clamped": False, "changing": False, "noisy": False}
    assert rereads_of({"correlation": 0.46}, **alone) == 0.46
    with pytest.raises(ValueError, match=r"^rereads needs a card without clamp_at_0, \[drift\], [^\n]*: drop it$"):
        rereads_of({"correlation": 0.46}, **{**alone, part: True})


def test_drift_needs_a_reference_read_and_both_exponents() -> None:
    exponents = {"exponent_mean": constant(0.05, "1"), "exponent_sd": constant(0.01, "1")}
    assert float(drift_of(exponents, LEVEL, 20.0).exponent_sd(np.array(0.5))) == 0.01
    with pytest.raises(ValueError, match=r"^drift needs time\.t0_s above 0 s, the time of the reference read, not 0$"):
        drift_of(exponents, LEVEL, 0.0)
    with pytest.raises(ValueError, match=r"^drift needs the fields [^\n]*: missing exponent_sd, unknown none$"):
        drift_of({"exponent_mean": constant(0.05, "1")}, LEVEL, 20.0)


@pytest.mark.parametrize("exponent", [2.0, 6.0, 6.5, 12.0, 20.0, 1e6])
def test_cells_that_drift_away_end_at_0_and_nowhere_else(exponent: float) -> None:
    """A year after 20 s is 20.6 doublings: from an exponent of 6.1 on, less is left than float32 can hold."""
    text = load_card("pcm-nandakumar").text
    line = next(row for row in text.splitlines() if row.startswith("exponent_mean"))
    constant_line = f'exponent_mean = {{ kind = "constant", unit = "1", value = {exponent!r} }}'
    card = Card.from_text(text.replace(line, constant_line))
    reads = program(card, np.full(1000, 0.7), seed=1).read(time_s=31536000.0).astype(np.float64)
    assert np.abs(reads).max() <= max(2.0 * (31536020.0 / 20.0) ** -(exponent - 0.1), 2.0**-124)
    assert np.isfinite(reads).all()


def test_a_card_that_hardly_relaxes_late_is_checked_without_an_error() -> None:
    text = load_card("rram-radar").text.replace("power = 0.8413", "power = 3.0")
    assert [row.time_s for row in check_card(Card.from_text(text)).moments] == [0.0, math.sqrt(3e7), 3e7]
