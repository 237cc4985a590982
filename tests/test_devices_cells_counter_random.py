"""The generator: against its published parent, by distribution, and for what it must not show.

Tolerances: a mean of n draws is within 5 of its standard errors (one failure in 1.7 million such checks); seeds are
fixed, so a pass stays a pass.
"""

import math
from collections.abc import Iterator
from typing import Any

import numba
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.special import ndtri

from devices.cells import counter_random, kernels

njit: Any = numba.njit


@njit  # type: ignore[untyped-decorator]
def fill_bits(key_0: Any, key_1: Any, first: int, out: Any) -> None:
    for i in range(out.size):
        out[i] = kernels.bits(key_0, key_1, np.uint64(first + i))


@njit  # type: ignore[untyped-decorator]
def bits_at(key_0: Any, key_1: Any, cells: Any) -> Any:
    out = np.empty_like(cells)
    for i in range(out.size):
        out[i] = kernels.bits(key_0, key_1, cells[i])
    return out


@njit  # type: ignore[untyped-decorator]
def fill_normals(key_0: Any, key_1: Any, first: int, quantiles: Any, out: Any) -> None:
    for i in range(out.size):
        out[i] = kernels.normal(kernels.bits(key_0, key_1, np.uint64(first + i)), quantiles)


@njit  # type: ignore[untyped-decorator]
def fill_quantiles(tails: Any, quantiles: Any, out: Any) -> None:
    for i in range(out.size):
        out[i] = kernels.normal(tails[i] << np.uint64(32), quantiles)


def bits(seed: int, stream: int, cells: int, first: int = 0) -> NDArray[np.uint64]:
    out = np.empty(cells, dtype=np.uint64)
    fill_bits(*counter_random.keys(seed, stream), first, out)
    return out


def normals(seed: int, stream: int, cells: int, first: int = 0) -> NDArray[np.float32]:
    out = np.empty(cells, dtype=np.float32)
    fill_normals(*counter_random.keys(seed, stream), first, counter_random.QUANTILES, out)
    return out


def mix(z: int) -> int:
    """Stafford's mix13 in exact integers."""
    mask = 2**64 - 1
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def test_the_mixer_is_that_of_splitmix64() -> None:
    # first outputs of the reference splitmix64.c (S. Vigna) seeded with 1234567
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    state = [(1234567 + (k + 1) * kernels.GOLDEN) % 2**64 for k in range(4)]
    assert [mix(z) for z in state] == published
    assert [int(kernels.mix(np.uint64(z))) for z in state] == published


def test_bits_are_two_keyed_rounds_of_the_mixer() -> None:
    key_0, key_1 = (int(key) for key in counter_random.keys(5, counter_random.DRIFT))
    expected = [mix(mix((cell * kernels.GOLDEN + key_0) % 2**64) ^ key_1) for cell in range(100, 120)]
    assert bits(5, counter_random.DRIFT, 20, first=100).tolist() == expected


def test_normals_are_the_inverse_distribution_within_4e_6_sd() -> None:
    """Every size of tail, the 2,000 rarest included; straight pieces and float32 cost at most 3.3e-6 sd."""
    spread = (2.0 ** np.random.default_rng(0).uniform(0.0, 32.0, 500_000)).astype(np.uint64)
    tails = np.concatenate([np.arange(2000, dtype=np.uint64), spread, np.array([2**32 - 1], dtype=np.uint64)])
    found = np.empty(tails.size, dtype=np.float32)
    fill_quantiles(tails, counter_random.QUANTILES, found)
    exact = -ndtri((tails + 0.5) / 2.0**33)
    assert np.abs(found - exact).max() < 4e-6
    assert found.max() == pytest.approx(6.444, abs=1e-3)  # upper quantile of 2^-34


def test_normals_pass_kolmogorov_smirnov() -> None:
    n = 1_000_000
    for seed, stream in (
        (0, counter_random.PROGRAMMING),
        (1, counter_random.DRIFT),
        (2**64 - 1, counter_random.READ + 3),
    ):
        distance = stats.kstest(normals(seed, stream, n).astype(np.float64), "norm").statistic
        assert distance < 1.95 / math.sqrt(n)  # exceeded once in 1000 by true normals


def chunks(n: int, seed: int, stream: int = counter_random.PROGRAMMING) -> Iterator[NDArray[np.float32]]:
    step = 10_000_000
    for first in range(0, n, step):
        yield normals(seed, stream, min(step, n - first), first)


def check_moments_and_tails(n: int, seed: int) -> None:
    sums = np.zeros(4)
    beyond = {3.0: 0, 4.0: 0, 5.0: 0}
    for z in chunks(n, seed):
        wide = z.astype(np.float64)
        sums += [(wide**k).sum() for k in (1, 2, 3, 4)]
        for edge in beyond:
            beyond[edge] += int((np.abs(z) > edge).sum())
    # E z^k = 0, 1, 0, 3 and Var z^k = 1, 2, 15, 96 for a standard normal
    for total, mean, variance in zip(sums, (0.0, 1.0, 0.0, 3.0), (1.0, 2.0, 15.0, 96.0), strict=True):
        assert abs(total / n - mean) < 5.0 * math.sqrt(variance / n)
    for edge, count in beyond.items():
        expected = 2.0 * stats.norm.sf(edge) * n
        assert abs(count - expected) < 5.0 * math.sqrt(expected)


def test_moments_and_tails_beyond_3_4_and_5_sd_are_the_normals() -> None:
    check_moments_and_tails(10_000_000, seed=11)


@pytest.mark.slow
def test_moments_and_tails_hold_on_1e8_draws() -> None:
    check_moments_and_tails(100_000_000, seed=12)


def check_bit_balance(n: int, seed: int) -> None:
    ones = np.zeros(64)
    for first in range(0, n, 1_000_000):
        packed = bits(seed, counter_random.PROGRAMMING, 1_000_000, first)
        ones += np.unpackbits(packed.view(np.uint8).reshape(-1, 8), axis=1, bitorder="little").sum(axis=0)
    assert np.abs(ones - n / 2).max() < 5.0 * math.sqrt(n / 4)


def test_every_bit_is_balanced() -> None:
    check_bit_balance(2_000_000, seed=3)


@pytest.mark.slow
def test_every_bit_is_balanced_on_1e8_draws() -> None:
    check_bit_balance(100_000_000, seed=4)


def correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Mean product of standard normals; its standard error is 1 / √n."""
    return float(np.multiply(a, b, dtype=np.float64).mean())


@pytest.mark.parametrize("lag", [1, 2, 3, 4, 8, 9, 64, 576, 4096])
def test_neighbouring_cells_do_not_correlate(lag: int) -> None:
    z = normals(21, counter_random.PROGRAMMING, 4_000_000)
    n = z.size - lag
    assert abs(correlation(z[:-lag], z[lag:])) < 5.0 / math.sqrt(n)
    # nor do their sizes: Var(z²) = 2, so the mean product of z² - 1 has standard error 2 / √n
    energy = z.astype(np.float64) ** 2 - 1.0
    assert abs((energy[:-lag] * energy[lag:]).mean()) < 5.0 * 2.0 / math.sqrt(n)


def test_streams_and_seeds_do_not_correlate() -> None:
    n = 1_000_000
    labels = [(seed, stream) for seed in (0, 1, 2, 2**32, 2**63) for stream in (0, 1, 2, 16, 17)]
    z = np.array([normals(seed, stream, n) for seed, stream in labels])
    found = np.corrcoef(z)
    np.fill_diagonal(found, 0.0)
    assert np.abs(found).max() < 5.0 / math.sqrt(n)


@pytest.mark.slow
def test_streams_seeds_and_neighbours_do_not_correlate_on_1e8_draws() -> None:
    n = 100_000_000
    sums = np.zeros(4)
    for first in range(0, n, 10_000_000):
        z = normals(7, counter_random.PROGRAMMING, 10_000_001, first)
        others = [
            normals(7, counter_random.DRIFT, 10_000_000, first),
            normals(8, counter_random.PROGRAMMING, 10_000_000, first),
        ]
        pairs = [z[1:], *others, normals(7, counter_random.READ, 10_000_000, first)]
        sums += [correlation(z[:-1], other) for other in pairs]
    assert np.abs(sums / 10).max() < 5.0 / math.sqrt(n)


def test_one_changed_bit_of_the_index_changes_half_of_the_bits() -> None:
    """Strict avalanche: each of 64 x 24 (output bit, index bit) pairs flips with probability one half."""
    n = 1 << 16
    keys = counter_random.keys(9, counter_random.PROGRAMMING)
    for flipped in range(24):
        cells = np.random.default_rng(flipped).integers(0, 2**32, n).astype(np.uint64)
        moved = bits_at(*keys, cells) ^ bits_at(*keys, cells ^ np.uint64(1 << flipped))
        share = np.unpackbits(moved.view(np.uint8).reshape(-1, 8), axis=1).mean(axis=0)
        assert np.abs(share - 0.5).max() < 5.0 * 0.5 / math.sqrt(n)


def test_keys_differ_for_every_seed_and_stream() -> None:
    found = {counter_random.keys(seed, stream) for seed in range(200) for stream in range(40)}
    assert len(found) == 200 * 40


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, "1", None, True])
def test_a_seed_that_is_none_is_refused_in_one_line(seed: object) -> None:
    with pytest.raises(ValueError, match=r"^seed must be a whole number from 0 to 2\^64 - 1, not [^\n]*seed=0$"):
        counter_random.check_seed(seed)  # type: ignore[arg-type]


def test_numpy_integers_are_seeds() -> None:
    assert counter_random.check_seed(np.int32(7)) == 7
    assert counter_random.check_seed(2**64 - 1) == 2**64 - 1
