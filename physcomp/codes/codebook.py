"""`codebook(bits)`: weights share a few values; each weight is stored as the index of its value in a codebook.

Weight sharing as in Han, Mao and Dally ("Deep compression", ICLR 2016, arXiv 1510.00149): a codebook of 2^bits values
is stored once per layer, and shared by all of its groups that use the code. Values are bfloat16 numbers, relative to
the scale of each group, its largest magnitude. Without scales, codebooks of four bits lost twice as much on the
embedded network (half the importance-weighted squared error: 0.036 against 0.019 nats). The values minimise that error
over all weights of the layer.

Each weight is written as the nearest value. Unlike in `digital(bits)`, rounding errors are not compensated.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from physcomp.codes.base import (
    SCALE_BITS,
    Bits,
    Code,
    Encoded,
    Medium,
    Rows,
    bfloat16_to_bits,
    bits_to_bfloat16,
    share_of,
    to_bfloat16,
)
from physcomp.codes.syntax import Syntax

MOST_BITS = 8
# Our choice: twice as many bins took six times as long for eight bits, and lost 1 % less at most.
BINS = 512
ITERATIONS = 300  # the most steps of Lloyd's iteration


@dataclass(frozen=True)
class Codebook(Code):
    """The code that stores weights as indices into a codebook, which a layer stores once.

    Args:
        bits: bits of an index, 1 to 8.
        book: float32 (2^bits,), ascending bfloat16 numbers from -1 to 1, as `learn` gives them. None: computed from the
            rows to be written alone, with equal importance for all weights.
    """

    bits: int
    book: Rows | None = field(default=None, compare=False, repr=False)

    kinds = ("digital",)
    streams = True
    scale_shares = np.ones(1)

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= MOST_BITS:
            raise ValueError(f"codebook: the number of bits is 1 to {MOST_BITS}, got {self.bits}; correct the menu")

    @property
    def name(self) -> str:
        """`codebook(bits)`."""
        return f"codebook({self.bits})"

    @property
    def setup_bits(self) -> int:  # type: ignore[override]
        """The codebook."""
        return SCALE_BITS << self.bits

    def digital_bits(self, weights: int) -> int:
        """The indices; the codebook counts once per layer."""
        return self.bits * weights

    def analog_cells(self, weights: int) -> int:
        """None."""
        return 0

    def written_bits(self, rows: Rows, scales: Rows) -> int:
        """The codebook, and the indices of all groups."""
        return self.setup_bits + super().written_bits(rows, scales)

    def written_once(self, rows: Rows, scales: Rows) -> int:
        """The codebook."""
        return self.setup_bits

    def stored_bits(self, bits: Bits, groups: int, weights: int) -> int:
        """The codebook, and the indices of all groups."""
        return self.setup_bits + super().stored_bits(bits, groups, weights)

    def inside(self) -> Code:
        """Refused: codes for parts of groups cannot have a codebook.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"{self.name} stores whole groups only; write digital({self.bits}) inside")

    def learn(self, rows: Rows, importance: NDArray[np.floating] | None, scales: Rows, medium: Medium) -> Rows:
        """The codebook of a layer."""
        return self._learned(rows, np.ones(rows.shape) if importance is None else np.asarray(importance), scales)

    def _learned(self, rows: Rows, costs: NDArray[np.floating], scales: Rows) -> Rows:
        used = scales > 0
        squares = costs[used] * scales[used, None].astype(np.float64) ** 2
        return book_of(share_of(rows, scales)[used].ravel(), squares.ravel(), self.bits)

    def given(self, allocation: NDArray[np.uint8] | None, learned: Rows | None = None) -> "Codebook":
        """The code with its codebook."""
        return self if learned is None else replace(self, book=learned)

    def _places(self, rows: Rows, scales: Rows) -> tuple[Rows, NDArray[np.int64]]:
        """The codebook, and the index of each weight's nearest value in it."""
        book = self._learned(rows, np.ones(rows.shape), scales) if self.book is None else self.book
        return book, _nearest(book, share_of(rows, scales))

    def error(self, rows: Rows, scales: Rows, medium: Medium) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The rounding error, without spread."""
        book, places = self._places(rows, scales)
        return book[places] * scales.astype(np.float64)[:, None] - rows, np.zeros(rows.shape)

    def encode(self, rows: Rows, scales: Rows, medium: Medium) -> Encoded:
        """The codebook, then each weight's index from its highest bit; one row for all groups."""
        book, places = self._places(rows, scales)
        shifts = np.arange(self.bits - 1, -1, -1)
        indices = ((places[:, :, None] >> shifts) & 1).astype(np.uint8)
        bits = np.concatenate([bfloat16_to_bits(book).ravel(), indices.ravel()])
        return Encoded(bits[None], np.zeros((len(rows), 0), np.float32))

    def decode(self, encoded: Encoded, scales: Rows, weights: int, medium: Medium) -> Rows:
        """Each weight's value times its group's scale."""
        bits = encoded.bits.reshape(-1)
        book = bits_to_bfloat16(bits[: self.setup_bits].reshape(-1, SCALE_BITS))
        indices = bits[self.setup_bits :].reshape(len(scales), weights, self.bits).astype(np.int64)
        places = indices @ (1 << np.arange(self.bits - 1, -1, -1, dtype=np.int64))
        return (book[places] * scales.astype(np.float64)[:, None]).astype(np.float32)


def book_of(values: NDArray[np.float64], costs: NDArray[np.float64], bits: int) -> Rows:
    """Find 2^bits bfloat16 numbers with the least cost-weighted squared distance to given values.

    Up to 512 values are sorted and cut into runs optimally by dynamic programming (Wang and Song, "Ckmeans.1d.dp",
    The R Journal 3:29, 2011). More values are first merged into 512 bins, which are narrow where values are dense or
    costly (cube root of density: Panter and Dite, Proc. IRE 39:44, 1951); then Lloyd's iteration over all values
    refines the result.

    Args:
        values: (n,), where n may be 0.
        costs: (n,), at least 0: the loss per squared error of each value.
        bits: bits of an index into the result.

    Returns:
        float32 (2^bits,), ascending; numbers repeat if there are fewer distinct values.

    Example:
        >>> book_of(np.array([-1.0, -0.9, 0.5, 0.7]), np.array([1.0, 1.0, 3.0, 1.0]), 1).tolist()
        [-0.94921875, 0.55078125]
    """
    count = 1 << bits
    if not len(values):
        return np.zeros(count, np.float32)
    order = np.argsort(values, kind="stable")
    values, costs = values[order], costs[order] + 1e-12 * costs.mean() + 1e-300
    density = np.cumsum(np.cbrt(costs))
    starts = np.searchsorted(density, np.arange(BINS) / BINS * density[-1]) if len(values) > BINS else ...
    bins = np.append(np.unique(np.arange(len(values))[starts]), len(values))
    sums = [np.concatenate([[0.0], np.cumsum(costs * values**power)]) for power in range(3)]
    edges = bins[_best_cuts([each[bins] for each in sums], min(count, len(bins) - 1))]
    book = np.diff(sums[1][edges]) / np.diff(sums[0][edges])
    for _ in range(ITERATIONS):
        edges = np.concatenate([[0], np.searchsorted(values, _middles(book)), [len(values)]])
        total = np.diff(sums[0][edges])
        moved = np.sort(np.where(total > 0, np.diff(sums[1][edges]) / np.where(total > 0, total, 1), book))
        if np.array_equal(moved, book):
            break
        book = moved
    return to_bfloat16(np.pad(book, (0, count - len(book)), mode="edge"))


def _best_cuts(sums: list[NDArray[np.float64]], count: int) -> NDArray[np.int64]:
    """Cut sorted values into `count` runs with the least squared distance to their means; the edges of the runs.

    Args:
        sums: running sums of weights, of weighted values and of their weighted squares, each (n + 1,).
        count: number of runs, 1 to n.

    Returns:
        int64 (count + 1,), from 0 to n.
    """
    weight, moment, square = (each[None, :] - each[:, None] for each in sums)
    inside = weight > 0
    within = np.where(inside, square - moment**2 / np.where(inside, weight, 1), np.inf)
    total, before = within[0], []
    for _ in range(count - 1):
        whole = total[:, None] + within
        before.append(whole.argmin(axis=0))
        total = whole.min(axis=0)
    edges = [len(total) - 1]
    for places in reversed(before):
        edges.append(int(places[edges[-1]]))
    return np.array([0, *reversed(edges)])


def _middles(book: NDArray[np.floating]) -> NDArray[np.floating]:
    return (book[1:] + book[:-1]) / 2


def _nearest(book: Rows, values: NDArray[np.float64]) -> NDArray[np.int64]:
    """The index of the nearest value; of two equally near ones the lower."""
    return np.searchsorted(_middles(book.astype(np.float64)), values)


SYNTAX = (
    Syntax(
        "codebook",
        ("codebook(bits)",),
        lambda arguments, _: Codebook(int(arguments[0])) if len(arguments) == 1 else None,
    ),
)
