"""Bits per cell: against closed forms, simulation, and the values computed from the same published moments."""

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.special import ndtr

from devices import Card, capacity, card_names, load_card, program, reliable_bits
from devices.channel.capacity import blahut_arimoto

DAY = 86400.0


def entropy(p: float) -> float:
    return -p * math.log2(p) - (1.0 - p) * math.log2(1.0 - p)


@pytest.mark.parametrize("p", [0.01, 0.11, 0.3])
def test_blahut_arimoto_finds_textbook_capacities(p: float) -> None:
    """Binary symmetric 1 - h(p), erasure 1 - p, Z-channel log2(1 + (1-p) p^(p/(1-p))) (Cover & Thomas, ch. 7)."""
    symmetric = np.array([[1 - p, p], [p, 1 - p]])
    erasure = np.array([[1 - p, p, 0.0], [0.0, p, 1 - p]])
    z_channel = np.array([[1.0, 0.0], [p, 1 - p]])
    assert blahut_arimoto(symmetric) == pytest.approx(1.0 - entropy(p), abs=1e-3)
    assert blahut_arimoto(erasure) == pytest.approx(1.0 - p, abs=1e-3)
    assert blahut_arimoto(z_channel) == pytest.approx(math.log2(1.0 + (1 - p) * p ** (p / (1 - p))), abs=1e-3)


# levels: bits at the best use, symbol error at equal use; our own earlier calculation from the 12 moments,
# Gaussian, levels even in the integral of dx / sigma
PUBLISHED = {
    "pcm-zarcone:aligned": (2.04, {2: (1.00, 2e-15), 4: (1.80, 0.028), 8: (1.85, 0.32), 16: (1.99, 0.63)}),
    "pcm-zarcone:one-device": (2.54, {2: (1.00, 0.0), 4: (1.99, 0.0013), 8: (2.30, 0.14), 16: (2.44, 0.48)}),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_zarcone_capacities_are_those_of_the_moments(name: str) -> None:
    analog, rows = PUBLISHED[name]
    found = capacity(name, 0.0)
    assert found.analog_bits == pytest.approx(analog, rel=0.01)
    for levels, (bits, error) in rows.items():
        row = found.levels_table[levels - 2]
        assert row.levels == levels
        assert row.bits == pytest.approx(bits, rel=0.01)
        # the errors are given to two digits and hang on how sd is interpolated: 8 % (2 levels: the last digits of 1)
        assert row.symbol_error == pytest.approx(error, rel=0.08 if levels > 2 else 0.5, abs=1e-20)


@pytest.mark.parametrize(
    ("name", "time_s"), [("pcm-zarcone", 0.0), ("pcm-zarcone:aligned", 0.0), ("pcm-nandakumar", DAY)]
)
def test_reliable_bits_are_the_best_row_and_below_the_analog_bits(name: str, time_s: float) -> None:
    found = capacity(name, time_s)
    assert [row.levels for row in found.levels_table] == list(range(2, 33))
    assert found.reliable_bits == max(row.bits for row in found.levels_table) == reliable_bits(name, time_s)
    assert found.levels_table[found.reliable_levels - 2].bits == found.reliable_bits
    assert found.reliable_bits < found.analog_bits
    assert all(row.bits <= math.log2(row.levels) for row in found.levels_table)


@pytest.mark.parametrize(
    ("name", "time_s", "levels"),
    [
        ("pcm-zarcone:one-device", 0.0, 8),
        ("pcm-zarcone:aligned", 0.0, 4),
        ("pcm-nandakumar", 0.0, 8),
        ("pcm-nandakumar", DAY, 8),
    ],
)
def test_symbol_error_is_what_simulated_cells_make(name: str, time_s: float, levels: int) -> None:
    """Exact for Gaussian reads (5 standard errors); the Gaussian channel of a drifting card is within 15 %."""
    row = capacity(name, time_s).levels_table[levels - 2]
    written = np.random.default_rng(1).integers(0, levels, 400_000)
    y = program(name, np.array(row.targets)[written], seed=3).read(time_s=time_s)
    error = float((np.searchsorted(row.thresholds, y) != written).mean())
    slack = 5.0 * math.sqrt(row.symbol_error / written.size)
    assert abs(error - row.symbol_error) < slack + (0.15 * row.symbol_error if name == "pcm-nandakumar" else 0.0)


def test_analog_bits_of_a_constant_gaussian_channel_lie_between_known_bounds() -> None:
    """sd 0.02: above the mutual information of a uniform input, below that plus the edge gain (Smith 1971: small)."""
    text = load_card("ideal").text.replace("value = 0.0", "value = 0.02").replace("reliable_bits = 4.0", "")
    found = capacity(Card.from_text(text), 0.0)
    u = np.linspace(-0.12, 1.12, 20_001)  # 6 sd beyond the ends, where the density is still above 0
    density = ndtr(u / 0.02) - ndtr((u - 1.0) / 0.02)  # of a uniform input, read
    information = -np.trapezoid(density * np.log2(density), u)
    uniform = information - 0.5 * math.log2(2.0 * math.pi * math.e * 0.02**2)
    assert uniform < found.analog_bits < uniform + 0.1


def test_capacity_falls_with_time() -> None:
    bits = [reliable_bits("pcm-nandakumar", time_s) for time_s in (0.0, 3600.0, DAY, 31536000.0)]
    assert all(a > b for a, b in pairwise(bits))


def test_an_ideal_cell_counts_by_its_cards_convention() -> None:
    found = capacity("ideal", 1e6)
    assert found.analog_bits == math.inf
    assert (found.reliable_bits, found.reliable_levels) == (4.0, 16)
    assert found.levels_table[14].bits == 4.0
    assert any("convention" in choice for choice in load_card("ideal").choices)


def test_a_noise_free_card_without_a_convention_is_refused() -> None:
    card = Card.from_text(load_card("ideal").text.replace("reliable_bits = 4.0", ""))
    with pytest.raises(ValueError, match=r"^card 'ideal' has no noise[^\n]*state reliable_bits"):
        capacity(card, 0.0)


def test_capacity_is_kept_and_refuses_a_time_outside_the_card() -> None:
    assert capacity("pcm-zarcone", 0.0) is capacity("pcm-zarcone:one-device", 0.0)
    with pytest.raises(ValueError, match="holds from time_s = 0 to 60 s"):
        capacity("pcm-zarcone", 61.0)


@pytest.mark.parametrize("name", card_names())
def test_reliable_bits_are_those_of_the_whole_table_though_most_rows_are_left_early(name: str) -> None:
    card = load_card(name)
    for time_s in {card.first_s, card.times.only_s[-1] if card.times.only_s else min(card.max_s, 86400.0)}:
        assert reliable_bits(card, time_s) == capacity(card, time_s).reliable_bits
