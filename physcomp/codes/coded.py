"""`coded(bits)`: the levels of `digital(bits)`, entropy-coded, so that frequent ones take fewer bits.

The bits of a group depend on its weights, and the groups of a layer share one stream (`physcomp.codes.entropy`).
Accuracy is that of `digital(bits)`, since both read back the same weights.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from physcomp.codes import entropy
from physcomp.codes.base import Bits, Code, Encoded, Medium, Rows
from physcomp.codes.digital import Digital
from physcomp.codes.syntax import Syntax


@dataclass(frozen=True)
class Coded(Digital):
    """The code that quantizes weights uniformly and entropy-codes them.

    Args:
        bits: bits per weight before entropy coding, 1 to 10: a whole number, or log2 of a number of levels.
    """

    streams = True
    setup_bits = entropy.STREAM_BITS

    def __post_init__(self) -> None:
        super().__post_init__()
        entropy.frequencies(self.count)  # raises ValueError for too many levels

    @property
    def name(self) -> str:
        """`coded(bits)`, bits with two decimals."""
        return f"coded({self.bits:.3g})"

    @property
    def width(self) -> None:
        """None: the bits of a weight depend on its value."""

    def inside(self) -> Code:
        """Refused: a stream can only be read for whole groups.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"{self.name} stores whole groups only; write digital({self.bits:.3g}) inside")

    def bits_of(self, rows: Rows, scales: Rows) -> NDArray[np.float64]:
        """The information of each group's digits, and the bits of its width."""
        return entropy.information(self._digits(rows, scales), self.count)

    def written_bits(self, rows: Rows, scales: Rows) -> int:
        """The length of the stream."""
        return len(entropy.write(self._digits(rows, scales), self.count))

    def written_once(self, rows: Rows, scales: Rows) -> int:
        """The head of the stream, which states its length."""
        return entropy.head(entropy.write(self._digits(rows, scales), self.count))[0]

    def stored_bits(self, bits: Bits, groups: int, weights: int) -> int:
        """The length of the stream, as its head states it."""
        return entropy.length(bits, groups)

    def encode(self, rows: Rows, scales: Rows, medium: Medium) -> Encoded:
        """The stream, as one row."""
        stream = entropy.write(self._digits(rows, scales), self.count)
        return Encoded(stream[None], np.zeros((len(rows), 0), np.float32))

    def decode(self, encoded: Encoded, scales: Rows, weights: int, medium: Medium) -> Rows:
        """The quantized weights."""
        digits = entropy.read(encoded.bits.reshape(-1), self.count, len(scales), weights)
        return self._weights(digits, scales).astype(np.float32)


SYNTAX = (
    Syntax("coded", ("coded(bits)",), lambda arguments, _: Coded(float(arguments[0])) if len(arguments) == 1 else None),
)
