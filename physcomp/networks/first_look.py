"""A first look at a network on samples: loss and metric as trained, and what seems wrong with network or data."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from physcomp.networks.evaluation import Score, outputs_of, score
from physcomp.networks.network import Network
from physcomp.networks.samples import Samples
from physcomp.networks.task import Binary, Classes, Regression

TRIED = 200  # samples on which other scales of pixels are tried
TIE = 1e-6  # by which a simpler cause goes before the order of classes
BETTER = 0.15  # by how much another reading of the data must be more accurate to be named; our choice
SAMPLES_A_CLASS = 20  # samples for each class from which an order of the classes is read; our choice
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # torchvision's means and standard deviations
MNIST = ((0.1307,), (0.3081,))
HALF = ((0.5,), (0.5,))
BYTES = ((0.0,), (1 / 255,))
UNIT = ((0.0,), (255.0,))
NEAR_CHANCE = "accuracy {:.1f} % is near chance: the most frequent label alone gives {:.1f} %"
USUAL = "are weights, task and data those of one training, and inputs scaled as then (--mean, --sd)?"


@dataclass(frozen=True)
class FirstLook:
    """What a network gives on samples.

    Args:
        score: loss and metric.
        remarks: what seems wrong, with the likely cause; empty if nothing does.
    """

    score: Score
    remarks: tuple[str, ...]


def first_look(network: Network, samples: Samples, outputs: torch.Tensor | None = None) -> FirstLook:
    """Measure a network on samples, and say what seems wrong: softmax inside, chance level and its cause.

    Args:
        network: as trained.
        samples: samples that it was not trained on.
        outputs: its outputs on them, if they are known.
    """
    outputs = outputs_of(network, samples) if outputs is None else outputs
    found = score(outputs, samples.labels, network.task)
    remarks = [*_probabilities(network, outputs, samples.labels)]
    match network.task:
        case Classes():
            remarks += _of_classes(network, samples, outputs, found)
        case Binary():
            remarks += _of_binary(samples.labels, found)
        case Regression():
            remarks += _of_regression(samples.labels, outputs, found)
    return FirstLook(found, tuple(remarks))


def _probabilities(network: Network, outputs: torch.Tensor, labels: torch.Tensor) -> Iterator[str]:
    """Whether outputs are probabilities already."""
    if not bool(((outputs >= 0) & (outputs <= 1)).all()):
        return
    task = network.task
    if isinstance(task, Classes) and torch.allclose(
        sums := outputs.sum(task._axis(outputs, labels)), torch.ones_like(sums), atol=1e-4
    ):
        yield (
            "softmax inside the network: its outputs are probabilities that sum to 1, and another softmax follows, so "
            "that loss and choice are wrong; let the module return the logits before its softmax"
        )
    elif isinstance(task, Binary):
        yield (
            "sigmoid inside the network: its outputs are between 0 and 1, and another sigmoid follows, so that loss "
            "and choice are wrong; let the module return the logits before its sigmoid"
        )


def _of_classes(network: Network, samples: Samples, outputs: torch.Tensor, found: Score) -> Iterator[str]:
    assert isinstance(network.task, Classes)
    labels = samples.labels[samples.labels != network.task.ignored]
    shares = torch.bincount(labels.flatten()).double() / labels.numel()
    chance = float(shares.max())
    surprise = float(-(shares * shares.clamp(min=1e-300).log()).sum())
    if len(shares[shares > 0]) == 1:
        yield f"all {labels.numel()} labels are the same, {int(labels.flatten()[0])}; take samples of all classes"
    elif found.accuracy <= chance + 2 * math.sqrt(chance * (1 - chance) / labels.numel()):
        said = NEAR_CHANCE.format(100 * found.accuracy, 100 * chance)
        yield f"{said}; {_cause(network, samples, outputs, max(chance, found.accuracy))}"
    elif found.loss > max(surprise, 0.1) * 1.2:
        said = f"loss {found.loss:.3g} nats is above that of guessing by how frequent classes are, {surprise:.3g}"
        yield f"{said}; {_cause(network, samples, outputs, found.accuracy)}"
    elif _in_bytes(samples) and (best := next(_scales(network, samples), (0.0, "")))[0] >= found.accuracy:
        yield f"inputs are pixels from 0 to 255; {best[1]}, no less than now, so that both scales may be meant"


def _in_bytes(samples: Samples) -> bool:
    """Whether inputs look like pixels from 0 to 255."""
    inputs = samples.inputs
    if not isinstance(inputs, torch.Tensor) or inputs.dim() != 4 or not inputs.is_floating_point():
        return False
    return float(inputs.min()) >= 0 and 100 < float(inputs.max()) <= 255


def _cause(network: Network, samples: Samples, outputs: torch.Tensor, accuracy: float) -> str:
    """The reading of the data with which the network is most accurate, if it is far more so."""
    causes = [*_scales(network, samples), *_orders(samples.labels, outputs)]
    best, said = max(causes, default=(0.0, ""))
    return said if best > accuracy + BETTER else USUAL


def _scales(network: Network, samples: Samples) -> Iterator[tuple[float, str]]:
    """Other scales of pixels: the accuracy of each, and what it would mean."""
    pixels = samples.inputs
    if not isinstance(pixels, torch.Tensor) or not pixels.is_floating_point() or pixels.dim() != 4:
        return
    few = samples[: min(TRIED, len(samples))]
    first = pixels[: len(few)]
    low, high, channels = float(pixels.min()), float(pixels.max()), pixels.shape[1]
    tried: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {}
    if low >= 0 and high <= 1:
        tried = {"the network wants pixels from 0 to 255": BYTES, "the network wants pixels from -1 to 1": HALF}
        tried |= {"the network wants pixels standardised as for ImageNet": IMAGENET} if channels == 3 else {}
        tried |= {"the network wants pixels standardised as for MNIST": MNIST} if channels == 1 else {}
    elif low >= 0:
        tried = {f"pixels go up to {high:g} and the network wants 0 to 1": UNIT}
    for said, by in tried.items():
        mean, sd = (",".join(f"{value:.6g}" for value in values) for values in by)
        accuracy = _accuracy(network, few, _scaled(first, *by))
        yield accuracy, f"{said}: with --mean {mean} --sd {sd} it is {100 * accuracy:.1f} % on {len(few)} samples"
    if channels == 3:
        accuracy = _accuracy(network, few, first.flip(1))
        yield accuracy, f"the network wants its channels in the other order: turned it is {100 * accuracy:.1f} %"


def _scaled(pixels: torch.Tensor, mean: tuple[float, ...], sd: tuple[float, ...]) -> torch.Tensor:
    return (pixels - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(sd).view(-1, 1, 1)


def _accuracy(network: Network, samples: Samples, pixels: torch.Tensor) -> float:
    """The accuracy with other pixels."""
    changed = replace(samples, inputs=pixels)
    try:
        return score(outputs_of(network, changed), changed.labels, network.task).accuracy
    except ValueError:
        return 0.0


def _orders(labels: torch.Tensor, outputs: torch.Tensor) -> Iterator[tuple[float, str]]:
    """Other numberings of the classes: the accuracy of each, and what it would mean."""
    if labels.dim() != 1 or outputs.dim() != 2:
        return
    answers, classes = outputs.argmax(1), outputs.shape[1]
    for shift in (1, -1):
        right = float((answers == labels + shift).double().mean())
        yield right, f"labels seem to be {-shift:+d} from the network's classes: so {100 * right:.1f} % are right"
    if len(labels) < SAMPLES_A_CLASS * classes:
        return
    table = np.zeros((classes, classes))
    np.add.at(table, (answers.numpy(), labels.numpy()), 1)
    rows, columns = linear_sum_assignment(table, maximize=True)
    right = float(table[rows, columns].sum()) / len(labels)
    said = "classes seem to be in another order than the network's outputs"
    yield right - TIE, f"{said}: in the best order {100 * right:.1f} % are right; number the labels as in training"


def _of_binary(labels: torch.Tensor, found: Score) -> Iterator[str]:
    share = labels.double().flatten(1).mean(0) if labels.dim() > 1 else labels.double().mean()
    chance = float(torch.maximum(share, 1 - share).mean())
    if (
        found.accuracy <= chance + 2 * math.sqrt(chance * (1 - chance) / labels.numel())
        and min(chance, found.accuracy) < 1
    ):
        yield f"{NEAR_CHANCE.format(100 * found.accuracy, 100 * chance)}; {USUAL}"


def _of_regression(labels: torch.Tensor, outputs: torch.Tensor, found: Score) -> Iterator[str]:
    if not found.accuracy < 0.05:
        return
    wanted, given = labels.double().flatten(), outputs.double().flatten()
    related = float(torch.corrcoef(torch.stack([wanted, given]))[0, 1] ** 2) if len(wanted) > 2 else 0.0
    cause = USUAL
    if related > 0.5:
        gain = float(((given - given.mean()) * (wanted - wanted.mean())).sum() / (given - given.mean()).square().sum())
        offset = float(wanted.mean() - gain * given.mean())
        cause = (
            f"labels seem to be in another unit, {gain:.3g} times the outputs {offset:+.3g}; scale them as in training"
        )
    yield f"R² {found.accuracy:.3f}: no better than the mean of the labels; {cause}"
