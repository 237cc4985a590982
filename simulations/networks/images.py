"""Images that the networks here are for. They are not shipped: `PHYSCOMP_DATA` names the folder that holds them.

Each function takes the name of a part and serves as `--data simulations.networks.images:cifar10`. What is trained on is
never calibrated or reported on.
"""

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from physcomp.networks.datasets.parts import meaning
from physcomp.networks.datasets.reading import load_samples
from physcomp.networks.images import load_images
from physcomp.networks.samples import Samples

FOLDER = "PHYSCOMP_DATA"
CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))  # mean and sd of each channel of its training images
HELD_BACK = 4000  # the last training images: half to calibrate on, half held out; our choice
Bytes = npt.NDArray[np.uint8]


def standardise(images: torch.Tensor, by: tuple[tuple[float, ...], tuple[float, ...]]) -> torch.Tensor:
    """Images (N, channels, H, W) less the mean of each channel, over its standard deviation."""
    mean, sd = (torch.tensor(values, dtype=images.dtype, device=images.device).view(-1, 1, 1) for values in by)
    return (images - mean) / sd


def cifar10(part: str) -> Samples:
    """CIFAR-10 (Krizhevsky 2009): 32 x 32 colour images of 10 classes, pixels in [0, 1].

    Read from `cifar10-jpeg.npz` (images as JPEG: arrays `train_jpeg`, `train_offsets`, `train_labels`, and those of
    `test`), or else from the published folder `cifar-10-batches-py` of https://www.cs.toronto.edu/~kriz/cifar.html.

    Args:
        part: `train` (all but the last 4,000 training images), `calibration` and `heldout` (2,000 of these each), or
            `test`.

    Raises:
        ValueError: neither is in the folder, or there is no such part.
    """
    whole = "test" if meaning(part) == "test" else "train"
    packed, published = folder() / "cifar10-jpeg.npz", folder() / "cifar-10-batches-py"
    if packed.is_file():
        return _unpacked(packed, f"{whole}_", lambda count: _rows(part, count))
    if published.is_dir():
        samples = load_samples(published, whole)
        return samples[_rows(part, len(samples))]
    raise ValueError(
        f"{FOLDER}: {folder()} holds neither cifar10-jpeg.npz nor cifar-10-batches-py; fetch the latter from "
        f"https://www.cs.toronto.edu/~kriz/cifar.html, unpack it, and set {FOLDER} to the folder that holds it"
    )


def fashion_mnist(part: str) -> Samples:
    """Fashion-MNIST (arXiv 1708.07747): 28 x 28 grey images of 10 classes, pixels in [0, 1], from its IDX files.

    Args:
        part: as of `cifar10`.

    Raises:
        ValueError: the files are not in the folder, or there is no such part.
    """
    samples = load_images(folder(), "t10k" if meaning(part) == "test" else "train")
    return samples[_rows(part, len(samples))]


def imagenet(part: str) -> Samples:
    """Images of the 1,000 classes of ImageNet, 224 x 224 pixels from -1 to 1: (x - 127) / 128 of bytes x.

    Read from `imagenet-sample-224-jpeg.npz`: arrays `jpeg`, `offsets`, `labels` of images scaled to 256 and cut around
    the centre. Their order is drawn from a fixed seed.

    Args:
        part: `calibration` (two fifths), `heldout` (one fifth) or `test` (two fifths); there is none to train on.

    Raises:
        ValueError: the file is not in the folder, or there is no such part.
    """
    shares = {"calibration": (0.0, 0.4), "heldout": (0.4, 0.6), "test": (0.6, 1.0)}
    if meaning(part) not in shares:
        raise ValueError(f"imagenet: no part {part}, there are {', '.join(shares)}; ask for one")
    path = folder() / "imagenet-sample-224-jpeg.npz"
    if not path.is_file():
        raise ValueError(
            f"{FOLDER}: {path} is not there; write it from images of https://www.image-net.org, and set {FOLDER} to "
            "the folder that holds it"
        )

    def rows(count: int) -> torch.Tensor:
        first, last = (round(share * count) for share in shares[meaning(part)])
        return torch.from_numpy(np.random.default_rng(0).permutation(count)[first:last])

    samples = _unpacked(path, "", rows)
    assert isinstance(samples.inputs, torch.Tensor)
    return Samples((samples.inputs * 255 - 127) / 128, samples.labels)


def folder() -> Path:
    """The folder that holds data: `PHYSCOMP_DATA`, or `data` where it is not set."""
    return Path(os.environ.get(FOLDER, "data"))


def _unpacked(path: Path, prefix: str, rows_of: Callable[[int], torch.Tensor]) -> Samples:
    """Some images of a file that holds them as JPEG one after the other, pixels in [0, 1]; rows are of their number."""
    with np.load(path) as file:
        packed, offsets, classes = (file[f"{prefix}{name}"] for name in ("jpeg", "offsets", "labels"))
    rows = rows_of(len(classes)).numpy()
    first = _decoded(packed[offsets[rows[0]] : offsets[rows[0] + 1]])
    pixels = np.empty((len(rows), *first.shape), np.uint8)
    for place, row in enumerate(rows):
        pixels[place] = _decoded(packed[offsets[row] : offsets[row + 1]])
    scaled = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(torch.float32).div_(255).contiguous()
    return Samples(scaled, torch.from_numpy(classes[rows].astype(np.int64)))


def _decoded(packed: Bytes) -> Bytes:
    """An image (H, W, 3) from its JPEG."""
    with Image.open(io.BytesIO(packed.tobytes())) as image:
        return np.asarray(image.convert("RGB"))


def _rows(part: str, count: int) -> torch.Tensor:
    """The rows of a part: of the training images, whose number this is, or all test images."""
    ends = {
        "train": (0, count - HELD_BACK),
        "calibration": (count - HELD_BACK, count - HELD_BACK // 2),
        "heldout": (count - HELD_BACK // 2, count),
        "test": (0, count),
    }
    if meaning(part) not in ends:
        raise ValueError(f"data: no part {part}, there are {', '.join(ends)}; ask for one")
    return torch.arange(*ends[meaning(part)])
