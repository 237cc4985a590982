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
    "sparse(50,analog(1,levels=4,raw))",
    "sparse(60,analog(1,split))",
    "sparse(60,analog(2,pair,clip=10%))",
    "sparse(50,hybrid(2,1,split,clip))",
    "sparse(50,mixed(digital(4),analog(1),25%))",
    "sparse(60,digital(2),5)",  # 50 weights: ten runs
    "sparse(60,digital(1.58),9)",  # five runs and a shorter one
    "sparse(50,digital(2),7)",
    "sparse(10,digital(2),9)",  # all but one run
    "sparse(60,analog(1),9)",
    "sparse(60,analog(2,pair),10)",
    "sparse(50,hybrid(2,1),3)",
    "sparse(50,analog(1,split,clip),7)",
    "sparse(50,analog(1),60)",  # longer than a row
)
DIGITAL = ("sparse(50,digital(1))", "sparse(75,digital(2))", "sparse(75,digital(2.58))", "sparse(90,digital(4))")
NOISY = [name for name in NAMES if "analog" in name or "hybrid" in name]
CARDS = [("pcm-zarcone", 0.0), ("pcm-nandakumar", 86400.0)]


def medium_of(card: str, time_s: float = 0.0) -> Medium:
    return Medium(devices.load_card(card), time_s)


def round_trip(code, rows, scales, medium):
    encoded = code.encode(rows, scales, medium)
    cells = devices.program(medium.card, encoded.levels, seed=3)
    read = type(encoded)(encoded.bits, cells.read(time_s=medium.written_for_s))
    return encoded, code.decode(read, scales, rows.shape[1], medium)


def fitted(code: Sparse, rows, medium):
    """Scales as targets have them: of the weights that are written."""
    kept = code.weights_kept(rows)
    return fit_scales(code.inner, kept, np.ones(kept.shape), medium)


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
    for scales in (fitted(code, rows, medium), fit_scales(code, rows, np.ones(rows.shape), medium)):
        mean, variance = code.error(rows, scales, medium)
        encoded, back = round_trip(code, rows, scales, medium)
        assert np.all(variance == 0)
        np.testing.assert_allclose(back, rows + mean, atol=float(4 * 2**-24 * np.abs(rows).max()))
    assert np.all(back[~code.mask(rows)] == 0)
    assert encoded.bits.shape == (len(rows), code.digital_bits(rows.shape[1]))
    assert encoded.levels.shape == (len(rows), code.analog_cells(rows.shape[1]))
    bits = encoded.bits.shape[1] + code.scale_bits
    assert code.cost(50, medium) == pytest.approx(bits / medium.bits_per_cell + encoded.levels.shape[1])
    assert code.name == name
    assert parse(code.name) == code


@pytest.mark.parametrize("name", DIGITAL)
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


@pytest.mark.parametrize("name", NOISY)
@pytest.mark.parametrize(("card", "time_s"), CARDS)
def test_moments_of_sparse_analog_read_back_are_the_stated_ones(name, card, time_s, rows):
    code, medium, chips = parse(name), medium_of(card, time_s), 400
    scales = fitted(code, rows, medium)
    mean, variance = code.error(rows, scales, medium)
    copies = np.tile(rows, (chips, 1))
    _, back = round_trip(code, copies, np.tile(scales, chips), medium)
    error = (back.astype(np.float64) - copies).reshape(chips, *rows.shape)
    live = variance > 0
    assert live.any()
    if "levels" not in name:  # a rarely wrong decision is far from normal: its sums are held to it below
        # The mean of 400 chips is normal with sd √(variance / 400); 200 weights stay within 5 sd but for 1e-4, 5.5
        # with the skew of drift.
        assert np.abs((error.mean(axis=0) - mean)[live] / np.sqrt(variance[live] / chips)).max() < 5.5
        # The variance of 400 chips, averaged over at least 30 weights, has sd √(2/12000) = 1.3 %: 10 % is seven.
        assert (error.var(axis=0)[live] / variance[live]).mean() == pytest.approx(1, abs=0.1)
    assert abs((error.mean(axis=0) - mean).sum()) < 5 * np.sqrt(variance.sum() / chips) + 1e-6
    assert error.var(axis=0).sum() == pytest.approx(variance.sum(), rel=0.1)
    assert np.all(error[:, ~live] == error[:1, ~live])


def test_whole_runs_are_kept_those_of_the_largest_sum_of_squares(rows):
    code = parse("sparse(60,digital(2),9)")  # six runs of 9, 9, 9, 9, 9 and 5 weights: two are kept
    for row, mask in zip(rows, code.mask(rows), strict=True):
        sums = [float((row[at : at + 9].astype(np.float64) ** 2).sum()) for at in range(0, 50, 9)]
        kept = [mask[at : at + 9] for at in range(0, 50, 9)]
        assert all(run.all() or not run.any() for run in kept)
        chosen = [number for number, run in enumerate(kept) if run.any()]
        best = max(itertools.combinations(range(6), 2), key=lambda pair: sum(sums[at] for at in pair))
        assert len(chosen) == 2
        assert sum(sums[at] for at in chosen) == pytest.approx(sum(sums[at] for at in best))


def test_a_shorter_last_run_costs_as_much_as_any_other_and_comes_back_where_it_was():
    code, medium = parse("sparse(60,analog(1),9)"), medium_of("ideal")
    rows = np.full((2, 50), 0.01, np.float32)
    rows[0, 45:], rows[1, :9] = 1.0, 1.0  # the last run, of five weights, is kept in the first row only
    rows[:, 9:18] = 0.5
    encoded, back = round_trip(code, rows, np.ones(2, np.float32), medium)
    assert encoded.levels.shape == (2, 18)
    assert code.digital_bits(50) == 4 + 18  # C(6, 2) = 15 masks take four bits; a sign for each weight written
    np.testing.assert_allclose(back, np.where(rows > 0.1, rows, 0), atol=1e-6)
    np.testing.assert_array_equal(code.among(rows, rows)[0], [0.5] * 9 + [1.0] * 5 + [0.0] * 4)


def test_nothing_is_filled_up_where_every_run_is_kept():
    assert [parse("sparse(1,digital(2),9)").kept(weights) for weights in (5, 9, 50)] == [5, 9, 50]
    assert parse("sparse(90,digital(2),9)").kept(9) == 9  # at least one run


def test_a_structured_mask_takes_a_fraction_of_the_bits():
    # 16 of 64 kernels: ⌈log2 C(64, 16)⌉ = 49 bits, where 144 of 576 single weights take 463.
    assert parse("sparse(75,digital(1),9)").mask_bits(576) == 49
    assert parse("sparse(75,digital(1),9)").digital_bits(576) == 49 + 144
    assert parse("sparse(75,digital(1))").mask_bits(576) == 463


def test_bits_of_a_sparse_code_are_its_masks_signs_and_digits():
    code = parse("sparse(50,analog(1,clip=10%))")
    # 50 of 100 weights, 5 of them outliers of 16 bits, 45 with a sign.
    assert code.mask_bits(100) == mask_bits(100, 50) + mask_bits(50, 5)
    assert code.digital_bits(100) == code.mask_bits(100) + 5 * 16 + 45
    assert code.sign_bits(100) == 45


@pytest.mark.parametrize("share", [0.5, 0.25, 0.1, 0.03])
@pytest.mark.parametrize("run", [1, 9])
def test_masks_written_take_the_entropy_of_their_share_and_never_a_percent_more(share, run):
    code = parse(f"sparse({100 * (1 - share):g},digital(1){f',{run}' if run > 1 else ''})")
    rows = np.random.default_rng(0).standard_normal((64, 576 * run)).astype(np.float32)
    bits = encode_mask(code._mask(rows)).size
    kept = code.kept_runs(576 * run) / 576
    entropy = -576 * 64 * (kept * np.log2(kept) + (1 - kept) * np.log2(1 - kept))
    assert 0.9 * entropy < bits <= entropy  # C(n, k) ≤ 2^(n h(k/n)); below by ½ log2(2π k (1 - k/n)) a group


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
        "sparse(50,float32)",
        "sparse(50,analog(1.5,sensitive))",
        "sparse(50,analog(1.5,sensitive,split))",
        "sparse(50,sparse(50,digital(1)))",
        "sparse(50,digital(0))",
        "sparse(50,digital(2),0)",
        "sparse(50,digital(2),-9)",
        "sparse(50,digital(2),9.5)",
        "sparse(50,digital(2),9,9)",
        "sparse(50,coded(3))",
    ],
)
def test_what_is_no_sparse_code_is_refused_in_one_line(name):
    with pytest.raises(ValueError, match=r"code '.*': [^\n]+$"):
        parse(name)
