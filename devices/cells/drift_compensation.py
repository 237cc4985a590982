"""Global drift compensation: one factor for a tensor, or for each group in it, that restores the mean read.

The factor is the mean read at the reference time over the mean read now (M. Le Gallo et al., Advanced Electronic
Materials 4:1700627, 2018). It compensates the mean decay of the cells; how much single cells differ from it stays.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from devices.cells.cells import Cells

__all__ = ["drift_compensation"]

CHUNK_CELLS = 1 << 20  # cells summed in float64 at once, so that no float64 copy of them all is made


def _group_sums(levels: NDArray[np.float32], groups: NDArray[np.intp] | None, count: int) -> NDArray[np.float64]:
    """The sum of the levels of each group, float64, shape (count,)."""
    sums = np.zeros(count)
    for start in range(0, levels.size, CHUNK_CELLS):
        part = levels[start : start + CHUNK_CELLS]
        if groups is None:
            sums[0] += part.sum(dtype=np.float64)
        else:
            sums += np.bincount(groups[start : start + CHUNK_CELLS], weights=part, minlength=count)
    return sums


def drift_compensation(
    cells: Cells, *, time_s: float, read: int = 1, groups: ArrayLike | None = None, temperature_k: float | None = None
) -> NDArray[np.float64]:
    """The factor that compensates drift: mean read at the reference time / mean read at `time_s`.

    Multiply reads at `time_s` by it.

    Args:
        cells: programmed cells.
        time_s: when they are read, in seconds since the reference read.
        read: number of the read taken at `time_s`; the reference is read 0 at the card's earliest time.
        groups: number of each cell's group, from 0 on, in the shape of the cells; None: one group of all cells.
        temperature_k: temperature of the cells, in kelvin; see `Cells.read`.

    Returns:
        float64: one factor, shape (), or one for each group, shape (largest group + 1,).

    Raises:
        ValueError: groups that do not fit the cells, or a group whose mean read is 0 or less.

    >>> from devices import program
    >>> cells = program("pcm-nandakumar", np.full(10_000, 0.5), seed=1)
    >>> factor = drift_compensation(cells, time_s=86400.0)
    >>> round(float(factor), 1)  # (86420 / 20)^0.049
    1.5
    """
    labels, count = None, 1
    if groups is not None:
        given = np.asarray(groups)
        whole = np.issubdtype(given.dtype, np.integer) and given.shape == cells.levels.shape
        if not whole or given.size == 0 or given.min() < 0:
            raise ValueError(
                f"groups must be whole numbers from 0 on, one a cell in the shape {cells.levels.shape}, not "
                f"{given.dtype} of shape {given.shape}: number the groups of the cells"
            )
        labels = given.reshape(-1).astype(np.intp, copy=False)
        count = int(labels.max()) + 1
    before = _group_sums(cells.read(time_s=cells.card.first_s).reshape(-1), labels, count)
    now = _group_sums(cells.read(time_s=time_s, read=read, temperature_k=temperature_k).reshape(-1), labels, count)
    if not ((before > 0.0) & (now > 0.0)).all():
        worst = int(np.argmin(np.minimum(before, now)))
        raise ValueError(
            f"drift compensation needs cells that read more than 0 on average, not group {worst}: "
            "leave groups of targets near 0 (or without cells) uncompensated"
        )
    factors: NDArray[np.float64] = before / now
    return factors if groups is not None else factors.reshape(())
