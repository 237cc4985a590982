"""Pickles of plain data, read as data; and CIFAR's batches, which are such pickles."""

import os
import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from physcomp.networks.datasets.plain_pickle import read_plain_pickle
from physcomp.networks.datasets.reading import load_parts, load_samples

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 3072), np.uint8)
CLASSES = list(range(20))
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def python2_batch(pixels: np.ndarray, labels: list[int]) -> bytes:
    """The bytes that Python 2's cPickle wrote: the published CIFAR files begin and end like this."""

    def text(string: bytes) -> bytes:
        return b"U" + bytes([len(string)]) + string

    array = b"cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85" + text(b"b") + b"\x87Rq\x04"
    shape = b"K\x01" + b"K" + bytes([pixels.shape[0]]) + b"M" + struct.pack("<H", pixels.shape[1]) + b"\x86"
    dtype = b"cnumpy\ndtype\nq\x05" + text(b"u1") + b"K\x00K\x01\x87Rq\x06(K\x03" + text(b"|")
    dtype += b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    content = b"T" + struct.pack("<I", pixels.size) + pixels.tobytes()
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return (
        b"\x80\x02}q\x01("
        + text(b"batch_label") + text(b"training batch 1 of 5")
        + text(b"labels") + numbers
        + text(b"data") + array + b"(" + shape + dtype + b"\x89" + content + b"tb"
        + b"u."
    )  # fmt: skip


def test_python_2s_batch_is_what_python_itself_unpickles() -> None:
    content = python2_batch(PIXELS, CLASSES)
    ours, theirs = read_plain_pickle(content), pickle.loads(content, encoding="latin1")
    assert ours.keys() == theirs.keys() == {"batch_label", "labels", "data"}
    assert ours["labels"] == theirs["labels"]
    assert np.array_equal(ours["data"], theirs["data"])


PLAIN = [
    {"data": PIXELS, "labels": CLASSES},
    {b"data": PIXELS, b"labels": CLASSES, b"filenames": [b"a", b"b"] * 300},
    {"data": np.asfortranarray(PIXELS), "labels": tuple(CLASSES), "nested": {"a": [1.5, None, True, "é", -(2**40)]}},
    {"data": PIXELS.astype(">i4"), "labels": np.arange(20), "one": np.float32(2.5), "none": [], "few": (1, 2, 3, 4)},
]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("plain", PLAIN, ids=["text", "bytes", "nested", "types"])
def test_every_protocol(plain: dict[Any, Any], protocol: int) -> None:
    found = read_plain_pickle(pickle.dumps(plain, protocol=protocol))
    assert list(found) == [key.decode() if isinstance(key, bytes) else key for key in plain]
    for mine, theirs in zip(found.values(), plain.values(), strict=True):
        assert type(mine) is type(theirs)
        assert np.array_equal(mine, theirs) if isinstance(theirs, np.ndarray) else mine == theirs
        assert getattr(mine, "dtype", None) == getattr(theirs, "dtype", None)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("evil",)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "content", [Evil(), {"a": Evil()}, {"a": OrderedDict()}, {"a": {1}}, {"a": np.array([Evil()])}, [1], 3, {1: 2}]
)
def test_anything_else_is_refused_and_nothing_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Any, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"plain data|not of numbers"):
        read_plain_pickle(pickle.dumps(content, protocol=protocol))
    assert not (tmp_path / "evil").exists()


def test_damaged_pickles_are_refused_with_nothing_but_a_value_error() -> None:
    whole = pickle.dumps({"data": PIXELS[:2, :50], "labels": CLASSES[:2]}, protocol=2)
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(400):
        damaged = bytearray(whole[: rng.integers(len(whole))] if rng.random() < 0.3 else whole)
        for place in rng.integers(0, max(1, len(damaged)), 3):
            damaged[place : place + 1] = rng.integers(0, 256, 1, np.uint8).tobytes()
        try:
            read_plain_pickle(bytes(damaged))
        except ValueError:
            refused += 1
    assert refused > 100


def write_cifar10(folder: Path) -> None:
    folder.mkdir()
    for i in range(1, 3):
        (folder / f"data_batch_{i}").write_bytes(python2_batch(PIXELS[i * 5 : i * 5 + 5], CLASSES[i * 5 : i * 5 + 5]))
    (folder / "test_batch").write_bytes(python2_batch(PIXELS[:5], CLASSES[:5]))
    (folder / "batches.meta").write_bytes(b"not read")


def test_cifar_10(tmp_path: Path) -> None:
    write_cifar10(tmp_path / "cifar-10-batches-py")
    for source in (tmp_path, tmp_path / "cifar-10-batches-py"):
        parts = load_parts(source, ["train", "test"])
        expected = torch.from_numpy(PIXELS.reshape(-1, 3, 32, 32)).float() / 255
        assert torch.equal(parts["test"].inputs, expected[parts["test"].labels])
        assert sorted(parts["train"].labels.tolist()) == list(range(5, 15))


def test_cifar_100_has_its_fine_labels(tmp_path: Path) -> None:
    batch = {b"data": PIXELS, b"fine_labels": CLASSES, b"coarse_labels": [0] * 20}
    (tmp_path / "train").write_bytes(pickle.dumps(batch, protocol=2))
    samples = load_samples(tmp_path, "train")
    assert torch.equal(samples.inputs[:, 0, 0, 0] * 255, torch.from_numpy(PIXELS[:, 0]).float()[samples.labels])


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"labels": CLASSES}, "need an array `data` of bytes .N, 3072., got NoneType"),
        ({"data": PIXELS[:, :7], "labels": CLASSES}, r"got uint8 \(20, 7\)"),
        ({"data": PIXELS}, "need a list `labels` or `fine_labels`"),
        ({"data": PIXELS, "labels": [1]}, "got 20 inputs and 1 labels"),
        ({"data": Evil(), "labels": [1]}, "holds more than plain data"),
    ],
)
def test_batches_that_are_none(tmp_path: Path, batch: dict[str, Any], message: str) -> None:
    (tmp_path / "test_batch").write_bytes(pickle.dumps(batch))
    with pytest.raises(ValueError, match=message):
        load_samples(tmp_path, "test")
