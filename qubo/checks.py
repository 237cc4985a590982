"""Checks of arrays that callers pass, and read-only views of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """A read-only view, so that a frozen dataclass is frozen in depth; the caller's own array stays writable."""
    view = array.view()
    view.flags.writeable = False
    return view


def real(name: str, value: ArrayLike, *, like_float32: bool = False) -> NDArray[Any]:
    """Check that `value` is real numbers; returns it as float64 (or as float32 where allowed).

    Raises:
        ValueError: it is not.
    """
    array = np.asarray(value)
    if array.dtype == object or not (np.issubdtype(array.dtype, np.number) or array.dtype == bool):
        raise ValueError(f"{name} must be numbers, got dtype {array.dtype}: pass a float array")
    if np.issubdtype(array.dtype, np.complexfloating):
        raise ValueError(f"{name} must be real, got dtype {array.dtype}: pass a float array")
    if like_float32 and array.dtype == np.float32:
        return array
    return array.astype(np.float64, copy=False)


def indices(name: str, value: ArrayLike) -> NDArray[np.int64]:
    """Check that `value` is indices of groups, at least one and each once; returns them as int64.

    Raises:
        ValueError: it is not.
    """
    groups = np.asarray(value)
    if groups.ndim != 1 or groups.size == 0 or not np.issubdtype(groups.dtype, np.integer):
        raise ValueError(
            f"{name} must be one row of integers, got shape {groups.shape} dtype {groups.dtype}: "
            "pass the indices of at least one group"
        )
    if np.unique(groups).size != groups.size:
        raise ValueError(f"{name} must name each group once, got repeats: remove the duplicates")
    return groups.astype(np.int64)
