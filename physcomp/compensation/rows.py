"""The rows that each code writes: trained weights, or weights that were pruned, rounded, or both, with compensation.

Codes that round or prune get rows in which the other weights compensate for the errors. These rows depend on the
curvature, not on the cells, so they are computed once for each layer.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from physcomp.codes import Code, Medium
from physcomp.codes.base import Rows
from physcomp.compensation.pruning import compensated, dropping_order
from physcomp.compensation.pruning_runs import masks_of
from physcomp.compensation.rounding import DAMPING, factors_of, round_row, some_groups
from physcomp.curvature.blocks import Curvature
from physcomp.threads import in_threads


@dataclass(frozen=True, eq=False)
class RowsToWrite:
    """The rows of a layer that one code is to write, and their scales.

    Args:
        rows: float32 (groups, weights).
        scales: float32 (groups,), bfloat16 numbers, for codes that round; None if the scale depends on the cells.
    """

    rows: Rows
    scales: Rows | None

    def scales_on(self, code: Code, importance: NDArray[np.floating], medium: Medium) -> Rows:
        """The scale of each group: `scales`, or that of least error on the cells (`physcomp.codes.fit_scales`)."""
        return code.fit(self.rows, importance, medium) if self.scales is None else self.scales


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
    rounded = np.empty((len(rows), len(alphabets), rows.shape[1]), np.float32)
    scales = np.empty(rounded.shape[:2], np.float32)
    pruned = np.empty((len(rows), len(wanted), rows.shape[1]), np.float32)
    levels = np.array([a.count for a in alphabets], np.int64), np.array([a.zero for a in alphabets], bool)

    def some(part: slice) -> None:
        given, blocks = rows[part], curvature.blocks[part]
        masks = np.ones((len(given), len(wanted), rows.shape[1]), bool)
        _round_and_drop(given, blocks, *levels, single, rounded[part, : edges[0]], scales[part, : edges[0]], masks)
        if len(runs):
            _drop_runs(given, blocks, runs, masks[:, len(single) :])
        if wanted:
            _compensate_and_round(given, blocks, masks, edges, *levels, rounded[part], scales[part], pruned[part])

    for _ in in_threads(some, some_groups(curvature.blocks)):
        pass
    to_write = {}
    for code in codes:
        found = RowsToWrite(rows, None)
        if code in masked:
            number = wanted.index(masked[code])
            found = RowsToWrite(pruned[:, number], None)
            if code.alphabet:
                index = int(edges[number]) + inner[number].index(code.alphabet)
                found = RowsToWrite(rounded[:, index], scales[:, index])
        elif code.alphabet:
            index = dense.index(code.alphabet)
            found = RowsToWrite(rounded[:, index], scales[:, index])
        to_write[code.name] = found
    return to_write


@njit(cache=True, nogil=True)
def _round_and_drop(
    rows: Rows,
    blocks: NDArray[np.float32],
    counts: NDArray[np.int64],
    zeros: NDArray[np.bool_],
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
            rounded[group], scales[group] = round_row(row, factors, counts[:dense], zeros[:dense])
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
                rounded[group, mine], scales[group, mine] = round_row(left, factors, counts[mine], zeros[mine])
