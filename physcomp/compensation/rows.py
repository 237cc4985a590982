"""What codes are given to write where that is not the trained weights: rounded rows, pruned rows, or both.

Rounding and pruning make up for their own errors, so the rows are found for each code before it writes them. They
depend on the curvature alone, not on the cells.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from physcomp.codes import Code, Digital, Medium, Sparse, fit_scales
from physcomp.codes.base import Rows
from physcomp.codes.sparse import ZeroFree
from physcomp.compensation.pruning import dropping_order, made_up
from physcomp.compensation.pruning_runs import masks_of
from physcomp.compensation.rounding import DAMPING, Alphabet, factors_of, round_row, some_groups
from physcomp.curvature.blocks import Curvature
from physcomp.threads import in_threads


@dataclass(frozen=True, eq=False)
class Target:
    """What one code is given to write.

    Args:
        rows: float32 (groups, weights).
        scales: float32 (groups,), bfloat16 numbers; None where the code's scale is a matter of the cells.
    """

    rows: Rows
    scales: Rows | None

    def scales_on(self, code: Code, importance: NDArray[np.floating], medium: Medium) -> Rows:
        """The scale of each group on cells, see `physcomp.codes.fit_scales`."""
        if self.scales is not None:
            return self.scales
        if isinstance(code, Sparse):
            kept = code.among(np.asarray(importance), self.rows)
            return fit_scales(code.inner, code.survivors(self.rows), kept, medium)
        return fit_scales(code, self.rows, importance, medium)


def targets_of(rows: Rows, curvature: Curvature, codes: tuple[Code, ...]) -> dict[str, Target]:
    """The rows of a layer for every code, by its name; the trained ones for codes without a target.

    Each group's curvature is factored once for all digital codes and all sparsities, and once for what each leaves.
    """
    dense = list(dict.fromkeys(Alphabet(code.count) for code in codes if isinstance(code, Digital)))
    sparse = [code for code in codes if isinstance(code, Sparse)]
    # Single weights first: only where whole runs are dropped is the kernel for them compiled.
    wanted = sorted(dict.fromkeys(_kept(code, rows) for code in sparse), key=lambda each: each[0] > 1)
    single = np.array([count for run, count in wanted if run == 1], np.int64)
    runs = np.array([each for each in wanted if each[0] > 1], np.int64).reshape(-1, 2)
    inner = [list(dict.fromkeys(filter(None, (_inside(c) for c in sparse if _kept(c, rows) == k)))) for k in wanted]
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
            _make_up_and_round(given, blocks, masks, edges, *levels, rounded[part], scales[part], pruned[part])

    for _ in in_threads(some, some_groups(curvature.blocks)):
        pass
    targets = {}
    for code in codes:
        found = Target(rows, None)
        if isinstance(code, Digital):
            index = dense.index(Alphabet(code.count))
            found = Target(rounded[:, index], scales[:, index])
        elif isinstance(code, Sparse):
            number = wanted.index(_kept(code, rows))
            found = Target(pruned[:, number], None)
            alphabet = _inside(code)
            if alphabet:
                index = int(edges[number]) + inner[number].index(alphabet)
                found = Target(rounded[:, index], scales[:, index])
        targets[code.name] = found
    return targets


def _kept(code: Sparse, rows: Rows) -> tuple[int, int]:
    """Weights of a run, and how many runs of each row are kept."""
    return code.run, code.kept_runs(rows.shape[1])


def _inside(code: Sparse) -> Alphabet | None:
    """The alphabet of the code inside, if it is digital."""
    return Alphabet(code.inner.count, zero=False) if isinstance(code.inner, ZeroFree) else None


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
    """Rows rounded to as many alphabets as there is room for; and which weights stay when so many are kept."""
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
def _make_up_and_round(
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
    """Rows pruned to each mask, and then rounded to the alphabets between its edge and the next."""
    for group in range(len(rows)):
        row = rows[group].astype(np.float64)
        for number in range(masks.shape[1]):
            factors = factors_of(blocks[group], masks[group, number], DAMPING)
            left = made_up(row, blocks[group], masks[group, number], factors)
            pruned[group, number] = left
            mine = slice(edges[number], edges[number + 1])
            if mine.stop > mine.start:
                rounded[group, mine], scales[group, mine] = round_row(left, factors, counts[mine], zeros[mine])
