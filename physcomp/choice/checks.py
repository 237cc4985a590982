"""Checks of what is asked for, before the long work: arguments of loss models, budgets, settings of the search."""

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

import devices

LEAST_MEMORY = 1 << 20  # our choice: with less, even the gradients of one sample of a small network would not fit


def check_names(what: str, names: Any) -> None:
    """Check that codes are named by a sequence of texts.

    Raises:
        ValueError: they are not.
    """
    if isinstance(names, str) or not isinstance(names, Iterable) or not all(isinstance(name, str) for name in names):
        raise ValueError(
            f"{what}: a tuple of names of codes, got {names!r}; write for example ('pruned', 'digital(4)')"
        )


def check_card(card: Any) -> None:
    """Check that a card is a card or the name of one.

    Raises:
        ValueError: it is neither.
    """
    if not isinstance(card, devices.Card | str):
        raise ValueError(f"card: the name of a card or a devices.Card, got {card!r}; see 'physcomp card list'")


def check_seed(seed: Any) -> None:
    """Check that a seed is a whole number, at least 0.

    Raises:
        ValueError: it is not.
    """
    if not _whole(seed) or seed < 0:
        raise ValueError(f"seed: a whole number, at least 0, got {seed!r}; choose another")


def check_memory(memory_bytes: Any) -> None:
    """Check that a memory setting is a number of bytes of at least `LEAST_MEMORY`.

    Raises:
        ValueError: it is not.
    """
    if not _whole(memory_bytes) or memory_bytes < LEAST_MEMORY:
        raise ValueError(f"memory: at least {LEAST_MEMORY:,} bytes (1 MB), got {memory_bytes!r}; allow more")


def budgets_of(given: Any) -> tuple[float, ...]:
    """Budgets as a tuple.

    Raises:
        ValueError: they are no numbers above 0, or there are none.
    """
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise ValueError(f"budgets: a list of cells per weight such as [0.5, 1], got {given!r}; write it so")
    budgets = tuple(given)
    if not budgets:
        raise ValueError("budgets: at least one number of cells per weight, got none; name one")
    for budget in budgets:
        if isinstance(budget, bool) or not isinstance(budget, Real) or not 0 < float(budget) < math.inf:
            raise ValueError(f"budgets: cells per weight are finite numbers above 0, got {budget!r}; correct it")
    return budgets


def check_shrinkages(given: Any) -> None:
    """Check that shrinkages are numbers from 0 to 1, at least one.

    Raises:
        ValueError: they are not.
    """
    if not isinstance(given, tuple | list) or not given:
        raise ValueError(f"shrinkages: at least one number from 0 to 1, got {given!r}; write for example (0.0, 0.7)")
    for shrinkage in given:
        if isinstance(shrinkage, bool) or not isinstance(shrinkage, Real) or not 0 <= float(shrinkage) <= 1:
            raise ValueError(f"shrinkages: numbers from 0 to 1, got {shrinkage!r}; correct it")


def check_parts(given: Any) -> None:
    """Check that parts of the menu are named by a sequence of texts, at least one.

    Raises:
        ValueError: they are not.
    """
    if isinstance(given, str) or not given or not all(isinstance(part, str) for part in given):
        raise ValueError(f"parts: at least one part of the menu, got {given!r}; write for example ('all',)")


def check_count(what: str, given: Any) -> None:
    """Check that a number of things is a whole number, at least 1.

    Raises:
        ValueError: it is not.
    """
    if not _whole(given) or given < 1:
        raise ValueError(f"{what}: a whole number, at least 1, got {given!r}; correct it")


def _whole(given: Any) -> bool:
    return isinstance(given, Integral) and not isinstance(given, bool)
