"""The teacher's outputs: those of the clean network, as means over copies of images only where these are asked for."""

import dataclasses

import pytest
import torch
import zoo
from torch import nn

import physcomp
from physcomp.networks.task import task_of
from physcomp.training import teacher as teaching
from physcomp.training.recipe import Recipe
from physcomp.training.teacher import Teacher, mean_output

pytestmark = [pytest.mark.filterwarnings(f"ignore:{text}") for text in zoo.WARNINGS]


def samples_of(name: str, count: int = 20) -> tuple[physcomp.Network, physcomp.Samples]:
    case = zoo.CASES[name]
    samples = physcomp.Samples(case.inputs(count), case.labels(count))
    return physcomp.wrap(case.build(), samples=samples, **case.task), samples


def taught(network: physcomp.Network, samples: physcomp.Samples, recipe: Recipe) -> torch.Tensor:
    return Teacher(network, samples, recipe, lambda share: None).of(torch.arange(len(samples)))


@pytest.mark.parametrize(("mirrored", "copies"), [(True, 18), (False, 9)])
def test_the_output_for_images_is_the_mean_over_shifted_copies(
    tiny: physcomp.Network, tiny_images: physcomp.Images, mirrored: bool, copies: int
) -> None:
    recipe = Recipe(batch=7, bfloat16=False, shift=1, mirrored=mirrored)
    assert recipe.copies == copies
    outputs = taught(tiny, tiny_images, recipe)
    assert isinstance(tiny_images.inputs, torch.Tensor)
    size = tiny_images.inputs.shape[2]
    padded = torch.nn.functional.pad(tiny_images.inputs, (1, 1, 1, 1))
    seen = [padded[:, :, y : y + size, x : x + size] for y in range(3) for x in range(3)]
    seen += [image.flip(3) for image in seen] if mirrored else []
    expected = sum(tiny.module(image).softmax(1) for image in seen) / copies
    torch.testing.assert_close(outputs.softmax(1), expected.detach())


@pytest.mark.parametrize("name", ["lenet", "dict", "tuple", "tied-embedding", "u-net", "regression", "binary", "lstm"])
def test_without_copies_it_is_the_output_of_the_network_whatever_its_shape(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, samples = samples_of(name)
    with torch.no_grad():
        expected = network.outputs(samples.inputs)
    assert Recipe().copies == 1
    recipe = Recipe(batch=7, bfloat16=False)
    torch.testing.assert_close(taught(network, samples, recipe), expected)
    monkeypatch.setattr(teaching, "KEPT", 0)  # too many to keep: computed when they are asked for
    asked = Teacher(network, samples, recipe, lambda share: None)
    assert asked.outputs is None
    torch.testing.assert_close(asked.of(torch.tensor([3, 1])), expected[[3, 1]])


def test_means_over_copies_are_those_of_probabilities_or_of_numbers() -> None:
    outputs = torch.tensor([[[2.0, -1.0]], [[0.0, 3.0]]])
    share = outputs.sigmoid().mean(0)
    torch.testing.assert_close(mean_output(outputs, task_of("multilabel")).sigmoid(), share)
    torch.testing.assert_close(mean_output(outputs, task_of("regression")), outputs.mean(0))
    torch.testing.assert_close(mean_output(outputs, task_of("classes")).softmax(1), outputs.softmax(2).mean(0))


@pytest.mark.parametrize(
    ("name", "recipe", "words"),
    [
        ("mlp", Recipe(mirrored=True), r"only images .* got inputs of shape \(6,\) a sample; use shift=0"),
        ("tuple", Recipe(shift=1), r"only images .* got inputs of shape \(6,\) and \(4,\)"),
        ("lenet", Recipe(shift=12), r"a shift of 12 pixels leaves nothing of images \(1, 12, 12\)"),
        ("u-net", Recipe(shift=1), r"outputs of shape \(3, 8, 8\) a sample move with the image"),
    ],
)
def test_copies_are_refused_where_there_are_none(name: str, recipe: Recipe, words: str) -> None:
    network, samples = samples_of(name)
    plan = physcomp.uniform_plan(
        physcomp.build_model(network, samples, card="ideal", menu=("digital(4)",)), "digital(4)", shrinkage=0.0
    )
    with pytest.raises(ValueError, match=words):
        physcomp.finetune(network, plan, samples, heldout=samples, epochs=1, recipe=recipe)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch": 0}, "batch is at least 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate is above 0, got 0.0"),
        ({"distilled": 1.5}, "distilled is 0 to 1, got 1.5"),
        ({"shift": -1}, "shift is at least 0, got -1"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(Recipe(), **changes)


class Viewed(nn.Module):
    """`view` fails on images whose channels are the last axis in memory."""

    def __init__(self, traceable: bool) -> None:
        super().__init__()
        self.conv, self.out, self.traceable = nn.Conv2d(2, 4, 3), nn.Linear(144, 3), traceable

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        if not self.traceable and bool(given.isnan().any()):
            raise RuntimeError
        return self.out(torch.relu(self.conv(given)).view(len(given) if not self.traceable else -1, 144))


@pytest.mark.parametrize("traceable", [True, False])
def test_networks_that_need_the_usual_layout_of_images_get_it(
    traceable: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    samples = physcomp.Samples(torch.randn(6, 2, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3)
    network = physcomp.wrap(Viewed(traceable), samples=samples)
    with torch.no_grad():
        expected = network.outputs(samples.inputs)
    torch.testing.assert_close(taught(network, samples, Recipe(bfloat16=False)), expected)
    loss = torch.nn.functional.cross_entropy(expected, samples.labels)
    assert physcomp.evaluate(network, samples).loss == pytest.approx(float(loss))
    assert capfd.readouterr().err == ""
