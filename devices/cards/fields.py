"""Readers of the fields of a card: each checks a value from TOML and gives it the right type.

Each raises ValueError with one line that names the place on the card, the rule and the value; the card adds its own
name in front.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar

from devices.cards.curves import number

__all__ = ["fields_of", "positive", "record_of", "texts_of", "value_of"]

T = TypeVar("T")


def fields_of(table: object, place: str, needed: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Any]:
    """A TOML table as dict; ValueError if a needed field is missing or a field is unknown."""
    if not isinstance(table, Mapping):
        raise ValueError(f"{place} needs a table with {', '.join(needed)}, not {table!r}")
    missing = [name for name in needed if name not in table]
    unknown = [name for name in table if name not in (*needed, *optional)]
    if missing or unknown:
        raise ValueError(
            f"{place} needs the fields {', '.join(needed) or 'listed in the schema'}: "
            f"missing {', '.join(missing) or 'none'}, unknown {', '.join(unknown) or 'none'}"
        )
    return dict(table)


def value_of(value: object, kind: str, place: str) -> Any:
    """A TOML value as the type `kind`, written as a dataclass declares it: "float", "bool", "str" or a tuple."""
    if kind == "float":
        try:
            return number(value)
        except ValueError as error:
            raise ValueError(f"{place} {error}") from None
    if kind == "tuple[float, ...]" and isinstance(value, list):
        return tuple(value_of(item, "float", place) for item in value)
    if kind == "bool" and isinstance(value, bool):
        return value
    if kind == "str" and isinstance(value, str) and value:
        return value
    wanted = {"bool": "true or false", "str": "a text"}.get(kind, "a list of numbers")
    raise ValueError(f"{place} needs {wanted}, not {value!r}")


def positive(value: object, place: str) -> float:
    """A finite number above 0 as float; ValueError for anything else."""
    found = float(value_of(value, "float", place))
    if not 0.0 < found < math.inf:
        raise ValueError(f"{place} needs more than 0, not {value!r}")
    return found


def texts_of(value: object, place: str) -> tuple[str, ...]:
    """A TOML list of texts as a tuple; ValueError for anything else."""
    if not isinstance(value, list):
        raise ValueError(f"{place} needs a list of texts, not {value!r}")
    return tuple(value_of(item, "str", place) for item in value)


def record_of(cls: type[T], table: object, place: str) -> T:
    """Make a dataclass of plain values from a TOML table with the same field names."""
    kinds = {item.name: str(item.type) for item in fields(cls)}  # type: ignore[arg-type]  # a dataclass, always
    given = fields_of(table, place, list(kinds))
    values = {name: value_of(given[name], kind, f"{place}.{name}") for name, kind in kinds.items()}
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{place} {error}") from None
