"""Parts of a data set: what a source has by name, counted and ready to be read row by row."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Array = npt.NDArray[Any] | torch.Tensor
Several = Array | tuple[Array, ...] | Mapping[str, Array]
"""Inputs as a source holds them: one array, several in order, or several by name; the first axis counts samples."""
Rows = npt.NDArray[np.int64]

ALL = "all"
# What the names of parts mean: the name of ours, and those that data sets use for it.
MEANINGS: dict[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "calibration": ("calibration", "calib"),
    "heldout": ("heldout", "held_out", "val", "valid", "validation", "dev"),
    "test": ("test", "testing", "t10k"),
}


@dataclass(frozen=True, eq=False)
class Part:
    """A part of a data set that is read on demand.

    Args:
        name: as the source names it; `all` where the source has no parts.
        where: the source and the part, for messages.
        count: samples.
        read: inputs and labels of the rows given, which ascend and occur once.
        labels: all labels in order, where they are known without reading inputs.
        ready: the inputs come from code that knows its network, so floating-point axes stay as they are.
        images: floating-point inputs are images by their name, so that (N, H, W) has no channel axis yet.
        tokens: whole numbers of any width are tokens, by their name.
    """

    name: str
    where: str
    count: int
    read: Callable[[Rows], tuple[Several, Array]]
    labels: Array | None = None
    ready: bool = False
    images: bool = False
    tokens: bool = False


def meaning(name: str) -> str:
    """What a part's name means: `t10k` is `test`, `val` is `heldout`; a name of no known meaning is itself."""
    plain = name.lower().replace("-", "_")
    return next((mine for mine, names in MEANINGS.items() if plain in names), name)


def is_part_name(name: str) -> bool:
    """Whether a name is one that data sets use for parts."""
    return meaning(name) in MEANINGS


def rank(name: str) -> int:
    """The place of a part among others: training data first, what is reported last, names of no known meaning after."""
    return (*MEANINGS, meaning(name)).index(meaning(name))


def find(parts: Iterable[Part], name: str) -> Part | None:
    """The part of that name, or else the first of that meaning."""
    parts = list(parts)
    same = [part for part in parts if part.name == name]
    return next(iter(same or [part for part in parts if meaning(part.name) == meaning(name)]), None)


def in_memory(name: str, where: str, inputs: Several, labels: Array, **facts: bool) -> Part:
    """A part whose arrays are in memory already."""

    def read(rows: Rows) -> tuple[Several, Array]:
        return at(inputs, rows), at_rows(labels, rows)

    for array in each(inputs):
        same_count(where, len(array), len(labels))
    return Part(name, where, len(labels), read, labels, **facts)


def same_count(where: str, inputs: int, labels: int) -> None:
    """Refuse inputs and labels of different numbers, and none at all.

    Raises:
        ValueError: as said.
    """
    if inputs != labels or not labels:
        raise ValueError(
            f"{where}: need as many labels as inputs and at least one, got {inputs} inputs and {labels} labels; "
            "check that both belong together"
        )


def each(inputs: Several) -> tuple[Array, ...]:
    """The arrays of inputs, in order."""
    if isinstance(inputs, Mapping):
        return tuple(inputs.values())
    return tuple(inputs) if isinstance(inputs, tuple) else (inputs,)


def change(inputs: Several, how: Callable[[Array], Any]) -> Any:
    """Inputs of the same form with every array changed."""
    if isinstance(inputs, Mapping):
        return {name: how(array) for name, array in inputs.items()}
    return tuple(how(array) for array in inputs) if isinstance(inputs, tuple) else how(inputs)


def at(inputs: Several, rows: Rows) -> Several:
    """The rows of every array of inputs."""
    taken: Several = change(inputs, lambda array: at_rows(array, rows))
    return taken


def join(pieces: Sequence[Several], how: Callable[[list[Array]], Any]) -> Any:
    """Inputs of several pieces, of one form, as one: each array of them is joined as `how` does."""
    first = pieces[0]
    if isinstance(first, Mapping):
        return {name: how([piece[name] for piece in pieces if isinstance(piece, Mapping)]) for name in first}
    joined = [how(list(column)) for column in zip(*(each(piece) for piece in pieces), strict=True)]
    return tuple(joined) if isinstance(first, tuple) else joined[0]


def at_rows(array: Array, rows: Rows) -> Array:
    """Rows of an array or tensor."""
    return array[torch.from_numpy(rows)] if isinstance(array, torch.Tensor) else array[rows]
