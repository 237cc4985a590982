"""Finetuning of networks of every kind: what is trained is what the plan stores, and training helps."""

import dataclasses
import math
from typing import Any

import pytest
import torch
import zoo
from torch import nn
from torch.nn import functional

import devices
import physcomp
from physcomp.networks.passes import Passes
from physcomp.networks.task import IGNORED
from physcomp.training.recipe import Recipe
from physcomp.training.weights_in_training import WeightsInTraining

pytestmark = [pytest.mark.filterwarnings(f"ignore:{text}") for text in zoo.WARNINGS]
RECIPE = Recipe(batch=10, learning_rate=0.01)
# A case of each way in which weights are used, of each form of inputs and outputs, and of each task.
SOME = (
    "conv1d", "conv3d", "transposed-conv2d", "u-net", "norm-first", "bilinear", "complex", "embedding-bag",
    "transformer-padded", "tied-embedding", "transformer", "relative-places", "lstm-two-layers-both-ways",
    "routing", "dict", "tuple", "binary-without-axis", "regression", "buffer-not-saved",
)  # fmt: skip


def planned(
    network: physcomp.Network, samples: physcomp.Samples, code: str = "digital(4)", card: str = "ideal"
) -> physcomp.Plan:
    model = physcomp.build_model(network, samples, card=card, menu=(code,))
    return physcomp.uniform_plan(model, code, shrinkage=0.0)


def case_of(name: str) -> tuple[physcomp.Network, physcomp.Samples]:
    case = zoo.CASES[name]
    samples = physcomp.Samples(case.inputs(24), case.labels(24))
    return physcomp.wrap(case.build(), samples=samples, **case.task), samples


def check(name: str, code: str = "digital(4)") -> None:
    """Two epochs: every tensor read back is the trained network's, the plan's layers have moved, nothing is NaN."""
    network, samples = case_of(name)
    before = {key: tensor.clone() for key, tensor in network.module.state_dict().items()}
    plan = planned(network, samples, code)
    done = physcomp.finetune(network, plan, samples, heldout=samples, epochs=2, recipe=RECIPE)
    assert all(torch.equal(before[key], tensor) for key, tensor in network.module.state_dict().items())
    own = done.network.module.state_dict()
    for key, tensor in physcomp.store(done.network, done.plan).read_back().items():
        assert torch.equal(own[key], tensor), key
    for layer in plan.layers:
        zeros = not bool(before[layer.weight].any())
        assert torch.equal(own[layer.weight], before[layer.weight]) == zeros, layer.weight
    for key, tensor in own.items():
        if not (tensor.is_floating_point() and isinstance(_held(network.module, key), nn.Parameter)):
            stays = tensor.is_floating_point() or tensor.is_complex()
            assert torch.equal(tensor, _rounded(before[key]) if stays else before[key]), key
    assert done.history[-1].heldout_loss == pytest.approx(physcomp.evaluate(done.network, samples).loss)
    assert all(math.isfinite(epoch.training_loss) for epoch in done.history)


def _held(module: nn.Module, name: str) -> Any:
    return getattr(module.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2])


def _rounded(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.is_complex():
        return torch.view_as_complex(torch.view_as_real(tensor).bfloat16().float())
    return tensor.bfloat16().float()


@pytest.mark.parametrize("name", SOME)
def test_the_plan_stores_exactly_the_network_that_was_trained(name: str) -> None:
    check(name)


@pytest.mark.parametrize("name", ["conv1d", "transformer"])
@pytest.mark.parametrize("code", ["stepped(0.5)", "stepped(2)"])
def test_steps_are_trained_and_stored_exactly(name: str, code: str) -> None:
    check(name, code)


def test_training_keeps_to_the_bits_of_the_plan() -> None:
    """Latent weights that have grown by half take larger digits; steps then widen until the plan's bits suffice."""
    network, samples = case_of("mlp")
    plan = planned(network, samples, "stepped(0.5)")
    card = devices.load_card("ideal")
    weights = WeightsInTraining(network, plan, card, samples, RECIPE)
    with torch.no_grad():
        for layer in weights.layers.values():
            layer.share *= 1.5
    given = plan.ledger["digits"] + plan.ledger["setup"]
    before = weights.plan_as_stored(network).ledger
    assert before["digits"] + before["setup"] > 1.02 * given
    shares = [layer.share.clone() for layer in weights.layers.values()]
    after = weights.plan_as_stored(weights.network_as_stored()).ledger
    assert 0.9 * given < after["digits"] + after["setup"] <= given
    assert all(torch.equal(layer.share, share) for layer, share in zip(weights.layers.values(), shares, strict=True))
    done = physcomp.finetune(network, plan, samples, heldout=samples, epochs=2, recipe=RECIPE)
    assert done.plan.cells <= plan.cells


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, case in zoo.CASES.items() if not case.refused and name not in SOME])
def test_the_plan_stores_exactly_any_network_that_was_trained(name: str) -> None:
    check(name)


def function_of(inputs: torch.Tensor) -> torch.Tensor:
    return torch.stack([inputs[:, 0] * inputs[:, 1], inputs[:, 2].abs()], 1)


@pytest.fixture(scope="module")
def regression() -> tuple[physcomp.Network, physcomp.Samples, physcomp.Samples]:
    """A trained network for numbers, and samples to train on and others."""
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(600, 4, generator=generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(4, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 2))
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    for _ in range(300):
        optimizer.zero_grad()
        functional.mse_loss(module(inputs[:400]), function_of(inputs[:400])).backward()
        optimizer.step()
    samples = physcomp.Samples(inputs, function_of(inputs))
    return physcomp.wrap(module, samples=samples, task="regression"), samples[:400], samples[400:]


def test_training_lowers_the_held_out_loss_of_a_coarse_plan_of_a_regression(
    regression: tuple[physcomp.Network, physcomp.Samples, physcomp.Samples],
) -> None:
    network, samples, heldout = regression
    plan = planned(network, samples[:60], "digital(3)")
    before = physcomp.evaluate_state(network, physcomp.store(network, plan).read_back(), heldout)
    done = physcomp.finetune(network, plan, samples, heldout=heldout, epochs=15, recipe=Recipe(batch=20))
    after = physcomp.evaluate_state(done.network, physcomp.store(done.network, done.plan).read_back(), heldout)
    assert after.loss < 0.75 * before.loss
    assert done.history[-1].heldout_loss == pytest.approx(after.loss)
    assert done.history[-1].heldout_accuracy == pytest.approx(after.accuracy)


def test_outputs_without_a_label_do_not_count() -> None:
    """Whatever the teacher says at places that are ignored, and in batches in which all are."""
    network, samples = case_of("token-mlp")
    labels = samples.labels.clone()
    labels[:, 2:], labels[:10] = IGNORED, IGNORED
    ignored = dataclasses.replace(samples, labels=labels)
    assert isinstance(samples.inputs, torch.Tensor)
    changed = samples.inputs.clone()
    changed[:, 2:] += 1.0
    other = physcomp.Samples(changed, labels)
    recipe = dataclasses.replace(RECIPE, batch=3, bfloat16=False)
    plan = planned(network, samples)
    found = [
        physcomp.finetune(network, plan, each, heldout=samples, epochs=2, recipe=recipe) for each in (ignored, other)
    ]
    assert found[0].history == found[1].history
    assert found[0].network.sha256 == found[1].network.sha256
    assert found[0].network.sha256 != network.sha256


def test_a_network_that_fails_in_bfloat16_is_computed_in_float32() -> None:
    network, samples = case_of("routing")
    assert not Passes(network, samples, bfloat16=True).bfloat16
    network, samples = case_of("mlp")
    assert Passes(network, samples, bfloat16=True).bfloat16
    assert not Passes(network, samples, bfloat16=False).bfloat16


class Steep(nn.Module):
    """Rounding to eight bits changes its outputs by more than a twentieth."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return self.out(torch.sin(1000 * self.inner(given)))


def test_outputs_that_bfloat16_changes_are_computed_in_float32() -> None:
    case = zoo.CASES["mlp"]
    samples = physcomp.Samples(case.inputs(6), case.labels(6))
    assert not Passes(physcomp.wrap(Steep(), samples=samples), samples, bfloat16=True).bfloat16


class Held(nn.Module):
    """Uses its weight by a list, which an exchange of the parameter by name would not reach."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.out = nn.Linear(6, 8), nn.Linear(8, 3)
        self.listed = [self.first.weight]

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return self.out(torch.tanh(functional.linear(given, self.listed[0]) + self.first.bias))


def test_weights_are_trained_however_the_network_gets_at_them() -> None:
    case = zoo.CASES["mlp"]
    samples = physcomp.Samples(case.inputs(24), case.labels(24))
    network = physcomp.wrap(Held(), samples=samples)
    plan = planned(network, samples)
    done = physcomp.finetune(network, plan, samples, heldout=samples, epochs=3, recipe=RECIPE)
    assert done.plan.layers[0].weight == "first.weight"
    untrained = physcomp.store(network, plan).read_back()["first.weight"]
    assert not torch.equal(done.network.module.get_parameter("first.weight"), untrained)
