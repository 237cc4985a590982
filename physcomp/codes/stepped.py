"""`stepped(ratio)`: weights rounded to whole multiples of any step, entropy-coded.

The step of a group is the ratio times the root mean square of its weights (our choice), so that one menu serves all
groups: `stepped(0.125)` takes about 5 bits a weight, `stepped(1)` 2.1, `stepped(4)` 0.3. Uniform quantization followed
by an entropy coder is within 0.25 bits a weight of the rate-distortion bound at any rate (Gish and Pierce, IEEE Trans.
Inf. Theory 14:676, 1968). The groups of a layer share one stream (`physcomp.codes.adaptive`). The scale stored is the
step itself: a weight is its digit times the scale, and a scale may be changed with the weights to any other step.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from physcomp.codes import adaptive
from physcomp.codes.base import Alphabet, Bits, Code, Encoded, Medium, Rows, to_bfloat16
from physcomp.codes.syntax import Syntax

RATIOS = (
    0.02,
    16.0,
)  # below, 16 bits a weight are stored at no less accuracy; above, all weights are zero (our choice)
REACH = 32.0  # multiples of the root mean square that levels reach; our choice, the largest weights are 3 to 10 away
LEAST_LEVELS = 127  # on either side: numbers of levels are then held in one byte, for ratios from 0.25 up


@dataclass(frozen=True)
class Stepped(Code):
    """The code that rounds weights to multiples of a step and entropy-codes them.

    Args:
        ratio: the step over the root mean square of a group's weights, 0.02 to 16; six digits of it count.
    """

    ratio: float

    keeps_rows = True
    kinds = ("digital",)
    streams = True
    span = float(adaptive.LARGEST)

    def __post_init__(self) -> None:
        if not RATIOS[0] <= self.ratio <= RATIOS[1]:
            least, most = RATIOS
            raise ValueError(f"stepped: the ratio is {least:g} to {most:g}, got {self.ratio:g}; correct the menu")
        object.__setattr__(self, "ratio", float(f"{self.ratio:g}"))  # what the name says, by which streams are read

    @property
    def name(self) -> str:
        """`stepped(ratio)`."""
        return f"stepped({self.ratio:g})"

    @property
    def alphabet(self) -> Alphabet:
        """The multiples of the step that reach `REACH` times the root mean square."""
        return Alphabet(2 * max(LEAST_LEVELS, math.ceil(REACH / self.ratio)) + 1, step=self.ratio)

    def inside(self) -> Code:
        """Refused: a stream can only be read for whole groups.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"{self.name} stores whole groups only; write digital(bits) inside")

    def digital_bits(self, weights: int) -> int:
        """About the bits of Gaussian weights, ½ log2(1 + 2πe/ratio²) for each; `bits_of` says what rows take."""
        return math.ceil(weights * math.log2(1 + 2 * math.pi * math.e / self.ratio**2) / 2)

    def analog_cells(self, weights: int) -> int:
        """None."""
        return 0

    def fit(self, rows: Rows, importance: NDArray[np.floating], medium: Medium) -> Rows:
        """The step of each row."""
        root = np.sqrt(np.mean(np.square(rows, dtype=np.float64), axis=1))
        return to_bfloat16(np.maximum(self.ratio * root, np.abs(rows).max(axis=1) / (self.alphabet.count // 2)))

    def bits_of(self, rows: Rows, scales: Rows) -> NDArray[np.float64]:
        """The information of each group's digits, given the groups before; they all are of one layer, in its order.

        Each group bears its part of what a stream takes beside, as if all of them were in it: a setup cost, which is
        exact, made choices twenty times as slow.
        """
        beside = adaptive.STREAM_BITS / max(1, len(rows))
        return adaptive.information(self._digits(rows, scales), 1 / self.ratio) + beside

    def written_bits(self, rows: Rows, scales: Rows) -> int:
        """The length of the stream."""
        return len(self._stream(rows, scales))

    def written_once(self, rows: Rows, scales: Rows) -> int:
        """The head of the stream, which states its length."""
        return adaptive.head(self._stream(rows, scales))[0]

    def stored_bits(self, bits: Bits, groups: int, weights: int) -> int:
        """The length of the stream, as its head states it."""
        return sum(adaptive.head(bits))

    def error(self, rows: Rows, scales: Rows, medium: Medium) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The rounding error, without spread."""
        return self._digits(rows, scales) * scales.astype(np.float64)[:, None] - rows, np.zeros(rows.shape)

    def encode(self, rows: Rows, scales: Rows, medium: Medium) -> Encoded:
        """The stream, as one row."""
        return Encoded(self._stream(rows, scales)[None], np.zeros((len(rows), 0), np.float32))

    def decode(self, encoded: Encoded, scales: Rows, weights: int, medium: Medium) -> Rows:
        """The digits times the step."""
        digits = adaptive.read(encoded.bits.reshape(-1), 1 / self.ratio, len(scales), weights)
        return np.asarray(digits * scales.astype(np.float64)[:, None], np.float32)

    def _stream(self, rows: Rows, scales: Rows) -> Bits:
        return adaptive.write(self._digits(rows, scales), 1 / self.ratio)

    def _digits(self, rows: Rows, scales: Rows) -> NDArray[np.int64]:
        safe = np.where(scales > 0, scales, 1).astype(np.float64)
        digits = np.floor(rows / safe[:, None] + 0.5).clip(-adaptive.LARGEST, adaptive.LARGEST)
        return (digits * (scales > 0)[:, None]).astype(np.int64)


SYNTAX = (
    Syntax(
        "stepped",
        ("stepped(ratio)",),
        lambda arguments, _: Stepped(float(arguments[0])) if len(arguments) == 1 else None,
    ),
)
