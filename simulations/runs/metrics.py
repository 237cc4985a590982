"""Metrics of a network's outputs on images. A new metric is a function, and an entry in `METRICS`."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch

import physcomp
from physcomp.networks.evaluation import outputs_of, outputs_of_state, score
from physcomp.networks.task import CLASSES, Classes, Own, Task

Metric = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, Task], dict[str, float]]
"""Outputs (N, …), labels (N, …), the clean network's outputs (N, …) and the task → numbers by name."""


def loss(outputs: torch.Tensor, labels: torch.Tensor, clean: torch.Tensor, task: Task = CLASSES) -> dict[str, float]:
    """The mean loss of the task: for classes the cross-entropy in nats."""
    return {"loss": score(outputs, labels, task).loss}


def accuracy(
    outputs: torch.Tensor, labels: torch.Tensor, clean: torch.Tensor, task: Task = CLASSES
) -> dict[str, float]:
    """The task's metric: for classes the share of labels whose output is the largest."""
    return {"accuracy": score(outputs, labels, task).accuracy}


def agreement(
    outputs: torch.Tensor, labels: torch.Tensor, clean: torch.Tensor, task: Task = CLASSES
) -> dict[str, float]:
    """Share of images that the network and the clean network put in the same class, correct or not.

    >>> agreement(torch.tensor([[1.0, 2.0], [3.0, 1.0]]), torch.tensor([0, 0]), torch.tensor([[0.0, 1.0], [0.0, 1.0]]))
    {'agreement': 0.5}
    """
    return {"agreement": int((outputs.argmax(1) == clean.argmax(1)).sum()) / len(labels)}


ALWAYS = ("loss", "accuracy")
METRICS: dict[str, Metric] = {"loss": loss, "accuracy": accuracy, "agreement": agreement}


def check_metrics(task: Task, names: Iterable[str] = ()) -> None:
    """Check that a study can measure these metrics beside loss and that of the task.

    Raises:
        ValueError: the task has no metric, or one of these is not for it.
    """
    if isinstance(task, Own) and task.good_of is None:
        raise ValueError("task: a study needs a metric; give the task a function good_of")
    if "agreement" in names and not isinstance(task, Classes):
        raise ValueError(f"metrics: agreement is for tasks of classes, got a task '{task.name}'; remove it")


@dataclass(frozen=True, eq=False)
class Scorer:
    """Measures networks on images: all metrics of one computation of outputs.

    Args:
        images: images with labels.
        clean: outputs of the clean network on them.
        metrics: names in `METRICS`.
        task: what outputs mean.
    """

    images: physcomp.Samples
    clean: torch.Tensor
    metrics: tuple[str, ...] = ALWAYS
    task: Task = CLASSES

    @classmethod
    def of(cls, network: physcomp.Network, images: physcomp.Samples, metrics: tuple[str, ...] = ALWAYS) -> "Scorer":
        """Make a scorer with this network as the clean one."""
        return cls(images, outputs_of(network, images), metrics, network.task)

    def of_outputs(self, outputs: torch.Tensor) -> dict[str, float]:
        """All metrics of outputs (N, classes), by name."""
        found: dict[str, float] = {}
        for name in self.metrics:
            found |= METRICS[name](outputs, self.images.labels, self.clean, self.task)
        return found

    def of_state(self, network: physcomp.Network, state: dict[str, torch.Tensor]) -> dict[str, float]:
        """All metrics of a network with other parameters, such as those read back from a chip."""
        return self.of_outputs(outputs_of_state(network, state, self.images))

    @property
    def clean_score(self) -> physcomp.Score:
        """Loss and accuracy of the clean network."""
        return score(self.clean, self.images.labels, self.task)


def mean_sd(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (n - 1) of some numbers; the latter is 0 for one.

    >>> mean_sd([1.0, 3.0])
    (2.0, 1.4142135623730951)
    """
    mean = sum(values) / len(values)
    freedom = max(1, len(values) - 1)
    return mean, math.sqrt(sum((value - mean) ** 2 for value in values) / freedom)
