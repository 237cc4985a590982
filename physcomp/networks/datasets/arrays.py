"""Files of arrays (`.npz`, HDF5, safetensors) as parts of a data set; nothing in them is executed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from physcomp.networks.datasets.array_names import Roles, roles_by_part
from physcomp.networks.datasets.parts import ALL, Array, Part, Rows, Several, at_rows, same_count

# Rows of HDF5 are read as one slice where at least this share of it is wanted (our choice): picking is slow.
DENSE = 1 / 8


@dataclass(frozen=True, eq=False)
class Arrays:
    """The arrays of a file.

    Args:
        path: the file.
        names: of all arrays.
        count: length of an array's first axis.
        read: rows of an array (ascending), or all.
    """

    path: Path
    names: tuple[str, ...]
    count: Callable[[str], int]
    read: Callable[[str, Rows | None], Array]


def parts_of_arrays(path: Path) -> list[Part]:
    """The parts of a file of arrays, by its ending.

    Raises:
        ValueError: the file is damaged, or its names do not say what are inputs and labels.
    """
    arrays = OPENED_BY[path.suffix.lower()](path)
    return [_part(arrays, name, roles) for name, roles in roles_by_part(str(path), arrays.names).items()]


def _part(arrays: Arrays, name: str, roles: Roles) -> Part:
    where = str(arrays.path) if name == ALL else f"{arrays.path}, part {name}"
    labels = arrays.read(roles.labels, None)
    count = len(labels) if labels.ndim else 0
    for array in roles.inputs.values():
        same_count(where, arrays.count(array), count)

    def read(rows: Rows) -> tuple[Several, Array]:
        inputs = {role: arrays.read(array, rows) for role, array in roles.inputs.items()}
        return inputs if len(inputs) > 1 else next(iter(inputs.values())), at_rows(labels, rows)

    return Part(name, where, count, read, labels, images=roles.images, tokens=roles.tokens)


def _open_npz(path: Path) -> Arrays:
    loaded: dict[str, np.ndarray[Any, Any]] = {}

    def whole(name: str) -> np.ndarray[Any, Any]:
        if name not in loaded:
            try:
                with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                    loaded[name] = np.asarray(archive[name])
            except Exception as error:  # a damaged archive raises whatever its pieces mislead the reader to
                raise ValueError(
                    f"{path}: array {name} holds Python objects or is damaged ({_line(error)}), and is not unpickled; "
                    "save it as an array of numbers"
                ) from error
        return loaded[name]

    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            names = tuple(archive.files)
    except Exception as error:
        raise ValueError(f"{path}: not a whole .npz file ({_line(error)}); write it again by numpy.savez") from error
    return Arrays(path, names, lambda name: _length(whole(name)), lambda name, rows: _rows(whole(name), rows))


def _open_hdf5(path: Path) -> Arrays:
    def read(name: str, rows: Rows | None) -> Array:
        with _damage(path), h5py.File(path, "r") as file:
            dtype = file[name].dtype
            if dtype.kind in "biufc":
                return _hdf5_rows(file[name], rows)
        raise ValueError(f"{path}: array {name} is of type {dtype}; save it as an array of numbers")

    def count(name: str) -> int:
        with _damage(path), h5py.File(path, "r") as file:
            return _length(file[name])

    with _damage(path), h5py.File(path, "r") as file:
        names = tuple(_datasets(file))
    return Arrays(path, names, count, read)


def _hdf5_rows(stored: h5py.Dataset, rows: Rows | None) -> Array:
    """Rows of a stored array; few of many are picked, others are taken from one slice."""
    if rows is None or not stored.ndim:
        return np.asarray(stored[()])
    first, past = int(rows[0]), int(rows[-1]) + 1
    if len(rows) < DENSE * (past - first):
        return np.asarray(stored[rows])
    return np.asarray(stored[first:past])[rows - first]


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # as said above, of HDF5's reader
        raise ValueError(f"{path}: not a whole HDF5 file ({_line(error)}); write it again") from error


def _datasets(file: h5py.File) -> Iterator[str]:
    names: list[str] = []
    # A name that is no text comes as bytes.
    file.visititems(lambda name, item: names.append(str(name)) if isinstance(item, h5py.Dataset) else None)
    yield from names


def _open_safetensors(path: Path) -> Arrays:
    def read(name: str, rows: Rows | None) -> Array:
        with safe_open(path, framework="pt") as file:
            if rows is None or not file.get_slice(name).get_shape():
                whole: torch.Tensor = file.get_tensor(name)
                return whole
            first = int(rows[0])
            return at_rows(file.get_slice(name)[first : int(rows[-1]) + 1], rows - first)

    def count(name: str) -> int:
        with safe_open(path, framework="pt") as file:
            return int((*file.get_slice(name).get_shape(), 0)[0])

    try:
        with safe_open(path, framework="pt") as file:
            names = tuple(file.keys())
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path}: not a whole safetensors file ({_line(error)}); write it again") from error
    return Arrays(path, names, count, read)


def _length(array: Any) -> int:
    return int((*(array.shape or ()), 0)[0])


def _rows(array: np.ndarray[Any, Any], rows: Rows | None) -> Array:
    return array if rows is None or not array.ndim else array[rows]


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


OPENED_BY: dict[str, Callable[[Path], Arrays]] = {
    ".npz": _open_npz, ".h5": _open_hdf5, ".hdf5": _open_hdf5, ".safetensors": _open_safetensors,
}  # fmt: skip
