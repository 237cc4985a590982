"""Folders of images, one folder for each class, perhaps below folders for parts (`train`, `val`, ...).

Classes are counted in the order of their folders' names (as text, as torchvision's ImageFolder does). Images are grey
where all that are read are grey, and RGB otherwise; transparency is dropped.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from physcomp.networks.datasets.parts import ALL, Array, Part, Rows, Several, is_part_name, meaning

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
GREY = ("1", "L", "LA")
DEEP = ("I;16", "I;16B", "I;16L", "I")  # grey of 16 bits


def parts_of_image_folder(folder: Path, size: tuple[int, int] | None = None) -> list[Part]:
    """The parts of a folder of images; an image is read when it is needed.

    Args:
        folder: holds a folder for each class, or folders named as parts that hold them.
        size: height and width to which images are brought: scaled to cover it, their ratio kept, and cut around the
            centre. None: all must be of one size.

    Raises:
        ValueError: the folders hold no images, or images and folders are mixed.
    """
    below = _folders(folder)
    outer = [path for path in below if is_part_name(path.name) and _folders(path)]
    if outer and len(outer) < len(below):
        odd = next(path for path in below if path not in outer)
        raise ValueError(
            f"{folder}: {outer[0].name} is a part with classes below it, {odd.name} is none; take {odd.name} elsewhere"
        )
    if not outer and below and all(is_part_name(path.name) for path in below):
        raise ValueError(
            f"{folder}: {', '.join(path.name for path in below)} hold images without a folder for each class; sort "
            "the images into such folders"
        )
    roots = {path.name: path for path in outer} or {ALL: folder}
    classes = _classes(folder, roots)
    return [_part(folder, name, root, classes, size) for name, root in roots.items()]


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__")))


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS and not path.name.startswith("."))


def _classes(folder: Path, roots: dict[str, Path]) -> list[str]:
    """The classes of all parts; no part may have one that `train` lacks."""
    found = {name: [path.name for path in _folders(root)] for name, root in roots.items()}
    train = next((name for name in found if meaning(name) == "train"), None)
    for name, classes in found.items():
        new = sorted(set(classes) - set(found[train])) if train else []
        if new:
            raise ValueError(f"{folder}, part {name}: class {new[0]} is not in {train}; name the folders alike")
    return sorted(set().union(*found.values()))


def _part(folder: Path, name: str, root: Path, classes: Sequence[str], size: tuple[int, int] | None) -> Part:
    where = str(folder) if name == ALL else f"{folder}, part {name}"
    paths: list[Path] = []
    labels: list[int] = []
    loose = _images(root)
    if loose:
        raise ValueError(f"{where}: {loose[0].name} lies in no folder of a class; sort images into a folder for each")
    for path in _folders(root):
        images = _images(path)
        if not images or _folders(path):
            held = "folders, but is named as no part" if _folders(path) else f"no images ({', '.join(ENDINGS)})"
            raise ValueError(f"{where}: {path.name} holds {held}; put images straight into a folder for each class")
        paths += images
        labels += [classes.index(path.name)] * len(images)
    if not paths:
        raise ValueError(
            f"{where}: no data there; need IDX files, CIFAR batches or images in a folder a class, or name a file"
        )
    known = np.asarray(labels, np.int64)

    def read(rows: Rows) -> tuple[Several, Array]:
        return read_images(where, [paths[row] for row in rows], size), known[rows]

    return Part(name, where, len(paths), read, known, images=True)


def read_images(where: str, paths: Sequence[Path], size: tuple[int, int] | None = None) -> npt.NDArray[Any]:
    """Images as bytes (N, channels, height, width), or float32 in [0, 1] where they are grey of 16 bits.

    Raises:
        ValueError: a file is no image, or sizes differ and no `size` is given.
    """
    heads = [_head(path) for path in paths]
    deep = heads[0][0] in DEEP
    for path, (mode, _) in zip(paths, heads, strict=True):
        if (mode in DEEP) != deep or mode == "F":
            raise ValueError(
                f"{where}: {path} is of Pillow's mode {mode}, {paths[0]} of {heads[0][0]}; convert to 8 bits"
            )
    if size is None:
        odd = next((i for i, (_, shape) in enumerate(heads) if shape != heads[0][1]), None)
        if odd is not None:
            (width, height), (w, h) = heads[0][1], heads[odd][1]
            raise ValueError(
                f"{where}: images must be of one size, {paths[0]} has {height} x {width}, {paths[odd]} {h} x {w}; "
                f"pass size=({height}, {width})"
            )
    mode = "deep" if deep else "L" if all(mode in GREY for mode, _ in heads) else "RGB"
    height, width = size or heads[0][1][::-1]
    shape = (len(paths), height, width, 3 if mode == "RGB" else 1)
    pixels = np.empty(shape, np.float32 if deep else np.uint8)
    for row, path in enumerate(paths):
        pixels[row] = _pixels(path, mode, size)
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


def _head(path: Path) -> tuple[str, tuple[int, int]]:
    """Pillow's mode of an image, and its width and height, without reading its pixels."""
    try:
        with Image.open(path) as image:
            return image.mode, image.size
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path}: not an image that Pillow reads ({type(error).__name__}); take it away") from error


def _pixels(path: Path, mode: str, size: tuple[int, int] | None) -> npt.NDArray[Any]:
    try:
        with Image.open(path) as image:
            if mode == "deep":
                values = np.asarray(image, np.float32) / np.float32(65535)
                return _fitted(Image.fromarray(values), size)[..., None]
            return _fitted(image.convert(mode), size).reshape(*(size or image.size[::-1]), -1)
    except (OSError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path}: the image is damaged ({' '.join(str(error).split())}); take it away") from error


def _fitted(image: Image.Image, size: tuple[int, int] | None) -> npt.NDArray[Any]:
    if size is not None and image.size != size[::-1]:
        image = ImageOps.fit(image, size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(image)
