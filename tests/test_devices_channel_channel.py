"""The channel of a cell: capacities against a plainly written algorithm, and where levels and thresholds are put."""

import math
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import ndtr

from devices import Card, capacity, capacity_study, card_names, load_card, practical_bits, program, response
from devices.channel.bch import smallest_t
from devices.channel.capacity import noise_free_row
from devices.channel.channel import (
    Channel,
    between,
    blahut_arimoto,
    mutual_information,
    simulated_below,
    soft_thresholds,
    symbol_error,
)

DAY = 86400.0
Floats = NDArray[np.float64]
CHANNELS = [("pcm-zarcone:aligned", 0.0), ("pcm-nandakumar", DAY), ("sonos:five-days", DAY), ("rram-cmo", 60.0)]
NOISY = [name for name in card_names() if name != "ideal"]


def plain_capacity(channel: Floats, steps: int = 20_000) -> tuple[float, float]:
    """Lower and upper bound in bits after Arimoto's iteration, written as in Cover & Thomas, ch. 10.8: one input and
    one output at a time."""
    inputs, outputs = channel.shape
    use = [1.0 / inputs] * inputs
    for _ in range(steps):
        seen = [sum(use[i] * channel[i, j] for i in range(inputs)) for j in range(outputs)]
        divergence = [sum(p * math.log2(p / seen[j]) for j, p in enumerate(row) if p > 0.0) for row in channel.tolist()]
        total = sum(u * 2.0**d for u, d in zip(use, divergence, strict=True))
        low, high = math.log2(total), max(divergence)
        if high - low < 1e-6:
            break
        use = [u * 2.0**d / total for u, d in zip(use, divergence, strict=True)]
    return low, high


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 6), st.integers(2, 7), st.floats(0.2, 3.0), st.integers(0, 2**32 - 1))
def test_the_capacity_is_that_of_the_plain_algorithm(inputs: int, outputs: int, spread: float, seed: int) -> None:
    channel = np.random.default_rng(seed).dirichlet(np.full(outputs, spread), size=inputs)
    low, high = plain_capacity(channel)
    assert low - 1e-3 <= blahut_arimoto(channel) <= high + 1e-9


@given(st.integers(2, 6), st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_equal_use_carries_the_entropy_of_the_read_less_that_of_the_noise(inputs: int, outputs: int, seed: int) -> None:
    channel = np.random.default_rng(seed).dirichlet(np.ones(outputs), size=inputs)
    seen = channel.mean(axis=0)
    entropy = -sum(p * math.log2(p) for p in seen)
    noise = -sum(p * math.log2(p) for p in channel.ravel() if p > 0.0) / inputs
    assert mutual_information(channel) == pytest.approx(entropy - noise, abs=1e-9)
    assert mutual_information(channel) <= blahut_arimoto(channel) + 1e-3


def test_the_symbol_error_is_what_is_read_as_something_else() -> None:
    channel = np.array([[0.9, 0.1, 0.0], [0.2, 0.5, 0.3], [0.0, 0.0, 1.0]])
    assert symbol_error(channel) == pytest.approx((0.1 + 0.5 + 0.0) / 3)
    assert symbol_error(np.eye(4)) == 0.0


def test_shares_below_become_the_bins_between_thresholds() -> None:
    bins = between(np.array([[0.25, 0.75], [0.0, 0.5]]))
    assert bins.tolist() == [[0.25, 0.5, 0.25], [0.0, 0.5, 0.5]]


@pytest.mark.parametrize(("name", "time_s"), CHANNELS)
def test_u_counts_the_standard_deviations_passed(name: str, time_s: float) -> None:
    """u = ∫ dm / σ from level 0.05 on, against a sum of 100,000 thin slices of the closed-form moments. (Where a card
    states no spread at level 0, as sonos does, the integral from 0 has no limit.)"""
    seen = response(name, time_s)
    channel = Channel.of(seen)
    x = np.linspace(0.05, 1.0, 100_001)
    sd = np.sqrt(seen.variance(0.5 * (x[1:] + x[:-1])))
    passed = np.concatenate([[0.0], np.cumsum(np.diff(seen.mean(x)) / sd)])
    at = np.linspace(0.05, 1.0, 21)
    found = np.interp(at, channel.x, channel.u)
    np.testing.assert_allclose(found - found[0], np.interp(at, x, passed), atol=1e-3 * passed[-1])
    assert (np.diff(channel.u) > 0.0).all()


@pytest.mark.parametrize(("name", "time_s"), CHANNELS)
@pytest.mark.parametrize("levels", [2, 5, 16])
def test_neighbouring_levels_and_their_threshold_are_equally_far_apart(name: str, time_s: float, levels: int) -> None:
    channel = Channel.of(response(name, time_s))
    u = channel.inputs(levels)
    np.testing.assert_allclose(np.diff(u), channel.u[-1] / (levels - 1), rtol=1e-9)
    mean, sd = channel.gaussians(u)
    thresholds = channel.thresholds(u)
    np.testing.assert_allclose((thresholds - mean[:-1]) / sd[:-1], (mean[1:] - thresholds) / sd[1:], rtol=1e-9)
    # so both are mistaken for each other equally often
    below = channel.below(u)(thresholds)
    over, under = 1.0 - np.diag(below), np.diag(below[1:])
    np.testing.assert_allclose(over, under, rtol=1e-6, atol=1e-15)
    # and what is written for an input reads its mean
    np.testing.assert_allclose(response(name, time_s).mean(channel.targets(u)), mean, atol=1e-6)


@pytest.mark.parametrize(("name", "time_s"), CHANNELS)
def test_read_levels_rise_and_reach_six_deviations_beyond_the_means(name: str, time_s: float) -> None:
    channel = Channel.of(response(name, time_s))
    edges = channel.read_levels(100)
    assert (np.diff(edges) > 0.0).all()
    assert edges[0] == pytest.approx(channel.mean[0] - 6.0 * channel.sd[0])
    assert edges[-1] == pytest.approx(channel.mean[-1] + 6.0 * channel.sd[-1])
    tails = channel.below(channel.inputs(2))(edges[[0, -1]])
    assert tails[0, 0] == pytest.approx(ndtr(-6.0))
    assert tails[1, 1] == pytest.approx(ndtr(6.0))


def test_analog_bits_do_not_hang_on_how_fine_inputs_and_reads_are() -> None:
    """A constant sd of a tenth of the range, on twice as many inputs and read bins: within both tolerances."""
    text = load_card("ideal").text.replace("value = 0.0", "value = 0.1").replace("reliable_bits = 4.0", "")
    found = capacity(Card.from_text(text), 0.0).analog_bits
    at, edges = np.linspace(0.0, 1.0, 161), np.linspace(-0.7, 1.7, 1201)
    finer = between(ndtr((edges[None, :] - at[:, None]) / 0.1))
    assert found == pytest.approx(blahut_arimoto(finer, 1e-4), abs=2e-3)
    assert found < math.log2(1.0 + 1.0 / (0.1 * math.sqrt(2.0 * math.pi * math.e)))  # McKellips 2004, a bound


@pytest.mark.parametrize("levels", [2, 3])
def test_the_next_soft_threshold_is_the_best_of_all_places(levels: int) -> None:
    channel = Channel.of(response("pcm-zarcone:aligned", 0.0))
    u = channel.inputs(levels)
    below, hard = channel.below(u), channel.thresholds(u)
    places = np.linspace(-0.3, 1.3, 101)

    def bits(extra: float) -> float:
        return mutual_information(between(below(np.sort([*hard, extra]))))

    found = soft_thresholds(below, hard, places, levels)
    (added,) = set(found) - set(hard)
    assert bits(added) == pytest.approx(max(bits(place) for place in places), abs=1e-12)


def test_no_more_thresholds_are_placed_than_there_are_places() -> None:
    channel = Channel.of(response("pcm-zarcone:aligned", 0.0))
    u = channel.inputs(2)
    hard, places = channel.thresholds(u), np.array([0.1, 0.9])
    found = soft_thresholds(channel.below(u), hard, places, 50)
    assert found.tolist() == sorted([*hard.tolist(), 0.1, 0.9])


def test_simulated_shares_are_counts_of_reads() -> None:
    seen, targets, cells = response("pcm-nandakumar", 60.0), (0.2, 0.7), 500
    edges = np.array([0.1, 0.2, 0.65, 0.7])
    found = simulated_below(seen, targets, cells, seed=3)(edges)
    reads = program("pcm-nandakumar", np.repeat(targets, cells), seed=3).read(time_s=60.0).reshape(2, cells)
    np.testing.assert_array_equal(found, (reads[:, :, None] <= edges).mean(axis=1))


def test_the_chosen_finite_levels_keep_both_ends_for_any_number() -> None:
    channel = Channel.of(response("rram-multilevel:8-levels", 0.0))
    for count in range(2, 9):
        chosen = np.searchsorted(channel.u, channel.inputs(count))
        assert (chosen[0], chosen[-1], len(set(chosen.tolist()))) == (0, 7, count)

        def least(picked: tuple[int, ...]) -> float:
            apart = [(channel.mean[b] - channel.mean[a]) / (channel.sd[a] + channel.sd[b]) for a, b in pairwise(picked)]
            return min(apart)

        best = max(least((0, *middle, 7)) for middle in combinations(range(1, 7), count - 2))
        assert least(tuple(chosen.tolist())) == pytest.approx(best)


@pytest.mark.parametrize(("bits", "levels"), [(0.5, 2), (1.0, 2), (3.2, 9), (6.0, 64), (16.0, 65_536)])
def test_a_card_without_noise_holds_what_it_states_whatever_that_is(bits: float, levels: int) -> None:
    card = Card.from_text(load_card("ideal").text.replace("reliable_bits = 4.0", f"reliable_bits = {bits}"))
    whole, code = capacity(card, 0.0), practical_bits(card, 0.0)
    assert (whole.reliable_bits, whole.reliable_levels) == (bits, levels)
    assert (code.bits_per_cell, code.levels, code.t, code.parity_bits) == (bits, levels, 0, 0)
    assert len(code.targets) == levels == len(code.thresholds) + 1
    row = noise_free_row(levels)
    assert (code.targets, code.thresholds) == (row.targets, row.thresholds)
    np.testing.assert_allclose(np.diff(row.targets), 1.0 / (levels - 1), rtol=1e-6)


@pytest.mark.parametrize("name", NOISY)
def test_a_practical_code_errs_in_simulated_cells_as_it_says(name: str) -> None:
    """200,000 cells over the levels used equally often: the share read wrong, within 5 of its standard errors."""
    card, n = load_card(name), 200_000
    code = practical_bits(card, card.first_s)
    written = np.arange(n) % code.levels
    reads = program(card, np.array(code.targets, dtype=np.float32)[written], seed=41).read(time_s=card.first_s)
    seen = np.searchsorted(np.array(code.thresholds), reads)
    error = float((seen != written).mean())
    assert error == pytest.approx(code.raw_symbol_error, abs=5.0 * math.sqrt((code.raw_symbol_error + 1 / n) / n))
    # Gray code: a neighbour costs one of log2 L bits, others more
    assert code.raw_bit_error >= code.raw_symbol_error / math.log2(code.levels) * (1 - 1e-9)
    assert code.raw_bit_error <= code.raw_symbol_error * (1 + 1e-9)
    assert len(code.thresholds) == code.levels - 1
    assert all(a < b for a, b in pairwise(code.thresholds))


def test_more_errors_need_more_parity() -> None:
    rates = np.geomspace(1e-8, 0.012, 40)
    needed = [smallest_t(float(rate)) for rate in rates]
    assert all(a is not None and b is not None and a <= b for a, b in pairwise(needed))
    assert needed[0] < needed[-1]


@pytest.mark.parametrize("cells", [0, -5, 1.5, "many"])
def test_cells_a_level_that_are_no_number_are_refused(cells: object) -> None:
    with pytest.raises(ValueError, match=r"^cells_a_level must be a whole number from 1 on, not [^\n]*: 100000 make"):
        capacity_study("pcm-zarcone", cells_a_level=cells)  # type: ignore[arg-type]
