"""Folders of IDX files (MNIST and its kin) as parts of a data set."""

import re
from pathlib import Path

from physcomp.networks.datasets.parts import Array, Part, Rows, Several, same_count
from physcomp.networks.images import SUBFOLDERS, read_idx

# EMNIST's names begin with the set's: emnist-letters-train-images-idx3-ubyte.
NAME = re.compile(r"(?:(?P<set>[\w-]+)-)?(?P<part>[^\W_]\w*?)[-_](?P<kind>images|labels)[-._]idx\d[-._]ubyte(\.gz)?")


def idx_files(folder: Path) -> dict[str, dict[str, Path]]:
    """The IDX files in a folder or in torchvision's layout below it: part, then `images` or `labels`, then path."""
    found: dict[tuple[str, str], dict[str, Path]] = {}
    places = [folder / below for below in SUBFOLDERS] + sorted(folder.glob("*/raw"))
    for place in places:
        for path in sorted(place.iterdir()) if place.is_dir() and not found else ():
            match = NAME.fullmatch(path.name)
            if match and path.is_file():
                # Plain files stand before gzipped ones of the same name.
                found.setdefault((match["set"] or "", match["part"]), {}).setdefault(match["kind"], path)
    one_set = len({name for name, _ in found}) == 1
    return {part if one_set else f"{name}-{part}".strip("-"): files for (name, part), files in found.items()}


def parts_of_idx(folder: Path) -> list[Part]:
    """The parts of a folder of IDX files; images are read when they are needed.

    Raises:
        ValueError: a part lacks its images or labels, or a file is no IDX.
    """
    return [_part(folder, name, files) for name, files in idx_files(folder).items()]


def _part(folder: Path, name: str, files: dict[str, Path]) -> Part:
    where = f"{folder}, part {name}"
    if len(files) < 2:
        (there,) = files.values()
        lacks = "labels" if "images" in files else "images"
        raise ValueError(f"{where}: no IDX file of {lacks} beside {there.name}; put it there")
    labels = read_idx(files["labels"])
    count = len(labels) if labels.ndim else 0

    def read(rows: Rows) -> tuple[Several, Array]:
        images = read_idx(files["images"])
        same_count(where, len(images), count)
        return images[rows], labels[rows]

    return Part(name, where, count, read, labels, images=True)
