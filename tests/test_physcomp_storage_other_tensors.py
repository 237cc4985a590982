"""Tensors outside all groups: floats as bfloat16, whole numbers and truths exactly, in as few bits as they need."""

import pytest
import torch
from torch import nn

import physcomp
from physcomp.networks.layers import layers_of
from physcomp.storage.other_tensors import Other, bits_of_others, decoded, encoded, others_of

TENSORS = {
    "floats": (torch.randn(3, 2).bfloat16().float(), 16),
    "an infinite mask": (torch.tensor([[0.0, -torch.inf], [0.0, 0.0]]), 16),
    "complex": (torch.complex(torch.tensor([1.0, -2.0]), torch.tensor([0.5, 3.0])), 32),
    "indices": (torch.tensor([5, 7, 12, 5]), 3),
    "below zero": (torch.tensor([-3, 4, 0], dtype=torch.int32), 3),
    "truths": (torch.tensor([True, False, True]), 1),
    "all the same": (torch.full((4,), 9), 0),
    "unsigned": (torch.tensor([3, 9], dtype=torch.uint64), 3),
    "bytes": (torch.tensor([0, 255], dtype=torch.uint8), 8),
    "none": (torch.zeros(0, 3, dtype=torch.int64), 0),
}


class Holds(nn.Module):
    def __init__(self, tensor: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("held", tensor)
        self.linear = nn.Linear(2, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.linear(inputs) if len(inputs) else inputs


@pytest.mark.parametrize("name", TENSORS)
def test_a_tensor_comes_back_from_the_bits_that_are_counted(name: str) -> None:
    tensor, bits = TENSORS[name]
    network = physcomp.wrap(Holds(tensor))
    ((other, held),) = others_of(network, layers_of(network.module)).items()
    stored = encoded(other, held)
    assert other.bits == bits
    assert len(stored) == bits_of_others([other]) == bits * tensor.numel()
    back = decoded(other, stored)
    assert torch.equal(back, tensor)
    assert back.dtype == tensor.dtype


def test_a_plan_with_such_tensors_is_read_as_it_was_written(tiny: physcomp.Network) -> None:
    network = physcomp.wrap(Holds(torch.tensor([5, 7, 12, 5])))
    samples = physcomp.Samples(torch.rand(6, 2), torch.arange(6) % 2)
    model = physcomp.build_model(network, samples, card="ideal", menu=("digital(4)",))
    plan = physcomp.uniform_plan(model, "digital(4)", shrinkage=0.0)
    assert plan.others == (Other("held", (4,), "int64", 3, 5),)
    assert plan.ledger["others"] * plan.bits_per_cell == pytest.approx(12)
    assert physcomp.Plan.from_json(plan.to_json()) == plan


def test_offsets_that_bfloat16_would_spoil_are_stored_as_they_are() -> None:
    """Standardisation by a mean a thousand times the spread: rounding the mean moves inputs by more than a spread."""

    class Standardised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.register_buffer("mean", torch.tensor([1013.25, 300.15]))
            self.register_buffer("sd", torch.tensor([1.5, 0.3]))
            self.hidden, self.last = nn.Linear(2, 8), nn.Linear(8, 3)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.last(self.hidden((inputs - self.mean) / self.sd).relu())

    module = Standardised()
    inputs = torch.randn(40, 2) * module.sd + module.mean
    samples = physcomp.Samples(inputs, torch.arange(40) % 3)
    network = physcomp.wrap(module, samples=samples)
    model = physcomp.build_model(network, samples, card="ideal", menu=("digital(8)",))
    plan = physcomp.Plan.from_json(physcomp.uniform_plan(model, "digital(8)", shrinkage=0.0).to_json())
    assert {other.name: other.kind for other in plan.others} == {"mean": "float32", "sd": "float32"}
    assert plan.ledger["others"] * plan.bits_per_cell == pytest.approx(4 * 32)
    state = physcomp.store(network, plan).read_back()
    assert torch.equal(state["mean"], module.mean)
    clean, back = physcomp.evaluate(network, samples), physcomp.evaluate_state(network, state, samples)
    assert back.loss == pytest.approx(clean.loss, rel=0.01)


def test_a_number_too_large_for_bfloat16_is_refused_by_name() -> None:
    network = physcomp.wrap(Holds(torch.tensor([3.4e38, 1.0])))
    with pytest.raises(ValueError, match=r"'held' holds 3\.4e\+38, too large for bfloat16"):
        others_of(network, layers_of(network.module))
