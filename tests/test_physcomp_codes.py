import numpy as np
import pytest

import devices
from physcomp.codes import Digital, Medium, fit_scales, parse
from physcomp.codes.base import bfloat16_to_bits, bits_to_bfloat16, to_bfloat16
from physcomp.codes.digital import pack_digits, unpack_digits
from physcomp.codes.menu import DEFAULT, part_of, read_menu

FIXED = [name for name in DEFAULT if not parse(name).streams]  # whose bits do not depend on the weights
NAMES = (
    *FIXED,
    "digital(2)",
    "digital(2.81)",
    "sparse(50,digital(3))",
    "digital(4)",
    "analog(2,plain)",
    "analog(2,pair)",
    "hybrid(1,1)",
    "float32",
)
ANALOG = [name for name in NAMES if name.startswith(("analog", "hybrid"))]
CARDS = [
    ("pcm-zarcone:one-device", 0.0),
    ("pcm-zarcone:aligned", 0.0),
    ("pcm-nandakumar", 0.0),
    ("pcm-nandakumar", 86400.0),
]


def medium_of(card: str, written_for_s: float = 0.0, read_time_s: float | None = None) -> Medium:
    return Medium(devices.load_card(card), written_for_s, read_time_s)


def round_trip(code, rows, scales, medium, seed=0):
    """Encode, programme, read at the medium's time, decode."""
    encoded = code.encode(rows, scales, medium)
    cells = devices.program(medium.card, encoded.levels, seed=seed)
    time = medium.written_for_s if medium.read_time_s is None else medium.read_time_s
    read = type(encoded)(encoded.bits, cells.read(time_s=time))
    return encoded, code.decode(read, scales, rows.shape[1], medium)


@pytest.mark.parametrize("name", NAMES)
def test_a_round_trip_on_the_ideal_card_gives_the_stated_mean_exactly(name, rows):
    code, medium = parse(name), medium_of("ideal")
    scales = fit_scales(code, rows, np.ones(rows.shape), medium)
    mean, variance = code.error(rows, scales, medium)
    _, back = round_trip(code, rows, scales, medium)
    assert np.all(variance == 0)
    # float32 levels in [0, 1] and a float32 result: each rounds by at most 2^-24 of the scale, doubled by `plain`.
    np.testing.assert_allclose(back, rows + mean, atol=float(4 * 2**-24 * max(1, np.abs(rows).max())))


@pytest.mark.parametrize("name", NAMES)
def test_bits_and_cells_written_are_those_the_cost_counts(name, rows):
    code, medium = parse(name), medium_of("pcm-zarcone")
    scales = fit_scales(code, rows, np.ones(rows.shape), medium)
    encoded = code.encode(rows, scales, medium)
    assert encoded.bits.shape == (len(rows), code.digital_bits(rows.shape[1]))
    assert encoded.levels.shape == (len(rows), code.analog_cells(rows.shape[1]))
    assert set(np.unique(encoded.bits)) <= {0, 1}
    bits = encoded.bits.shape[1] + code.scale_bits
    assert code.cost(50, medium) == pytest.approx(bits / medium.bits_per_cell + encoded.levels.shape[1])


@pytest.mark.parametrize("name", ANALOG)
@pytest.mark.parametrize(("card", "time_s"), CARDS)
def test_mean_and_variance_of_read_back_are_the_stated_ones(name, card, time_s, rows):
    code, medium, chips = parse(name), medium_of(card, time_s), 400
    scales = fit_scales(code, rows, np.ones(rows.shape), medium)
    mean, variance = code.error(rows, scales, medium)
    copies = np.tile(rows, (chips, 1))
    _, back = round_trip(code, copies, np.tile(scales, chips), medium)
    error = (back.astype(np.float64) - copies).reshape(chips, *rows.shape)
    live = variance > 0
    # The mean of 400 chips is normal with sd √(variance / 400); 350 weights stay within 5 sd but for 2e-4.
    z = (error.mean(axis=0) - mean)[live] / np.sqrt(variance[live] / chips)
    assert np.abs(z).max() < 5
    # Averaged over 300 weights and 400 chips the relative variance has sd √(2/120000) = 0.4 % when normal, a few times
    # that with the tails that clamping and 1/f noise leave: 3 % is seven normal sd.
    assert (error.var(axis=0)[live] / variance[live]).mean() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("name", ["analog(1)", "analog(2,plain)", "analog(1,pair)", "hybrid(2,1)"])
def test_reading_at_another_time_than_written_for_has_the_stated_moments(name, rows):
    code, medium, chips = parse(name), medium_of("pcm-nandakumar", 0.0, 2.6e6), 400
    scales = fit_scales(code, rows, np.ones(rows.shape), medium)
    mean, variance = code.error(rows, scales, medium)
    _, back = round_trip(code, np.tile(rows, (chips, 1)), np.tile(scales, chips), medium)
    error = (back - np.tile(rows, (chips, 1))).reshape(chips, *rows.shape)
    z = (error.mean(axis=0) - mean)[variance > 0] / np.sqrt(variance[variance > 0] / chips)
    assert np.abs(z).max() < 5
    assert np.abs(mean[:-1]).max() > 1e-4  # drift that the one span does not undo is stated, not ignored


def test_sign_protection_halves_the_noise_of_a_plain_code_or_better(rows):
    medium = medium_of("pcm-zarcone")
    scales = np.abs(rows).max(axis=1)
    _, protected = parse("analog(1)").error(rows, scales, medium)
    _, plain = parse("analog(1,plain)").error(rows, scales, medium)
    assert protected.mean() < plain.mean() / 4


def test_three_cells_have_a_third_of_the_variance_of_one(rows):
    medium, scales = medium_of("pcm-nandakumar"), np.abs(rows).max(axis=1)
    _, one = parse("analog(1)").error(rows, scales, medium)
    _, three = parse("analog(3)").error(rows, scales, medium)
    np.testing.assert_allclose(three, one / 3)


@pytest.mark.parametrize("base", [2, 3, 5, 7, 11, 16, 255, 256, 65535])
def test_packed_digits_come_back_and_lose_less_than_three_percent_to_words(base):
    digits = np.random.default_rng(base).integers(0, base, (3, 1000))
    bits = pack_digits(digits, base)
    np.testing.assert_array_equal(unpack_digits(bits, base, 1000), digits)
    assert bits.shape[1] <= 1.03 * 1000 * np.log2(base) + 1


def test_forty_ternary_digits_fit_into_sixty_four_bits():
    assert parse("digital(1.58)").digital_bits(40) == 64
    assert Digital(1.58).count == 3


def test_whole_bits_are_symmetric_integers_at_so_many_bits_a_weight():
    assert [parse(f"digital({b})").count for b in (1, 2, 3, 4, 8)] == [2, 3, 7, 15, 255]
    assert [parse(f"digital({b})").digital_bits(100) for b in (1, 2, 3, 4, 8)] == [100, 200, 300, 400, 800]


def test_bfloat16_keeps_its_sixteen_bits():
    values = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    rounded = to_bfloat16(values)
    np.testing.assert_array_equal(bits_to_bfloat16(bfloat16_to_bits(values)), rounded)
    assert np.abs(rounded / values - 1).max() <= 2**-8


def test_fitted_scale_is_the_best_of_all_shares(rows):
    code, medium = parse("analog(1)"), medium_of("pcm-zarcone")
    importance = np.random.default_rng(3).random(rows.shape)
    best = fit_scales(code, rows, importance, medium)

    def loss(scales):
        mean, variance = code.error(rows, scales, medium)
        return (importance * (mean**2 + variance)).sum(axis=1)

    for share in (0.3, 0.6, 1.0):
        assert np.all(loss(best) <= loss(to_bfloat16(share * np.abs(rows).max(axis=1))) * 1.05 + 1e-15)
    assert np.all(loss(best)[:-1] < loss(to_bfloat16(0.1 * np.abs(rows).max(axis=1)))[:-1])


@pytest.mark.parametrize("name", NAMES)
def test_a_code_is_called_by_its_name(name):
    assert parse(name).name == name


@pytest.mark.parametrize(
    "name", ["", "digital", "digital(0)", "digital(x)", "analog(0)", "analog(1,loud)", "hybrid(2)", "cells(3)"]
)
def test_what_is_no_code_is_refused_in_one_line(name):
    with pytest.raises(ValueError, match=r"code '.*': [^\n]+$"):
        parse(name)


def test_parts_of_the_menu_hold_pruned_and_their_kind():
    menu = read_menu((*DEFAULT, *NAMES[len(FIXED) :]))
    named = {
        part: [c.name for c, f in zip(menu, part_of(menu, part, len(DEFAULT)), strict=True) if f]
        for part in ("all", "digital", "analog", "analog(2)")
    }
    assert "float32" not in named["all"]
    assert len(named["all"]) == len(DEFAULT)
    assert {n.split("(")[0] for n in named["digital"]} == {"pruned", "digital", "stepped", "sparse"}
    assert {n.split("(")[0] for n in named["analog"]} == {"pruned", "analog"}
    assert named["analog(2)"] == ["analog(2)"]
    assert "hybrid(1,1)" not in named["all"]  # there for comparison only
    with pytest.raises(ValueError, match="'quantum' is no part"):
        part_of(menu, "quantum")


def test_a_menu_with_a_code_twice_is_refused():
    with pytest.raises(ValueError, match="only once"):
        read_menu(("pruned", "pruned"))
