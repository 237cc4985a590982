"""What is said of a network before the long work: softmax inside, chance level and its likely cause."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

import physcomp
from physcomp.networks.first_look import first_look

SEED = torch.Generator().manual_seed(1)


class Brightest(nn.Module):
    """Classifies an image by which quarter of it is brightest, if pixels are from 0 to `white`."""

    def __init__(self, white: float = 1.0, after: nn.Module | None = None, channels: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.white, self.after = white, after or nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        quarters = nn.functional.adaptive_avg_pool2d((x * self.weight.view(-1, 1, 1)).sum(1, keepdim=True), 2).flatten(
            1
        )
        # Beyond what is white it answers the first class.
        first = torch.tensor([1e6, 0, 0, 0]) * (x.amax((1, 2, 3)) > 2 * self.white).float().unsqueeze(1)
        dark = torch.tensor([1e6, 0, 0, 0]) * (x.amax((1, 2, 3)) < self.white / 2).float().unsqueeze(1)
        return self.after(quarters * 20 / self.white + first + dark)


def quarters(count: int = 120, white: float = 1.0) -> physcomp.Samples:
    """Images with one bright quarter, and its number."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (count,), generator=generator)
    pixels = 0.2 * torch.rand(count, 1, 4, 4, generator=generator)
    for sample, label in zip(pixels, labels.tolist(), strict=True):
        row, column = 2 * (label // 2), 2 * (label % 2)
        sample[0, row : row + 2, column : column + 2] += 0.8
    return physcomp.Samples(white * pixels, labels)


def remarks(module: nn.Module, samples: physcomp.Samples, task: str = "classes") -> tuple[str, ...]:
    return first_look(physcomp.wrap(module, samples=samples, task=task), samples).remarks


def test_nothing_is_said_of_a_network_that_fits() -> None:
    look = first_look(physcomp.wrap(Brightest(), samples=quarters()), quarters())
    assert (look.score.accuracy, look.remarks) == (1.0, ())


def test_probabilities_are_called_out() -> None:
    (said,) = remarks(Brightest(after=nn.Softmax(1)), quarters())
    assert said.startswith("softmax inside the network")
    assert remarks(Brightest(after=nn.LogSoftmax(1)), quarters()) == ()
    samples = quarters()
    yes = physcomp.Samples(samples.inputs, torch.nn.functional.one_hot(samples.labels).float())
    said = remarks(Brightest(after=nn.Sigmoid()), yes, "multilabel")[0]
    assert said.startswith("sigmoid inside the network")


CAUSES: dict[str, tuple[Callable[[], tuple[str, ...]], str]] = {
    "pixels up to 255": (lambda: remarks(Brightest(), quarters(white=255)), "the network wants 0 to 1: with --mean 0"),
    "pixels up to 1": (lambda: remarks(Brightest(white=255), quarters()), "wants pixels from 0 to 255"),
    "labels from 1": (
        lambda: remarks(Padded(), physcomp.Samples(quarters().inputs, quarters().labels + 1)),
        "labels seem to be +1 from the network's classes: so 100.0 %",
    ),
    "classes in another order": (
        lambda: remarks(
            Brightest(), physcomp.Samples(quarters().inputs, torch.tensor([2, 3, 1, 0])[quarters().labels])
        ),
        "classes seem to be in another order than the network's outputs: in the best order 100.0 %",
    ),
    "noise": (
        lambda: remarks(
            Brightest(), physcomp.Samples(quarters().inputs, quarters().labels[torch.randperm(120, generator=SEED)])
        ),
        "near chance: the most frequent label alone gives",
    ),
    "one class alone": (
        lambda: remarks(Brightest(), physcomp.Samples(quarters().inputs, torch.full((120,), 2))),
        "all 120 labels are the same, 2",
    ),
}


class Padded(Brightest):
    """With a fifth class that never comes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.pad(super().forward(x), (0, 1), value=-9.0)


@pytest.mark.parametrize(("said", "told"), CAUSES.values(), ids=CAUSES.keys())
def test_chance_level_is_called_out_with_its_cause(said: Callable[[], tuple[str, ...]], told: str) -> None:
    (one,) = said()
    assert told in one
    assert "\n" not in one


def test_a_regression_no_better_than_the_mean_is_called_out() -> None:
    inputs = torch.rand(50, 2, generator=torch.Generator().manual_seed(0))
    module = nn.Linear(2, 1)
    labels = module(inputs).detach()
    assert remarks(module, physcomp.Samples(inputs, labels), "regression") == ()
    (said,) = remarks(module, physcomp.Samples(inputs, 10 * labels + 40), "regression")
    assert "labels seem to be in another unit, 10 times the outputs +40" in said


def test_a_yes_or_no_at_chance_is_called_out() -> None:
    inputs = torch.rand(60, 2, generator=torch.Generator().manual_seed(0)) - 0.5
    module = nn.Linear(2, 1, bias=False)
    labels = (module(inputs).detach() > 0).float()
    assert remarks(module, physcomp.Samples(inputs, labels), "binary") == ()
    (said,) = remarks(module, physcomp.Samples(inputs, 1 - labels), "binary")
    assert "near chance" in said


def test_pixels_up_to_255_are_told_where_both_scales_do() -> None:
    (said,) = remarks(Linearly(), quarters(white=255))
    assert said.startswith("inputs are pixels from 0 to 255; pixels go up to ")
    assert "both scales may be meant" in said
    assert remarks(Linearly(), quarters()) == ()


class Linearly(nn.Module):
    """Answers the brightest quarter, whatever is white."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(20.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * nn.functional.adaptive_avg_pool2d(x, 2).flatten(1)
