"""Measurements of your own device, read from a CSV or HDF5 table and checked line by line.

One row is one read. Columns may come in any order. A unit in brackets after a name is ignored, except for the time,
which has to be in seconds.

    target     the value to be programmed (write and verify), in the unit of the read, or
    voltage    the applied voltage or other drive (also: drive, write voltage)
    read       the value read back (also: value, read value)
    time_s     seconds from programming to this read (also: time); optional, as are
    device     name or number of the device or chip
    cell       name or number of the cell on it
    cycle      number of the write of that cell; rows with the same labels and target are reads of one write
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Measurements", "read_measurements"]

FloatArray = NDArray[np.float64]
LabelArray = NDArray[np.int64]

ALIASES = {
    "target": "target",
    "voltage": "drive",
    "write_voltage": "drive",
    "drive": "drive",
    "read": "read",
    "value": "read",
    "read_value": "read",
    "time_s": "time_s",
    "time": "time_s",
    "device": "device",
    "cell": "cell",
    "cycle": "cycle",
}
NUMBERS = ("target", "drive", "read", "time_s")
LABELS = ("device", "cell", "cycle")
KNOWN = "target or voltage, read, time_s, device, cell, cycle"


@dataclass(frozen=True, eq=False)
class Measurements:
    """Measured reads of one kind of device, one entry for each read.

    Attributes:
        written: targets, in the unit of `read`, or drives such as voltages, shape (n,).
        read: values read back, shape (n,).
        is_target: whether `written` holds targets.
        time_s: seconds from programming to each read, above 0, shape (n,), or None.
        device, cell, cycle: labels of any kind, shape (n,), or None; kept as whole numbers from 0.
        source: name of the data, for messages and for the card.

    Raises:
        ValueError: lengths that differ, no row, a number that is not finite, a time of 0 or less.

    >>> Measurements(written=[0.0, 1.0], read=[0.1, 0.9], is_target=True, device=["a", "b"]).device.tolist()
    [0, 1]
    """

    written: FloatArray
    read: FloatArray
    is_target: bool
    time_s: FloatArray | None = None
    device: LabelArray | None = None
    cell: LabelArray | None = None
    cycle: LabelArray | None = None
    source: str = "measurements"

    def __post_init__(self) -> None:
        names = ("written", "read") if self.time_s is None else ("written", "read", "time_s")
        for name in names:
            object.__setattr__(self, name, _finite(getattr(self, name), f"{self.source}: {name}"))
        for name in LABELS:
            given = getattr(self, name)
            if given is not None:
                object.__setattr__(self, name, np.unique(np.asarray(given), return_inverse=True)[1].astype(np.int64))
        lengths = {name: len(getattr(self, name)) for name in (*names, *LABELS) if getattr(self, name) is not None}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"{self.source}: columns need one length, not {lengths}: give every row every column")
        if not len(self.read):
            raise ValueError(f"{self.source}: no row of data: give one row a read")
        if self.time_s is not None and not (self.time_s > 0.0).all():
            raise ValueError(
                f"{self.source}: time_s counts from programming and must be above 0 s, not {self.time_s.min():g}: "
                "give the seconds between write and read"
            )

    def in_log10(self) -> Measurements:
        """Take log10 of the reads (and of targets), for resistances over decades.

        Raises:
            ValueError: a read or target of 0 or less.
        """
        for name, values in (("read", self.read), ("target", self.written if self.is_target else self.read)):
            if not (values > 0.0).all():
                raise ValueError(
                    f"{self.source}: the logarithm needs every {name} above 0, not {values.min():g}: correct or drop it"
                )
        written = np.log10(self.written) if self.is_target else self.written
        return Measurements(
            written, np.log10(self.read), self.is_target, self.time_s, self.device, self.cell, self.cycle, self.source
        )


def _finite(values: ArrayLike, place: str) -> FloatArray:
    array = np.array(values, dtype=np.float64).reshape(-1)
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array))[0])
        raise ValueError(f"{place} needs finite numbers, not {array[row]} in row {row + 1}: correct or drop that row")
    array.flags.writeable = False
    return array


def read_measurements(path: Path | str) -> Measurements:
    """Read measurements from a CSV file (comma, semicolon or tab; # starts a comment line) or an HDF5 file.

    An HDF5 file (.h5, .hdf5) has one dataset for each column at its root, all of one length.

    Raises:
        ValueError: a file that cannot be read, a missing, unknown or repeated column, a missing value or one that is
            no number; the message names file, row and column.
    """
    file = Path(path)
    columns: dict[str, Any]
    if file.suffix.lower() in (".h5", ".hdf5"):
        columns = _from_hdf5(file)
    elif file.suffix.lower() in (".csv", ".tsv", ".txt"):
        columns = _from_csv(file)
    else:
        raise ValueError(f"{file}: measurements are read from .csv, .tsv, .txt, .h5 or .hdf5: convert it to one")
    target = columns.pop("target", None)
    drive = columns.pop("drive", None)
    return Measurements(
        written=target if drive is None else drive,
        is_target=drive is None,
        source=file.name,
        **columns,  # read and the optional ones
    )


def _roles(names: Sequence[str], file: Path) -> list[str]:
    """The meaning of each column, by its name; ValueError for an unknown, repeated or missing one."""
    roles = []
    for name in names:
        plain, unit = re.fullmatch(r"(.*?)\s*(?:[(\[](.*)[)\]])?", name.strip(), re.DOTALL).groups()  # type: ignore[union-attr]
        role = ALIASES.get(re.sub(r"[\s-]+", "_", plain.lower()))
        if role is None:
            raise ValueError(f"{file}: unknown column '{name.strip()}': rename it to one of {KNOWN}, or drop it")
        if role == "time_s" and unit not in (None, "s", "seconds"):
            raise ValueError(f"{file}: column '{name.strip()}' needs seconds, not '{unit}': convert it to time_s")
        if role in roles:
            raise ValueError(f"{file}: two columns mean '{role}', the second is '{name.strip()}': keep one")
        roles.append(role)
    if "read" not in roles:
        raise ValueError(f"{file}: column 'read' is missing; there are {', '.join(names)}: name the read values 'read'")
    if ("target" in roles) == ("drive" in roles):
        found = "both" if "target" in roles else "neither"
        raise ValueError(f"{file}: needs one of the columns 'target' and 'voltage', not {found}: say what was written")
    return roles


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """The numbered lines that are neither empty nor comments."""
    try:
        text = file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read measurements '{file}': {error}: give a CSV or HDF5 file") from None
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line


def _from_csv(file: Path) -> dict[str, Any]:
    lines = list(_lines(file))
    if len(lines) < 2:
        raise ValueError(f"{file}: needs a line of column names and rows below it: give one row a read")
    header = lines[0][1]
    delimiter = max(",;\t", key=header.count)
    roles = _roles(next(csv.reader([header], delimiter=delimiter)), file)
    columns: dict[str, list[Any]] = {role: [] for role in roles}
    rows = csv.reader((line for _, line in lines[1:]), delimiter=delimiter)
    for (number, _), row in zip(lines[1:], rows, strict=False):
        if len(row) != len(roles):
            raise ValueError(f"{file} line {number}: has {len(row)} values for {len(roles)} columns: correct that line")
        for role, word in zip(roles, row, strict=True):
            columns[role].append(_value(role, word.strip(), f"{file} line {number}"))
    return columns


def _value(role: str, word: str, place: str) -> float | str:
    if not word:
        raise ValueError(f"{place}: {role} is missing: fill it in or drop that line")
    if role in LABELS:
        return word
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{place}: {role} needs a finite number, not '{word}': correct or drop that line")
    return value


def _from_hdf5(file: Path) -> dict[str, Any]:
    try:
        with h5py.File(file, "r") as opened:
            names = [name for name, item in opened.items() if isinstance(item, h5py.Dataset)]
            columns = {role: opened[name][()] for role, name in zip(_roles(names, file), names, strict=True)}
    except OSError as error:
        raise ValueError(f"cannot read measurements '{file}': {error}: give a CSV or HDF5 file") from None
    for role, values in columns.items():
        if np.ndim(values) != 1 or (role in NUMBERS and values.dtype.kind not in "iuf"):
            raise ValueError(f"{file}: dataset of {role} needs one dimension of numbers, one a read: store it so")
    return columns
