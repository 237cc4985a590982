"""Networks and data that are not ours, from the command line to what is left on a chip; what is refused at once."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner, Result

import physcomp
from simulations.cli import app

NETS = '''
"""Small networks."""

import torch
from torch import nn


def regression(inputs=4, wide=8):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(inputs, wide), nn.Tanh(), nn.Linear(wide, 1))


def convolutions(classes=2):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, classes),
    )


class Tokens(nn.Module):
    """Classifies the mean embedding of those tokens that count."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.head = nn.Embedding(12, 6), nn.Linear(6, 2)

    def forward(self, input_ids, attention_mask):
        mask = attention_mask.unsqueeze(-1).float()
        mean = (self.embedding(input_ids) * mask).sum(1) / mask.sum(1)
        return {"hidden": mean, "logits": self.head(mean)}


class Normed(nn.Module):
    """A norm after a linear layer, and inputs by a name that nobody guesses."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm, self.last = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 2)

    def forward(self, *, numbers):
        return self.last(torch.relu(self.norm(self.first(numbers))))
'''


@dataclass(frozen=True)
class Case:
    """A network and its data, as words of a command line."""

    network: tuple[str, ...]
    data: tuple[str, ...]
    metric: str


def _regression(folder: Path) -> Case:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(160, 4)).astype(np.float32)
    module = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    torch.manual_seed(1)
    torch.save(module.state_dict(), folder / "w.pt")
    y = module(torch.from_numpy(x)).detach().numpy() + 0.05 * generator.normal(size=(160, 1)).astype(np.float32)
    np.savez(folder / "numbers.npz", x=x, y=y)
    return Case(
        (
            f"{folder}/nets.py:regression",
            "--args",
            '{"wide": 8}',
            "--weights",
            f"{folder}/w.pt",
            "--task",
            "regression",
        ),
        ("--data", f"{folder}/numbers.npz", "--split", "calibration=0.4,heldout=0.3,test=0.3"),
        "R²",
    )


def _tokens(folder: Path) -> Case:
    (folder / "data.py").write_text(
        "import torch\n"
        "def tokens(part):\n"
        "    g = torch.Generator().manual_seed(len(part))\n"
        "    ids = torch.randint(0, 12, (48, 5), generator=g)\n"
        "    inputs = {'input_ids': ids, 'attention_mask': torch.ones_like(ids)}\n"
        "    return inputs, (ids.float().mean(1) > 5).long()\n"
    )
    return Case((f"{folder}/nets.py:Tokens", "--output", "logits"), ("--data", f"{folder}/data.py:tokens"), "accuracy")


def _bright(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Red and blue images, 8 x 8, as bytes with channels last."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, count)
    pixels = generator.integers(0, 100, (count, 8, 8, 3))
    pixels[np.arange(count), :, :, 2 * labels] += 100
    return pixels.astype(np.uint8), labels


def _convolutions(folder: Path) -> Case:
    content = {}
    for seed, part in enumerate(("calibration", "val", "test")):
        content[f"{part}_images"], content[f"{part}_labels"] = _bright(40, seed)
    np.savez(folder / "images.npz", **content)
    return Case(
        (f"{folder}/nets.py:convolutions",),
        ("--data", f"{folder}/images.npz", "--mean", "0.3,0.2,0.3", "--sd", "0.2,0.1,0.2"),
        "accuracy",
    )


def _folder(folder: Path) -> Case:
    pixels, labels = _bright(80, 5)
    for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        place = folder / "sorted" / ("red", "blue")[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).resize((12, 10)).save(place / f"{number}.png")
    return Case(
        (f"{folder}/nets.py:convolutions", "--args", '{"classes": 2}'),
        ("--images", f"{folder}/sorted", "--size", "8", "--split-seed", "3", "--limit", "30"),
        "accuracy",
    )


CASES: dict[str, Callable[[Path], Case]] = {
    "regression": _regression, "tokens": _tokens, "convolutions": _convolutions, "folder": _folder
}  # fmt: skip


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.mark.parametrize("make", CASES.values(), ids=CASES.keys())
def test_any_network_and_data_lead_to_what_is_left_on_a_chip(make: Callable[[Path], Case], tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    case = make(tmp_path)
    given = ("--card", "ideal", "--solver", "lagrangian", "--quiet")
    chosen = run("choose", *case.network, *case.data, *given, "--budget", "3,6", "--out", tmp_path / "plans")
    assert chosen.exit_code == 0, chosen.output
    assert f"as trained, on held-out samples: {case.metric} " in chosen.output
    assert sorted(path.name for path in (tmp_path / "plans").iterdir()) == ["plan-3.json", "plan-6.json"]
    for budget in (3, 6):
        assert physcomp.Plan.load(tmp_path / "plans" / f"plan-{budget}.json").cells_per_weight <= budget
        assert f"cells/weight of {budget} allowed" in chosen.output
    stored = run("store", *case.network, tmp_path / "plans" / "plan-6.json", *case.data, "--out", tmp_path / "c.h5")
    assert stored.exit_code == 0, stored.output
    read = run("readback", tmp_path / "c.h5", *case.network, *case.data, "--reads", 2)
    assert read.exit_code == 0, read.output
    assert f"{case.metric} ± sd" in read.output
    clean = re.search(rf"samples \(test\). As trained: {case.metric} ([-\d.]+)", read.output)
    left = re.search(r"0 +│ +([-\d.]+) ± ", read.output)
    assert clean
    assert left
    assert ("%" in read.output) == (case.metric == "accuracy")
    assert float(left[1]) == pytest.approx(float(clean[1]), abs=5 if case.metric == "accuracy" else 0.1)
    json.loads((tmp_path / "plans" / "plan-3.json").read_text())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with networks and with data of many faults."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "nets.py").write_text(NETS)
    pixels, labels = _bright(40, 0)
    images = {"images": pixels, "labels": labels}
    np.savez(folder / "right.npz", **images)
    np.savez(folder / "grey.npz", images=pixels[..., :1], labels=labels)
    np.savez(folder / "many.npz", images=pixels, labels=labels + 3)
    np.savez(folder / "minus.npz", images=pixels, labels=labels - 1)
    np.savez(folder / "real.npz", images=pixels, labels=labels + 0.5)
    np.savez(folder / "int32.npz", images=pixels, labels=labels.astype(np.int32))
    np.savez(folder / "short.npz", images=pixels, labels=labels[:-1])
    np.savez(folder / "nan.npz", images=np.full((40, 3, 8, 8), np.nan, np.float32), labels=labels)
    (folder / "file").write_text("")
    return folder


FAULTS = {
    "another number of channels": ("--data {made}/grey.npz", "cannot take inputs of shape (1, 8, 8)"),
    "labels out of range": ("--data {made}/many.npz", "is none of the network's 2 classes (0 to 1)"),
    "negative labels": ("--data {made}/minus.npz", "labels count classes from 0, got -1"),
    "real labels": ("--data {made}/real.npz", "is task='regression' meant?"),
    "fewer labels": ("--data {made}/short.npz", "got 40 inputs and 39 labels"),
    "inputs that are no numbers": ("--data {made}/nan.npz", "NaN"),
    "no such data": ("--data {made}/none.npz", "none.npz: no such file"),
    "the same held-out samples": (
        "--data {made}/right.npz --heldout {made}/right.npz",
        "calibration and heldout share",
    ),
    "a task of one output": ("--data {made}/right.npz --task binary", "network has 2 outputs a sample"),
    "an output of a single one": ("--data {made}/right.npz --output 1", "it has a single output"),
    "a split that is none": ("--data {made}/right.npz --split half", "--split: shares by part"),
    "means without deviations": ("--data {made}/right.npz --mean 0.5", "mean and sd: need as many"),
    "size of arrays": ("--data {made}/right.npz --size 8", "size is for folders of images"),
    "no budget": ("--data {made}/right.npz --budget 0", "--budget: cells per weight above 0"),
    "a budget twice": ("--data {made}/right.npz --budget 1,1", "each once"),
    "a file for several plans": ("--data {made}/right.npz --budget 1,2 --out {made}/file", "is a file, and 2 budgets"),
    "a folder for one plan": ("--data {made}/right.npz --out {made}", "is a folder, and a single budget"),
    "no folder for the plan": ("--data {made}/right.npz --out {made}/none/p.json", "there is no folder"),
    "an unknown solver": ("--data {made}/right.npz --solver magic", "--solver: one of annealer"),
    "an unknown card": ("--data {made}/right.npz --card pcm", "pcm"),
    "a time the card does not hold": ("--data {made}/right.npz --card pcm-zarcone --time 86400", "86400"),
    "memory without sense": (
        "--data {made}/right.npz --memory much",
        "--memory: at least 1MB, with a unit, got 'much'",
    ),
    "arguments that are no JSON": ("--data {made}/right.npz --args classes=2", "--args: not JSON"),
    "a device that is not here": ("--data {made}/right.npz --torch-device nowhere", "'nowhere' is not here"),
    "weights of another network": ("--data {made}/right.npz --weights {made}/none.pt", "none.pt"),
}


@pytest.mark.parametrize(("line", "told"), FAULTS.values(), ids=FAULTS.keys())
def test_what_is_wrong_is_said_before_the_long_work(
    line: str, told: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(*_: object, **__: object) -> None:
        raise AssertionError("the loss model was begun")

    monkeypatch.setattr("physcomp.build_model", late)
    words = line.format(made=made).split()
    for option, value in (("--budget", "2"), ("--card", "ideal"), ("--out", str(tmp_path / "plan.json"))):
        words += [] if option in words else [option, value]
    done = run("choose", f"{made}/nets.py:convolutions", *words, "--quiet")
    assert isinstance(done.exception, ValueError), done.output
    assert told in str(done.exception)
    assert "\n" not in str(done.exception)
    assert not list(tmp_path.iterdir())


def test_labels_of_32_bits_and_pixels_of_another_scale_are_taken_and_told(made: Path, tmp_path: Path) -> None:
    given = ["choose", f"{made}/nets.py:convolutions", "--card", "ideal", "--budget", 4, "--solver", "lagrangian"]
    given += ["--data", f"{made}/int32.npz", "--out", tmp_path / "p.json", "--quiet"]
    done = run(*given)
    assert done.exit_code == 0, done.output
    assert "20 calibration samples and 10 held-out ones, (3, 8, 8) each" in done.output
    assert "warning: " in done.output  # it was never trained


def test_a_plan_that_does_not_match_without_data_asks_for_the_data(made: Path, tmp_path: Path) -> None:
    source = "import torch\ndef all(part):\n    g = torch.Generator().manual_seed(len(part))\n"
    source += "    return {'numbers': torch.rand(30, 4, generator=g)}, torch.arange(30) % 2\n"
    (tmp_path / "data.py").write_text(source)
    network, data = f"{made}/nets.py:Normed", f"{tmp_path}/data.py:all"
    given = ["--data", data, "--card", "ideal", "--budget", 6, "--solver", "lagrangian", "--quiet"]
    chosen = run("choose", network, *given, "--out", tmp_path / "p.json")
    assert chosen.exit_code == 0, chosen.output
    without = run("store", network, tmp_path / "p.json", "--out", tmp_path / "c.h5")
    assert "and --data as for 'physcomp choose'" in str(without.exception)
    assert run("store", network, tmp_path / "p.json", "--data", data, "--out", tmp_path / "c.h5").exit_code == 0


def test_a_study_compares_ways_of_storing_a_network_that_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    _regression(tmp_path)
    (tmp_path / "study.toml").write_text(
        'kind = "storage"\nname = "numbers"\nnetwork = "nets.py:regression"\nargs = {wide = 8}\nweights = "w.pt"\n'
        'task = "regression"\ndata = "numbers.npz"\nsplit = {calibration = 0.4, heldout = 0.3, test = 0.3}\n'
        'budgets = [6.0]\nmenu = ["pruned", "digital(4)", "digital(8)"]\nuniform = ["digital(4)"]\nparts = {}\n'
        'cards = [{card = "ideal"}]\n'
    )
    done = run("run", tmp_path / "study.toml", "--out", tmp_path / "out", "--quiet")
    assert done.exit_code == 0, done.output
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["metric"], summary["test_images"]) == ("R²", 48)
    assert f"Clean network: R² {summary['clean_accuracy']:.4f}" in done.output
    assert "R² × 100 ± sd" in done.output
    assert "accuracy %" not in done.output


def test_solvers_are_compared_on_the_selection_of_a_network_that_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    case = _regression(tmp_path)
    given = ("--card", "ideal", "--budget", 6, "--solver", "lagrangian", "--repeats", 1, "--time-limit", "0.1s")
    done = run("anneal", *case.network, *case.data, *given, "--out", tmp_path / "out", "--quiet")
    assert done.exit_code == 0, done.output
    assert "R² × 100" in done.output
    assert "48 test samples" in (tmp_path / "out" / "results.md").read_text()


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ('metrics = ["agreement"]', "agreement is for tasks of classes"),
        ("calibration = 200", "calibration has 64 samples, the study asks for 200; ask for fewer"),
        ('heldout_data = "numbers.npz"', "heldout and test share 48 samples"),
        ("calibration = 64\nmean = [0.5]", "mean and sd: need as many"),
    ],
)
def test_a_study_of_a_network_that_does_not_fit_is_refused(fields: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    _regression(tmp_path)
    (tmp_path / "study.toml").write_text(
        'kind = "storage"\nname = "numbers"\nnetwork = "nets.py:regression"\ntask = "regression"\n'
        'images = "numbers.npz"\nsplit = {calibration = 0.4, heldout = 0.3, test = 0.3}\n'
        f'budgets = [6.0]\ncards = [{{card = "ideal"}}]\n{fields}\n'
    )
    refused = run("run", tmp_path / "study.toml", "--out", tmp_path / "out", "--quiet")
    assert told in str(refused.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("make", [_regression, _folder, _tokens], ids=["regression", "folder", "tokens"])
def test_any_network_is_trained_for_cells_and_stored(make: Callable[[Path], Case], tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    case = make(tmp_path)
    data = [word for word in case.data if word not in ("--split", "calibration=0.4,heldout=0.3,test=0.3")]
    given = ("--card", "ideal", "--budget", 5, "--epochs", 2, "--quiet", "--out", tmp_path / "tuned")
    tuned = run("finetune", *case.network, *data, *given)
    assert tuned.exit_code == 0, tuned.output
    assert f"held-out {case.metric}" in tuned.output
    assert ("%" in tuned.output.split("test samples")[1]) == (case.metric == "accuracy")
    assert not (tmp_path / "tuned" / "net.toml").exists()
    weights = ("--weights", tmp_path / "tuned" / "net.safetensors")
    network = [word for word in case.network if not str(word).startswith(("--weights", str(tmp_path / "w.pt")))]
    chip = tmp_path / "tuned.h5"
    stored = run("store", *network, *weights, tmp_path / "tuned" / "plan.json", *data, "--out", chip)
    assert stored.exit_code == 0, stored.output
    read = run("readback", chip, *network, *weights, *data)
    assert read.exit_code == 0, read.output
    again = run("finetune", *case.network, *data, *given)
    assert again.output == tuned.output  # nothing was trained again


def test_a_loss_model_is_kept_and_serves_other_budgets_cards_and_times(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, network = tmp_path / "model.h5", f"{made}/nets.py:convolutions"
    given = ["--data", f"{made}/right.npz", "--solver", "lagrangian", "--quiet", "--model", kept]

    def plan(*more: object) -> physcomp.Plan:
        done = run("choose", network, *given, "--out", tmp_path / "p.json", *more)
        assert done.exit_code == 0, done.output
        return physcomp.Plan.load(tmp_path / "p.json")

    first = plan("--card", "ideal", "--budget", 4)
    assert kept.exists()

    def late(*_: object, **__: object) -> None:
        raise AssertionError("another loss model was built")

    monkeypatch.setattr("physcomp.build_model", late)
    assert plan("--card", "ideal", "--budget", 4).sha256 == first.sha256
    other = plan("--card", "pcm-nandakumar", "--time", 3600, "--budget", 5)
    assert (other.card, other.read_time_s, other.budget) == ("pcm-nandakumar", 3600.0, 5.0)
    given[1] = f"{made}/int32.npz"
    assert plan("--card", "ideal", "--budget", 4).sha256 == first.sha256  # the same samples from another file
    refused = run(
        "choose", network, *given, "--card", "ideal", "--budget", 4, "--out", tmp_path / "q.json", "--seed", 1
    )
    assert "was built with seed 0, got --seed 1" in str(refused.exception)
    refused = run(
        "choose", network, *given, "--card", "ideal", "--budget", 4, "--out", tmp_path / "q.json", "--split-seed", 1
    )
    assert "from other calibration samples" in str(refused.exception)
