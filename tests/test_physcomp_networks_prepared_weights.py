"""Weights of networks that are ready to be stored, as files: every tensor comes back, in the same network only."""

import copy
from pathlib import Path

import pytest
import torch
import zoo
from safetensors.torch import save_file
from torch import nn

import physcomp
from physcomp.networks.network import fingerprint
from physcomp.networks.prepared_weights import is_prepared, load_prepared, save_prepared

pytestmark = [pytest.mark.filterwarnings(f"ignore:{text}") for text in zoo.WARNINGS]


def network_of(name: str, *, zeroed: bool = False) -> physcomp.Network:
    case = zoo.CASES[name]
    samples = physcomp.Samples(case.inputs(2), case.labels(2))
    network = physcomp.wrap(case.build(), samples=samples, **case.task)
    if zeroed:
        for tensor in network.module.state_dict().values():
            tensor.zero_()
    return network


@pytest.mark.parametrize(
    "name",
    ["mlp-batch-norm", "tied-embedding", "complex", "causal-model", "relative-places", "u-net", "buffer-not-saved"],
)
def test_what_was_saved_is_loaded_into_the_same_network_of_other_weights(name: str, tmp_path: Path) -> None:
    network = network_of(name)
    save_prepared(network, tmp_path / "net.safetensors")
    assert is_prepared(tmp_path / "net.safetensors")
    start = network_of(name, zeroed=True)
    assert start.sha256 != network.sha256
    assert load_prepared(start, tmp_path / "net.safetensors").sha256 == network.sha256
    assert not any(bool(tensor.any()) for tensor in start.module.state_dict().values())


def test_other_files_and_networks_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_prepared(network_of("mlp"), path)
    with pytest.raises(ValueError, match=r"lacks .* of network network"):
        load_prepared(network_of("siamese"), path)
    module = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Tanh(), nn.Linear(8, 3))
    module = nn.Sequential(*[module[0], module[1], module[3]])  # the same tensors, another function between
    with pytest.raises(ValueError, match="was saved from a network of other code"):
        load_prepared(physcomp.wrap(module), path)
    save_file({"0.weight": torch.zeros(3)}, path)
    assert not is_prepared(path)
    with pytest.raises(ValueError, match="holds no network that is ready to be stored"):
        load_prepared(network_of("mlp"), path)
    path.write_text("no weights")
    assert not is_prepared(path)
    assert not is_prepared(tmp_path / "none.safetensors")


def test_copies_of_traced_networks_save_no_more_than_the_network() -> None:
    network = network_of("buffer-not-saved")
    copied = copy.deepcopy(copy.deepcopy(network.module))
    assert "turn" not in copied.state_dict()
    assert "turn" in dict(copied.named_buffers())
    assert fingerprint(copied) == network.sha256
