"""Tasks: their curvature is the Hessian of their loss, and what does not fit them is refused by name."""

import math

import pytest
import torch
from torch.autograd.functional import hessian
from torch.nn import functional

import physcomp
from physcomp.networks.evaluation import score
from physcomp.networks.task import CLASSES, Binary, Classes, Multilabel, Own, Regression, Task, task_of

N = 3
GENERATOR = torch.Generator().manual_seed(0)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=GENERATOR)


def classes(*shape: int, of: int = 4) -> torch.Tensor:
    return torch.randint(0, of, shape, generator=GENERATOR)


CASES: dict[str, tuple[Task, torch.Tensor, torch.Tensor]] = {
    "classes": (CLASSES, random(N, 4), classes(N)),
    "classes of each pixel": (CLASSES, random(N, 4, 2, 3), classes(N, 2, 3)),
    "classes of each token": (CLASSES, random(N, 5, 4), classes(N, 5)),
    "classes along a named axis": (Classes(axis=-1), random(N, 4, 4), classes(N, 4)),
    "some labels ignored": (CLASSES, random(N, 5, 4), torch.where(classes(N, 5) == 0, -100, classes(N, 5))),
    "binary": (Binary(), random(N, 1), classes(N, of=2)),
    "multilabel": (Multilabel(), random(N, 5), classes(N, 5, of=2)),
    "regression": (Regression(), random(N, 2), random(N, 2)),
    "regression of one number": (Regression(), random(N, 1), random(N)),
}


def exact(task: Task, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The Hessian of the mean loss, block by block of samples, times their number: (samples, outputs, outputs)."""
    size = outputs[0].numel()
    whole = hessian(lambda given: task.loss(given.reshape(outputs.shape), labels), outputs.flatten())
    blocks = whole.reshape(N, size, N, size)
    return torch.stack([blocks[n, :, n] for n in range(N)]) * N


@pytest.mark.parametrize("name", CASES)
def test_all_columns_give_the_hessian_of_the_loss(name: str) -> None:
    task, outputs, labels = CASES[name]
    size = outputs[0].numel()
    eye = torch.eye(size).expand(N, size, size)
    columns = task.columns(outputs, labels, eye, task.unit(labels)).reshape(N, size, size)
    torch.testing.assert_close(columns @ columns.transpose(1, 2), exact(task, outputs, labels), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_random_columns_give_it_in_the_mean(name: str) -> None:
    task, outputs, labels = CASES[name]
    size, draws = outputs[0].numel(), 40_000
    mixing = task.mixing(N, size, draws, torch.Generator().manual_seed(1))
    columns = task.columns(outputs, labels, mixing, task.unit(labels)).reshape(N, size, draws)
    wanted = exact(task, outputs, labels)
    found = columns @ columns.transpose(1, 2)
    assert float((found - wanted).abs().max()) < 0.03 * float(wanted.abs().max())


def cross_entropy(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(outputs, labels, reduction="none")


def mean_of(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(outputs, labels)


def drawn(outputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return torch.multinomial(outputs.softmax(1), 1, generator=generator)[:, 0]


def test_an_own_task_has_the_curvature_of_drawn_labels_whatever_the_labels() -> None:
    """Of a negative log-likelihood that is its Hessian."""
    own, outputs = Own(cross_entropy, drawn), random(N, 4)
    labels = classes(N)
    mixing = own.mixing(N, 4, 4000, torch.Generator().manual_seed(2))
    columns = own.columns(outputs, labels, mixing, 1.0)
    wanted = exact(CLASSES, outputs, labels)
    assert float((columns @ columns.transpose(1, 2) - wanted).abs().max()) < 0.08 * float(wanted.abs().max())
    assert torch.equal(columns, own.columns(outputs, (labels + 1) % 4, mixing, 1.0))
    assert torch.equal(columns[1:2], own.columns(outputs[1:2], labels[1:2], mixing[1:2], 1.0))


def test_scores_are_means_over_labels_that_count() -> None:
    outputs, labels = random(250, 5, 4), classes(250, 5)
    labels[::3] = -100
    flat, counted = outputs[labels != -100], labels[labels != -100]
    found = score(outputs, labels)
    assert found.loss == pytest.approx(float(functional.cross_entropy(flat, counted)), rel=1e-6)
    assert found.accuracy == pytest.approx(float((flat.argmax(1) == counted).float().mean()))


def test_r_squared_is_one_for_the_labels_and_zero_for_their_mean() -> None:
    labels = random(300, 2)
    assert score(labels, labels, Regression()).accuracy == 1
    mean = labels.mean(0, keepdim=True).expand(300, 2)
    assert score(mean, labels, Regression()).accuracy == pytest.approx(0, abs=1e-6)
    assert score(mean, labels, Regression()).loss == pytest.approx(float(labels.var(0, correction=0).mean()), rel=1e-5)


def test_multilabel_accuracy_is_over_all_outputs() -> None:
    outputs, labels = torch.tensor([[2.0, -1.0], [0.5, 3.0]]), torch.tensor([[1, 1], [0, 1]])
    assert score(outputs, labels, Multilabel()).accuracy == 0.5
    assert math.isnan(score(random(3, 4), classes(3), Own(cross_entropy, drawn)).accuracy)


REFUSED: dict[str, tuple[Task, torch.Tensor, torch.Tensor, str]] = {
    "one logit": (CLASSES, random(N, 1), classes(N, of=1), "wrap it with task='binary' or task='regression'"),
    "pixels without labels": (CLASSES, random(N, 4, 2, 3), classes(N), "one a sample do not fit outputs of shape"),
    "a label too large": (CLASSES, random(N, 4), torch.tensor([0, 4, 1]), "label 4 is none of the network's 4 classes"),
    "a label below 0": (CLASSES, random(N, 4), torch.tensor([0, -1, 1]), "label -1 is none of the network's 4 classes"),
    "numbers for classes": (CLASSES, random(N, 4), random(N), "is task='regression' meant"),
    "too few numbers": (Regression(), random(N, 2), random(N), "1 a sample, but the network has 2 outputs"),
    "tokens as many as classes": (CLASSES, random(N, 4, 4), classes(N, 4), "say which with task=Classes(axis=1)"),
    "a class for yes or no": (Binary(), random(N, 1), torch.tensor([0, 1, 2]), "they are 0 or 1, got 2"),
    "a mean loss": (Own(mean_of, drawn), random(N, 4), classes(N), "one number for each"),
    "labels drawn of another shape": (
        Own(cross_entropy, lambda o, g: drawn(o, g)[:, None]), random(N, 4), classes(N), "draw such ones"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(name: str) -> None:
    task, outputs, labels, why = REFUSED[name]
    with pytest.raises(ValueError, match=r"(labels|network|task): ") as caught:
        task.check(outputs, labels)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", CASES)
def test_what_fits_is_taken(name: str) -> None:
    task, outputs, labels = CASES[name]
    task.check(outputs, labels)


@pytest.mark.parametrize("name", [name for name in CASES if name != "some labels ignored"])
def test_the_divergence_from_a_teacher_is_least_at_its_outputs(name: str) -> None:
    task, outputs, labels = CASES[name]
    aside = outputs + 0.3 * random(*outputs.shape)
    assert float(task.divergence(outputs, outputs, labels, 2.0)) == pytest.approx(0, abs=1e-6)
    assert float(task.divergence(aside, outputs, labels, 2.0)) > 1e-4


def test_a_task_has_a_name_or_is_given() -> None:
    assert task_of("multilabel").name == "multilabel"
    assert task_of(CLASSES) is CLASSES
    with pytest.raises(ValueError, match="task: one of classes, binary, multilabel, regression"):
        task_of("segmentation")
    with pytest.raises(ValueError, match="task: one of"):
        physcomp.wrap(torch.nn.Linear(2, 2), task=3)  # type: ignore[arg-type]
