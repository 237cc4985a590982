"""The zoo itself: its networks are the same each time, small, and give what their labels need."""

from collections.abc import Iterator

import pytest
import torch
import zoo
from torch import nn
from zoo_case import Case, Inputs

# What torch says of layers that are in the zoo on purpose.
pytestmark = [pytest.mark.filterwarnings(f"ignore:{text}") for text in zoo.WARNINGS]
CASES = pytest.mark.parametrize("case", zoo.CASES.values(), ids=list(zoo.CASES))
LARGEST = 3_200  # parameters
RANDOM = {"noisy", "dropout-always"}
OF_THE_BATCH = {"batch-statistics", "batch-centred"}


def tensors(inputs: Inputs) -> tuple[torch.Tensor, ...]:
    if isinstance(inputs, torch.Tensor):
        return (inputs,)
    return tuple(inputs.values()) if isinstance(inputs, dict) else inputs


@torch.no_grad()
def outputs(case: Case, module: nn.Module, inputs: Inputs) -> torch.Tensor:
    given = module(**inputs) if isinstance(inputs, dict) else module(*tensors(inputs))
    if isinstance(given, torch.Tensor):
        return given
    return given[case.task["output"]] if isinstance(given, dict) else getattr(given, case.task["output"])


def shapes(case: Case, labels: torch.Tensor, given: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """The shapes that outputs may have: that of the labels, or, for classes, with an axis more, the second or last."""
    shape = tuple(labels.shape)
    if case.task["task"] == "classes":
        yield (shape[0], given[1], *shape[1:])
        yield (*shape, given[-1])
    elif case.name != "binary-without-axis":
        yield shape
    else:
        yield (shape[0],)


@CASES
def test_a_network_gives_what_its_labels_need_and_the_same_each_time(case: Case) -> None:
    module, again = case.build(), case.build()
    assert module.training
    for (name, one), other in zip(module.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    labels = case.labels(3)
    given = outputs(case, module.eval(), case.inputs(3))
    assert bool(torch.isfinite(given).all())
    assert tuple(given.shape) in set(shapes(case, labels, tuple(given.shape)))
    same = torch.equal(given, outputs(case, again.eval(), case.inputs(3)))
    assert same == (case.name not in RANDOM)


@CASES
def test_a_network_is_small_and_its_outputs_differ_between_samples(case: Case) -> None:
    module = case.build().eval()
    assert 0 < sum(parameter.numel() for parameter in module.parameters()) <= LARGEST
    given = outputs(case, module, case.inputs(24))
    spread = float((given - given.mean(0)).abs().max())
    assert (spread > 0.02) == (case.name != "dead-layer")


@CASES
def test_a_sample_is_not_changed_by_the_others(case: Case) -> None:
    module = case.build().eval()
    inputs = case.inputs(24)
    first = tuple(part[:3].clone() for part in tensors(inputs))
    few = dict(zip(inputs, first, strict=True)) if isinstance(inputs, dict) else first
    same = torch.allclose(outputs(case, module, few), outputs(case, module, inputs)[:3], rtol=1e-2, atol=1e-3)
    assert same == (case.name not in RANDOM | OF_THE_BATCH)


@CASES
def test_labels_fit_the_task(case: Case) -> None:
    labels, few = case.labels(24), case.labels(3)
    assert len(labels) == 24
    assert len(few) == 3
    assert labels.dtype in (torch.int64, torch.float32)
    assert all(len(part) == 24 for part in tensors(case.inputs(24)))
    given = outputs(case, case.build().eval(), case.inputs(3))
    if case.task["task"] == "classes":
        counted = labels[labels != -100]
        axis = 1 if given.shape[2:] == few.shape[1:] else given.ndim - 1
        assert int(counted.min()) >= 0
        assert int(counted.max()) < given.shape[axis]


@CASES
def test_parameters_are_without_use_where_the_case_says_so(case: Case) -> None:
    module = case.build().eval()
    inputs = case.inputs(6)
    named = dict(module.named_parameters())
    given = module(**inputs) if isinstance(inputs, dict) else module(*(part.clone() for part in tensors(inputs)))
    if not isinstance(given, torch.Tensor):
        given = given[case.task["output"]] if isinstance(given, dict) else given.logits
    found = torch.autograd.grad(given.square().sum(), list(named.values()), allow_unused=True)
    reached = {name for name, gradient in zip(named, found, strict=True) if gradient is not None}
    if case.name == "softmax-inside":
        assert reached == set(named)  # reached, but to no effect
    else:
        missed = {"gate.weight", "gate.bias", "frozen.0.weight", "frozen.0.bias"} - set(case.unused)
        assert set(named) - reached - missed == set(case.unused)
