"""Types, layout and labels; and parts that share samples."""

from typing import Any

import numpy as np
import pytest
import torch

from physcomp.networks.datasets.checks import check_disjoint
from physcomp.networks.datasets.parts import in_memory
from physcomp.networks.datasets.tidy import input_tensors, label_tensor
from physcomp.networks.samples import Samples

TYPES = [
    ((4, 9, 8), np.uint8, (4, 1, 9, 8), torch.float32), ((4, 9, 8, 3), np.uint8, (4, 3, 9, 8), torch.float32),
    ((4, 3, 9, 8), np.uint8, (4, 3, 9, 8), torch.float32), ((4, 784), np.uint8, (4, 784), torch.float32),
    ((4, 9, 8, 1), np.float64, (4, 1, 9, 8), torch.float32), ((4, 9, 8, 4), np.float16, (4, 4, 9, 8), torch.float32),
    ((4, 9, 8), np.float32, (4, 9, 8), torch.float32), ((4, 16, 4, 4), np.float32, (4, 16, 4, 4), torch.float32),
    ((4, 3, 9, 3), np.float32, (4, 3, 9, 3), torch.float32), ((4, 9), np.int32, (4, 9), torch.int64),
    ((4, 9), np.uint16, (4, 9), torch.int64), ((4, 9), bool, (4, 9), torch.bool),
    ((4, 9, 8), bool, (4, 9, 8), torch.float32), ((4,), np.longdouble, (4,), torch.float32),
    ((4, 5), ">f4", (4, 5), torch.float32), ((4, 5), ">i2", (4, 5), torch.int64),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "dtype", "expected", "kind"), TYPES)
def test_types_and_layouts(shape: tuple[int, ...], dtype: Any, expected: tuple[int, ...], kind: torch.dtype) -> None:
    array = np.ones(shape, dtype)
    tensor = input_tensors(in_memory("all", "a", array, np.zeros(4)), array)
    assert isinstance(tensor, torch.Tensor)
    assert (tensor.shape, tensor.dtype) == (expected, kind)
    assert bool((tensor == (1 / np.float32(255) if array.dtype == np.uint8 else 1)).all())


def test_inputs_named_as_images_need_no_channel_axis_and_those_of_code_stay() -> None:
    array = np.ones((4, 9, 8))
    labels = np.zeros(4)
    assert input_tensors(in_memory("all", "a", array, labels, images=True), array).shape == (4, 1, 9, 8)  # type: ignore[union-attr]
    last = np.ones((4, 9, 8, 3))
    assert input_tensors(in_memory("all", "a", last, labels, images=True, ready=True), last).shape == (4, 9, 8, 3)  # type: ignore[union-attr]


def test_the_arrays_given_are_left_as_they_are() -> None:
    given = torch.full((4, 3, 8, 8), 255, dtype=torch.uint8), torch.full((4, 2), 2.0)
    kept = [tensor.clone() for tensor in given]
    found = input_tensors(in_memory("all", "a", given, torch.zeros(4)), given)
    assert isinstance(found, tuple)
    assert bool((found[0] == 1).all())
    assert all(torch.equal(a, b) for a, b in zip(given, kept, strict=True))


ONE_HOT = np.eye(5)[np.arange(30) % 5]


@pytest.mark.parametrize(
    ("labels", "expected", "kind"),
    [
        (np.arange(4, dtype=np.uint8), [0, 1, 2, 3], torch.int64),
        (np.arange(4, dtype=np.int16)[:, None], [0, 1, 2, 3], torch.int64),
        (np.array([True, False]), [1, 0], torch.int64),
        (np.array([0.5, 2.0]), [0.5, 2.0], torch.float32),
        (np.array([[0.5], [2.0]]), [[0.5], [2.0]], torch.float32),
        (np.array([[0, -100], [3, 1]]), [[0, -100], [3, 1]], torch.int64),
        (ONE_HOT, [i % 5 for i in range(30)], torch.int64),
        (ONE_HOT.astype(np.uint8), [i % 5 for i in range(30)], torch.int64),
        (ONE_HOT[:5], np.eye(5).tolist(), torch.float32),
        (ONE_HOT[:, :2].astype(np.int64), np.eye(5)[np.arange(30) % 5, :2].tolist(), torch.int64),
    ],
)
def test_labels(labels: np.ndarray, expected: list[Any], kind: torch.dtype) -> None:
    tensor = label_tensor("a", labels)
    assert (tensor.tolist(), tensor.dtype) == (expected, kind)


@pytest.mark.parametrize("value", [-1, -100])
def test_a_negative_class_is_refused_by_its_sample(value: int) -> None:
    with pytest.raises(ValueError, match=rf"from 0, got {value} for sample 2 \(1 such\)"):
        label_tensor("a", np.array([0, 1, value]))


def samples(first: int, past: int) -> Samples:
    return Samples(torch.arange(float(first), past)[:, None], torch.zeros(past - first, dtype=torch.int64))


def test_a_copy_stays_where_results_are_reported() -> None:
    parts = check_disjoint({"train": samples(0, 300), "val": samples(299, 500), "t10k": samples(499, 600)})
    assert {name: len(part) for name, part in parts.items()} == {"train": 299, "val": 200, "t10k": 101}
    left = [float(value) for part in parts.values() for value in part.inputs.flatten()]
    assert sorted(left) == list(range(600))


def test_parts_that_overlap_are_refused_with_their_counts() -> None:
    with pytest.raises(ValueError, match=r"calibration and test share 3 samples \(of 200 and 200\)"):
        check_disjoint({"test": samples(0, 200), "calibration": samples(197, 397)})
    with pytest.raises(ValueError, match="train: all 1 samples"):
        check_disjoint({"test": samples(0, 3), "train": samples(0, 1)})


def test_samples_of_several_inputs_are_copies_only_where_all_are_equal() -> None:
    a, b = torch.arange(4), torch.zeros(4, 2)
    one = Samples({"a": a, "b": b}, torch.zeros(4))
    other = Samples({"a": a, "b": b + torch.tensor([[0.0], [1], [1], [1]])}, torch.zeros(4))
    assert len(check_disjoint({"test": one, "train": other})["train"]) == 3
