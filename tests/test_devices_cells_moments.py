"""Mean and variance of a read in closed form: against numerical integration, and the inverse."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from devices import Card, card_names, load_card, response
from devices.cards.curves import interpolate
from devices.cells.moments import programming_table, read_tables
from devices.check import check_times

DAY = 86400.0


def density(z: float) -> float:
    return math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)


def integrated(x: float, time_s: float) -> tuple[float, float]:
    """Mean and variance of a read of the Nandakumar card by numerical integration over its normals."""
    card = load_card("pcm-nandakumar")
    at = np.array(x)
    tables = read_tables(card, time_s)
    assert tables is not None
    sd = float(interpolate(programming_table(card), at))
    mu, spread, noise = (
        0.0 if t is None else float(interpolate(t, at)) for t in (tables.drift_mean, tables.drift_sd, tables.noise)
    )

    def over(power: int) -> float:
        def programmed(z: float) -> float:
            return max(0.0, x + sd * z) ** power * density(z)

        def kept(z: float) -> float:
            return math.exp2(-power * abs(mu + spread * z)) * density(z)

        fold = -mu / spread if spread > 0.0 else -9.0
        p = integrate.quad(programmed, max(-9.0, -x / sd), 9.0, epsabs=1e-13)[0]
        f = integrate.quad(kept, -9.0, max(-9.0, fold), epsabs=1e-13)[0]
        return float(p * (f + integrate.quad(kept, max(-9.0, fold), 9.0, epsabs=1e-13)[0]))

    return over(1), over(2) * (1.0 + noise**2) - over(1) ** 2


@pytest.mark.parametrize("time_s", [0.0, 3600.0, DAY, 31536000.0])
@pytest.mark.parametrize("node", [0, 32, 128, 256, 512, 1024])  # of the table, so that no interpolation enters
def test_closed_form_is_the_integral(node: int, time_s: float) -> None:
    x = (node / 1024) ** 2
    seen = response("pcm-nandakumar", time_s)
    mean, variance = integrated(x, time_s)
    assert float(seen.mean(x)) == pytest.approx(mean, rel=1e-9)
    assert float(seen.variance(x)) == pytest.approx(variance, rel=1e-7)


def test_target_0_reads_a_half_normal_on_average() -> None:
    seen = response("pcm-nandakumar", 0.0)
    # +0.105 µS, sd 0.154 µS after programming (published values, 25 µS range); read noise adds 0.84² of the mean square
    assert 25.0 * seen.low == pytest.approx(0.105, abs=0.0005)
    square = 0.154**2 + 0.105**2
    expected = math.sqrt(square * (1.0 + (0.2 * 4.184) ** 2) - 0.105**2)
    assert 25.0 * math.sqrt(float(seen.variance(0.0))) == pytest.approx(expected, rel=0.01)


def test_a_card_without_clamp_and_drift_has_the_identity_for_mean() -> None:
    x = np.linspace(0.0, 1.0, 1001)
    for name in ("ideal", "pcm-zarcone:aligned", "pcm-zarcone:one-device"):
        seen = response(name, 0.0)
        # the moments are linear in √x between nodes 1/4096 apart: x is off by 1/4096² / 4 at most
        np.testing.assert_allclose(seen.mean(x), x, atol=1.5e-8)
        assert (seen.low, seen.high) == (0.0, 1.0)
    assert not response("ideal", 1e9).variance(x).any()


def test_one_device_spread_at_the_ends_is_the_measured_one() -> None:
    # 0.0068 and 0.040 decades at 0.70 V and 1.25 V, over a range of 0.713 decades
    sd = np.sqrt(response("pcm-zarcone", 0.0).variance([0.0, 1.0]))
    np.testing.assert_allclose(sd * 0.713, [0.0068, 0.040], rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(card_names()), st.integers(0, 2), st.floats(0.0, 1.0))
def test_the_inverse_undoes_the_mean(name: str, k: int, v: float) -> None:
    card = load_card(name)
    times = check_times(card)
    seen = response(name, times[min(k, len(times) - 1)])
    target = seen.inverse(seen.low + v * (seen.high - seen.low))
    assert 0.0 <= float(target) <= 1.0
    decoded = (float(seen.mean(target)) - seen.low) / (seen.high - seen.low)
    widest = max(np.diff(card.written_levels)) if card.written_levels else 0.0
    assert decoded == pytest.approx(v, abs=0.5 * widest + 1e-6 if widest else 1e-12)


def test_shapes_are_kept() -> None:
    seen = response("pcm-nandakumar", DAY)
    x = np.full((2, 3), 0.4, dtype=np.float32)
    assert seen.mean(x).shape == seen.variance(x).shape == seen.inverse(seen.mean(x)).shape == (2, 3)


def test_the_same_card_and_time_are_computed_once() -> None:
    card = load_card("pcm-nandakumar")
    assert response(card, DAY) is response(Card.from_text(card.text), DAY)
    assert response("pcm-nandakumar", DAY) is not response("pcm-nandakumar", DAY + 1.0)


def test_a_mean_that_falls_is_refused_in_one_line() -> None:
    text = load_card("pcm-nandakumar").text
    steep = 'exponent_mean = { kind = "polynomial", unit = "1", coefficients = [0.0, 0.5] }'
    line = next(row for row in text.splitlines() if row.startswith("exponent_mean"))
    card = Card.from_text(text.replace(line, steep))
    with pytest.raises(ValueError, match=r"^card 'pcm-nandakumar' at 86400 s: the mean read level must rise[^\n]*$"):
        response(card, DAY)
    response(card, 1.0)


def test_what_cannot_be_read_or_written_is_refused() -> None:
    seen = response("pcm-nandakumar", DAY)
    with pytest.raises(
        ValueError, match=r"^card 'pcm-nandakumar' at 86400 s reads 0\.0\d+ to 0\.6\d+ on average, not 1 to 1"
    ):
        seen.inverse(1.0)
    with pytest.raises(ValueError, match=r"levels must lie in \[0, 1\], not nan to nan"):
        seen.mean([0.5, math.nan])
    with pytest.raises(ValueError, match=r"levels must lie in \[0, 1\], not -0\.1 to -0\.1"):
        seen.variance(-0.1)
    with pytest.raises(ValueError, match="holds from time_s = 0"):
        response("pcm-zarcone", DAY)


def test_stuck_cells_add_two_points_to_the_distribution() -> None:
    """Of a cell with mean m, sd s: E = h m + b, E² = h (s² + m²) + b, with h healthy and b stuck at 1."""
    healthy = response("pcm-nandakumar", DAY)
    stuck = response("pcm-nandakumar", DAY, stuck_low=0.135, stuck_high=0.02)
    x = np.linspace(0.0, 1.0, 30)
    m, v = healthy.mean(x), healthy.variance(x)
    np.testing.assert_allclose(stuck.mean(x), 0.845 * m + 0.02, rtol=1e-6)
    np.testing.assert_allclose(stuck.variance(x) + stuck.mean(x) ** 2, 0.845 * (v + m**2) + 0.02, rtol=1e-4)


def test_the_stuck_cells_of_a_card_count_unless_others_are_given() -> None:
    text = load_card("rram-milo").text
    card = Card.from_text(text + "\n[stuck]\nlow = 0.1\n")
    assert float(response(card, 0.0).mean(1.0)) == pytest.approx(0.9)
    assert float(response(card, 0.0, stuck_low=0.0).mean(1.0)) == pytest.approx(1.0)


def test_a_card_whose_cells_are_all_stuck_has_no_rising_mean() -> None:
    with pytest.raises(ValueError, match=r"^card 'rram-milo' at 0 s: the mean read level must rise[^\n]*$"):
        response("rram-milo", 0.0, stuck_high=1.0)
