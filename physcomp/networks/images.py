"""Labelled images from IDX files: the parts of Fashion-MNIST in `data/`, or the whole set in a folder of the user.

The IDX format is the one of LeCun's MNIST page: two zero bytes, a type byte (0x08: unsigned bytes), the number
of dimensions, each dimension as a big-endian 32-bit integer, then the data.
"""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import torch

from physcomp.networks.samples import Samples

UNSIGNED_BYTES = 0x08
# Where the files may lie below the folder named: in it (Debian's dataset-fashion-mnist), or in torchvision's layout.
SUBFOLDERS = ("", "FashionMNIST/raw", "raw", "fashion-mnist", "datasets/fashion-mnist")


def read_idx(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Read one IDX file of unsigned bytes, plain or gzipped, as an array of the shape its header states.

    Raises:
        ValueError: the file is not IDX, not of unsigned bytes, or cut short.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: a gzipped IDX file was expected ({error}); fetch the file again") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != UNSIGNED_BYTES or len(content) < 4 + 4 * content[3]:
        raise ValueError(f"{path}: not an IDX file of unsigned bytes (starts with {content[:4]!r}); name another")
    dimensions = content[3]
    shape = struct.unpack_from(f">{dimensions}I", content, 4)
    data = np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions)
    if data.size != np.prod(shape):
        raise ValueError(f"{path}: the header states shape {shape}, the file holds {data.size} bytes; fetch it again")
    return data.reshape(shape)


def write_idx(path: Path, array: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    """Write an array of unsigned bytes as a gzipped IDX file (the same bytes on every machine)."""
    header = bytes([0, 0, UNSIGNED_BYTES, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes(), mtime=0))


def load_images(folder: Path | str, part: str) -> Samples:
    """Load one part of a data set of labelled images from a folder of IDX files.

    Args:
        folder: holds the IDX files, plain or `.gz`, or holds torchvision's `FashionMNIST/raw` with them.
        part: the file names before the first dash: `train` or `t10k` in the published set, and `calibration` or
            `heldout` in `data/fashion-mnist`.

    Returns:
        The images, (N, 1, H, W) in [0, 1].

    Raises:
        ValueError: the folder does not hold the files, or they are not IDX.
    """
    folder = Path(folder)
    pixels = read_idx(_find(folder, f"{part}-images-idx3-ubyte"))
    labels = read_idx(_find(folder, f"{part}-labels-idx1-ubyte"))
    scaled = torch.from_numpy(pixels.astype(np.float32) / np.float32(255))
    return Samples(scaled.unsqueeze(1), torch.from_numpy(labels.astype(np.int64)))


def _find(folder: Path, name: str) -> Path:
    for subfolder in SUBFOLDERS:
        for ending in ("", ".gz"):
            path = folder / subfolder / (name + ending)
            if path.is_file():
                return path
    raise ValueError(
        f"{folder}: no {name} or {name}.gz there (looked in it and in {', '.join(SUBFOLDERS[1:])}); name the folder "
        "that holds the IDX files, such as the one of Debian's package dataset-fashion-mnist or torchvision's root"
    )
