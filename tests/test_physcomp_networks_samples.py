"""Samples: inputs of any form, checked once."""

from typing import Any

import numpy as np
import pytest
import torch

import physcomp
from physcomp.networks.samples import Samples

ONE = torch.arange(12.0).reshape(4, 3)
LABELS = torch.tensor([0, 1, 2, 0])
FORMS: dict[str, Any] = {"tensor": ONE, "tuple": (ONE, ONE[:, 0]), "dict": {"a": ONE, "b": ONE[:, :1]}}


@pytest.mark.parametrize("form", FORMS)
def test_slices_and_indices_take_the_same_samples_of_every_tensor(form: str) -> None:
    whole = Samples(FORMS[form], LABELS)
    for part, wanted in ((whole[1:3], [1, 2]), (whole[torch.tensor([3, 0])], [3, 0])):
        assert torch.equal(part.labels, LABELS[wanted])
        given = part.inputs.values() if isinstance(part.inputs, dict) else part.inputs
        for tensor, all_of_it in zip(
            [given] if form == "tensor" else given,
            [ONE] if form == "tensor" else list(FORMS[form].values() if form == "dict" else FORMS[form]),
            strict=True,
        ):
            assert torch.equal(tensor, all_of_it[wanted])


def test_numbers_get_the_types_that_networks_take() -> None:
    made = Samples((np.ones((2, 3)), np.ones((2, 1), np.int32)), np.array([1, 0], np.uint8))
    assert [tensor.dtype for tensor in made.inputs] == [torch.float32, torch.int64]
    assert made.labels.dtype == torch.int64
    assert Samples(np.ones((2, 3)), np.array([0.5, 1.0])).labels.dtype == torch.float32


def test_the_old_name_is_the_same_class() -> None:
    assert physcomp.Images is physcomp.Samples
    assert torch.equal(physcomp.Images(ONE, LABELS).pixels, ONE)


REFUSED: dict[str, tuple[Any, Any, str]] = {
    "too few labels": (ONE, LABELS[:3], "got 4 inputs and 3 labels"),
    "none": (ONE[:0], LABELS[:0], "at least one"),
    "inputs that differ": ((ONE, ONE[:2]), LABELS, "got 2 and 4 inputs"),
    "NaN": (torch.where(ONE == 7, torch.nan, ONE), LABELS, "input 2 holds NaN"),
    "infinite": (torch.where(ONE == 7, torch.inf, ONE), LABELS, "input 2 holds NaN or infinite"),
    "a NaN label": (ONE, torch.tensor([0.0, 1.0, torch.nan, 0.0]), "a label is NaN"),
    "complex": (ONE + 1j, LABELS, "inputs are complex"),
    "text": ("images", LABELS, "inputs are tensors or arrays of numbers, got str"),
    "no labels": (ONE, None, "labels are tensors or arrays of numbers, got NoneType"),
    "one number": (torch.tensor(1.0), LABELS, "the first axis of inputs counts samples"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_sample_is_refused_in_one_line(name: str) -> None:
    inputs, labels, why = REFUSED[name]
    with pytest.raises(ValueError, match="samples: ") as caught:
        Samples(inputs, labels)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", [3, "a", slice(4, 9), slice(2, 2)])
def test_a_part_that_takes_none_is_refused(part: Any) -> None:
    with pytest.raises(ValueError, match="samples: "):
        Samples(ONE, LABELS)[part]
