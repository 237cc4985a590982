"""Every form of data that is read, and every way in which it is refused."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_tensors

from physcomp.networks.datasets.reading import load_parts, load_samples
from physcomp.networks.images import load_images, write_idx

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (40, 9, 8), np.uint8)
COLOUR = RNG.integers(0, 256, (40, 9, 8, 3), np.uint8)
CLASSES = RNG.integers(0, 10, 40)
Array = npt.NDArray[Any]


def scaled(pixels: Array) -> torch.Tensor:
    return torch.from_numpy(pixels.astype(np.float32) / np.float32(255))


def write_hdf5(path: Path, **arrays: Any) -> None:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name.replace("__", "/"), data=array)


def write_safetensors(path: Path, **arrays: Any) -> None:
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)


WRITERS: dict[str, Callable[..., None]] = {
    "npz": lambda path, **arrays: np.savez(path, **arrays), "h5": write_hdf5, "hdf5": write_hdf5,
    "safetensors": write_safetensors,
}  # fmt: skip


@pytest.mark.parametrize("ending", WRITERS)
@pytest.mark.parametrize(
    ("inputs", "labels"), [("inputs", "labels"), ("X", "y"), ("images", "targets"), ("data", "label")]
)
def test_array_files_by_usual_names(tmp_path: Path, ending: str, inputs: str, labels: str) -> None:
    path = tmp_path / f"set.{ending}"
    WRITERS[ending](path, **{inputs: COLOUR, labels: CLASSES, "class_names_length": np.arange(3)})
    samples = load_samples(path)
    assert torch.equal(samples.inputs, scaled(COLOUR).permute(0, 3, 1, 2))
    assert samples.labels.tolist() == CLASSES.tolist()
    assert samples.labels.dtype == torch.int64


@pytest.mark.parametrize("ending", WRITERS)
def test_array_files_with_parts_in_their_names(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"mnist.{ending}"
    WRITERS[ending](path, x_train=GREY[:30], y_train=CLASSES[:30], x_test=GREY[30:], y_test=CLASSES[30:])
    assert torch.equal(load_samples(str(path), "train").inputs, scaled(GREY[:30]).unsqueeze(1))
    assert load_samples(path, "t10k").labels.tolist() == CLASSES[30:].tolist()
    assert load_samples(path).labels.tolist() == CLASSES.tolist()
    parts = load_parts(path, ["train", "calibration", "heldout", "test"])
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 18, "calibration": 6, "heldout": 6, "test": 10
    }  # fmt: skip


@pytest.mark.parametrize(
    "names",
    [
        ("train_images", "train_labels"), ("trainX", "trainY"), ("Xtrain", "ytrain"), ("train_set_x", "train_set_y"),
        ("train__images", "train__labels"), ("images__train", "labels__train"),
        ("data__x_train", "data__y_train"), ("train__data__x", "train__data__y"), ("TRAIN-Images", "TRAIN-Labels"),
    ],
)  # fmt: skip
def test_ways_of_naming_parts(tmp_path: Path, names: tuple[str, str]) -> None:
    write_hdf5(tmp_path / "a.h5", **dict(zip(names, (GREY, CLASSES), strict=True)))
    assert load_samples(tmp_path / "a.h5", "train").labels.tolist() == CLASSES.tolist()


def test_several_inputs_become_a_dictionary(tmp_path: Path) -> None:
    tokens, mask = RNG.integers(0, 99, (5, 7)).astype(np.int32), np.ones((5, 7), np.uint8)
    np.savez(tmp_path / "a.npz", input_ids=tokens, attention_mask=mask, labels=np.arange(5, dtype=np.uint8))
    inputs = load_samples(tmp_path / "a.npz").inputs
    assert isinstance(inputs, dict)
    assert {name: tensor.dtype for name, tensor in inputs.items()} == {
        "input_ids": torch.int64, "attention_mask": torch.int64
    }  # fmt: skip
    assert inputs["attention_mask"].tolist() == mask.tolist()  # not divided by 255
    write_hdf5(tmp_path / "b.h5", inputs__left=GREY, inputs__right=GREY, labels=CLASSES)
    assert list(load_samples(tmp_path / "b.h5").inputs) == ["left", "right"]


def test_bfloat16_tensors_are_read(tmp_path: Path) -> None:
    inputs = torch.arange(12).reshape(4, 3).bfloat16()
    save_tensors({"x": inputs, "y": torch.zeros(4, 2)}, tmp_path / "a.safetensors")
    samples = load_samples(tmp_path / "a.safetensors")
    assert torch.equal(samples.inputs, inputs.float())
    assert samples.labels.dtype == torch.float32


@pytest.mark.parametrize("ending", WRITERS)
def test_a_limit_takes_the_first_of_mixed_classes_and_a_fair_sample_of_sorted_ones(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    WRITERS[ending](path, x=np.arange(400.0)[:, None], y=np.arange(400) % 7)
    assert load_samples(path, limit=6).inputs.flatten().tolist() == [0, 1, 2, 3, 4, 5]
    WRITERS[ending](path, x=np.arange(400.0)[:, None], y=np.arange(400) // 100)
    some = load_samples(path, limit=40, seed=1)
    assert set(some.labels.tolist()) == {0, 1, 2, 3}
    assert (some.inputs.flatten() // 100).tolist() == some.labels.tolist()
    assert torch.equal(load_samples(path, seed=1)[:40].inputs, some.inputs)


def test_idx_in_every_layout_reads_as_load_images_does(tmp_path: Path) -> None:
    for folder in (tmp_path / "plain", tmp_path / "torchvision" / "FashionMNIST" / "raw", tmp_path / "mnist/MNIST/raw"):
        folder.mkdir(parents=True)
        for part in ("train", "t10k"):
            write_idx(folder / f"{part}-images-idx3-ubyte.gz", GREY)
            plain = folder / f"{part}-labels-idx1-ubyte"
            plain.write_bytes(struct.pack(">HBBI", 0, 8, 1, 40) + CLASSES.astype(np.uint8).tobytes())
    expected = load_images(tmp_path / "plain", "t10k")
    for root in ("plain", "torchvision", "mnist"):
        samples = load_samples(tmp_path / root, "test")
        assert torch.equal(samples.inputs, expected.pixels)
        assert torch.equal(samples.labels, expected.labels)


def test_idx_files_that_are_named_after_their_set(tmp_path: Path) -> None:
    write_idx(tmp_path / "emnist-letters-train-images-idx3-ubyte.gz", GREY)
    write_idx(tmp_path / "emnist-letters-train-labels-idx1-ubyte.gz", CLASSES.astype(np.uint8))
    assert len(load_samples(tmp_path, "train")) == 40


def write_image_folder(root: Path, classes: tuple[str, ...] = ("cat", "dog"), side: int = 9) -> None:
    for value, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(10):
            pixels = np.full((side, 8, 3), 20 * i, np.uint8)
            pixels[..., 0] = value
            Image.fromarray(pixels).save(root / name / f"{i}.png")


def test_a_folder_of_images_by_class(tmp_path: Path) -> None:
    write_image_folder(tmp_path)
    samples = load_samples(tmp_path)
    assert samples.inputs.shape == (20, 3, 9, 8)
    assert torch.equal((samples.inputs[:, 0, 0, 0] * 255).round().long(), samples.labels)
    assert sorted((samples.inputs[:, 1, 0, 0] * 255).round().tolist()) == sorted([*range(0, 200, 20)] * 2)
    assert set(load_samples(tmp_path, limit=10).labels.tolist()) == {0, 1}


def test_only_the_images_that_are_taken_are_read(tmp_path: Path) -> None:
    write_image_folder(tmp_path)
    (tmp_path / "dog" / "9.png").write_bytes(b"none")
    load_samples(tmp_path, limit=2, seed=1)
    with pytest.raises(ValueError, match=r"9\.png: not an image"):
        load_samples(tmp_path)


def test_folders_of_images_for_parts(tmp_path: Path) -> None:
    write_image_folder(tmp_path / "train")
    write_image_folder(tmp_path / "val", ("dog",), side=18)
    with pytest.raises(ValueError, match="train has samples of shape"):
        load_parts(tmp_path, ["train", "val"])
    assert load_samples(tmp_path, "heldout").labels.unique().tolist() == [1]
    val = load_samples(tmp_path, "val", size=(6, 4))
    assert val.inputs.shape == (10, 3, 6, 4)
    assert sorted((val.inputs[:, 1, 0, 0] * 255).round().tolist()) == list(range(0, 200, 20))


@pytest.mark.parametrize(
    ("modes", "channels", "value"),
    [("L", 1, 102), (("L", "RGB"), 3, 102), ("1", 1, None), ("P", 3, 102), ("RGBA", 3, 102), ("LA", 1, 102)],
)
def test_modes_of_images(tmp_path: Path, modes: str | tuple[str, ...], channels: int, value: int | None) -> None:
    for i, mode in enumerate([modes] if isinstance(modes, str) else modes):
        (tmp_path / str(i)).mkdir()
        Image.new("RGB", (2, 3), (102, 102, 102)).convert(mode).save(tmp_path / str(i) / "a.png")
    inputs = load_samples(tmp_path).inputs
    assert inputs.shape[1:] == (channels, 3, 2)
    if value is not None:
        assert (inputs * 255).round().unique().tolist() == [value]


def test_grey_images_of_16_bits(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.fromarray(np.full((3, 2), 1000, np.uint16)).save(tmp_path / "a" / "a.png")
    for size in (None, (6, 6)):
        assert load_samples(tmp_path, size=size).inputs.unique().tolist() == [pytest.approx(1000 / 65535)]


def test_binary_cifar(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 256, (5, 3072), np.uint8)
    fine = np.arange(5, dtype=np.uint8)[:, None]
    np.concatenate([fine, pixels], 1).tofile(tmp_path / "data_batch_1.bin")
    ten = load_samples(tmp_path, "train")
    np.concatenate([fine + 9, fine, pixels], 1).tofile(tmp_path / "test.bin")
    hundred = load_samples(tmp_path, "test")
    for samples in (ten, hundred):
        assert torch.equal(samples.inputs.sum((1, 2, 3)), scaled(pixels.reshape(5, 3, 32, 32))[
            samples.labels].sum((1, 2, 3)))  # fmt: skip


def test_inputs_are_normalised_by_channel(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=COLOUR, y=CLASSES)
    plain = load_samples(tmp_path / "a.npz").inputs
    normalised = load_samples(tmp_path / "a.npz", mean=[0.1, 0.2, 0.3], sd=[1, 2, 4]).inputs
    expected = (plain - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / torch.tensor([1.0, 2, 4]).view(3, 1, 1)
    assert torch.equal(normalised, expected)


Write = Callable[[Path], object]


def arrays(**given: Any) -> Write:
    return lambda folder: np.savez(folder / "a.npz", **given)


def folders(*names: str) -> Write:
    def write(folder: Path) -> None:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4 + len(name))).save(folder / name)

    return write


def mixed_depths(folder: Path) -> None:
    folders("a/x.png")(folder)
    Image.fromarray(np.full((3, 2), 1000, np.uint16)).save(folder / "a" / "y.png")


def cut_image(folder: Path) -> None:
    (folder / "a").mkdir()
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), np.uint8)).save(folder / "a" / "x.jpg")
    (folder / "a" / "x.jpg").write_bytes((folder / "a" / "x.jpg").read_bytes()[:1000])


def holding(name: str, content: bytes) -> Write:
    return lambda folder: (folder / name).write_bytes(content)


GOOD: dict[str, Any] = {"x": GREY, "y": CLASSES}
NAN = np.zeros((40, 2))
NAN[17] = np.nan
REFUSED: list[tuple[str, Write, dict[str, Any], str]] = [
    ("nothing.npz", arrays(**GOOD), {}, "no such file or folder; name a file .npz"),
    ("a.csv", holding("a.csv", b"1,2"), {}, ".csv is no form of data"),
    ("a.tar.gz", holding("a.tar.gz", b"1"), {}, "an archive; unpack it"),
    ("train-images-idx3-ubyte", holding("train-images-idx3-ubyte", b"1"), {}, "name the folder that holds it"),
    ("a.npz", holding("a.npz", b"PK none"), {}, "not a whole .npz file"),
    ("a.npz", holding("a.npz", b""), {}, "not a whole .npz file"),
    ("a.h5", holding("a.h5", b"none"), {}, "not a whole HDF5 file"),
    ("a.safetensors", holding("a.safetensors", b"none"), {}, "not a whole safetensors file"),
    ("a.npz", arrays(a=GREY, b=CLASSES), {}, "found a, b; name them inputs and labels"),
    ("a.npz", arrays(x=GREY), {}, "no array of labels; found x"),
    ("a.npz", arrays(x=GREY, y=CLASSES, target=CLASSES), {}, "y and target may all be labels"),
    ("a.npz", arrays(x=GREY, y=CLASSES, x_test=GREY, y_test=CLASSES), {}, "x, y belong to no part"),
    ("a.npz", arrays(x=GREY, y=CLASSES[:39]), {}, "got 40 inputs and 39 labels"),
    ("a.npz", arrays(x=GREY[:0], y=CLASSES[:0]), {}, "got 0 inputs and 0 labels"),
    ("a.npz", arrays(x=np.array([{}, 1]), y=CLASSES[:2]), {}, "array x holds Python objects"),
    ("a.npz", arrays(x=GREY, y=CLASSES.astype(str)), {}, "numpy.unique(labels, return_inverse=True)"),
    ("a.npz", arrays(x=NAN, y=CLASSES), {}, "sample 17 holds NaN or infinity (1 such samples of 40)"),
    ("a.npz", arrays(x=GREY, y=CLASSES - 20), {}, "labels count classes from 0, got"),
    ("a.npz", arrays(x=GREY, y=np.stack([CLASSES, CLASSES - 20], 1)), {}, "or -100 where a token"),
    ("a.npz", arrays(x=GREY, y=np.full(40, 2**63, np.uint64)), {}, "more than int64 does"),
    ("a.npz", arrays(x=NAN.astype(complex), y=CLASSES), {}, "of type complex128, not numbers"),
    ("a.npz", arrays(x=COLOUR.astype(int), y=CLASSES), {}, "pixels are uint8 (0 to 255) or floats"),
    ("a.npz", arrays(**GOOD), {"part": "train"}, "no part train, it has no parts by name; cut by share: calibration"),
    ("a.npz", arrays(**GOOD), {"part": "extra"}, "(usual names: train, calibration"),
    ("a.npz", arrays(**GOOD), {"part": "val", "split": {"val": 0}}, "above 0 and at most 1, got 0"),
    ("a.npz", arrays(**GOOD), {"part": "val", "split": {"val": 0.6, "test": 0.6}}, "at most 1, got 1.2"),
    ("a.npz", arrays(**GOOD), {"part": "val", "split": {"val": 0.6, "heldout": 0.4}}, "heldout means heldout"),
    ("a.npz", arrays(**GOOD), {"part": "val", "split": {"val": 0.01}}, "val would be empty, 0.01 of 40"),
    ("a.npz", arrays(**GOOD), {"limit": 0}, "limit: need a whole number of at least 1"),
    ("a.npz", arrays(**GOOD), {"seed": -1}, "seed: need a whole number"),
    ("a.npz", arrays(**GOOD), {"mean": [0.5]}, "need as many of one as of the other, got 1, 0"),
    ("a.npz", arrays(**GOOD), {"mean": [0.5], "sd": [0]}, "sd above 0"),
    ("a.npz", arrays(**GOOD), {"mean": ["a"], "sd": [1]}, "need one number for each channel"),
    ("a.npz", arrays(**GOOD), {"mean": [0, 0], "sd": [1, 1]}, "have 2 numbers, inputs 1 channels"),
    ("a.npz", arrays(x=GREY[:, 0].astype(int), y=CLASSES), {"mean": [0], "sd": [1]}, "for one input of floating"),
    ("a.npz", arrays(**GOOD), {"size": (3, 3)}, "size is for folders of images"),
    ("", folders("a/x.png"), {"size": (0, 3)}, "need height and width"),
    ("", lambda folder: None, {}, "no data there; need IDX files"),
    ("", folders("a/x.png", "b/longer.png"), {}, "one size, "),
    ("", folders("train/x.png", "test/x.png"), {}, "hold images without a folder for each class"),
    ("", folders("train/a/x.png", "odd/x.png"), {}, "train is a part with classes below it, odd is none"),
    ("", folders("train/a/x.png", "test/b/x.png"), {}, "part test: class b is not in train"),
    ("", folders("a/x.png", "loose.png"), {}, "loose.png lies in no folder of a class"),
    ("", folders("loose.png"), {}, "loose.png lies in no folder of a class"),
    ("a.npz", arrays(images=GREY.astype(int), y=CLASSES), {}, "pixels are uint8 (0 to 255) or floats"),
    ("a.npz", arrays(**GOOD), {"part": 3}, "need the name of a part"),
    ("a.h5", lambda folder: write_hdf5(folder / "a.h5", x=["a", "b"], y=[0, 1]), {}, "array x is of type object"),
    ("a.npz", arrays(x=GREY, y=3), {}, "got 40 inputs and 0 labels"),
    ("", mixed_depths, {}, "of Pillow's mode I;16, "),
    ("", cut_image, {}, "the image is damaged"),
    ("", folders("a/b/x.png"), {}, "a holds folders, but is named as no part"),
    ("", holding("train-images-idx3-ubyte.gz", gzip.compress(b"1")), {}, "no IDX file of labels beside"),
    ("", holding("data_batch_1", b"none"), {}, "not a CIFAR batch"),
    ("", holding("data_batch_1.bin", b"none"), {}, "no whole number of CIFAR records of 3073"),
    ("", holding("train.bin", b""), {}, "no whole number of CIFAR records of 3074"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "write", "given", "message"), REFUSED, ids=[line[3] for line in REFUSED])
def test_what_is_refused_in_one_line(
    tmp_path: Path, name: str, write: Write, given: dict[str, Any], message: str
) -> None:
    write(tmp_path)
    with pytest.raises(ValueError, match=r"^.+$") as refused:
        load_samples(tmp_path / name, **given)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("ending", WRITERS)
def test_damaged_array_files_raise_nothing_but_value_errors(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    WRITERS[ending](path, x=GREY[:9], y=CLASSES[:9])
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole[: rng.integers(len(whole))] if rng.random() < 0.3 else whole)
        for place in rng.integers(0, max(1, len(damaged)), 5):
            damaged[place : place + 1] = rng.integers(0, 256, 1, np.uint8).tobytes()
        path.write_bytes(damaged)
        try:
            load_samples(path)
        except ValueError as error:
            refused += "\n" not in str(error)
    assert refused > 30


def test_files_that_cannot_be_opened_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", GREY)
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", CLASSES.astype(np.uint8))

    def closed(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", closed)
    with pytest.raises(ValueError, match=r"cannot be read \(Permission denied, .*ubyte\.gz\)"):
        load_samples(tmp_path)


def test_parts_that_cannot_go_together(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=GREY, y=CLASSES)
    for parts in ([], "test", ["test", "t10k"], ["all", "test"]):
        with pytest.raises(ValueError, match=r"^parts: "):
            load_parts(tmp_path / "a.npz", parts)


def test_a_file_that_is_both_parts_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_train=GREY, y_train=CLASSES, x_test=GREY[5:], y_test=CLASSES[5:])
    with pytest.raises(ValueError, match="train and test share 35 samples"):
        load_parts(tmp_path / "a.npz", ["test", "train"])
