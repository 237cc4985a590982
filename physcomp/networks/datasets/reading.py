"""The front: any usual source of data as samples, by part."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from physcomp.networks.datasets.arrays import OPENED_BY, parts_of_arrays
from physcomp.networks.datasets.checks import check_alike, check_disjoint
from physcomp.networks.datasets.cifar import cifar_files, parts_of_cifar
from physcomp.networks.datasets.folders import parts_of_image_folder
from physcomp.networks.datasets.from_objects import parts_of_object
from physcomp.networks.datasets.idx import idx_files, parts_of_idx
from physcomp.networks.datasets.parts import ALL, Part, at, at_rows, join, meaning, rank
from physcomp.networks.datasets.python_file import is_reference, parts_of_function
from physcomp.networks.datasets.splits import SHARES, Taken, checked_split, choose_rows
from physcomp.networks.datasets.tidy import input_tensors, label_tensor
from physcomp.networks.samples import Inputs, Samples

FORMS = (
    "a file .npz, .h5, .hdf5 or .safetensors; a folder of IDX files, CIFAR batches or images by class; or "
    "file.py:function"
)


@dataclass(frozen=True)
class Scale:
    """The normalisation of inputs, (x - mean) / sd, for each channel or for all.

    Raises:
        ValueError: only one of both is given, lengths differ, or a number is not finite or sd is not above 0.
    """

    mean: tuple[float, ...]
    sd: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.mean or len(self.mean) != len(self.sd):
            raise ValueError(
                f"mean and sd: need as many of one as of the other, got {len(self.mean)}, {len(self.sd)}; pass both, "
                "one number for each channel"
            )
        if not all(math.isfinite(value) for value in (*self.mean, *self.sd)) or min(self.sd) <= 0:
            raise ValueError(f"mean and sd: need finite numbers and sd above 0, got {list(self.mean)}, {list(self.sd)}")

    def of(self, where: str, inputs: Inputs) -> torch.Tensor:
        """The inputs normalised along their second axis.

        Raises:
            ValueError: the inputs are not one tensor of floating-point numbers with as many channels.
        """
        if not isinstance(inputs, torch.Tensor) or not inputs.is_floating_point() or inputs.dim() < 2:
            raise ValueError(f"{where}: mean and sd are for one input of floating-point numbers (N, channels, ...)")
        if len(self.mean) not in (1, inputs.shape[1]):
            raise ValueError(
                f"{where}: mean and sd have {len(self.mean)} numbers, inputs {inputs.shape[1]} channels; pass as many"
            )
        mean, sd = (torch.tensor(v).view(-1, *[1] * (inputs.dim() - 2)) for v in (self.mean, self.sd))
        return (inputs - mean) / sd


def load_samples(
    source: Any,
    part: str = ALL,
    *,
    split: Mapping[str, float] | None = None,
    seed: int = 0,
    mean: Sequence[float] | None = None,
    sd: Sequence[float] | None = None,
    limit: int | None = None,
    size: tuple[int, int] | None = None,
) -> Samples:
    """One part of a data set, of any usual form.

    Args:
        source: an array file (`.npz`, HDF5, `.safetensors`) with arrays named as usual (`inputs` and `labels`,
            `x_train`, `test_images`, ...); a folder of IDX files, of CIFAR batches, or with a folder of images for each
            class; or `file.py:function` (`package.module:function`), which gives Samples, a Dataset, a DataLoader,
            arrays (inputs, labels) or a dictionary of them, and may take `part`; or one of these objects itself.
        part: `train`, `calibration`, `heldout` (or `val`), `test` (or `t10k`), another name of the source, or `all`.
        split: shares by part, cut from `train` where the source has it and else from everything. None: a source
            without parts gives calibration 0.5, heldout 0.25, test 0.25; calibration and heldout that a source lacks
            beside its `train` are 0.2 of it each.
        seed: of the split, and of the order of samples that are sorted by class.
        mean: of each channel, subtracted from inputs once pixels are in [0, 1]; needs `sd`.
        sd: standard deviation of each channel, by which inputs are divided then.
        limit: at most this many samples. None: all.
        size: height and width of images from folders: scaled to cover it and cut around the centre. None: as they are.

    Returns:
        Samples: pixels stored as bytes are float32 in [0, 1], (N, channels, height, width); whole numbers are int64.

    Raises:
        ValueError: the source is none of these forms, damaged, or lacks the part; one line says what to do.
    """
    return _load(source, [part], split, seed, mean, sd, limit, size)[part]


def load_parts(
    source: Any,
    parts: Sequence[str],
    *,
    split: Mapping[str, float] | None = None,
    seed: int = 0,
    mean: Sequence[float] | None = None,
    sd: Sequence[float] | None = None,
    limit: int | None = None,
    size: tuple[int, int] | None = None,
) -> dict[str, Samples]:
    """Several parts of a data set, which share no samples: see `check_disjoint` for copies in the source.

    Where `calibration` or `heldout` are cut from the source's `train` and `train` is asked for beside them, it is the
    rest. `limit` counts each part by itself. All else is as in `load_samples`.

    Raises:
        ValueError: as in `load_samples`; or parts overlap or differ in shape.
    """
    if isinstance(parts, str) or not parts:
        raise ValueError(
            f"parts: need a list of at least one name, got {parts!r}; pass e.g. ['calibration', 'heldout']"
        )
    if len({meaning(str(name)) for name in parts}) < len(parts) or (ALL in parts and len(parts) > 1):
        raise ValueError(f"parts: {', '.join(map(str, parts))} overlap; name each part once, and `{ALL}` alone")
    loaded = _load(source, list(parts), split, seed, mean, sd, limit, size)
    check_alike(named(source), loaded)
    return check_disjoint(loaded)


def open_source(
    source: Any,
    wanted: Sequence[str],
    seed: int = 0,
    most: int | None = None,
    size: tuple[int, int] | None = None,
) -> list[Part]:
    """What a source has, its inputs not yet read.

    Args:
        source: see `load_samples`.
        wanted: the parts asked for: those that a function which takes `part` is called with.
        seed: of torch's random numbers in code of the user.
        most: samples that are read of a stream; none: all.
        size: height and width of images from folders.

    Raises:
        ValueError: the source is of no known form.
    """
    if not isinstance(source, str | Path):
        return parts_of_object(source, named(source), ALL, seed, most)
    text, path = str(source), Path(source)
    if is_reference(text):
        parts = parts_of_function(text, wanted, seed, most)
    elif path.is_file() and path.suffix.lower() in OPENED_BY:
        parts = parts_of_arrays(path)
    elif path.is_dir():
        if idx_files(path):
            parts = parts_of_idx(path)
        elif cifar_files(path):
            parts = parts_of_cifar(path)
        else:
            return parts_of_image_folder(path, size)
    else:
        raise ValueError(_not_a_source(path))
    if size is not None:
        raise ValueError(f"{source}: size is for folders of images; leave it out and resize the images of this source")
    return parts


def named(source: Any) -> str:
    """What messages call a source: its path or reference, or the type of an object."""
    return str(source) if isinstance(source, str | Path) else f"the {type(source).__name__} given"


def _not_a_source(path: Path) -> str:
    if not path.exists():
        return f"{path}: no such file or folder; name {FORMS}"
    if path.name.endswith((".tar.gz", ".tgz", ".tar", ".zip")):
        return f"{path}: an archive; unpack it and name the folder"
    if "-ubyte" in path.name or "_batch" in path.name:
        return f"{path}: one file of a data set; name the folder that holds it"
    return f"{path}: {path.suffix or 'a file without ending'} is no form of data that is read; name {FORMS}"


def _load(
    source: Any,
    wanted: Sequence[str],
    split: Mapping[str, float] | None,
    seed: int,
    mean: Sequence[float] | None,
    sd: Sequence[float] | None,
    limit: int | None,
    size: tuple[int, int] | None,
) -> dict[str, Samples]:
    scale = None if mean is None and sd is None else Scale(_numbers("mean", mean), _numbers("sd", sd))
    if not all(isinstance(name, str) and name for name in wanted):
        raise ValueError(f"part: need the name of a part such as calibration, got {list(wanted)!r}")
    _check_counts(seed, limit, size)
    shares = checked_split(split) or SHARES
    most = None if limit is None else limit if list(wanted) == [ALL] else math.ceil(limit / min(shares.values()))
    try:
        found = sorted(open_source(source, wanted, seed, most, size), key=lambda part: rank(part.name))
        chosen = choose_rows(named(source), found, wanted, split, seed, limit)
        return {name: _read(named(source), taken, scale) for name, taken in chosen.items()}
    except OSError as error:
        raise ValueError(
            f"{named(source)}: cannot be read ({error.strerror}, {error.filename}); mend it or name another"
        ) from error


def _numbers(name: str, values: Sequence[float] | None) -> tuple[float, ...]:
    try:
        return tuple(float(value) for value in (() if values is None else values))
    except (TypeError, ValueError):
        raise ValueError(f"{name}: need one number for each channel, in a list, got {values!r}") from None


def _check_counts(seed: int, limit: int | None, size: tuple[int, int] | None) -> None:
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ValueError(f"seed: need a whole number of at least 0, got {seed!r}")
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        raise ValueError(f"limit: need a whole number of at least 1, or none, got {limit!r}")
    if size is not None and (len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size)):
        raise ValueError(f"size: need height and width, whole numbers above 0, got {size!r}")


def _read(where: str, taken: Taken, scale: Scale | None) -> Samples:
    """Read the rows of each part in ascending order, and put them in the order in which they were taken."""
    pieces = []
    for part, rows in taken:
        ascending = np.sort(rows)
        inputs, labels = part.read(ascending)
        back = np.searchsorted(ascending, rows)
        if not np.array_equal(back, np.arange(len(rows))):
            inputs, labels = at(inputs, back), at_rows(labels, back)
        tidy = Samples(input_tensors(part, inputs), label_tensor(part.where, labels))
        pieces.append(tidy if scale is None else Samples(scale.of(part.where, tidy.inputs), tidy.labels))
    if len(pieces) > 1:
        check_alike(where, {part.name: piece for (part, _), piece in zip(taken, pieces, strict=True)})
    return _joined(pieces)


def _joined(pieces: Sequence[Samples]) -> Samples:
    if len(pieces) == 1:
        return pieces[0]
    inputs = join([piece.inputs for piece in pieces], lambda tensors: torch.cat([torch.as_tensor(t) for t in tensors]))
    return Samples(inputs, torch.cat([piece.labels for piece in pieces]))
