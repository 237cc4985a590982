"""`pruned`: the group is not stored, and costs only the bits that name its code, which the plan counts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from physcomp.codes.base import Code, Encoded, Medium, Rows
from physcomp.codes.syntax import Syntax


@dataclass(frozen=True)
class Pruned(Code):
    """The code that stores nothing: every weight of the group reads back as zero."""

    scale_bits = 0
    kinds = ("digital", "analog", "strategy")  # offered beside every way of storing

    @property
    def name(self) -> str:
        """`pruned`."""
        return "pruned"

    def digital_bits(self, weights: int) -> int:
        """None."""
        return 0

    def analog_cells(self, weights: int) -> int:
        """None."""
        return 0

    def error(self, rows: Rows, scales: Rows, medium: Medium) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The error is minus the weight, with variance zero."""
        return -rows.astype(np.float64), np.zeros(rows.shape)

    def encode(self, rows: Rows, scales: Rows, medium: Medium) -> Encoded:
        """Nothing."""
        return Encoded(np.zeros((len(rows), 0), np.uint8), np.zeros((len(rows), 0), np.float32))

    def decode(self, encoded: Encoded, scales: Rows, weights: int, medium: Medium) -> Rows:
        """Zeros."""
        return np.zeros((len(scales), weights), np.float32)


SYNTAX = (Syntax("pruned", ("pruned",), lambda arguments, _: Pruned() if arguments == [""] else None),)
