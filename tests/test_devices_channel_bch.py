import math

import galois
import numpy as np
import pytest

import devices
from devices.channel.bch import DATA_BITS, bit_error, calibrated, parity_bits, smallest_t, word_error
from devices.channel.channel import between, simulated_below
from devices.channel.read_distribution import share_below

CARDS = [
    ("pcm-zarcone:one-device", 0.0),  # one Gaussian
    ("pcm-nandakumar", 0.0),  # clamped, multiplied
    ("pcm-nandakumar", 86400.0),  # and drifted
    ("rram-cmo:accept-2-percent", 0.0),  # relaxed, added
    ("sonos:five-days", 86400.0),  # and shifted
]


@pytest.fixture(scope="module")
def bch() -> galois.BCH:
    """t = 5: an encoder and decoder of somebody else's."""
    return galois.BCH(1023, d=11)


def with_stuck_cells(low: float, high: float) -> devices.Card:
    text = devices.load_card("pcm-zarcone").text
    return devices.Card.from_text(text.replace("format = 1", f"format = 1\nstuck = {{low = {low}, high = {high}}}", 1))


def encoded(bch: galois.BCH, data: np.ndarray) -> np.ndarray:
    return np.asarray(bch.encode(galois.GF2(data)))


def decoded(bch: galois.BCH, words: np.ndarray) -> np.ndarray:
    return np.asarray(bch.decode(galois.GF2(words)))


def test_parity_bits_are_those_of_published_codes():
    # (1023, k) codes: Lin & Costello, Error Control Coding, 2nd ed. 2004, appendix C.
    published = {1: 1013, 2: 1003, 5: 973, 11: 913, 16: 863, 17: 858, 20: 828, 57: 513}
    assert {t: 1023 - parity_bits()[t] for t in published} == published


def test_word_error_is_the_sum_of_binomial_terms():
    for t, p in [(0, 1e-3), (3, 1e-4), (11, 7e-4), (30, 0.02)]:
        n = DATA_BITS + parity_bits()[t]
        terms = (math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(t + 1, n + 1))
        assert word_error(t, p) == pytest.approx(math.fsum(terms), rel=1e-9)


def test_smallest_t_is_the_first_that_reaches_the_word_error_rate():
    for p in np.geomspace(1e-6, 1e-2, 20):
        t = smallest_t(p)
        assert t is not None
        assert word_error(t, p) <= 1e-12 < word_error(t - 1, p)
    assert smallest_t(0.0) == 0


def test_bit_error_counts_the_bits_of_every_wrong_read():
    rng = np.random.default_rng(3)
    channel = rng.dirichlet(np.ones(8), size=8)
    gray = ["000", "001", "011", "010", "110", "111", "101", "100"]
    wrong = sum(
        channel[i, j] * sum(a != b for a, b in zip(gray[i], gray[j], strict=True)) for i in range(8) for j in range(8)
    )
    assert bit_error(channel) == pytest.approx(wrong / 24)


@pytest.mark.parametrize(("card", "time_s"), CARDS)
def test_the_share_below_is_that_of_simulated_cells(card, time_s):
    seen, cells = devices.response(card, time_s), 200_000
    targets = np.array([0.0, 0.05, 0.3, 0.9])
    edges = np.outer(seen.mean(targets), [0.8, 0.97, 1.1]).ravel()
    exact = share_below(seen, targets, edges)
    counted = simulated_below(seen, tuple(targets), cells, seed=4)(edges)
    # 48 binomial counts: 4.5 sd leave all inside but for 4e-4; five cells of slack where hardly one is expected.
    assert (np.abs(counted - exact) < 4.5 * np.sqrt(exact * (1 - exact) / cells) + 5 / cells).all()


def test_stuck_cells_add_their_two_points():
    targets, edges = np.array([0.5]), np.array([-0.01, 0.0, 0.999, 1.0])
    healthy = share_below(devices.response("pcm-zarcone", 0.0), targets, edges)
    stuck = share_below(devices.response(with_stuck_cells(0.1, 0.05), 0.0), targets, edges)
    np.testing.assert_allclose(stuck[0], 0.85 * healthy[0] + [0, 0.1, 0.1, 0.15], atol=1e-12)


@pytest.mark.parametrize(("card", "time_s"), CARDS)
def test_calibrated_thresholds_confuse_fewer_reads(card, time_s):
    seen, row = devices.response(card, time_s), devices.capacity(card, time_s).levels_table[2]
    targets, before = np.array(row.targets), np.array(row.thresholds)
    after = calibrated(seen, targets, before)
    errors = [bit_error(between(share_below(seen, targets, edges))) for edges in (before, after)]
    assert errors[1] <= errors[0] * (1 + 1e-9)
    assert (np.diff(after) > 0).all()


def test_a_practical_code_holds_fewer_bits_than_the_bound():
    for name, time_s in CARDS:
        code = devices.practical_bits(name, time_s)
        assert 1 <= code.bits_per_cell < devices.reliable_bits(name, time_s)
        assert code.word_error <= 1e-12
        expected = math.log2(code.levels) * 512 / (512 + code.parity_bits)
        assert code.bits_per_cell == pytest.approx(expected)


def test_levels_beyond_correction_are_named_and_fewer_taken():
    code = devices.practical_bits("pcm-zarcone:one-device", 0.0)
    assert (code.levels, code.beyond_correction) == (4, (8, 16))


def test_a_card_that_two_levels_do_not_save_is_refused():
    with pytest.raises(ValueError, match=r"even two levels have more wrong bits \(0.2\)"):
        devices.practical_bits(with_stuck_cells(0.2, 0.2), 0.0)


def test_the_ideal_card_keeps_its_convention():
    code = devices.practical_bits("ideal", 0.0)
    assert (code.bits_per_cell, code.t, code.levels) == (devices.reliable_bits("ideal", 0.0), 0, 16)


def test_t_wrong_bits_are_corrected(bch):
    rng = np.random.default_rng(5)
    data = rng.integers(0, 2, (5, DATA_BITS), dtype=np.uint8)
    words = encoded(bch, data)
    assert words.shape[1] == DATA_BITS + parity_bits()[5]
    for word in words:
        word[rng.choice(len(word), 5, replace=False)] ^= 1
    np.testing.assert_array_equal(decoded(bch, words), data)


@pytest.mark.slow
def test_words_fail_as_often_as_the_formula_says(bch):
    rng, count, p = np.random.default_rng(6), 1000, 0.009
    data = rng.integers(0, 2, (count, DATA_BITS), dtype=np.uint8)
    words = encoded(bch, data)
    words ^= (rng.random(words.shape) < p).astype(np.uint8)
    failed = (decoded(bch, words) != data).any(axis=1).mean()
    expected = word_error(5, p)
    # 39 % of the words fail, with an sd of 1.5 %; 4 sd.
    assert failed == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / count))


def test_coded_words_survive_simulated_cells(bch):
    """Data to BCH words, interleaved, to Gray-coded levels, to cells and back: pcm-nandakumar at once needs t = 5."""
    code = devices.practical_bits("pcm-nandakumar", 0.0)
    assert (code.levels, code.t) == (4, 5)
    data = np.random.default_rng(7).integers(0, 2, (400, DATA_BITS), dtype=np.uint8)
    words = encoded(bch, data)
    pairs = words.T.reshape(-1, 2)  # bit i of words 0 and 1 share a cell, and so on
    gray = np.array([0, 1, 3, 2])
    levels = np.argsort(gray)[pairs @ [2, 1]]
    cells = devices.program("pcm-nandakumar", np.array(code.targets, np.float32)[levels], seed=8)
    seen = np.searchsorted(np.array(code.thresholds), cells.read(time_s=0.0))
    read = (gray[seen][:, None] >> np.array([1, 0])) & 1
    wrong = int((read != pairs).sum())
    # About 5 of 224,800 bits are wrong, a Poisson number: 1 to 16 but for 5e-3 at most; the seed is fixed.
    assert 1 <= wrong <= 16
    assert wrong / read.size == pytest.approx(code.raw_bit_error, abs=4 * math.sqrt(code.raw_bit_error / read.size))
    np.testing.assert_array_equal(decoded(bch, read.reshape(words.T.shape).T.astype(np.uint8)), data)
