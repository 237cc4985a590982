"""CIFAR-10 and CIFAR-100, in their Python and binary versions, as parts of a data set.

The formats are those of https://www.cs.toronto.edu/~kriz/cifar.html: rows of 3072 bytes, red then green then blue,
each 32 x 32 row by row. A binary record is the label (CIFAR-100: the coarse, then the fine label), then such a row.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from physcomp.networks.datasets.parts import Part, in_memory, same_count
from physcomp.networks.datasets.plain_pickle import read_plain_pickle

PIXELS = 3 * 32 * 32
SUBFOLDERS = ("", "cifar-10-batches-py", "cifar-100-python", "cifar-10-batches-bin", "cifar-100-binary")
NAME = re.compile(r"(?:(?P<batch>data_batch_\d+|test_batch)|(?P<part>train|test))(?P<binary>\.bin)?")


def cifar_files(folder: Path) -> dict[str, list[Path]]:
    """The batches in a folder, or in one of the published names below it, by part (`train`, `test`)."""
    for place in (folder / below for below in SUBFOLDERS):
        found: dict[str, list[Path]] = {}
        for path in sorted(place.iterdir()) if place.is_dir() else ():
            match = NAME.fullmatch(path.name)
            if match and path.is_file():
                found.setdefault(match["part"] or ("test" if "test" in path.name else "train"), []).append(path)
        if found:
            return found
    return {}


def parts_of_cifar(folder: Path) -> list[Part]:
    """The parts of a folder of CIFAR batches; the labels of CIFAR-100 are the fine ones.

    Raises:
        ValueError: a file is no batch, or holds more than plain data.
    """
    parts = []
    for name, paths in cifar_files(folder).items():
        batches = [_binary(path) if path.suffix else _pickled(path) for path in paths]
        pixels, labels = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
        images = pixels.reshape(-1, 3, 32, 32)
        parts.append(in_memory(name, f"{folder}, part {name}", images, labels, images=True))
    return parts


def _pickled(path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    try:
        batch = read_plain_pickle(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: not a CIFAR batch: {' '.join(str(error).split())}; fetch the file again") from error
    pixels = batch.get("data")
    labels = batch.get("fine_labels", batch.get("labels"))
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[1:] != (PIXELS,):
        raise ValueError(
            f"{path}: need an array `data` of bytes (N, {PIXELS}), got {_shown(pixels)}; name a CIFAR batch"
        )
    try:
        classes = np.asarray(labels, dtype=np.int64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            f"{path}: need a list `labels` or `fine_labels` of whole numbers, got {_shown(labels)}"
        ) from None
    same_count(str(path), len(pixels), classes.size)
    return pixels, classes


def _binary(path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    before = 1 if "batch" in path.name else 2
    content = np.fromfile(path, np.uint8)
    if not content.size or content.size % (before + PIXELS):
        raise ValueError(
            f"{path}: {content.size} bytes are no whole number of CIFAR records of {before + PIXELS}; fetch it again"
        )
    records = content.reshape(-1, before + PIXELS)
    return records[:, before:], records[:, before - 1].astype(np.int64)


def _shown(found: Any) -> str:
    return f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray) else type(found).__name__
