"""Networks on another device: passes run there, results come back, and nothing changes where there is none."""

import dataclasses
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
import zoo
from fake_device import NAME, Away, FakeDevice
from torch import nn

import physcomp
from physcomp.networks import plain_training
from physcomp.networks.description import read_description
from physcomp.networks.device import copy_on, devices_here
from physcomp.networks.survey import survey
from physcomp.networks.tape import Tape
from physcomp.training.recipe import Recipe

pytestmark = [pytest.mark.filterwarnings(f"ignore:{text}") for text in zoo.WARNINGS]
ABSENT = ["gpu", "meta", *([] if torch.cuda.is_available() else ["cuda", "cuda:1"])]
CASES = ("lenet", "einsum", "dict", "tuple", "lstm", "tied-embedding", "transformer", "plain-tensors", "regression")


def case_of(name: str) -> tuple[physcomp.Network, physcomp.Network, physcomp.Samples]:
    """A network of the zoo, the same on the fake device, and its samples."""
    case = zoo.CASES[name]
    samples = physcomp.Samples(case.inputs(12), case.labels(12))
    network = physcomp.wrap(case.build(), samples=samples, **case.task)
    return network, dataclasses.replace(network, device=NAME), samples


def columns(outputs: torch.Tensor) -> torch.Tensor:
    return torch.randn(*outputs.shape, 2, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", CASES)
def test_outputs_are_computed_there_and_are_the_same(name: str) -> None:
    network, away, samples = case_of(name)
    with torch.no_grad():
        expected = network.outputs(samples.inputs)
        with FakeDevice() as device:
            found = away.outputs(samples.inputs)
    assert (device.here, device.there > 0) == (0, True)
    assert type(found) is torch.Tensor
    torch.testing.assert_close(found, expected)
    with FakeDevice() as device:
        score = physcomp.evaluate(away, samples)
    assert device.here == 0
    assert score.loss == pytest.approx(physcomp.evaluate(network, samples).loss, rel=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_gradients_of_each_sample_are_computed_there_and_are_the_same(name: str) -> None:
    network, away, samples = case_of(name)
    with FakeDevice():
        layers = survey(away, samples).layers
    with FakeDevice() as device:
        found = [(w.clone(), b.clone()) for _, w, b in Tape(away, layers).gradients(samples.inputs, columns)]
    assert (device.here, device.there > 0) == (0, True)
    expected = list(Tape(network, survey(network, samples).layers).gradients(samples.inputs, columns))
    for (weights, biases), (number, wanted, of_biases) in zip(found, expected, strict=True):
        assert type(weights) is type(biases) is torch.Tensor
        torch.testing.assert_close(weights, wanted, rtol=1e-4, atol=1e-5, msg=layers[number].name)
        torch.testing.assert_close(biases, of_biases, rtol=1e-4, atol=1e-5, msg=layers[number].name)


@pytest.mark.parametrize("name", ["lenet", "dict", "lstm", "regression"])
def test_a_training_runs_there_with_the_same_noise(name: str) -> None:
    network, away, samples = case_of(name)
    model = physcomp.build_model(network, samples, card="pcm-zarcone", menu=("analog(1)",))
    plan = physcomp.uniform_plan(model, "analog(1)", shrinkage=0.0)
    recipe = Recipe(batch=5, bfloat16=False, learning_rate=0.01)
    expected = physcomp.finetune(network, plan, samples, heldout=samples, epochs=2, recipe=recipe)
    with FakeDevice() as device:
        found = physcomp.finetune(away, plan, samples, heldout=samples, epochs=2, recipe=recipe)
    assert (device.here, device.there > 0) == (0, True)
    for epoch, wanted in zip(found.history, expected.history, strict=True):
        assert epoch.training_loss == pytest.approx(wanted.training_loss, rel=1e-5)
        assert epoch.heldout_loss == pytest.approx(wanted.heldout_loss, rel=1e-5)
    assert not any(isinstance(tensor, Away) for tensor in found.network.module.state_dict().values())
    assert found.network.device == NAME
    moved = expected.network.module.state_dict()
    for key, tensor in found.network.module.state_dict().items():
        torch.testing.assert_close(tensor, moved[key], rtol=1e-4, atol=1e-6)


def in_turn(work: Callable[[Any], Any], tasks: Iterable[Any], **_: Any) -> list[Any]:
    return [work(task) for task in tasks]


@pytest.mark.parametrize("name", ["lenet", "dict", "lstm"])
def test_a_choice_by_gradients_from_there_is_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, away, samples = case_of(name)
    menu, search = ("pruned", "digital(2)", "analog(1)"), physcomp.Search(parts=("all",))

    def chosen(each: physcomp.Network) -> physcomp.Plan:
        model = physcomp.build_model(each, samples, card="pcm-zarcone", menu=menu)
        return physcomp.choose(model, samples, [1.5], search=search).best(1.5)

    expected = chosen(network)
    for module in [module for key, module in sys.modules.items() if key.startswith("physcomp.")]:
        if hasattr(module, "in_threads"):
            monkeypatch.setattr(module, "in_threads", in_turn)  # other threads do not know the fake device
    with FakeDevice() as device:
        found = chosen(away)
    assert device.there > 50
    for ours, theirs in zip(found.layers, expected.layers, strict=True):
        assert ours.codes.tolist() == theirs.codes.tolist()
        assert ours.scales == pytest.approx(theirs.scales, rel=0.02)
    assert found.proof.heldout_loss == pytest.approx(expected.proof.heldout_loss, rel=1e-3)


def test_the_processor_named_is_the_processor_unnamed() -> None:
    network, _, samples = case_of("lenet")
    named = network.on("cpu")
    assert named.running is named.module is network.module
    plans = []
    for each in (network, named):
        model = physcomp.build_model(each, samples, card="pcm-zarcone", menu=("digital(2)", "analog(1)"))
        plans.append(physcomp.choose(model, samples, [1.5], search=physcomp.Search(parts=("all",))).best(1.5))
    assert plans[0].sha256 == plans[1].sha256
    assert torch.equal(network.outputs(samples.inputs), named.outputs(samples.inputs))


@pytest.mark.parametrize("name", ABSENT)
def test_a_device_that_is_not_there_is_refused_with_those_that_are(name: str) -> None:
    network, _, _ = case_of("mlp")
    with pytest.raises(ValueError, match=rf"^device: '{name}' is not here \(.+\); use one of cpu") as told:
        network.on(name)
    assert "\n" not in str(told.value)
    assert devices_here()[0] == "cpu"


def test_tensors_that_are_shared_stay_shared_wherever_they_are_held() -> None:
    module = zoo.CASES["tied-embedding"].build()
    module.held = [module.get_parameter("words.weight")]  # type: ignore[assignment]
    with FakeDevice():
        copied = copy_on(module, NAME)
    held = copied.held[0]  # type: ignore[index]
    assert isinstance(held, Away)
    assert held is copied.get_parameter("words.weight") is copied.get_parameter("out.weight")
    assert not isinstance(module.get_parameter("words.weight"), Away)


def test_recurrent_layers_can_give_gradients_there_and_are_not_random() -> None:
    module = nn.Sequential(nn.LSTM(4, 3, 2, dropout=0.5), nn.Dropout(0.5)).eval()
    with FakeDevice():
        copied = copy_on(module, NAME)
    assert copied[0].training  # type: ignore[index]
    assert copied[0].dropout == 0.0  # type: ignore[index]
    assert not copied[1].training  # type: ignore[index]
    assert (module[0].training, module[0].dropout) == (False, 0.5)


def test_plain_training_runs_there(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read_description(tiny_folder / "net.toml")
    description = dataclasses.replace(whole, recipe={**whole.recipe, "epochs": 1})
    images = physcomp.load_images(tiny_folder / "images", "train")[:64]
    expected = plain_training.train(description, images)
    named = plain_training.train(description, images, device="cpu")
    assert all(map(torch.equal, expected.module.state_dict().values(), named.module.state_dict().values()))
    with pytest.raises(ValueError, match="device: 'gpu' is not here"):
        plain_training.train(description, images, device="gpu")
