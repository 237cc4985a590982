"""Narrowing: what is taken out computed nothing, the plan goes on to fit, and files hold the same network."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

import devices
import physcomp
from physcomp.choice.planning import plan_of
from physcomp.networks.description import Described, Description, build_module, describe, read_description
from physcomp.storage.plan import Plan
from physcomp.training.channel_removal import narrow
from physcomp.training.stored_layer import rewritten

MENU = ("pruned", "digital(4)", "analog(1)", "sparse(50,digital(1))")


@pytest.fixture(scope="module")
def described(tiny_folder: Path) -> Described:
    path = tiny_folder / "net.toml"
    return describe(read_description(path), physcomp.load_network(path))


@pytest.fixture(scope="module")
def card() -> devices.Card:
    return devices.load_card("pcm-zarcone")


@pytest.fixture(scope="module")
def model(described: Described, tiny_folder: Path, card: devices.Card) -> physcomp.LossModel:
    images = physcomp.load_images(tiny_folder / "images", "calibration")
    return physcomp.build_model(described.network, images, card=card, menu=MENU)


def plan_without(model: physcomp.LossModel, pruned: tuple[int, ...], sparse: tuple[int, ...] = ()) -> Plan:
    choice = np.ones(len(model.loss), np.int64)
    choice[::3] = 2
    choice[list(pruned)] = 0
    choice[list(sparse)] = 3
    return plan_of(model, choice, method="some", shrinkage=0.0)


def test_a_described_network_answers_as_the_loaded_one_and_lists_no_norm(
    described: Described, tiny_folder: Path
) -> None:
    loaded = physcomp.load_network(tiny_folder / "net.toml")
    pixels = torch.rand(5, 1, 8, 8)
    assert torch.equal(described.network.module(pixels), loaded.module(pixels))
    assert "norm" not in described.description.layers
    assert len(described.description.layers) == 8


def test_a_saved_network_loads_with_the_same_fingerprint(described: Described, tmp_path: Path) -> None:
    described.save(tmp_path / "net.toml")
    assert physcomp.load_network(tmp_path / "net.toml").sha256 == described.network.sha256
    assert read_description(tmp_path / "net.toml") == described.description
    assert not list(tmp_path.glob("*.tmp*"))


def test_a_narrowed_network_answers_as_the_whole_one_read_back(
    described: Described, model: physcomp.LossModel, card: devices.Card
) -> None:
    """Filters 1 and 2 of the first layer answer nothing (biases below zero), so edges are exact too; filter 4 + 3 of
    the second answers a constant, which goes into the biases of the linear layer."""
    state = {name: tensor.clone() for name, tensor in described.network.module.state_dict().items()}
    state["1.bias"][1:3] = -0.5
    state["4.bias"][3] = 0.75
    whole = described.with_state(state)
    plan = plan_without(model, (1, 2, 7))
    layers = []
    for layer in plan.layers:
        biases = np.array(layer.biases)
        if layer.name == "1":
            biases[1:3] = -0.5
        if layer.name == "4":
            biases[3] = 0.75
        layers.append(dataclasses.replace(layer, biases=tuple(biases)))
    plan = rewritten(whole.network, dataclasses.replace(plan, layers=tuple(layers)), card)
    ideal = dataclasses.replace(plan, menu=("pruned", "digital(4)", "float32", "digital(8)"))
    less, its_plan = narrow(whole, ideal, card)
    assert less.description.layers[0] == "conv 2 3"
    assert less.description.layers[3] == "conv 5 3"
    pixels = torch.rand(20, 1, 8, 8)
    answers = []
    for network, stored in ((whole.network, ideal), (less.network, its_plan)):
        module = physcomp.prepare(network.module)
        module.load_state_dict(physcomp.store(network, stored).read_back())
        answers.append(module(pixels))
    torch.testing.assert_close(answers[0], answers[1], rtol=0.02, atol=0.02)  # biases are bfloat16


def test_the_ledger_of_a_narrowed_plan_counts_what_its_chip_holds(
    described: Described, model: physcomp.LossModel, card: devices.Card
) -> None:
    less, plan = narrow(described, plan_without(model, (1, 2, 7), sparse=(5, 11)), card)
    chip = physcomp.store(less.network, plan)
    kinds = ("digits", "masks", "signs", "scales", "biases", "others")
    bits = sum(plan.ledger[name] for name in kinds) * plan.bits_per_cell
    assert len(chip.bits) == pytest.approx(bits)
    assert chip.cells.levels.size == plan.ledger["analog"]
    assert plan.weights == 2 * 9 + 5 * 2 * 9 + 3 * 5 * 4
    assert plan.ledger["plan"] * plan.bits_per_cell == pytest.approx((2 + 5 + 3) * 2)  # four codes: two bits


def test_a_plan_that_prunes_nothing_changes_nothing(
    described: Described, model: physcomp.LossModel, card: devices.Card
) -> None:
    plan = plan_without(model, ())
    less, same = narrow(described, plan, card)
    assert less is described
    assert same is plan


def test_the_last_layer_and_one_filter_of_each_other_stay(
    described: Described, model: physcomp.LossModel, card: devices.Card
) -> None:
    less, plan = narrow(described, plan_without(model, tuple(range(13))), card)
    assert [len(layer.codes) for layer in plan.layers] == [1, 1, 3]
    assert physcomp.store(less.network, plan).read_back()["8.weight"].shape == (3, 4)


ORDERS = (
    ("conv 4 1", "conv 5 1", "flatten", "linear 3"),
    ("conv 4 1", "relu", "conv 5 1", "flatten", "linear 3"),
    ("conv 4 1", "conv 5 1", "relu", "pool 2", "flatten", "linear 3"),
    ("conv 4 1", "pool 2", "relu", "conv 5 1", "pool 2", "flatten", "linear 3"),
    ("conv 4 1", "relu", "pool 2", "conv 5 1", "pool 2", "flatten", "relu", "linear 6", "linear 3"),
    ("conv 4 1", "pool 2", "flatten", "linear 6", "linear 5", "relu", "linear 3"),
)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("layers", ORDERS, ids=" / ".join)
def test_the_constant_of_a_pruned_filter_passes_through_the_layers_between(layers: tuple[str, ...], seed: int) -> None:
    """Kernels of one pixel have no edges, so that the narrow network's function is that of the whole one read back."""
    torch.manual_seed(seed)
    description = Description("net", (2, 4, 4), 0.5, 0.3, ("a", "b", "c"), layers, {})
    whole = describe(description, physcomp.wrap(build_module(description), "net"))
    images = physcomp.Images(torch.rand(20, 2, 4, 4), torch.randint(0, 3, (20,)))
    model = physcomp.build_model(whole.network, images, card="ideal", menu=("pruned", "float32"))
    choice = np.random.default_rng(seed).integers(0, 2, len(model.loss))
    choice[[start + 1 for start in model.starts]] = 0
    choice[list(model.starts)] = 1  # of each layer something is pruned and something stays
    choice[model.starts[-1] :] = 1
    plan = plan_of(model, choice, method="some", shrinkage=0.0)
    assert min(abs(layer.biases[1]) for layer in plan.layers) > 0
    stored = physcomp.prepare(whole.network.module)
    stored.load_state_dict(physcomp.store(whole.network, plan).read_back())
    less, its_plan = narrow(whole, plan, devices.load_card("ideal"))
    assert its_plan.weights < plan.weights
    torch.testing.assert_close(less.network.module(images.inputs), stored(images.inputs), rtol=0, atol=1e-5)
