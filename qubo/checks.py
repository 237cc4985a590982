"""Checks of numbers and arrays that callers pass, and read-only views of arrays."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

SHOWN = 80
"""Errors show at most this many characters of a value (our choice)."""


def shown(value: object) -> str:
    """A value as an error shows it: its repr in one line, cut where it is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def is_number(value: object) -> bool:
    """Whether a value is a real number that a float can hold, infinity and nan included; True and False are none."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    try:
        float(value)
    except OverflowError:
        return False
    return True


def check_whole(name: str, value: Any, *, least: int, cure: str = "pass a count") -> None:
    """Check that `value` is a whole number from `least` on that int64 can hold.

    Raises:
        ValueError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {shown(value)}: {cure}")
    if int(value) >= 2**63:
        raise ValueError(f"{name} must be below 2^63, got {shown(value)}: pass a smaller one")


def check_seed(value: Any) -> None:
    """Check that `value` can be a seed: a whole number of at least 0, below 2^63.

    Raises:
        ValueError: it cannot.
    """
    check_whole("seed", value, least=0, cure="pass one, such as 0")


def check_time_limit(value: Any) -> None:
    """Check that `value` is a time in seconds, above 0.

    Raises:
        ValueError: it is not.
    """
    if not is_number(value) or not value > 0:
        raise ValueError(f"time_limit_s must be above 0, got {shown(value)}: pass seconds, or None for none")


def check_callable(name: str, value: Any) -> None:
    """Check that `value` can be called.

    Raises:
        ValueError: it cannot.
    """
    if not callable(value):
        raise ValueError(f"{name} must be a function, got {shown(value)}: pass one")


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """A read-only view, so that a frozen dataclass is frozen in depth; the caller's own array stays writable."""
    view = array.view()
    view.flags.writeable = False
    return view


def as_array(name: str, value: ArrayLike) -> NDArray[Any]:
    """`value` as an array.

    Raises:
        ValueError: its rows have different lengths.
    """
    try:
        return np.asarray(value)
    except (ValueError, TypeError):
        raise ValueError(f"{name} must be an array, got rows of different lengths: make them equally long") from None


def real(name: str, value: ArrayLike, *, like_float32: bool = False) -> NDArray[Any]:
    """Check that `value` is real numbers; returns it as float64 (or as float32 where allowed).

    Raises:
        ValueError: it is not.
    """
    array = as_array(name, value)
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
    groups = as_array(name, value)
    if groups.ndim != 1 or groups.size == 0 or not np.issubdtype(groups.dtype, np.integer):
        raise ValueError(
            f"{name} must be one row of integers, got shape {groups.shape} dtype {groups.dtype}: "
            "pass the indices of at least one group"
        )
    if np.unique(groups).size != groups.size:
        raise ValueError(f"{name} must name each group once, got repeats: remove the duplicates")
    return groups.astype(np.int64)
