"""Networks, tasks and data by name: from descriptions, files and packages; what is wrong is told in one line."""

import re
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import physcomp
from physcomp.networks.task import Own, Regression
from simulations.runs.given import Data, open_network, open_task

SOURCE = """
import torch
from torch import nn
from physcomp.networks.task import Own, Regression

def build(wide=4):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, wide), nn.ReLU(), nn.Linear(wide, 2))

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x):
        return {"first": self.linear(x), "second": -self.linear(x)}

class Whole(Regression):
    pass

whole = Whole()
number = 3

def own():
    return Own(lambda o, y: (o[:, 0] - y).square(), lambda o, g: o[:, 0])
"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "net.py"
    path.write_text(textwrap.dedent(SOURCE))
    return path


def samples(count: int = 4, wide: int = 3) -> physcomp.Samples:
    return physcomp.Samples(torch.rand(count, wide), torch.zeros(count, dtype=torch.int64))


def test_a_description_a_function_and_a_package_are_networks(net: Path, data_dir: Path) -> None:
    described = open_network(data_dir / "fashion-cnn.toml")
    assert described.sha256 == physcomp.load_network(data_dir / "fashion-cnn.toml").sha256
    built = open_network(f"{net}:build", samples(), args={"wide": 7})
    assert (built.name, built.parameters) == ("net:build", 3 * 7 + 7 + 7 * 2 + 2)
    packaged = open_network("torch.nn:Linear", samples(), args={"in_features": 3, "out_features": 2})
    assert (packaged.name, packaged.parameters) == ("Linear", 8)


def test_weights_and_the_output_that_counts_are_taken(net: Path, tmp_path: Path) -> None:
    weights = tmp_path / "w.pt"
    state = {"linear.weight": torch.ones(2, 3), "linear.bias": torch.zeros(2)}
    torch.save(state, weights)
    network = open_network(f"{net}:Two", samples(), weights=weights, output="second")
    assert torch.equal(network.outputs(torch.ones(1, 3)), torch.tensor([[-3.0, -3.0]]))


def test_random_weights_are_the_same_in_every_process() -> None:
    source, args = "torch.nn:Linear", {"in_features": 3, "out_features": 2}
    first = open_network(source, samples(), args=args).sha256
    torch.rand(5)
    assert open_network(source, samples(), args=args).sha256 == first


def test_tasks_are_named_or_come_from_a_file(net: Path) -> None:
    assert isinstance(open_task("regression"), Regression)
    assert type(open_task(f"{net}:whole")).__name__ == "Whole"
    assert isinstance(open_task(f"{net}:own"), Own)
    assert isinstance(open_network(f"{net}:build", task=f"{net}:own").task, Own)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "weights for a network": ({"source": "w.safetensors"}, "w.safetensors holds weights; name the function"),
    "no form of network": ({"source": "network"}, "network is none of a description"),
    "arguments of a description": ({"source": "{data}/fashion-cnn.toml", "args": {}}, "has its weights beside it"),
    "weights of a description": ({"source": "{data}/fashion-cnn.toml", "weights": Path("w.pt")}, "beside it"),
    "an unknown task": ({"source": "{net}:build", "task": "guess"}, "one of classes, binary, multilabel, regression"),
    "a task that is none": ({"source": "{net}:build", "task": "{net}:number"}, "must be a physcomp.Task, got a int"),
    "an unknown function": ({"source": "{net}:bild"}, "build"),
    "an unknown argument": ({"source": "{net}:build", "args": {"deep": 2}}, "takes no argument 'deep'"),
    "a file without a name": ({"source": "{net}"}, "does not say what builds the network"),
    "an unknown output": ({"source": "{net}:Two", "output": "third"}, "first, second"),
    "labels of a regression": ({"source": "{net}:build", "task": "regression"}, "2 outputs"),
    "inputs of another shape": ({"source": "{net}:build", "wide": 5}, "cannot take inputs of shape (5,)"),
}


@pytest.mark.parametrize(("given", "told"), WRONG.values(), ids=WRONG.keys())
def test_wrong_networks_are_refused_in_one_line(
    given: dict[str, Any], told: str, net: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(net.parent)
    values = {k: v.format(net=net, data=data_dir) if isinstance(v, str) else v for k, v in given.items()}
    wide = values.pop("wide", 3)
    with pytest.raises(ValueError, match=re.escape(told)) as caught:
        open_network(values.pop("source"), samples(wide=wide), **values)
    assert "\n" not in str(caught.value)


def arrays(path: Path, count: int, seed: int, **parts: int) -> Path:
    """An .npz file of random samples, in parts where some are named."""
    generator = np.random.default_rng(seed)
    content = {}
    for name, number in (parts or {"": count}).items():
        prefix = f"{name}_" if name else ""
        content[f"{prefix}x"] = generator.normal(size=(number, 3)).astype(np.float32)
        content[f"{prefix}y"] = generator.integers(0, 2, number)
    np.savez(path, **content)
    return path


def test_parts_are_cut_and_share_no_samples(tmp_path: Path) -> None:
    data = Data(str(arrays(tmp_path / "d.npz", 80, 1)))
    parts = data.parts(["calibration", "heldout", "test"])
    assert [len(part) for part in parts.values()] == [40, 20, 20]
    rows = torch.cat([torch.as_tensor(part.inputs) for part in parts.values()])
    assert len(rows.unique(dim=0)) == 80
    assert torch.equal(torch.as_tensor(data.part("test").inputs), torch.as_tensor(parts["test"].inputs))
    assert len(Data(data.source, limit=7).part("all")) == 7


def test_heldout_samples_of_another_source_are_all_of_it_and_leave_test_as_it_is(tmp_path: Path) -> None:
    source, other = arrays(tmp_path / "d.npz", 80, 1), arrays(tmp_path / "h.npz", 30, 2)
    parts = Data(str(source), heldout=str(other)).parts(["calibration", "heldout", "test"])
    assert [len(part) for part in parts.values()] == [60, 30, 20]
    assert torch.equal(torch.as_tensor(Data(str(source)).part("test").inputs), torch.as_tensor(parts["test"].inputs))
    named = arrays(tmp_path / "named.npz", 0, 3, val=9, train=20)
    assert len(Data(str(source), heldout=str(named)).part("heldout")) == 9


def test_heldout_samples_that_are_calibration_samples_are_refused(tmp_path: Path) -> None:
    source = str(arrays(tmp_path / "d.npz", 80, 1))
    with pytest.raises(ValueError, match="calibration and heldout share 60 samples"):
        Data(source, heldout=source).parts(["calibration", "heldout"])


def test_test_samples_that_plans_are_made_on_are_refused(tmp_path: Path) -> None:
    first = arrays(tmp_path / "d.npz", 0, 1, calibration=40, test=30, train=5)
    content = dict(np.load(first))
    assert len(Data(str(first)).part_apart("test")) == 30
    content["test_x"][:20] = content["calibration_x"][:20]
    np.savez(first, **content)
    with pytest.raises(ValueError, match="share 20 samples"):
        Data(str(first)).part_apart("test")
    assert len(Data(str(first)).part("test")) == 30
    assert len(Data(str(arrays(tmp_path / "one.npz", 80, 1))).part_apart("t10k")) == 20
    assert len(Data(str(arrays(tmp_path / "t.npz", 0, 1, test=9))).part_apart("test")) == 9
    assert len(Data(str(first), split={"test": 0.4}).part_apart("test")) == 2
