"""`sparse(percent, code)`: a percentage of a group's weights is zero, a mask says which, and a code stores the others.

The number k of weights kept depends only on the number W of weights in the group, so the cost does not depend on the
data. The mask takes ⌈log2 C(W, k)⌉ bits (`physcomp.codes.masks`). Since the mask says where the zeros are, a digital
code inside has no level at zero: `sparse(75,digital(1))` has three values at about 1.06 bits per weight, of which 0.81
are the mask. Which weights are kept, and how they compensate for the others, is decided before
(`physcomp.compensation.pruning`). If a row has more non-zero weights than are kept, its smallest are dropped.

`sparse(percent, code, run)` keeps or drops whole runs of consecutive weights. With runs of 9 these are the kernels of
3 × 3 filters, one for each input channel. The mask has one place per run, and so takes a fraction of the bits;
`physcomp.compensation.pruning_runs` decides which runs to drop. If the number of weights is no multiple of the run, the
last run is shorter. It is then filled up with zeros, which are written and counted like weights, so that the number of
weights written does not depend on whether it is kept.
"""

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from physcomp.codes.base import Alphabet, Code, Encoded, Medium, Rows, fit_scales
from physcomp.codes.masks import decode_mask, encode_mask, mask_bits
from physcomp.codes.syntax import Parse, Syntax

Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True)
class Sparse(Code):
    """The code that drops part of the weights, and stores the others by another code.

    Args:
        percent: percentage of the weights, or of the runs, that is zero: above 0 and below 100.
        inner: the code of the others; one that can be used in a mask (`Code.in_mask`).
        run: number of consecutive weights that are kept or dropped together, at least 1.
    """

    percent: float
    inner: Code
    run: int = 1

    keeps_rows = True
    drops = True

    def __post_init__(self) -> None:
        if not 0 < self.percent < 100:
            raise ValueError(f"sparse: the percentage of zeros must be above 0 and below 100, got {self.percent:g}")
        if self.inner.in_mask() != self.inner:
            raise ValueError(
                "sparse: holds digital(bits), analog(cells), hybrid(bits,cells), these with split or clip, or "
                f"mixed(large,small,share), without sensitive; not {self.inner.name}"
            )
        if self.run < 1:
            raise ValueError(f"sparse: a run has at least one weight, got {self.run}; write for example 9, or none")

    @property
    def name(self) -> str:
        """`sparse(percent,code)`, or `sparse(percent,code,run)`."""
        run = f",{self.run}" if self.run > 1 else ""
        return f"sparse({self.percent:g},{self.inner.name}{run})"

    def runs(self, weights: int) -> int:
        """Number of runs in this number of weights; the last one may be shorter."""
        return -(-weights // self.run)

    def kept_runs(self, weights: int) -> int:
        """Number of runs kept of this number of weights: rounded, and at least one if there is any."""
        return min(self.runs(weights), max(1, round((1 - self.percent / 100) * self.runs(weights))))

    def kept(self, weights: int) -> int:
        """Number of weights written of this number: those of the runs kept, a shorter run filled up."""
        return min(weights, self.kept_runs(weights) * self.run)

    def digital_bits(self, weights: int) -> int:
        """The mask, and the inner code's bits for the weights kept."""
        return self._own_bits(weights) + self.inner.digital_bits(self.kept(weights))

    def mask_bits(self, weights: int) -> int:
        """The mask, and those of the inner code."""
        return self._own_bits(weights) + self.inner.mask_bits(self.kept(weights))

    def _own_bits(self, weights: int) -> int:
        return mask_bits(self.runs(weights), self.kept_runs(weights))

    def sign_bits(self, weights: int) -> int:
        """Those of the inner code."""
        return self.inner.sign_bits(self.kept(weights))

    def analog_cells(self, weights: int) -> int:
        """Those of the inner code."""
        return self.inner.analog_cells(self.kept(weights))

    @property
    def kinds(self) -> tuple[str, ...]:  # type: ignore[override]
        """`digital` if the inner code is; else none."""
        return ("digital",) if "digital" in self.inner.kinds else ()

    @property
    def alphabet(self) -> Alphabet | None:
        """That of the inner code."""
        return self.inner.alphabet

    def mask_of(self, weights: int) -> tuple[int, int]:
        """Weights per run, and number of runs kept."""
        return self.run, self.kept_runs(weights)

    def mask(self, rows: Rows, dropped: float = 1.0) -> NDArray[np.bool_]:
        """The weights of each row that are kept: those of the largest runs, and of equal runs the first."""
        code = self if dropped == 1 else replace(self, percent=self.percent * dropped)
        return code._spread(code._mask(rows), rows.shape[1])

    def fit(self, rows: Rows, importance: NDArray[np.floating], medium: Medium) -> Rows:
        """The scales that the inner code picks for the weights kept."""
        return fit_scales(self.inner, self.weights_kept(rows), self.among(np.asarray(importance), rows), medium)

    def weights_kept(self, rows: Rows) -> Rows:
        """The weights that are written, in order: (groups, kept)."""
        return self.among(rows, rows)

    def among(self, values: NDArray[Number], rows: Rows) -> NDArray[Number]:
        """The entries of `values` (groups, weights) for the weights written: (groups, kept), 0 where filled up."""
        return self._taken(values, self._mask(rows))

    def _mask(self, rows: Rows) -> NDArray[np.bool_]:
        """The runs of each row that are kept, bool (groups, runs): those with the largest sums of squares."""
        size = np.square(self._in_runs(rows), dtype=np.float64).sum(axis=2)
        kept = self.kept_runs(rows.shape[1])
        least = -np.partition(-size, kept - 1, axis=1)[:, kept - 1 : kept]
        mask, equal = size > least, size == least
        free = kept - mask.sum(axis=1, keepdims=True)
        mask[equal & (equal.cumsum(axis=1) <= free)] = True
        return np.asarray(mask)

    def _spread(self, mask: NDArray[np.bool_], weights: int) -> NDArray[np.bool_]:
        """From a mask of runs to a mask of weights."""
        return np.repeat(mask, self.run, axis=1)[:, :weights]

    def _in_runs(self, values: NDArray[Number]) -> NDArray[Number]:
        """From (groups, weights) to (groups, runs, weights per run), the last run filled up with zeros."""
        filled = _filled(values, self.runs(values.shape[1]) * self.run)
        return filled.reshape(len(values), -1, self.run)

    def _taken(self, values: NDArray[Number], mask: NDArray[np.bool_]) -> NDArray[Number]:
        weights = values.shape[1]
        taken = self._in_runs(values)[mask].reshape(len(values), self.kept_runs(weights) * self.run)
        return taken[:, : self.kept(weights)]

    def _placed(self, values: NDArray[Number], mask: NDArray[np.bool_], weights: int) -> NDArray[Number]:
        """Inverse of `_taken`: (groups, weights), with zeros for weights that were dropped."""
        runs = np.zeros((*mask.shape, self.run), values.dtype)
        runs[mask] = _filled(values, self.kept_runs(weights) * self.run).reshape(-1, self.run)
        return runs.reshape(len(values), -1)[:, :weights]

    def error(self, rows: Rows, scales: Rows, medium: Medium) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The error of the inner code for weights that are kept; minus the weight for others."""
        mask = self._mask(rows)
        mean, variance = self.inner.error(self._taken(rows, mask), scales, medium)
        kept, weights = self._spread(mask, rows.shape[1]), rows.shape[1]
        mean = np.where(kept, self._placed(mean, mask, weights), -rows.astype(np.float64))
        return mean, self._placed(variance, mask, weights)

    def encode(self, rows: Rows, scales: Rows, medium: Medium) -> Encoded:
        """The bits of the mask, then what the inner code stores."""
        mask = self._mask(rows)
        inner = self.inner.encode(self._taken(rows, mask), scales, medium)
        return Encoded(np.concatenate([encode_mask(mask), inner.bits], axis=1), inner.levels)

    def decode(self, encoded: Encoded, scales: Rows, weights: int, medium: Medium) -> Rows:
        """The weights of the inner code at their places, zeros elsewhere."""
        split = self._own_bits(weights)
        mask = decode_mask(encoded.bits[:, :split], self.runs(weights), self.kept_runs(weights))
        inner = Encoded(encoded.bits[:, split:], encoded.levels)
        rows = self.inner.decode(inner, scales, self.kept(weights), medium)
        return self._placed(rows, mask, weights)


def _filled(values: NDArray[Number], columns: int) -> NDArray[Number]:
    """Append columns of zeros, up to this number of columns."""
    missing = columns - values.shape[1]
    return np.pad(values, ((0, 0), (0, missing))) if missing else values


def _read(arguments: list[str], parse: Parse) -> Code | None:
    if not 2 <= len(arguments) <= 3:
        return None
    inner = parse(arguments[1]).inside()
    return Sparse(float(arguments[0]), inner.in_mask() or inner, *map(int, arguments[2:]))


SYNTAX = (Syntax("sparse", ("sparse(percent,code)", "sparse(percent,code,run)"), _read),)
