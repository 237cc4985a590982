"""Data from Python code of the user: `file.py:function` or `package.module:function`, the one source that is executed.

The function may take the argument `part`; it then gives that part when asked for it.
"""

import contextlib
import inspect
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from physcomp.networks.datasets.from_objects import parts_of_object
from physcomp.networks.datasets.parts import ALL, Part
from physcomp.networks.loading import called, loaded


def is_reference(source: str) -> bool:
    """Whether a source is a reference to a function: text, a colon, and a name of Python."""
    place, _, name = source.rpartition(":")
    return bool(place) and all(word.isidentifier() for word in name.split(".")) and not Path(source).exists()


def parts_of_function(reference: str, wanted: Sequence[str], seed: int, most: int | None) -> list[Part]:
    """The parts that a function gives: a Samples, Dataset, DataLoader, arrays, a dictionary of them, or one by `part`.

    Args:
        reference: `file.py:function` or `package.module:function`; the file's folder is importable meanwhile.
        wanted: the parts asked for.
        seed: of the random numbers of torch, numpy and Python while the function runs.
        most: samples that are read of a stream; none: all.

    Raises:
        ValueError: the module or function is not there, raises, or returns nothing of these forms.
    """
    file = Path(reference.rpartition(":")[0])
    if file.suffix == ".py" and not file.is_file():
        raise ValueError(f"{file}: no such file; name a Python file and a function in it that gives data")
    with seeded(seed), loaded(reference) as function:
        if not callable(function) or isinstance(function, Dataset):
            return parts_of_object(function, reference, ALL, seed, most)
        takes_part, requires_part = _takes_part(reference, function)
        if not takes_part or (not requires_part and list(wanted) == [ALL]):
            return parts_of_object(called(function, reference, {}), reference, ALL, seed, most)
        parts = []
        for name in wanted:
            (part,) = parts_of_object(called(function, reference, {"part": name}), reference, name, seed, most)
            parts.append(part)
        return parts


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers of torch, numpy and Python from a seed, so that a function gives the same data to each command."""
    kept = np.random.get_state(), random.getstate()  # noqa: NPY002 - what the user's code may draw from
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed % (1 << 32))  # noqa: NPY002
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(kept[0])  # noqa: NPY002
            random.setstate(kept[1])


def _takes_part(reference: str, function: Callable[..., Any]) -> tuple[bool, bool]:
    """Whether a function takes `part`, and whether it must be given it."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False, False
    starred = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    required = [p.name for p in parameters if p.default is p.empty and p.kind not in starred]
    if set(required) - {"part"}:
        raise ValueError(
            f"{reference}: needs arguments {', '.join(required)}; give a function that takes none, or `part` alone"
        )
    return any(p.name == "part" for p in parameters), bool(required)
