"""Metrics on outputs whose answer is known."""

import math

import pytest
import torch
from torch.nn import functional

import physcomp
from simulations.runs.metrics import METRICS, Scorer, accuracy, agreement, loss, mean_sd


@pytest.fixture
def outputs() -> torch.Tensor:
    return torch.tensor([[2.0, 0.0, -1.0], [0.0, 3.0, 1.0], [1.0, 0.5, 4.0], [0.2, 0.1, 0.0]])


def test_the_loss_is_the_mean_cross_entropy(outputs: torch.Tensor) -> None:
    labels = torch.tensor([0, 1, 2, 2])
    by_hand = -sum(float(row[label] - row.exp().sum().log()) for row, label in zip(outputs, labels, strict=True)) / 4
    assert loss(outputs, labels, outputs)["loss"] == pytest.approx(by_hand, rel=1e-6)
    assert loss(outputs, labels, outputs)["loss"] == pytest.approx(float(functional.cross_entropy(outputs, labels)))


def test_the_loss_of_equal_outputs_is_the_logarithm_of_the_classes() -> None:
    assert loss(torch.zeros(5, 10), torch.arange(5), torch.zeros(5, 10))["loss"] == pytest.approx(math.log(10))


def test_accuracy_counts_the_largest_output_and_agreement_asks_the_clean_network(outputs: torch.Tensor) -> None:
    labels = torch.tensor([0, 1, 0, 2])
    clean = outputs[:, [1, 0, 2]]  # the clean network takes class 0 for 1 and the other way round
    assert accuracy(outputs, labels, clean) == {"accuracy": 0.5}
    assert agreement(outputs, labels, clean) == {"agreement": 0.25}
    assert agreement(outputs, labels, outputs) == {"agreement": 1.0}


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_gives_finite_numbers_that_do_not_depend_on_the_order_of_images(
    name: str, outputs: torch.Tensor
) -> None:
    labels, clean, order = torch.tensor([0, 1, 0, 2]), outputs.flip(0), torch.tensor([2, 0, 3, 1])
    found = METRICS[name](outputs, labels, clean)
    again = METRICS[name](outputs[order], labels[order], clean[order])
    assert found
    assert all(math.isfinite(value) for value in found.values())
    assert again == pytest.approx(found)


def test_a_scorer_measures_a_network_with_other_parameters(
    tiny: physcomp.Network, tiny_images: physcomp.Images
) -> None:
    scorer = Scorer.of(tiny, tiny_images, ("loss", "accuracy", "agreement"))
    same = scorer.of_state(tiny, dict(tiny.module.state_dict()))
    clean = physcomp.evaluate(tiny.module, tiny_images)
    assert same == pytest.approx({"loss": clean.loss, "accuracy": clean.accuracy, "agreement": 1.0})
    last = f"{physcomp.layers_of(tiny.module)[-1].name}.weight"
    zeroed = scorer.of_state(tiny, {**tiny.module.state_dict(), last: torch.zeros_like(tiny.module.state_dict()[last])})
    assert zeroed["agreement"] < 1 or zeroed["loss"] != pytest.approx(clean.loss)


def test_mean_and_standard_deviation_are_those_of_a_sample() -> None:
    assert mean_sd([0.25]) == (0.25, 0.0)
    assert mean_sd([1.0, 2.0, 4.0]) == pytest.approx((7 / 3, math.sqrt(7 / 3)))
