"""Entropy coding of quantized weights: a stream of nearly as few bits as their distribution allows.

The digits of a group are modelled as a centred Gaussian, rounded to the levels, with one of 64 widths. The index of the
width takes six bits per group; each digit then takes about -log2 of its probability. On the embedded network, at four
and eight bits, the total is within 0.3 % of the empirical entropy of whole layers, widths included. A stored table of
frequencies (a byte per entry) takes 0.2 and 1.7 % more than that entropy, Laplace distributions 1.4 and 0.8 %. The
coder is the ANS coder of `constriction` (Bamler, arXiv 2201.01741; asymmetric numeral systems: Duda, arXiv 1311.2540),
which writes a whole stream within 24 bits of its information.

A stream consists of
    n        5 bits, the number of bits of the next field
    length   n bits, the number of bits of the coder's number
    widths   6 bits for each group
    number   what the coder wrote, as one number, most significant bit first
"""

from functools import lru_cache

import constriction
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from physcomp.codes.base import Bits

WIDTH_BITS = 6
WORD_BITS = 32
PRECISION = 20  # probabilities are whole multiples of 2^-20, so that writer and reader agree to the last bit
MOST_LEVELS = 1 << 10  # each needs a probability of at least 2^-20, which must not distort the others; our choice
NARROWEST = 0.2  # the smallest width, in levels: one digit in eighty is not the middle one (our choice)
LENGTH_BITS = 5  # of the first field of a stream
STREAM_BITS = LENGTH_BITS + 31 + 24  # the most that a stream takes beside widths and information

Digits = NDArray[np.int64]


@lru_cache(maxsize=32)
def frequencies(count: int) -> NDArray[np.int64]:
    """Probabilities of the digits 0 … count - 1 for every width, in units of 2^-20: int64 (64, count), all above 0.

    Raises:
        ValueError: fewer than two or more than 1024 levels.
    """
    if not 2 <= count <= MOST_LEVELS:
        raise ValueError(f"coded: entropy coding is for 2 to {MOST_LEVELS} levels, got {count}; take fewer bits")
    middle = (count - 1) / 2
    widths = np.geomspace(NARROWEST, 2 * max(middle, 1), 1 << WIDTH_BITS)
    edges = (np.arange(1, count) - 0.5 - middle) / widths[:, None]
    below = np.hstack([np.zeros((len(widths), 1)), ndtr(edges), np.ones((len(widths), 1))])
    whole = 1 << PRECISION
    shares: NDArray[np.int64] = np.maximum(1, np.rint(np.diff(below, axis=1) * whole)).astype(np.int64)
    shares[np.arange(len(widths)), shares.argmax(axis=1)] += whole - shares.sum(axis=1)
    shares.flags.writeable = False
    return shares


def _costs(digits: Digits, count: int) -> NDArray[np.float64]:
    """Information of each group's digits for every width, in bits: (groups, 64)."""
    bits = PRECISION - np.log2(frequencies(count))
    histograms = np.zeros((len(digits), count))
    np.add.at(histograms, (np.arange(len(digits))[:, None], digits), 1)
    return np.asarray(histograms @ bits.T)


def information(digits: Digits, count: int) -> NDArray[np.float64]:
    """Information of each group's digits for its best width, plus the bits of the width: float64 (groups,).

    Args:
        digits: (groups, weights), each from 0 to count - 1.
        count: number of levels.
    """
    return np.asarray(_costs(digits, count).min(axis=1) + WIDTH_BITS)


def write(digits: Digits, count: int) -> Bits:
    """Write the digits (groups, weights) of some groups as a stream: uint8 zeros and ones.

    Example:
        >>> digits = np.array([[1, 1, 1, 0, 1, 1, 2, 1] * 20])
        >>> bits = write(digits, 3)
        >>> len(bits), bool((read(bits, 3, 1, 160) == digits).all())
        (210, True)
    """
    chosen = _costs(digits, count).argmin(axis=1)
    coder = constriction.stream.stack.AnsCoder()
    for row, width in zip(digits[::-1], chosen[::-1], strict=True):  # a stack: what is written last is read first
        coder.encode_reverse(row.astype(np.int32), _model(count, int(width)))
    words = np.asarray(coder.get_compressed()[::-1], ">u4")  # the last one is the most significant
    number = np.trim_zeros(np.unpackbits(words.view(np.uint8)), "f")
    widths = np.unpackbits(chosen.astype(np.uint8)[:, None], axis=1)[:, 8 - WIDTH_BITS :]
    return np.concatenate([head_of(len(number)), widths.ravel(), number])


def head_of(size: int) -> Bits:
    """The head of a stream whose coder's number has this many bits."""
    return np.concatenate([_bits(size.bit_length(), LENGTH_BITS), _bits(size, size.bit_length())])


def _bits(number: int, count: int) -> Bits:
    return np.array([number >> place & 1 for place in reversed(range(count))], np.uint8)


def _number(bits: Bits) -> int:
    return int("".join(map(str, bits.tolist())) or "0", 2)


def head(bits: Bits) -> tuple[int, int]:
    """Read the head of a stream: its own length in bits, and the length of the coder's number in bits."""
    start = LENGTH_BITS + _number(bits[:LENGTH_BITS])
    return start, _number(bits[LENGTH_BITS:start])


def length(bits: Bits, groups: int) -> int:
    """Length in bits of the stream at the beginning of `bits`, which holds this number of groups."""
    start, size = head(bits)
    return start + WIDTH_BITS * groups + size


def read(bits: Bits, count: int, groups: int, weights: int) -> Digits:
    """Inverse of `write`: the digits (groups, weights) of a stream.

    Raises:
        ValueError: the length of the stream is not that of this number of groups.
    """
    if len(bits) != length(bits, groups):
        raise ValueError(f"coded: {len(bits)} bits are no stream of {groups} groups; store the plan again")
    first, size = head(bits)
    start = first + WIDTH_BITS * groups
    wide = np.zeros((groups, 8), np.uint8)
    wide[:, 8 - WIDTH_BITS :] = bits[first:start].reshape(groups, WIDTH_BITS)
    whole = np.concatenate([np.zeros(-size % WORD_BITS, np.uint8), bits[start:]])
    words = np.packbits(whole).view(">u4")[::-1].astype(np.uint32)
    coder = constriction.stream.stack.AnsCoder(words)
    digits = np.empty((groups, weights), np.int64)
    for row, width in zip(digits, np.packbits(wide, axis=1)[:, 0], strict=True):
        row[:] = coder.decode(_model(count, int(width)), weights)
    return digits


@lru_cache(maxsize=1024)
def _model(count: int, width: int) -> constriction.stream.model.Categorical:
    """The coder's table of probabilities for one width; it keeps multiples of 2^-20 unchanged."""
    return constriction.stream.model.Categorical(frequencies(count)[width] / (1 << PRECISION), perfect=False)
