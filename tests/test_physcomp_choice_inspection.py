"""What is said of a network before any work: its numbers, the smallest budget, costs, and what seems wrong."""

import dataclasses
from xml.etree import ElementTree

import pytest
import torch
from torch import nn

import physcomp

SAMPLES = 60


def trained(seed: int = 0) -> tuple[nn.Module, physcomp.Samples]:
    """A classifier that is right on its samples: each class is the place of the largest of three inputs."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.rand(SAMPLES, 3, generator=generator)
    module = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3))
    for layer in (module[0], module[1]):
        layer.weight.data = torch.eye(3) * 4
    return module, physcomp.Samples(inputs, inputs.argmax(1))


def warnings_of(module: nn.Module, samples: physcomp.Samples, task: str = "classes") -> list[str]:
    network = physcomp.wrap(module, "net", samples=samples, task=task)
    return list(physcomp.inspect(network, samples, card="ideal", costs=False).warnings)


def test_a_good_network_has_no_warnings() -> None:
    assert warnings_of(*trained()) == []


def test_numbers_are_those_of_the_loss_model(tiny: physcomp.Network, tiny_images: physcomp.Images) -> None:
    card, menu = "pcm-zarcone:one-device", ("digital(2)", "digital(4)", "analog(1)")
    found = physcomp.inspect(tiny, tiny_images, card=card, menu=menu, costs=False)
    model = physcomp.build_model(tiny, tiny_images, card=card, menu=menu)
    assert found.groups == len(model.loss)
    assert found.on_cells == model.weights
    assert found.fixed * tiny.parameters == pytest.approx(sum(model.overhead(len(menu)).values()))
    assert found.clean == physcomp.evaluate(tiny, tiny_images)
    assert found.smallest is not None
    model.selection(found.smallest * (1 + 1e-9))
    with pytest.raises(ValueError, match=rf"at least {found.smallest:.4f}"):
        model.selection(found.smallest * 0.999)


def test_what_the_loss_model_will_cost_is_stated(tiny: physcomp.Network, tiny_images: physcomp.Images) -> None:
    found = physcomp.inspect(tiny, tiny_images, card="ideal", menu=("pruned", "digital(2)"))
    assert found.costs is not None
    assert found.summary()[-1] == f"with these samples {found.costs}"
    assert found.costs.processor_s > 0


def test_the_smallest_budget_is_left_open_where_it_depends_on_values(
    tiny: physcomp.Network, tiny_images: physcomp.Images
) -> None:
    found = physcomp.inspect(tiny, tiny_images, card="ideal", menu=("coded(4)",), costs=False)
    assert found.smallest is None
    assert "depends on the values" in str(found)


def test_a_module_is_wrapped_as_a_classifier() -> None:
    module, samples = trained()
    assert physcomp.inspect(module, samples, card="ideal", costs=False).parameters == 21


def test_what_a_first_look_remarks_is_among_the_warnings() -> None:
    module, samples = trained()
    module[0].weight.data *= -1
    wrong = physcomp.inspect(module, samples, card="ideal", costs=False)
    (warning,) = wrong.warnings
    assert "near chance" in warning
    assert str(wrong).splitlines()[-1] == f"warning: {warning}"


def test_few_samples_are_called_out() -> None:
    module, samples = trained()
    assert [each for each in warnings_of(module, samples[:20]) if "20 samples are too few" in each]


def test_rows_of_a_table_that_are_never_looked_up_are_counted() -> None:
    words = torch.arange(SAMPLES) % 3
    module = nn.Sequential(nn.Embedding(7, 3), nn.Linear(3, 3))
    module[0].weight.data[:3], module[1].weight.data = 4 * torch.eye(3), 4 * torch.eye(3)
    (warning,) = warnings_of(module, physcomp.Samples(words, words))
    assert warning.startswith("0: 4 of its 7 rows are never looked up")


class Rare(nn.Module):
    """Uses one layer for inputs above a bound only."""

    def __init__(self) -> None:
        super().__init__()
        self.base, self.more = nn.Linear(3, 3), nn.Linear(3, 3)
        self.base.weight.data = 4 * torch.eye(3)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return self.base(given) + (given[:, :1] > 5) * self.more(given)


def test_a_layer_that_few_samples_reach_is_called_out() -> None:
    _, samples = trained()
    samples.inputs[3] += 10
    (warning,) = warnings_of(Rare(), samples)
    assert warning == "more: 1 of the first 32 samples reach it; take more of those that do"


class Centred(nn.Module):
    """Takes the mean over the batch away."""

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return given - given.mean(0)


def test_outputs_that_depend_on_the_batch_are_called_out() -> None:
    module, samples = trained()
    (warning,) = warnings_of(nn.Sequential(module, Centred()), samples)
    assert "depend on the other samples" in warning


def test_texts_are_short_and_drawings_well_formed(tiny: physcomp.Network, tiny_images: physcomp.Images) -> None:
    named = dataclasses.replace(tiny, name="<tiny> & co")
    found = physcomp.inspect(named, tiny_images, costs=False)
    assert repr(found).startswith("<Inspection of <tiny> & co: ")
    assert len(repr(found)) < 120
    lines = str(found).splitlines()
    assert len(lines) == 1 + len(found.rows) + 1 + len(found.summary()) + len(found.warnings)
    text = "".join(ElementTree.fromstring(found._repr_html_()).itertext())
    assert "<tiny> & co before it is stored" in text
    assert all(row.name in text for row in found.rows)
