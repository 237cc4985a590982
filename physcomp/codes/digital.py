"""`digital(bits)`: weights rounded to uniform symmetric levels, stored as error-free bits on the same cells.

A cell holds C bits reliably (`devices.channel.capacity`), so b bits per weight cost b / C cells. A whole number of bits
means symmetric integers, as in quantized networks: 2^b - 1 levels with zero in the middle (two levels for one bit).
A fraction is log2 of the number of levels, and digits are packed: `digital(1.58)` has three levels, 40 digits in 64
bits. The bits really written are counted.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from physcomp.codes.base import Alphabet, Bits, Code, Encoded, Medium, Rows, share_of
from physcomp.codes.syntax import Syntax

WORD_BITS = 64


@dataclass(frozen=True)
class Digital(Code):
    """The code that quantizes weights uniformly.

    Args:
        bits: bits per weight, 1 to 16: a whole number, or log2 of a number of levels.
    """

    bits: float

    keeps_rows = True
    kinds = ("digital",)

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 16:
            raise ValueError(f"digital: the number of bits is 1 to 16, got {self.bits:g}; correct the menu")

    @property
    def name(self) -> str:
        """`digital(bits)`, bits with two decimals."""
        return f"digital({self.bits:.3g})"

    @property
    def width(self) -> float | None:
        """Its bits."""
        return self.bits

    @property
    def alphabet(self) -> Alphabet:
        """Its levels."""
        return Alphabet(self.count)

    def in_mask(self) -> "Code | None":
        """The same bits without a level at zero."""
        return ZeroFree(self.bits)

    @property
    def count(self) -> int:
        """Number of levels."""
        if self.bits == int(self.bits):
            return int(max(2, 2 ** int(self.bits) - 1))
        return round(2**self.bits)

    @property
    def _base(self) -> int:
        """The base in which digits are stored: a power of two for whole bits, which need no packing."""
        return int(2 ** int(self.bits)) if self.bits == int(self.bits) else self.count

    def digital_bits(self, weights: int) -> int:
        """Bits really written for this number of weights."""
        words, rest = divmod(weights, _digits_per_word(self._base))
        return words * _bits_of(_digits_per_word(self._base), self._base) + _bits_of(rest, self._base)

    def analog_cells(self, weights: int) -> int:
        """None."""
        return 0

    def _digits(self, rows: Rows, scales: Rows) -> NDArray[np.int64]:
        place = (share_of(rows, scales) + 1) / 2 * (self.count - 1)
        return np.floor(place + 0.5).clip(0, self.count - 1).astype(np.int64)

    def _weights(self, digits: NDArray[np.int64], scales: Rows) -> NDArray[np.float64]:
        return (digits / ((self.count - 1) / 2) - 1) * scales[:, None]

    def error(self, rows: Rows, scales: Rows, medium: Medium) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The rounding error, without spread."""
        return self._weights(self._digits(rows, scales), scales) - rows, np.zeros(rows.shape)

    def encode(self, rows: Rows, scales: Rows, medium: Medium) -> Encoded:
        """The digits' bits."""
        bits = pack_digits(self._digits(rows, scales), self._base)
        return Encoded(bits, np.zeros((len(rows), 0), np.float32))

    def decode(self, encoded: Encoded, scales: Rows, weights: int, medium: Medium) -> Rows:
        """The quantized weights."""
        return self._weights(unpack_digits(encoded.bits, self._base, weights), scales).astype(np.float32)


@dataclass(frozen=True)
class ZeroFree(Digital):
    """The digital code inside a mask: evenly spaced levels around zero, without a level at zero.

    The mask already says where the zeros are (`physcomp.codes.sparse`). With a scale s and n magnitudes the levels are
    ±s/n, ±2s/n, …, ±s. Whole bits b mean 2^b levels; a fraction is log2 of an even number of levels.
    """

    @property
    def alphabet(self) -> Alphabet:
        """Its levels."""
        return Alphabet(self.count, zero=False)

    def in_mask(self) -> "ZeroFree":
        """Itself."""
        return self

    @property
    def count(self) -> int:
        """Number of levels."""
        return 2 * round(2 ** (self.bits - 1))

    @property
    def _base(self) -> int:
        return self.count

    def _digits(self, rows: Rows, scales: Rows) -> NDArray[np.int64]:
        """0 to n-1 for the negative levels, from -s up; n to 2n-1 for the positive ones, up to s."""
        half = self.count // 2
        share = share_of(rows, scales)
        magnitude = np.floor(np.abs(share) * half + 0.5).clip(1, half).astype(np.int64)
        return np.where(share < 0, half - magnitude, half - 1 + magnitude)

    def _weights(self, digits: NDArray[np.int64], scales: Rows) -> NDArray[np.float64]:
        half = self.count // 2
        return (digits - half + (digits >= half)) / half * scales.astype(np.float64)[:, None]


def _digits_per_word(count: int) -> int:
    """The largest number of base-`count` digits that fit into a 64-bit word."""
    digits = 1
    while count ** (digits + 1) <= 2**WORD_BITS:
        digits += 1
    return digits


def _bits_of(digits: int, count: int) -> int:
    """Bits that are needed for any number of this many base-`count` digits."""
    return int(count**digits - 1).bit_length()


def pack_digits(digits: NDArray[np.int64], count: int) -> Bits:
    """Pack rows of base-`count` digits: (rows, digits) to uint8 bits (rows, bits)."""
    size = _digits_per_word(count)
    parts = []
    for start in range(0, digits.shape[1], size):
        part = digits[:, start : start + size].astype(np.uint64)
        place = np.array([count**i for i in range(part.shape[1])], np.uint64)
        words = (part * place).sum(axis=1, dtype=np.uint64)
        octets = words.astype(">u8")[:, None].view(np.uint8)
        parts.append(np.unpackbits(octets, axis=1)[:, WORD_BITS - _bits_of(part.shape[1], count) :])
    return np.concatenate(parts, axis=1) if parts else np.zeros((len(digits), 0), np.uint8)


def unpack_digits(bits: Bits, count: int, weights: int) -> NDArray[np.int64]:
    """Inverse of `pack_digits` for rows of `weights` digits."""
    size = _digits_per_word(count)
    digits = np.empty((len(bits), weights), np.int64)
    position = 0
    for start in range(0, weights, size):
        held = min(size, weights - start)
        width = _bits_of(held, count)
        padded = np.zeros((len(bits), WORD_BITS), np.uint8)
        padded[:, WORD_BITS - width :] = bits[:, position : position + width]
        position += width
        words = np.packbits(padded, axis=1).view(">u8")[:, 0].astype(np.uint64)
        for i in range(held):
            digits[:, start + i] = words % np.uint64(count)
            words //= np.uint64(count)
    return digits


SYNTAX = (
    Syntax(
        "digital",
        ("digital(bits)",),
        lambda arguments, _: Digital(float(arguments[0])) if len(arguments) == 1 else None,
    ),
)
