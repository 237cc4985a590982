"""Images from IDX files: what is written comes back, each layout is found, each damaged file is refused."""

import contextlib
import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import physcomp
from physcomp.networks.images import SUBFOLDERS, read_idx, write_idx

PIXELS = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3) * 4
LABELS = np.array([0, 1, 2, 1, 255], np.uint8)


def write_part(folder: Path, part: str = "t10k", *, packed: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in ((f"{part}-images-idx3-ubyte", PIXELS), (f"{part}-labels-idx1-ubyte", LABELS)):
        write_idx(folder / f"{name}.gz", array)
        if not packed:
            (folder / name).write_bytes(gzip.decompress((folder / f"{name}.gz").read_bytes()))
            (folder / f"{name}.gz").unlink()


@given(arrays(np.uint8, array_shapes(min_dims=1, max_dims=4, max_side=6)))
def test_any_array_of_bytes_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, array: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("idx") / "a.gz"
    write_idx(path, array)
    np.testing.assert_array_equal(read_idx(path), array)
    assert read_idx(path).shape == array.shape


def test_the_bytes_are_those_of_the_published_format_and_alike_at_any_time(tmp_path: Path) -> None:
    for name in ("a.gz", "b.gz"):
        write_idx(tmp_path / name, PIXELS)
    assert (tmp_path / "a.gz").read_bytes()[10:] == (tmp_path / "b.gz").read_bytes()[10:]
    assert (tmp_path / "a.gz").read_bytes()[4:8] == bytes(4)  # no time of writing
    # LeCun's MNIST page: magic 0x00000803 for three dimensions of unsigned bytes, sizes most significant byte first
    content = gzip.decompress((tmp_path / "a.gz").read_bytes())
    assert content == bytes.fromhex("00000803 00000005 00000004 00000003") + PIXELS.tobytes()


@pytest.mark.parametrize("subfolder", SUBFOLDERS)
@pytest.mark.parametrize("packed", [True, False])
def test_files_are_found_in_every_layout_plain_and_gzipped(tmp_path: Path, subfolder: str, packed: bool) -> None:
    write_part(tmp_path / subfolder, packed=packed)
    images = physcomp.load_images(tmp_path, "t10k")
    assert images.inputs.shape == (5, 1, 4, 3)
    assert images.inputs.dtype == torch.float32
    np.testing.assert_allclose(images.inputs[:, 0].numpy(), PIXELS / 255, rtol=1e-7)
    assert images.labels.tolist() == LABELS.tolist()
    assert images.labels.dtype == torch.int64


def test_parts_are_told_apart_by_name(tmp_path: Path) -> None:
    write_part(tmp_path, "heldout")
    assert len(physcomp.load_images(tmp_path, "heldout")) == 5
    with pytest.raises(ValueError, match="no calibration-images-idx3-ubyte"):
        physcomp.load_images(tmp_path, "calibration")


def test_a_missing_folder_is_told_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="FashionMNIST/raw") as caught:
        physcomp.load_images(tmp_path / "none", "t10k")
    assert str(tmp_path / "none") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_slice_of_images_keeps_pixels_and_labels_together() -> None:
    images = physcomp.Images(torch.arange(6.0).reshape(6, 1, 1, 1), torch.arange(6))
    part = images[2:5]
    assert len(part) == 3
    assert part.inputs.flatten().tolist() == part.labels.tolist() == [2, 3, 4]


@pytest.mark.parametrize(("images", "labels"), [(3, 2), (0, 0), (0, 1)])
def test_images_without_as_many_labels_are_refused(images: int, labels: int) -> None:
    with pytest.raises(ValueError, match=f"got {images} inputs and {labels} labels"):
        physcomp.Images(torch.zeros(images, 1, 2, 2), torch.zeros(labels, dtype=torch.int64))


WHOLE = bytes([0, 0, 8, 3]) + struct.pack(">3I", *PIXELS.shape) + PIXELS.tobytes()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0",
        b"P5 not an IDX file",
        bytes([0, 0, 13, 1]) + bytes(8),  # floats
        WHOLE[:4],
        WHOLE[:10],
        WHOLE[:16],
        WHOLE[:-1],
        WHOLE + b"\0",
        bytes([0, 0, 8, 3]) + struct.pack(">3I", *[2**32 - 1] * 3) + b"\0",
    ],
)
def test_a_file_that_is_not_whole_idx_is_refused_in_one_line_that_names_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t10k-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=str(path)) as caught:
        read_idx(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", ["not gzip", "cut", "header", "stream", "checksum"])
def test_a_damaged_gzip_file_is_refused_in_one_line_that_names_it(tmp_path: Path, place: str) -> None:
    path = tmp_path / "images.gz"
    write_idx(path, np.random.default_rng(0).integers(0, 256, (50, 20, 20), np.uint8))
    content = bytearray(path.read_bytes())
    match place:
        case "not gzip":
            content = bytearray(WHOLE)
        case "cut":
            content = content[: len(content) // 2]
        case "header":
            content[2] = 9  # no known compression
        case "stream":
            content[10] = 0xFF  # no known kind of block
        case "checksum":
            content[-6] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=str(path)) as caught:
        read_idx(path)
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=40))
def test_no_bytes_whatever_raise_anything_but_a_value_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("idx") / "any"
    path.write_bytes(b"\0\0\x08" + content)
    with contextlib.suppress(ValueError):
        assert read_idx(path).dtype == np.uint8
