"""Tasks: what a network's outputs mean. A task says the loss, its curvature in the outputs, and how good outputs are.

Let G be the Hessian of a sample's loss in its outputs. The loss model needs a factor L with L Lᵀ = G, or at least
random vectors whose mean outer product is G: `Task.columns` gives L times a mixing of its columns. For classes G is
diag(p) - p pᵀ with the softmax probabilities p, for binary outputs diag(p (1 - p)), for regression a multiple of the
identity; none of these depends on the labels. (Martens, "New insights and perspectives on the natural gradient method",
JMLR 21:146, 2020.)

Losses are means over all outputs that have a label: over samples, and over tokens or pixels where each has one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch.nn import functional

Kind = Literal["classes", "binary", "multilabel", "regression"]
IGNORED = -100  # the label that counts for nothing, as in torch


@dataclass(frozen=True)
class Counted:
    """Sums over some samples, from which means are taken.

    Args:
        loss: sum of the losses in nats (for regression: of squared errors), in float64.
        good: sum of what the task's metric counts, such as outputs that are right.
        count: number of outputs that have a label.
    """

    loss: float
    good: float
    count: int


class Task:
    """What outputs mean: the loss, its curvature and the metric. See `task_of` for those there are by name."""

    name: ClassVar[str]
    metric: ClassVar[str] = "accuracy"

    def check(self, outputs: torch.Tensor, labels: torch.Tensor) -> None:
        """Check that outputs and labels fit each other and the task.

        Raises:
            ValueError: they do not.
        """
        raise NotImplementedError

    def counted(self, outputs: torch.Tensor, labels: torch.Tensor) -> Counted:
        """Sums of losses and of what the metric counts, over samples whose outputs fit."""
        raise NotImplementedError

    def loss(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The mean loss, with gradients."""
        raise NotImplementedError

    def quality(self, counted: Counted, labels: torch.Tensor) -> float:
        """The metric, from the sums over all samples and their labels; at most 1."""
        return counted.good / max(counted.count, 1)

    def unit(self, labels: torch.Tensor) -> float:
        """The mean number of labelled outputs of a sample: what a sample's share of the loss is measured in."""
        return 1.0

    def mixing(self, samples: int, outputs: int, probes: int, generator: torch.Generator) -> torch.Tensor:
        """Random numbers that `columns` takes, (samples, outputs, probes): signs over √probes."""
        signs = torch.randint(0, 2, (samples, outputs, probes), generator=generator) * 2.0 - 1
        return signs / math.sqrt(probes)

    def columns(self, outputs: torch.Tensor, labels: torch.Tensor, mixing: torch.Tensor, unit: float) -> torch.Tensor:
        """The factor L of each sample's curvature times a mixing of its columns.

        Args:
            outputs: (samples, ...).
            labels: (samples, ...); only which of them count matters.
            mixing: (samples, outputs of a sample, probes), outputs flattened: as `mixing` gives it, or an identity for
                all columns.
            unit: see `unit`.

        Returns:
            (samples, ..., probes), with the axes of `outputs`.
        """
        raise NotImplementedError

    def divergence(
        self, outputs: torch.Tensor, wanted: torch.Tensor, labels: torch.Tensor, temperature: float
    ) -> torch.Tensor:
        """How far outputs are from those of a teacher, with gradients; 0 where they are equal.

        Of the labels (samples, ...) only matters which of them count.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Classes(Task):
    """One class for each label: cross-entropy of softmax outputs.

    Args:
        axis: the axis of the outputs that counts classes; None: the one that the shape of the labels leaves over;
            refused if that may be the second or the last.
        ignored: labels of this value count for nothing.
    """

    name: ClassVar[str] = "classes"
    axis: int | None = None
    ignored: int = IGNORED

    def _axis(self, outputs: torch.Tensor, labels: torch.Tensor) -> int:
        if self.axis is not None:
            return self.axis % outputs.dim()
        axes = range(1, outputs.dim())
        return next((a for a in axes if outputs.shape[:a] + outputs.shape[a + 1 :] == labels.shape), 1)

    def _split(self, outputs: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (outputs, classes) and labels (outputs,) of those that count."""
        flat = outputs.movedim(self._axis(outputs, labels), -1).flatten(0, -2)
        kept = labels.flatten() != self.ignored
        return (flat, labels.flatten()) if bool(kept.all()) else (flat[kept], labels.flatten()[kept])

    def check(self, outputs: torch.Tensor, labels: torch.Tensor) -> None:
        """Check shapes, and that labels are classes."""
        shape = tuple(outputs.shape[1:])
        if labels.is_floating_point():
            raise ValueError(
                "labels: classes are whole numbers, got floating-point labels; is task='regression' meant?"
            )
        if outputs.dim() < 2 or (outputs.dim() == 2 and outputs.shape[1] == 1):
            raise ValueError(
                f"network: one output a sample, of shape {shape}, is no choice among classes; wrap it with "
                "task='binary' or task='regression'"
            )
        second, last = outputs.shape[:1] + outputs.shape[2:], outputs.shape[:-1]
        if self.axis is None and outputs.dim() > 2 and labels.shape == second == last:
            raise ValueError(
                f"labels: outputs of shape {shape} a sample may have their {shape[0]} classes along the first or the "
                "last axis; say which with task=Classes(axis=1) or task=Classes(axis=-1)"
            )
        axis = self._axis(outputs, labels)
        if not 0 < axis < outputs.dim() or outputs.shape[:axis] + outputs.shape[axis + 1 :] != labels.shape:
            raise ValueError(
                f"labels: {tuple(labels.shape[1:]) or 'one'} a sample do not fit outputs of shape {shape} a sample; "
                "give one label for each softmax over the classes (and Classes(axis=…) if another axis counts them)"
            )
        classes = outputs.shape[axis]
        counted = labels[labels != self.ignored]
        if counted.numel() and not 0 <= int(counted.min()) <= int(counted.max()) < classes:
            wrong = counted[(counted < 0) | (counted >= classes)][0]
            raise ValueError(
                f"labels: label {int(wrong)} is none of the network's {classes} classes (0 to {classes - 1}); use the "
                f"data set it was trained on, or task=Classes(ignored={int(wrong)}) if it counts for nothing"
            )

    def counted(self, outputs: torch.Tensor, labels: torch.Tensor) -> Counted:
        """Sums of cross-entropies in nats, and of labels whose output is the largest."""
        flat, wanted = self._split(outputs, labels)
        losses = functional.cross_entropy(flat, wanted, reduction="none").double()
        return Counted(float(losses.sum()), int((flat.argmax(1) == wanted).sum()), len(wanted))

    def loss(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy in nats; 0 if no label counts."""
        flat, wanted = self._split(outputs, labels)
        return functional.cross_entropy(flat, wanted) if len(wanted) else flat.sum()

    def unit(self, labels: torch.Tensor) -> float:
        """The mean number of labels of a sample that count."""
        return max(int((labels != self.ignored).sum()), 1) / len(labels)

    def columns(self, outputs: torch.Tensor, labels: torch.Tensor, mixing: torch.Tensor, unit: float) -> torch.Tensor:
        """L = diag(√p) - p √pᵀ of each softmax, with the probabilities p."""
        axis = self._axis(outputs, labels)
        probabilities = outputs.softmax(axis).unsqueeze(-1)
        root = probabilities.sqrt() * mixing.reshape(*outputs.shape, -1)
        columns = root - probabilities * root.sum(axis, keepdim=True)
        if outputs.dim() > 2:
            columns = columns * (labels != self.ignored).unsqueeze(axis).unsqueeze(-1) / unit**0.5
        return columns

    def divergence(
        self, outputs: torch.Tensor, wanted: torch.Tensor, labels: torch.Tensor, temperature: float
    ) -> torch.Tensor:
        """Kullback-Leibler divergence from the teacher's softmax at a temperature, times the temperature squared."""
        ours, theirs = (
            functional.log_softmax(self._split(each, labels)[0] / temperature, dim=1) for each in (outputs, wanted)
        )
        if not len(ours):
            return ours.sum()
        return temperature**2 * functional.kl_div(ours, theirs, reduction="batchmean", log_target=True)


@dataclass(frozen=True)
class Binary(Task):
    """One yes or no for each output: cross-entropy of sigmoid outputs; labels 0 or 1 of the outputs' shape."""

    name: ClassVar[str] = "binary"

    def check(self, outputs: torch.Tensor, labels: torch.Tensor) -> None:
        """Check shapes, and that labels are 0 or 1."""
        _check_same_number(outputs, labels, self.name)
        wrong = labels[(labels != 0) & (labels != 1)]
        if wrong.numel():
            raise ValueError(f"labels: of a {self.name} task they are 0 or 1, got {wrong[0].item():g}; correct them")

    def counted(self, outputs: torch.Tensor, labels: torch.Tensor) -> Counted:
        """Sums of cross-entropies in nats, and of labels on whose side the output is."""
        wanted = labels.reshape(outputs.shape).float()
        losses = functional.binary_cross_entropy_with_logits(outputs, wanted, reduction="none").double()
        return Counted(float(losses.sum()), int(((outputs > 0) == (wanted > 0.5)).sum()), outputs.numel())

    def loss(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy in nats."""
        return functional.binary_cross_entropy_with_logits(outputs, labels.reshape(outputs.shape).float())

    def unit(self, labels: torch.Tensor) -> float:
        """The number of outputs of a sample."""
        return labels[0].numel()

    def columns(self, outputs: torch.Tensor, labels: torch.Tensor, mixing: torch.Tensor, unit: float) -> torch.Tensor:
        """L = diag(√(p (1 - p))) with the probabilities p."""
        share = outputs.sigmoid()
        root = (share * (1 - share) / unit).sqrt()
        return root.unsqueeze(-1) * mixing.reshape(*outputs.shape, -1)

    def divergence(
        self, outputs: torch.Tensor, wanted: torch.Tensor, labels: torch.Tensor, temperature: float
    ) -> torch.Tensor:
        """Cross-entropy with the teacher's probabilities less their entropy, times the temperature squared."""
        ours, theirs = outputs / temperature, wanted / temperature
        share = theirs.sigmoid()
        cross = functional.binary_cross_entropy_with_logits(ours, share)
        return temperature**2 * (cross - functional.binary_cross_entropy_with_logits(theirs, share))


class Multilabel(Binary):
    """Several yes or no for each sample; the same as `Binary`."""

    name: ClassVar[str] = "multilabel"


@dataclass(frozen=True)
class Regression(Task):
    """Numbers: mean squared error over all outputs; the metric is R², the share of the labels' variance explained."""

    name: ClassVar[str] = "regression"
    metric: ClassVar[str] = "R²"

    def check(self, outputs: torch.Tensor, labels: torch.Tensor) -> None:
        """Check shapes."""
        _check_same_number(outputs, labels, self.name)

    def counted(self, outputs: torch.Tensor, labels: torch.Tensor) -> Counted:
        """Sum of squared errors."""
        wanted = labels.reshape(outputs.shape)
        return Counted(float((outputs - wanted).double().square().sum()), 0.0, outputs.numel())

    def quality(self, counted: Counted, labels: torch.Tensor) -> float:
        """R² = 1 - squared errors / squared deviations of the labels from their mean, over all samples."""
        flat = labels.double().flatten(1) if labels.dim() > 1 else labels.double().unsqueeze(1)
        spread = float((flat - flat.mean(0)).square().sum())
        return 1 - counted.loss / spread if spread > 0 else float("nan")

    def loss(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean squared error."""
        return functional.mse_loss(outputs, labels.reshape(outputs.shape).float())

    def unit(self, labels: torch.Tensor) -> float:
        """The number of outputs of a sample."""
        return labels[0].numel()

    def columns(self, outputs: torch.Tensor, labels: torch.Tensor, mixing: torch.Tensor, unit: float) -> torch.Tensor:
        """L = √2 times the identity, over the root of the number of outputs."""
        return math.sqrt(2 / unit) * mixing.reshape(*outputs.shape, -1)

    def divergence(
        self, outputs: torch.Tensor, wanted: torch.Tensor, labels: torch.Tensor, temperature: float
    ) -> torch.Tensor:
        """Mean squared difference; the temperature has no meaning here."""
        return functional.mse_loss(outputs, wanted)


@dataclass(frozen=True)
class Own(Task):
    """A task of your own: a loss that is a function of outputs and labels.

    The curvature is the mean outer product of the loss's gradients at labels drawn from what the outputs say, never at
    the labels given (the true Fisher matrix; Kunstner, Hennig and Balles, NeurIPS 2019, arXiv 1905.12558). It equals
    the Hessian where the loss is a negative log-likelihood.

    Args:
        loss_of: outputs (samples, ...) and labels (samples, ...) → the loss of each sample, (samples,), with gradients.
        draw: outputs (samples, ...) and a generator → labels (samples, ...) drawn from what these outputs predict.
        good_of: outputs and labels → for each sample the share that is right, (samples,); None: no metric.
    """

    loss_of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    draw: Callable[[torch.Tensor, torch.Generator], torch.Tensor]
    good_of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None
    name: ClassVar[str] = "own"

    def check(self, outputs: torch.Tensor, labels: torch.Tensor) -> None:
        """Check that the functions give what they should."""
        found = self.loss_of(outputs, labels)
        if tuple(found.shape) != (len(outputs),):
            raise ValueError(
                f"task: the loss of {len(outputs)} samples has shape {tuple(found.shape)}; return one number for each"
            )
        drawn = self.draw(outputs, torch.Generator().manual_seed(0))
        if drawn.shape != labels.shape:
            raise ValueError(
                f"task: drawn labels have shape {tuple(drawn.shape)}, the labels {tuple(labels.shape)}; draw such ones"
            )

    def counted(self, outputs: torch.Tensor, labels: torch.Tensor) -> Counted:
        """Sums of the losses and of what is right (NaN without a metric)."""
        good = float("nan") if self.good_of is None else float(self.good_of(outputs, labels).double().sum())
        return Counted(float(self.loss_of(outputs, labels).double().sum()), good, len(outputs))

    def loss(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The mean of the losses."""
        return self.loss_of(outputs, labels).mean()

    def mixing(self, samples: int, outputs: int, probes: int, generator: torch.Generator) -> torch.Tensor:
        """Seeds of the draws, (samples, 1, probes): whole numbers that float32 holds."""
        return torch.randint(0, 1 << 24, (samples, 1, probes), generator=generator).float()

    def columns(self, outputs: torch.Tensor, labels: torch.Tensor, mixing: torch.Tensor, unit: float) -> torch.Tensor:
        """Gradients of the loss at drawn labels, one draw a probe, over the root of the number of probes."""
        found = []
        for sample, seeds in zip(outputs.detach(), mixing[:, 0].long().tolist(), strict=True):
            of_sample = []
            for seed in seeds:
                drawn = self.draw(sample.unsqueeze(0), torch.Generator().manual_seed(seed))
                with torch.enable_grad():
                    given = sample.unsqueeze(0).clone().requires_grad_()
                    (gradient,) = torch.autograd.grad(self.loss_of(given, drawn).sum(), given)
                of_sample.append(gradient[0] / len(seeds) ** 0.5)
            found.append(torch.stack(of_sample, -1))
        return torch.stack(found)

    def divergence(
        self, outputs: torch.Tensor, wanted: torch.Tensor, labels: torch.Tensor, temperature: float
    ) -> torch.Tensor:
        """Mean squared difference of the outputs."""
        return functional.mse_loss(outputs, wanted)


CLASSES = Classes()
_BY_NAME: dict[str, Task] = {
    "classes": CLASSES, "binary": Binary(), "multilabel": Multilabel(), "regression": Regression()
}  # fmt: skip


def task_of(given: Any) -> Task:
    """The task of a name (`classes`, `binary`, `multilabel`, `regression`), or the task given.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(given, Task):
        return given
    if isinstance(given, str) and given in _BY_NAME:
        return _BY_NAME[given]
    raise ValueError(f"task: one of {', '.join(get_args(Kind))} or a Task such as Own(…), got {given!r}; name one")


def _check_same_number(outputs: torch.Tensor, labels: torch.Tensor, task: str) -> None:
    if outputs[0].numel() != labels[0].numel() or len(outputs) != len(labels):
        raise ValueError(
            f"labels: {labels[0].numel()} a sample, but the network has {outputs[0].numel()} outputs a sample; a "
            f"{task} task needs one for each"
        )
