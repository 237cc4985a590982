"""The rows that each code writes: trained weights, or weights that were pruned, rounded, or both, with compensation.

Codes that round or prune get rows in which the other weights compensate for the errors. These rows depend on the
curvature, not on the cells, so they are computed once for each layer.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numba import njit
from numpy.typing import NDArray

from physcomp.codes import Code
from physcomp.codes.base import Alphabet, Rows
from physcomp.compensation.pruning import compensated, dropping_order
from physcomp.compensation.pruning_runs import masks_of
from physcomp.compensation.rounding import DAMPING, factors_of, round_row, some_groups
from physcomp.curvature.blocks import Curvature
from physcomp.threads import in_threads

Groups = slice | NDArray[np.int64]


class Held(Protocol):
    """An array (groups, weights), or what reads its groups from a file: indexed by groups it gives an array."""

    def __getitem__(self, groups: Any, /) -> Any:
        """The rows of these groups."""


@dataclass(frozen=True, eq=False)
class RowsToWrite:
    """The rows of a layer that one code is to write, and their scales.

    Rounded rows are held by the numbers of their levels, in one byte a weight for up to 255 levels.

    Args:
        held: (groups, weights): the rows, float32; or for an alphabet unsigned integers, 0 for a weight of zero
            outside the alphabet, and 1 to its count for its levels, ascending.
        scales: float32 (groups,), bfloat16 numbers, for codes that round; None if the scale depends on the cells.
        alphabet: the levels to which rows are rounded; None if they are not.
        pruned: whether rows that are not rounded are other than the trained ones.
    """

    held: Held
    scales: Rows | None = None
    alphabet: Alphabet | None = None
    pruned: bool = False

    @property
    def rows(self) -> Rows:
        """All rows, float32 (groups, weights)."""
        return self.of(slice(None))

    def of(self, groups: Groups) -> Rows:
        """The rows of some groups, float32 (groups, weights)."""
        held = self.held[groups]
        if self.alphabet is None:
            return np.asarray(held, np.float32)
        assert self.scales is not None
        return _from_digits(held, self.scales[groups], self.alphabet)


def _levels(alphabet: Alphabet) -> NDArray[np.float64]:
    """The levels in scales, ascending, behind a zero."""
    if alphabet.step:
        shares = np.arange(alphabet.count) - float(alphabet.count // 2)
    elif alphabet.zero:
        shares = np.arange(alphabet.count) / ((alphabet.count - 1) / 2) - 1
    else:
        up = np.arange(1, alphabet.count // 2 + 1) / (alphabet.count // 2)
        shares = np.concatenate([-up[::-1], up])
    return np.concatenate([[0.0], shares])


def _from_digits(digits: NDArray[np.unsignedinteger], scales: Rows, alphabet: Alphabet) -> Rows:
    return np.asarray(_levels(alphabet)[digits] * scales.astype(np.float64)[:, None], np.float32)


def _to_digits(rows: Rows, scales: Rows, alphabet: Alphabet) -> NDArray[np.unsignedinteger]:
    """The numbers of the levels of rounded rows; inverse of `_from_digits`."""
    shares = rows / np.where(scales > 0, scales, 1).astype(np.float64)[:, None]
    if alphabet.step:
        digits = np.rint(shares) + alphabet.count // 2 + 1
        digits[scales == 0] = 0
    elif alphabet.zero:
        digits = np.rint((shares + 1) * ((alphabet.count - 1) / 2)) + 1
        digits[scales == 0] = 0
    else:
        half = alphabet.count // 2
        digits = np.rint(np.abs(shares) * half)
        digits = np.where(rows < 0, half + 1 - digits, half + digits) * (rows != 0)
    return digits.astype(np.min_scalar_type(alphabet.count))


def joined(
    parts: list[dict[str, RowsToWrite]], rows: Rows, keep: Callable[[NDArray[Any]], Held]
) -> dict[str, RowsToWrite]:
    """The rows of a whole layer from those of its parts.

    Args:
        parts: for some groups after the others, the rows for every code.
        rows: the trained rows of the layer.
        keep: what is done with each array to hold it, such as writing it to a file.
    """
    kept: dict[int, Held] = {}
    found = {}
    for name, first in parts[0].items():
        if first.alphabet is None and not first.pruned:
            found[name] = replace(first, held=rows)
            continue
        if id(first.held) not in kept:
            kept[id(first.held)] = keep(np.concatenate([part[name].held[:] for part in parts]))
        scales = None if first.scales is None else np.concatenate([part[name].scales for part in parts])
        found[name] = replace(first, held=kept[id(first.held)], scales=scales)
    return found


def rows_for_codes(rows: Rows, curvature: Curvature, codes: tuple[Code, ...]) -> dict[str, RowsToWrite]:
    """Compute the rows of a layer for every code, by its name; codes that do not round or prune get the trained rows.

    The curvature of each group is factored once for all codes, and once more for the weights kept by each sparsity.
    """
    masked = {code: mask for code in codes if (mask := code.mask_of(rows.shape[1]))}
    dense = list(dict.fromkeys(code.alphabet for code in codes if code.alphabet and code not in masked))
    # Single weights come first, so that the kernel for runs is compiled only if a code drops runs.
    wanted = sorted(dict.fromkeys(masked.values()), key=lambda each: each[0] > 1)
    single = np.array([count for run, count in wanted if run == 1], np.int64)
    runs = np.array([each for each in wanted if each[0] > 1], np.int64).reshape(-1, 2)
    inner = [list(dict.fromkeys(c.alphabet for c, k in masked.items() if k == mask and c.alphabet)) for mask in wanted]
    alphabets = [*dense, *(alphabet for each in inner for alphabet in each)]
    edges = np.cumsum([len(dense), *(len(each) for each in inner)])
    digits = [np.empty(rows.shape, np.min_scalar_type(alphabet.count)) for alphabet in alphabets]
    scales = np.empty((len(rows), len(alphabets)), np.float32)
    unrounded = {mask for code, mask in masked.items() if not code.alphabet}
    pruned = {number: np.empty(rows.shape, np.float32) for number, mask in enumerate(wanted) if mask in unrounded}
    levels = (
        np.array([a.count for a in alphabets], np.int64),
        np.array([a.zero for a in alphabets], bool),
        np.array([a.step for a in alphabets], np.float64),
    )

    def some(part: slice) -> None:
        given, blocks, of_part = rows[part], curvature.blocks[part], scales[part]
        rounded = np.empty((len(given), len(alphabets), rows.shape[1]), np.float32)
        masks = np.ones((len(given), len(wanted), rows.shape[1]), bool)
        _round_and_drop(given, blocks, *levels, single, rounded[:, : edges[0]], of_part[:, : edges[0]], masks)
        if len(runs):
            _drop_runs(given, blocks, runs, masks[:, len(single) :])
        if wanted:
            left = np.empty((len(given), len(wanted), rows.shape[1]), np.float32)
            _compensate_and_round(given, blocks, masks, edges, *levels, rounded, of_part, left)
            for number, array in pruned.items():
                array[part] = left[:, number]
        for index, alphabet in enumerate(alphabets):
            digits[index][part] = _to_digits(rounded[:, index], of_part[:, index], alphabet)

    for _ in in_threads(some, some_groups(curvature.blocks)):
        pass
    to_write = {}
    for code in codes:
        found = RowsToWrite(rows)
        number = wanted.index(masked[code]) if code in masked else None
        if code.alphabet:
            index = dense.index(code.alphabet) if number is None else edges[number] + inner[number].index(code.alphabet)
            found = RowsToWrite(digits[index], scales[:, index], code.alphabet)
        elif number is not None:
            found = RowsToWrite(pruned[number], pruned=True)
        to_write[code.name] = found
    return to_write


@njit(cache=True, nogil=True)
def _round_and_drop(
    rows: Rows,
    blocks: NDArray[np.float32],
    counts: NDArray[np.int64],
    zeros: NDArray[np.bool_],
    steps: NDArray[np.float64],
    kept: NDArray[np.int64],
    rounded: Rows,
    scales: Rows,
    masks: NDArray[np.bool_],
) -> None:
    """Round rows to as many alphabets as `scales` has room for, and mask the weights left for each of `kept`."""
    every = np.ones(rows.shape[1], np.bool_)
    dense = scales.shape[1]
    for group in range(len(rows)):
        row = rows[group].astype(np.float64)
        factors = factors_of(blocks[group], every, DAMPING)
        if dense:
            rounded[group], scales[group] = round_row(row, factors, counts[:dense], zeros[:dense], steps[:dense])
        if len(kept):
            sequence = dropping_order(row, factors, kept.min())
            for number in range(len(kept)):
                for place in sequence[: len(row) - kept[number]]:
                    masks[group, number, place] = False


@njit(cache=True, nogil=True)
def _drop_runs(rows: Rows, blocks: NDArray[np.float32], wanted: NDArray[np.int64], masks: NDArray[np.bool_]) -> None:
    every = np.ones(rows.shape[1], np.bool_)
    for group in range(len(rows)):
        row = rows[group].astype(np.float64)
        masks[group] = masks_of(row, factors_of(blocks[group], every, DAMPING), wanted)


@njit(cache=True, nogil=True)
def _compensate_and_round(
    rows: Rows,
    blocks: NDArray[np.float32],
    masks: NDArray[np.bool_],
    edges: NDArray[np.int64],
    counts: NDArray[np.int64],
    zeros: NDArray[np.bool_],
    steps: NDArray[np.float64],
    rounded: Rows,
    scales: Rows,
    pruned: Rows,
) -> None:
    """Prune rows to each mask, then round them to the alphabets from the edge of the mask to the next edge."""
    for group in range(len(rows)):
        row = rows[group].astype(np.float64)
        for number in range(masks.shape[1]):
            factors = factors_of(blocks[group], masks[group, number], DAMPING)
            left = compensated(row, blocks[group], masks[group, number], factors)
            pruned[group, number] = left
            mine = slice(edges[number], edges[number + 1])
            if mine.stop > mine.start:
                rounded[group, mine], scales[group, mine] = round_row(
                    left, factors, counts[mine], zeros[mine], steps[mine]
                )
