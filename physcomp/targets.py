"""What codes are given to write where that is not the trained weights: rounded rows, pruned rows, or both.

Rounding and pruning make up for their own errors, so the rows are found for each code before it writes them. They
depend on the curvature alone, not on the cells.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from physcomp.codes import Code, Digital, Medium, Sparse, fit_scales
from physcomp.codes.base import Rows
from physcomp.codes.sparse import ZeroFree
from physcomp.pruning import prune_group
from physcomp.rounding import Alphabet, parts_of, round_group
from physcomp.sensitivity import Curvature
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
            mask = code.mask(self.rows)
            kept = importance[mask].reshape(len(mask), -1)
            return fit_scales(code.inner, self.rows[mask].reshape(kept.shape), kept, medium)
        return fit_scales(code, self.rows, importance, medium)


def has_target(code: Code) -> bool:
    """Whether a code is given rows of its own to write, which a plan then keeps."""
    return isinstance(code, Digital | Sparse)


def targets_of(rows: Rows, curvature: Curvature, codes: tuple[Code, ...]) -> dict[str, Target]:
    """The rows of a layer for every code, by its name; the trained ones for codes without a target.

    Each group's curvature is factored once for all digital codes and once for all sparsities.
    """
    dense = tuple(dict.fromkeys(Alphabet(code.count) for code in codes if isinstance(code, Digital)))
    sparse = tuple(code for code in codes if isinstance(code, Sparse))

    def one(group: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        return _of_group(rows[group].astype(np.float64), curvature.blocks[group], dense, sparse)

    found = np.empty((len(rows), len(dense) + len(sparse), rows.shape[1]), np.float32)
    scales = np.empty(found.shape[:2], np.float32)
    for group, (row, scale) in enumerate(in_threads(one, range(len(rows)))):
        found[group], scales[group] = row, scale
    targets = {}
    for code in codes:
        if isinstance(code, Digital):
            index = dense.index(Alphabet(code.count))
        elif isinstance(code, Sparse):
            index = len(dense) + sparse.index(code)
        else:
            targets[code.name] = Target(rows, None)
            continue
        fixed = isinstance(code, Digital) or isinstance(code.inner, ZeroFree)
        targets[code.name] = Target(found[:, index], scales[:, index] if fixed else None)
    return targets


def _of_group(
    row: NDArray[np.float64], blocks: NDArray[np.floating], dense: tuple[Alphabet, ...], sparse: tuple[Sparse, ...]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Rows for the dense alphabets, then for the sparse codes: (both, weights); and their scales, 0 if of the cells."""
    parts = parts_of(blocks, len(row))
    rows = np.empty((len(dense) + len(sparse), len(row)), np.float32)
    scales = np.zeros(len(rows))
    if dense:
        rows[: len(dense)], scales[: len(dense)] = round_group(row, parts, dense)
    kept = tuple(sorted({code.kept(len(row)) for code in sparse}, reverse=True))
    for count, left in zip(kept, prune_group(row, parts, kept) if kept else (), strict=True):
        mine = [at for at, code in enumerate(sparse, len(dense)) if code.kept(len(row)) == count]
        inner = {at: sparse[at - len(dense)].inner for at in mine}
        alphabets = {at: Alphabet(code.count, zero=False) for at, code in inner.items() if isinstance(code, ZeroFree)}
        rows[mine] = left.row
        if alphabets:
            places = list(alphabets)
            rows[places], scales[places] = round_group(left.row, left.parts, tuple(alphabets.values()))
    return rows, scales
