"""`float32`: the weights as 32-bit floats in error-free bits; the uncompressed copy, for comparison."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from physcomp.codes.base import Code, Encoded, Medium, Rows
from physcomp.codes.syntax import Syntax

BITS = 32


@dataclass(frozen=True)
class Float32(Code):
    """The code that stores every weight as a 32-bit float."""

    scale_bits = 0

    @property
    def name(self) -> str:
        """`float32`."""
        return "float32"

    def digital_bits(self, weights: int) -> int:
        """32 bits per weight."""
        return BITS * weights

    def analog_cells(self, weights: int) -> int:
        """None."""
        return 0

    def error(self, rows: Rows, scales: Rows, medium: Medium) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """None."""
        return np.zeros(rows.shape), np.zeros(rows.shape)

    def encode(self, rows: Rows, scales: Rows, medium: Medium) -> Encoded:
        """The IEEE 754 bits, most significant first."""
        octets = np.ascontiguousarray(rows, ">f4").view(np.uint8)
        return Encoded(np.unpackbits(octets, axis=1), np.zeros((len(rows), 0), np.float32))

    def decode(self, encoded: Encoded, scales: Rows, weights: int, medium: Medium) -> Rows:
        """The same weights."""
        return np.packbits(encoded.bits, axis=1).view(">f4").astype(np.float32)


SYNTAX = (Syntax("float32", ("float32",), lambda arguments, _: Float32() if arguments == [""] else None),)
