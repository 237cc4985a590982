"""The command `physcomp train` on any network and data: any task, a killed run resumes, nothing is overwritten."""

import os
import signal
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

import physcomp
from physcomp.networks.training_checkpoint import Checkpoint
from simulations.cli import app

Run = Callable[..., tuple[int, str, str]]
NET = """
import numpy as np
import torch
from torch import nn
import physcomp

def mixed(outputs=3, rate=0.2):
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(rate), nn.Flatten(),
                         nn.Linear(144, outputs))

class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.out = nn.Embedding(12, 8), nn.Linear(8, 12)
        self.out.weight = self.words.weight
    def forward(self, words):
        return {"hidden": self.words(words), "logits": self.out(self.words(words))}

def _draw(outputs, generator):
    return torch.randn(outputs.shape, generator=generator) + outputs

own = physcomp.Own(lambda outputs, labels: (outputs - labels).square().sum(1), _draw)

def images(part):
    generator = np.random.default_rng(["train", "calibration", "heldout", "test"].index(part))
    labels = generator.integers(0, 3, 65 if part == "train" else 30)
    pixels = generator.random((len(labels), 1, 6, 6)).astype("float32") * 0.3
    for image, label in zip(pixels, labels):
        image[0, 2 * label] += 0.7
    return pixels, labels

def words(part):
    generator = np.random.default_rng(len(part))
    drawn = generator.integers(0, 12, (40, 5))
    return drawn, drawn[:, ::-1].copy()

def halves(part):
    pixels, labels = images(part)
    return pixels, (labels[:, None] >= np.arange(3)).astype("float32")

def numbers(part):
    pixels, labels = halves(part)
    return pixels, labels + 0.5
"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(NET)
    return tmp_path / "net.py"


def train(net: Path, out: Path, *more: object, build: str = "mixed", data: str = "images") -> Result:
    given = [
        "train",
        f"{net}:{build}",
        "--data",
        f"{net}:{data}",
        "--out",
        out,
        "--epochs",
        3,
        "--batch",
        16,
        "--quiet",
    ]
    return CliRunner().invoke(app, [str(word) for word in (*given, "--learning-rate", 0.02, *more)])


CASES = {
    "classes": ("mixed", "images", "classes", "accuracy"),
    "binary": ("mixed", "halves", "multilabel", "accuracy"),
    "regression": ("mixed", "numbers", "regression", "R²"),
    "own": ("mixed", "numbers", "NET:own", "accuracy"),
    "words": ("Tied", "words", "classes", "accuracy"),
}


@pytest.mark.parametrize("name", CASES)
def test_any_task_is_trained_and_its_weights_open_again(name: str, net: Path, tmp_path: Path) -> None:
    build, data, task, metric = CASES[name]
    out, task = tmp_path / "w.safetensors", task.replace("NET", str(net))
    done = train(net, out, "--task", task, build=build, data=data)
    assert done.exit_code == 0, done.output
    losses = [float(line.split("training loss ")[1].split(",")[0]) for line in done.output.splitlines()[1:4]]
    assert losses[2] < losses[0]
    assert f"held-out samples: {metric} " in done.output
    assert f"test samples: {metric} " in done.output
    looked = CliRunner().invoke(
        app,
        ["inspect", f"{net}:{build}", "--data", f"{net}:{data}", "--weights", str(out), "--task", task, "--no-costs"],
    )
    assert looked.exit_code == 0, looked.output
    assert not list(tmp_path.glob("*.checkpoint"))


def test_what_is_trained_has_learned_and_starts_from_weights(net: Path, tmp_path: Path) -> None:
    out, more = tmp_path / "w.safetensors", tmp_path / "more.safetensors"
    first = train(net, out, "--epochs", 12)
    assert float(first.output.split("test samples: accuracy ")[1].split(" %")[0]) > 90
    second = train(net, more, "--weights", out, "--epochs", 1, "--learning-rate", 1e-6)
    assert float(second.output.split("training loss ")[1].split(",")[0]) < 0.5
    before, after = load_file(out), load_file(more)
    assert torch.allclose(before["0.weight"], after["0.weight"], atol=1e-4)


def test_a_seed_fixes_every_bit_and_another_is_another(net: Path, tmp_path: Path) -> None:
    files = [tmp_path / f"{n}.safetensors" for n in range(3)]
    for file, seed in zip(files, (4, 4, 5), strict=True):
        assert train(net, file, "--seed", seed, "--shift", 1, "--mirrored").exit_code == 0
    assert files[0].read_bytes() == files[1].read_bytes()
    assert files[0].read_bytes() != files[2].read_bytes()


def run_until_killed(net: Path, out: Path) -> None:
    """Kills its own process after the second epoch was kept."""
    kept = Checkpoint.save

    def save(self: Checkpoint, state: dict[str, object]) -> None:
        kept(self, state)
        if len(state["losses"]) == 2:  # type: ignore[arg-type]
            os.kill(os.getpid(), signal.SIGKILL)

    Checkpoint.save = save  # type: ignore[assignment,method-assign]
    torch.set_num_threads(1)
    train(net, out)


def test_a_killed_training_goes_on_to_the_same_bits(net: Path, tmp_path: Path) -> None:
    undisturbed, killed = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    assert train(net, undisturbed).exit_code == 0
    process = get_context("spawn").Process(target=run_until_killed, args=(net, killed))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not killed.exists()
    other = train(net, killed, "--batch", 8)
    assert "a checkpoint of another training (of other batch); remove it" in str(other.exception)
    done = train(net, killed)
    assert done.exit_code == 0, done.output
    assert "epoch 3 of 3" in done.output
    assert "epoch 2 of 3" not in done.output
    assert killed.read_bytes() == undisturbed.read_bytes()
    assert not list(tmp_path.glob("*.checkpoint"))


def test_a_damaged_checkpoint_is_told(net: Path, tmp_path: Path) -> None:
    (tmp_path / "w.safetensors.checkpoint").write_bytes(b"nothing")
    done = train(net, tmp_path / "w.safetensors")
    assert "w.safetensors.checkpoint: no checkpoint of a training" in str(done.exception)


def test_finished_weights_are_overwritten_only_by_force(net: Path, tmp_path: Path) -> None:
    out = tmp_path / "w.safetensors"
    out.write_bytes(b"precious")
    refused = train(net, out)
    assert "is there already; name another file" in str(refused.exception)
    assert out.read_bytes() == b"precious"
    assert train(net, out, "--force").exit_code == 0
    assert "0.weight" in load_file(out)


def test_bfloat16_trains_as_well(net: Path, tmp_path: Path) -> None:
    out = tmp_path / "w.safetensors"
    done = train(net, out, "--precision", "bfloat16", "--epochs", 12)
    assert done.exit_code == 0, done.output
    assert float(done.output.split("test samples: accuracy ")[1].split(" %")[0]) > 90
    assert {tensor.dtype for tensor in load_file(out).values()} == {torch.float32, torch.int64}


def test_the_test_part_changes_nothing(net: Path, tmp_path: Path) -> None:
    """With other test and calibration samples the weights are the same bit for bit."""
    one, two = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    assert train(net, one).exit_code == 0
    net.write_text(NET.replace('if part == "train" else 30', 'if part == "train" else 41'))
    assert train(net, two).exit_code == 0
    assert one.read_bytes() == two.read_bytes()


def test_data_without_parts_are_cut_as_by_finetune(net: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    np.savez(tmp_path / "all.npz", images=generator.random((100, 1, 6, 6)), labels=generator.integers(0, 3, 100))
    done = CliRunner().invoke(
        app,
        ["train", f"{net}:mixed", "--data", f"{tmp_path / 'all.npz'}", "--out", f"{tmp_path / 'w.safetensors'}",
         "--epochs", "1", "--quiet"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "40 training samples" in done.output
    assert done.output.count("(25 samples)") == 2


BAD = {
    "no place to write": ("train {net}:mixed --data {net}:images", "--out: a file for the weights is needed"),
    "another ending": ("train {net}:mixed --data {net}:images --out w.pt", "weights are written as .safetensors"),
    "no folder": ("train {net}:mixed --data {net}:images --out none/w.safetensors", "there is no folder none"),
    "no epochs": ("train {net}:mixed --data {net}:images --out w.safetensors --epochs 0", "epochs is at least 1, got"),
    "shifted words": (
        "train {net}:Tied --data {net}:words --out w.safetensors --shift 1", "only images (samples, channels, height",
    ),
    "a rate too high": (
        "train {net}:mixed --data {net}:numbers --task regression --out w.safetensors --learning-rate 1e38 --quiet",
        "lower the learning rate",
    ),
    "arguments of a description": ("train {toml} --data {net}:images --args {{}} --out w.safetensors", "takes no"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_told_in_one_line(
    what: str, net: Path, tiny_folder: Path, command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line, said = BAD[what]
    code, _, found = command(*line.format(net=net, toml=tiny_folder / "net.toml").split())
    assert code == 2
    assert said in found
    assert found.count("\n") == 1


def test_a_description_takes_data_of_any_form(tiny_folder: Path, tmp_path: Path, command: Run) -> None:
    images = physcomp.load_images(tiny_folder / "images", "train")
    assert isinstance(images.inputs, torch.Tensor)
    np.savez(tmp_path / "all.npz", images=images.inputs.numpy(), labels=images.labels.numpy())
    code, printed, said = command(
        "train", tiny_folder / "net.toml", "--data", tmp_path / "all.npz", "--epochs", 1, "--quiet", "--out",
        tmp_path / "w.safetensors",
    )  # fmt: skip
    assert (code, said) == (0, "")
    assert "160 training samples" in printed
