import itertools
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import devices
from physcomp.codes import Medium, Sparse, ZeroFree, fit_scales, parse
from physcomp.codes.masks import decode_mask, encode_mask, mask_bits

NAMES = (
    "sparse(50,digital(1))",
    "sparse(75,digital(2))",
    "sparse(75,digital(2.58))",
    "sparse(90,digital(4))",
    "sparse(50,analog(1))",
    "sparse(75,analog(2,plain))",
    "sparse(90,hybrid(2,1))",
)


def medium_of(card: str) -> Medium:
    return Medium(devices.load_card(card), 0.0)


def round_trip(code, rows, scales, medium):
    encoded = code.encode(rows, scales, medium)
    cells = devices.program(medium.card, encoded.levels, seed=3)
    read = type(encoded)(encoded.bits, cells.read(time_s=0.0))
    return encoded, code.decode(read, scales, rows.shape[1], medium)


@pytest.mark.parametrize(("weights", "kept"), [(w, k) for w in range(1, 9) for k in range(w + 1)])
def test_every_mask_has_a_number_of_its_own_that_leads_back_to_it(weights, kept):
    masks = np.zeros((comb(weights, kept), weights), bool)
    for mask, places in zip(masks, itertools.combinations(range(weights), kept), strict=True):
        mask[list(places)] = True
    bits = encode_mask(masks)
    assert bits.shape == (len(masks), mask_bits(weights, kept))
    assert len({row.tobytes() for row in bits}) == len(masks)
    np.testing.assert_array_equal(decode_mask(bits, weights, kept), masks)


@given(st.lists(st.booleans(), min_size=1, max_size=700))
def test_a_mask_of_any_length_comes_back(ones):
    mask = np.array([ones])
    np.testing.assert_array_equal(decode_mask(encode_mask(mask), len(ones), sum(ones)), mask)


def test_a_mask_takes_the_entropy_of_its_share_but_for_less_than_one_hundredth_bit_a_weight():
    # Stirling: log2 C(n, pn) = n h(p) - ½ log2(2π p (1-p) n) + O(1/n), here 5.4 bits below.
    share = 0.25
    entropy = -share * np.log2(share) - (1 - share) * np.log2(1 - share)
    assert mask_bits(576, 144) == np.ceil(576 * entropy - 0.5 * np.log2(2 * np.pi * share * (1 - share) * 576))


def test_masks_with_unlike_numbers_of_ones_are_refused():
    with pytest.raises(ValueError, match="equally many"):
        encode_mask(np.array([[True, False], [True, True]]))
    with pytest.raises(ValueError, match="keeps 3 of 2"):
        mask_bits(2, 3)


@pytest.mark.parametrize("name", NAMES)
def test_a_sparse_code_on_the_ideal_card_gives_the_stated_mean_exactly(name, rows):
    code, medium = parse(name), medium_of("ideal")
    scales = fit_scales(code, rows, np.ones(rows.shape), medium)
    mean, variance = code.error(rows, scales, medium)
    encoded, back = round_trip(code, rows, scales, medium)
    assert np.all(variance == 0)
    np.testing.assert_allclose(back, rows + mean, atol=float(4 * 2**-24 * np.abs(rows).max()))
    assert encoded.bits.shape == (len(rows), code.digital_bits(rows.shape[1]))
    assert encoded.levels.shape == (len(rows), code.analog_cells(rows.shape[1]))
    assert code.name == name


@pytest.mark.parametrize("name", [name for name in NAMES if "digital" in name])
def test_survivors_on_levels_are_read_back_exactly_from_noisy_cells(name):
    code, medium = parse(name), medium_of("pcm-zarcone")
    generator = np.random.default_rng(4)
    levels = np.arange(1, code.inner.count // 2 + 1) / (code.inner.count // 2)
    kept = code.kept(60)
    rows = np.zeros((5, 60), np.float32)
    for row in rows:
        signs = generator.choice([-1, 1], kept)
        row[generator.choice(60, kept, replace=False)] = 0.75 * signs * generator.choice(levels, kept)
    scales = np.full(5, 0.75, np.float32)
    _, back = round_trip(code, rows, scales, medium)
    np.testing.assert_array_equal(back, rows)


@pytest.mark.parametrize("name", ["sparse(50,analog(1))", "sparse(90,hybrid(2,1))"])
def test_moments_of_sparse_analog_read_back_are_the_stated_ones(name, rows):
    code, medium, chips = parse(name), medium_of("pcm-zarcone"), 400
    scales = fit_scales(code, rows, np.ones(rows.shape), medium)
    mean, variance = code.error(rows, scales, medium)
    copies = np.tile(rows, (chips, 1))
    _, back = round_trip(code, copies, np.tile(scales, chips), medium)
    error = (back.astype(np.float64) - copies).reshape(chips, *rows.shape)
    live = variance > 0
    # The mean of 400 chips is normal with sd √(variance / 400); 200 weights stay within 5 sd but for 1e-4.
    assert np.abs((error.mean(axis=0) - mean)[live] / np.sqrt(variance[live] / chips)).max() < 5
    # The variance of 400 chips, averaged over at least 30 weights, has sd √(2/12000) = 1.3 %: 10 % is seven of them.
    assert (error.var(axis=0)[live] / variance[live]).mean() == pytest.approx(1, abs=0.1)
    assert np.all(error[:, ~live] == error[:1, ~live])


def test_the_largest_weights_are_kept_and_the_first_of_equal_ones():
    row = np.array([[0.1, -0.5, 0.5, 0.5, 0.0, 0.2]], np.float32)
    assert Sparse(50, ZeroFree(1)).mask(row).tolist() == [[False, True, True, True, False, False]]
    assert Sparse(67, ZeroFree(1)).mask(row).tolist() == [[False, True, True, False, False, False]]


def test_zero_free_levels_are_an_even_number_around_zero():
    assert [ZeroFree(bits).count for bits in (1, 2, 2.58, 3, 4)] == [2, 4, 6, 8, 16]
    rows, scales = np.array([[-1.2, -0.6, -0.01, 0.01, 0.3, 0.9]], np.float32), np.ones(1, np.float32)
    read = ZeroFree(2).error(rows, scales, medium_of("ideal"))[0] + rows
    np.testing.assert_allclose(read, [[-1, -0.5, -0.5, 0.5, 0.5, 1]])


def test_a_quarter_of_the_weights_at_one_bit_takes_a_known_number_of_bits():
    assert parse("sparse(75,digital(1))").digital_bits(576) == 463 + 144
    assert parse("sparse(75,analog(1))").digital_bits(576) == 463 + 144
    assert parse("sparse(75,analog(1))").analog_cells(576) == 144


@pytest.mark.parametrize(
    "name",
    [
        "sparse(0,digital(1))",
        "sparse(100,digital(1))",
        "sparse(50)",
        "sparse(50,pruned)",
        "sparse(50,digital(0))",
        "sparse(50,coded(3))",
    ],
)
def test_what_is_no_sparse_code_is_refused_in_one_line(name):
    with pytest.raises(ValueError, match=r"code '.*': [^\n]+$"):
        parse(name)
