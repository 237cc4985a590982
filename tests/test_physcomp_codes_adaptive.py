"""The adaptive arithmetic coder: what is written is read, takes its information, and is refused if it is damaged."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from physcomp.codes import adaptive
from physcomp.codes.adaptive import LARGEST


def entropy_bits(digits: np.ndarray) -> float:
    """What a coder of independent digits could reach that knew their distribution without storing it."""
    shares = np.unique(digits, return_counts=True)[1] / digits.size
    return -digits.size * float(shares @ np.log2(shares))


def drawn(kind: str, groups: int, weights: int, width: float, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    found = {
        "gaussian": generator.normal(0, width, (groups, weights)),
        "heavy": generator.standard_cauchy((groups, weights)) * width,
        "zeros": np.zeros((groups, weights)),
        "largest": LARGEST * generator.choice([-1, 1], (groups, weights)),
        "one": np.where(generator.random((groups, weights)) < 0.01, LARGEST, 0),
        "alternating": np.tile([[1], [-2]], (groups, weights))[:groups, :weights] * (-1) ** np.arange(weights),
    }[kind]
    return np.rint(found).clip(-LARGEST, LARGEST).astype(np.int64)


KINDS = ("gaussian", "heavy", "zeros", "largest", "one", "alternating")


@given(
    kind=st.sampled_from(KINDS),
    groups=st.integers(1, 6),
    weights=st.integers(1, 60),
    width=st.sampled_from([0.0625, 0.5, 1.0, 8.0, 50.0]),
    stated=st.sampled_from([0.0625, 1.0, 50.0]),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=150)
def test_any_digits_survive_writing_and_reading(kind, groups, weights, width, stated, seed):
    digits = drawn(kind, groups, weights, width, seed)
    bits = adaptive.write(digits, stated)
    assert set(np.unique(bits)) <= {0, 1}
    tail = np.random.default_rng(seed).integers(0, 2, 77, dtype=np.uint8)  # whatever is stored behind
    assert sum(adaptive.head(np.concatenate([bits, tail]))) == len(bits)
    np.testing.assert_array_equal(adaptive.read(bits, stated, groups, weights), digits)
    told = adaptive.information(digits, stated).sum()
    assert told <= len(bits) <= told + adaptive.STREAM_BITS


@pytest.mark.parametrize("kind", KINDS)
def test_long_streams_survive_whatever_they_hold(kind):
    digits = drawn(kind, 30, 3000, 5.0, seed=1)
    np.testing.assert_array_equal(adaptive.read(adaptive.write(digits, 0.1), 0.1, 30, 3000), digits)


@pytest.mark.parametrize("width", [0.25, 0.5, 1.0, 2.0, 4.0, 8.0])
def test_gaussian_digits_take_their_entropy(width):
    digits = drawn("gaussian", 50, 1000, width, seed=2)
    # Learning costs some bits for each of the probabilities in use; 50,000 digits of the narrowest hold 13,000 bits.
    assert len(adaptive.write(digits, width)) < 1.015 * entropy_bits(digits)
    small = digits[:2, :200]
    expected = entropy_bits(digits) * small.size / digits.size
    assert abs(adaptive.information(small, width).sum() - expected) < 0.1 * expected + 10


def test_a_wrong_width_is_learned_soon():
    digits = drawn("gaussian", 20, 500, 2.0, seed=3)
    told, other = (adaptive.information(digits, width).sum() for width in (2.0, 0.25))
    assert told < other < 1.02 * told


def test_neighbours_tell_magnitudes_and_signs():
    """Columns of different widths, and runs of equal signs: independent digits could not be written as briefly."""
    generator = np.random.default_rng(4)
    columns = drawn("gaussian", 200, 100, 1.0, seed=4) * np.where(np.arange(100) % 2, 4, 1)
    assert adaptive.information(columns, 3.0).sum() < 0.95 * entropy_bits(columns)
    signs = np.where(generator.random((200, 100)) < 0.1, -1, 1).cumprod(axis=1)
    assert adaptive.information(signs, 1.0).sum() < 0.6 * entropy_bits(signs)


@pytest.mark.parametrize("ratio", [0.25, 0.5, 1.0, 2.0, 3.0])
def test_the_embedded_network_takes_no_more_than_its_entropy(ratio, data_dir):
    written = least = 0.0
    for name, tensor in load_file(data_dir / "fashion-cnn.safetensors").items():
        if name.endswith("weight") and tensor.ndim > 1:
            rows = tensor.reshape(len(tensor), -1)
            digits = np.rint(rows / (ratio * np.sqrt(np.mean(rows**2, axis=1, keepdims=True)))).astype(np.int64)
            least += entropy_bits(digits)
            written += len(adaptive.write(digits, 1 / ratio))
    assert written < 1.005 * least


def test_probabilities_at_the_start_are_those_of_a_logistic_distribution():
    found = adaptive.first_probabilities(2.0) / 2**22
    spread = 2.0 * np.sqrt(3) / np.pi
    above = 2 / (1 + np.exp(np.array([0.0, *(2.0**place - 0.5 for place in range(8))]) / spread))
    np.testing.assert_allclose(found[:8], above[1:] / above[:-1], atol=2**-21)


def test_a_stream_is_the_same_on_every_machine():
    """The coder is of whole numbers; chips hold streams, so that what is written may not change."""
    digits = np.array([[0, 1, -1, 0, 3, -12, 0, 0, 130, 2]])
    assert np.packbits(adaptive.write(digits, 1.0)).tobytes().hex() == "3feacbcbd77313327ed6000000000013c5c0"


@given(
    kind=st.sampled_from(["gaussian", "one"]),
    place=st.integers(0, 10**6),
    cut=st.integers(0, 40),
    seed=st.integers(0, 100),
)
@settings(deadline=None, max_examples=100)
def test_a_damaged_stream_is_refused_or_read_as_other_digits_and_never_hangs(kind, place, cut, seed):
    digits = drawn(kind, 3, 40, 3.0, seed)
    bits = adaptive.write(digits, 3.0)
    if cut:
        with pytest.raises(ValueError, match="are no stream of 3 groups; store the plan again"):
            adaptive.read(bits[:-cut], 3.0, 3, 40)
    bits[place % len(bits)] ^= 1
    try:
        found = adaptive.read(bits, 3.0, 3, 40)
    except ValueError:
        return
    assert found.shape == digits.shape


def test_most_damage_is_found():
    digits = drawn("gaussian", 5, 100, 3.0, seed=5)
    bits, refused = adaptive.write(digits, 3.0), 0
    for place in range(0, len(bits) // 2, 7):
        damaged = bits.copy()
        damaged[place] ^= 1
        try:
            adaptive.read(damaged, 3.0, 5, 100)
        except ValueError:
            refused += 1
    assert refused > 0.8 * len(range(0, len(bits) // 2, 7))


def test_digits_beyond_the_largest_are_refused():
    with pytest.raises(
        ValueError, match="stepped: a digit of 2048 steps; at most 2047 are written, take a larger step"
    ):
        adaptive.write(np.array([[0, 2048]]), 1.0)
