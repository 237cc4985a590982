"""Counter-based random numbers: those of a cell depend on the seed, the stream and the cell's index alone.

A stream serves one purpose: programming, drift exponents, stuck cells, or the k-th read. BLAKE2b hashes seed and stream
to two 64-bit keys. The 64 random bits of a cell are the output of SplitMix64, started at the first key, for the cell's
index, mixed once more with the second key (`devices.cells.kernels.bits`). SplitMix64 alone passes BigCrush (Steele, Lea
& Flood, OOPSLA 2014). The hash makes streams independent for any choice of seeds, and the second mix removes the
correlation between counters a fixed distance apart. A cell takes four 64-bit products, all in vector code.

The bits become a normal by the inverse distribution function, tabulated by octaves of the tail probability, so that the
tails are as accurate as the middle, out to 6.44 standard deviations. The piecewise linear table errs by less than
3.3e-6 standard deviations.
"""

from __future__ import annotations

import hashlib
import operator
from typing import SupportsIndex

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from devices.cells.kernels import OCTAVE_BITS

__all__ = [
    "ADDED",
    "COMMON",
    "DRIFT",
    "PROGRAMMING",
    "QUANTILES",
    "READ",
    "RELAXATION",
    "STUCK",
    "check_seed",
    "keys",
]

PROGRAMMING = 0
DRIFT = 1
STUCK = 2
RELAXATION = 3
COMMON = 4
READ = 16
ADDED = 2**33
"""Numbers of the streams. The k-th read of the cells is stream READ + k, its additive noise ADDED + k; COMMON is the
noise that all reads after the first share."""

TAIL_BITS = 32


def _quantiles() -> NDArray[np.float32]:
    """The normal's upper quantile at the probabilities whose float32 patterns are multiples of 2^16.

    Entry j stands for (m + 0.5) = float32 pattern (j + 126 · 2^7) · 2^16, from 0.5 to 2^32 and one beyond;
    its probability is that over 2^33, so the last octave ends at the median.
    """
    pieces = ((TAIL_BITS + 1) << OCTAVE_BITS) + 2
    pattern = (np.arange(pieces, dtype=np.int64) + (126 << OCTAVE_BITS)) << (23 - OCTAVE_BITS)
    tail = pattern.astype(np.int32).view(np.float32).astype(np.float64)
    table: NDArray[np.float32] = -ndtri(np.minimum(tail / 2.0 ** (TAIL_BITS + 1), 0.5)).astype(np.float32)
    table.flags.writeable = False
    return table


QUANTILES = _quantiles()
"""The table of the inverse normal that `devices.cells.kernels.normal` reads, float32, shape (4226,)."""


def check_seed(seed: SupportsIndex) -> int:
    """Check a seed and give it as int; ValueError unless it is a whole number from 0 to 2^64 - 1."""
    try:
        value = operator.index(seed)
    except TypeError:
        value = -1
    if isinstance(seed, bool) or not 0 <= value < 2**64:
        raise ValueError(f"seed must be a whole number from 0 to 2^64 - 1, not {seed!r}: pass for example seed=0")
    return value


def keys(seed: int, stream: int) -> tuple[np.uint64, np.uint64]:
    """The two 64-bit keys of one stream of one seed.

    >>> keys(0, PROGRAMMING) == keys(0, DRIFT)
    False
    """
    digest = hashlib.blake2b(seed.to_bytes(8, "little") + stream.to_bytes(8, "little"), digest_size=16).digest()
    return np.uint64(int.from_bytes(digest[:8], "little")), np.uint64(int.from_bytes(digest[8:], "little"))
