"""What several tests share: the data folder, tiny networks with images, and a study that runs in a second."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import physcomp
from physcomp.networks import plain_training
from physcomp.networks.description import read_description
from physcomp.networks.images import write_idx
from simulations import cli
from simulations.cli import app

DATA = Path(__file__).parent.parent / "data"


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)  # results then do not depend on the machine's processors


@pytest.fixture(scope="session")
def data_dir() -> Path:
    return DATA


@pytest.fixture(scope="session")
def tiny() -> physcomp.Network:
    """Two convolutions with a norm, and a linear layer: 4 + 6 + 3 groups, 3 classes, 1 x 8 x 8 pixels."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6, 3),
    )
    module(torch.rand(64, 1, 8, 8))  # running statistics of the norm
    return physcomp.wrap(module, "tiny")


@pytest.fixture(scope="session")
def tiny_images() -> physcomp.Images:
    generator = torch.Generator().manual_seed(1)
    return physcomp.Images(
        torch.rand(40, 1, 8, 8, generator=generator), torch.randint(0, 3, (40,), generator=generator)
    )


@pytest.fixture(scope="session")
def rows() -> np.ndarray:
    """Seven groups of 50 weights, heavy-tailed, the last all zero."""
    weights = np.random.default_rng(2).standard_t(4, (7, 50)).astype(np.float32) * 0.1
    weights[-1] = 0
    return weights


DESCRIPTION = """name = "stripes"
input = [1, 8, 8]
mean = 0.5
sd = 0.3
classes = ["rows", "columns", "checks"]
layers = ["conv 4 3", "norm", "relu", "pool 2", "conv 6 3", "relu", "pool 2", "flatten", "linear 3"]

[recipe]
epochs = 12
seed = 3
batch = 32
learning_rate = 0.02
weight_decay = 0.0
"""

# A study of the network below that runs in a second, as TOML values. At 3 cells per weight the joint choice is also
# that of another method, so that trials are shared.
STUDY = {
    "name": '"stripes"',
    "kind": '"storage"',
    "network": '"net.toml"',
    "images": '"images"',
    "calibration": "64",
    "heldout": "64",
    "test_images": "200",
    "trials": "3",
    "seed": "5",
    "budgets": "[1.5, 3.0]",
    "menu": '["pruned", "digital(2)", "digital(4)", "analog(1)", "analog(2)", "hybrid(2,1)"]',
    "uniform": '["analog(1)", "analog(1,plain)", "digital(2)", "float32"]',
    "shrinkages": "[0.0, 0.5]",
    "cards": '[{card = "pcm-zarcone"}, {card = "pcm-nandakumar", read_time_s = 3600}]',
}


def stripes(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy 8 x 8 images of rows, columns and checks, and their classes, as unsigned bytes."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, count)
    i, j = np.indices((8, 8))
    patterns = np.stack([i % 2, j % 2, (i + j) % 2])
    pixels = 80 + 70 * patterns[labels] + generator.normal(0, 65, (count, 8, 8))
    return pixels.clip(0, 255).astype(np.uint8), labels.astype(np.uint8)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`net.toml` and `net.safetensors` of a network trained on stripes, images/, and study.toml."""
    folder = tmp_path_factory.mktemp("tiny")
    images = folder / "images"
    images.mkdir()
    for seed, (part, count) in enumerate({"train": 400, "calibration": 64, "heldout": 64, "t10k": 200}.items()):
        pixels, labels = stripes(count, seed)
        write_idx(images / f"{part}-images-idx3-ubyte.gz", pixels)
        write_idx(images / f"{part}-labels-idx1-ubyte.gz", labels)
    (folder / "net.toml").write_text(DESCRIPTION)
    trained = plain_training.train(read_description(folder / "net.toml"), physcomp.load_images(images, "train"))
    plain_training.save(trained, folder / "net.safetensors")
    (folder / "study.toml").write_text("".join(f"{name} = {value}\n" for name, value in STUDY.items()))
    return folder


@pytest.fixture
def write_study(tiny_folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes the tiny study to a file of its own, with some values changed; None leaves a field out."""

    def write(**changes: str | None) -> Path:
        absolute = {"network": f'"{tiny_folder / "net.toml"}"', "images": f'"{tiny_folder / "images"}"'}
        values = {**STUDY, **absolute, **changes}
        path = tmp_path / "written.toml"
        path.write_text("".join(f"{name} = {value}\n" for name, value in values.items() if value is not None))
        return path

    return write


@pytest.fixture(scope="session")
def tiny_run(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an undisturbed run of the tiny study, started from the command line. Not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "stripes"
    arguments = ["run", str(tiny_folder / "study.toml"), "--out", str(folder), "--quiet"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    (folder / "printed.txt").write_text(done.stdout)
    return folder


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs the command in this process, its border included: exit code, standard output, standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["physcomp", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run
