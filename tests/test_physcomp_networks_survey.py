"""The survey: what goes on cells, what stays digital, and why; a weight that cannot be valued is never on cells."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import physcomp
from physcomp.networks.layers import other_tensors
from physcomp.networks.survey import survey

DETACHED = "its gradients do not say what its errors do"
UNREACHED = "no output on the 12 samples has a gradient in it"


class Net(nn.Module):
    """Three linear layers; `how` says what is strange about the middle one."""

    def __init__(self, how: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.how = how
        self.first, self.middle, self.last = nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.free = nn.Parameter(torch.randn(6, 6))
        self.register_buffer("steps", torch.tensor([3, 1, 2]))
        self.register_buffer("mask", torch.full((2, 2), -torch.inf))
        if how == "tied":
            self.last = nn.Linear(6, 6)
            self.last.weight = self.middle.weight

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        seen = self.first(inputs).tanh()
        if len(inputs) < 0:  # hides the network from tracing
            return seen
        match self.how:
            case "detached":
                seen = seen + self.middle(seen).detach()
            case "rounded":
                seen = seen + functional.linear(seen, self.middle.weight.round(), self.middle.bias)
            case "straight through":
                weight = self.middle.weight
                seen = seen + functional.linear(seen, weight + (weight.round() - weight).detach())
            case "dead":
                seen = self.middle(seen - 100).relu() + seen
            case "function":
                seen = functional.linear(seen, self.free, self.middle.bias)
            case "product":
                seen = torch.einsum("nf,fg->ng", seen, self.free)
            case "twice" | "tied":
                seen = self.middle(self.middle(seen).tanh())
        return self.last(seen)[:, :3]


SAMPLES = physcomp.Samples(
    torch.randn(12, 5, generator=torch.Generator().manual_seed(1)), torch.arange(12) % 3
)  # fmt: skip


def found(how: str) -> tuple[dict[str, str], dict[str, str]]:
    """The adapters of layers on cells, and the reasons of digital tensors."""
    network = physcomp.wrap(Net(how), how, samples=SAMPLES)
    seen = survey(network, SAMPLES)
    return {layer.name: layer.adapter for layer in seen.layers}, dict(seen.digital)


def test_layers_that_gradients_value_go_on_cells_whoever_uses_them() -> None:
    assert found("twice")[0] == {"first": "calls", "middle": "calls", "last": "calls"}
    assert found("function")[0] == {"free": "calls", "first": "calls", "last": "calls"}
    assert found("product")[0] == {"free": "mapped", "first": "calls", "last": "calls"}


def test_where_no_gradient_flows_nothing_before_is_valued() -> None:
    on_cells, digital = found("detached")
    assert on_cells == {"last": "calls"}
    assert digital["middle.weight"] == UNREACHED
    assert digital["first.weight"].startswith(DETACHED)


@pytest.mark.parametrize("how", ["rounded", "straight through"])
def test_weights_that_the_network_rounds_are_not_valued_by_their_gradients(how: str) -> None:
    """They are zero where nothing goes straight through, and otherwise not what differences say."""
    on_cells, digital = found(how)
    assert on_cells == {"first": "calls", "last": "calls"}
    assert digital["middle.weight"].startswith(DETACHED)


def test_a_layer_whose_outputs_are_cut_off_on_all_samples_is_worth_nothing_and_on_cells() -> None:
    """Its weights really have no effect, which its zero gradient says."""
    assert set(found("dead")[0]) == {"first", "middle", "last"}


def test_what_no_sample_reaches_stays_digital_with_its_reason() -> None:
    on_cells, digital = found("twice")
    assert "free" not in on_cells
    assert digital["free"] == UNREACHED
    assert digital["steps"] == "whole numbers, stored exactly"
    assert digital["mask"] == "a buffer"


def test_a_tied_weight_is_one_layer_counted_once() -> None:
    module = Net("tied")
    network = physcomp.wrap(module, "tied", samples=SAMPLES)
    seen = survey(network, SAMPLES)
    assert [layer.name for layer in seen.layers] == ["first", "middle"]
    assert network.parameters == sum(parameter.numel() for parameter in module.parameters())
    assert ("last.weight", "the same tensor as middle.weight") in seen.left_out
    names = {*(name for layer in seen.layers for name in layer.names), *dict(seen.digital), *dict(seen.left_out)}
    assert names >= set(module.state_dict())
    kept = other_tensors(network.module, seen.layers)
    assert not {"last.weight", "middle.weight", "first.weight"} & set(kept)


def test_every_tensor_comes_back_and_whole_numbers_exactly() -> None:
    network = physcomp.wrap(Net("function"), samples=SAMPLES)
    model = physcomp.build_model(network, SAMPLES, card="ideal", menu=("digital(8)",))
    plan = physcomp.uniform_plan(model, "digital(8)", shrinkage=0.0)
    chip = physcomp.store(network, physcomp.Plan.from_json(plan.to_json()))
    state = chip.read_back()
    assert set(state) == set(network.module.state_dict())
    assert torch.equal(state["steps"], torch.tensor([3, 1, 2]))
    assert torch.equal(state["mask"], torch.full((2, 2), -torch.inf))
    assert len(chip.bits) + plan.ledger["plan"] * plan.bits_per_cell == pytest.approx(plan.cells * plan.bits_per_cell)
    assert plan.cells_per_weight == plan.cells / sum(p.numel() for p in network.module.parameters())


def test_the_callers_module_and_inputs_stay_as_they_are() -> None:
    class InPlace(nn.Sequential):
        pass

    module = InPlace(nn.ReLU(inplace=True), nn.Linear(5, 3)).train()
    before, inputs = copy.deepcopy(module.state_dict()), SAMPLES.inputs
    assert isinstance(inputs, torch.Tensor)
    kept = inputs.clone()
    network = physcomp.wrap(module, samples=SAMPLES)
    physcomp.build_model(network, SAMPLES, card="ideal", menu=("pruned", "digital(2)"))
    physcomp.evaluate(network, SAMPLES)
    assert torch.equal(inputs, kept)
    assert module.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


class Batched(nn.Module):
    """Linear and batch norm on (N, C, L) with C = L, where a fold by the usual formula changes the outputs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.linear, self.norm, self.last = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(16, 3)
        self.norm.running_mean.uniform_(-1, 1)
        self.norm.running_var.uniform_(0.2, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.last(self.norm(self.linear(inputs)).flatten(1))


@pytest.mark.parametrize("given", [True, False])
def test_a_norm_that_a_fold_would_change_is_kept_and_counted(given: bool) -> None:
    module = Batched().eval()
    samples = physcomp.Samples(torch.randn(8, 4, 4), torch.arange(8) % 3)
    network = physcomp.wrap(module, samples=samples if given else None)
    torch.testing.assert_close(network.module(samples.inputs), module(samples.inputs))
    digital = dict(survey(network, samples).digital)
    assert digital["norm.running_mean"] == "of a norm that could not be folded"


REFUSED: dict[str, tuple[Any, str]] = {
    "random": (lambda x: x + torch.rand_like(x), "gives other outputs when called again"),
    "whole numbers": (lambda x: x.argmax(1), "its output is torch.int64 numbers"),
    "one output for all": (lambda x: x.mean(0), "its first axis must count them"),
    "names that are unknown": (lambda x: {"a": x, "b": x}, "its outputs are a, b; name one with output="),
    "nothing": (lambda x: None, "its output is NoneType"),
}


class Ends(nn.Module):
    def __init__(self, end: Any) -> None:
        super().__init__()
        self.linear, self.end = nn.Linear(5, 3), end

    def forward(self, inputs: torch.Tensor) -> Any:
        return self.end(self.linear(inputs))


@pytest.mark.parametrize("name", REFUSED)
def test_a_network_that_no_outputs_can_be_taken_from_is_refused_in_one_line(name: str) -> None:
    end, why = REFUSED[name]
    with pytest.raises(ValueError, match="network: ") as caught:
        physcomp.wrap(Ends(end), samples=SAMPLES)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_bias_that_only_rounding_errors_feel_is_not_set_anew() -> None:
    """A softmax cancels the bias of keys: what its gradient is made of is noise, and so would be its change."""

    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.query, self.key, self.value, self.last = (nn.Linear(5, n) for n in (8, 8, 8, 3))
            self.last = nn.Linear(8, 3)

        def forward(self, words: torch.Tensor) -> torch.Tensor:
            weights = (self.query(words) @ self.key(words).mT).softmax(-1)
            return self.last((weights @ self.value(words)).mean(1))

    samples = physcomp.Samples(torch.randn(30, 6, 5), torch.arange(30) % 3)
    network = physcomp.wrap(Attending(), samples=samples)
    model = physcomp.build_model(network, samples, card="ideal", menu=("pruned", "digital(2)", "digital(8)"))
    shifts = {layer.name: coupling.shift for layer, coupling in zip(model.layers, model.couplings, strict=True)}
    assert not shifts["key"].any()
    assert all(shifts[name].any() and abs(shifts[name]).max() < 5 for name in ("query", "value", "last"))


@pytest.mark.parametrize("kind", ["linear", "convolution"])
def test_a_norm_without_scale_is_folded(kind: str) -> None:
    torch.manual_seed(0)
    layer, norm = (
        (nn.Linear(5, 4), nn.BatchNorm1d(4, affine=False))
        if kind == "linear"
        else (nn.Conv1d(1, 4, 5), nn.BatchNorm1d(4, affine=False))
    )
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.2, 3)
    front = [] if kind == "linear" else [nn.Unflatten(1, (1, 5))]
    module = nn.Sequential(*front, layer, norm, nn.Flatten(), nn.Linear(4, 3)).eval()
    network = physcomp.wrap(module, samples=SAMPLES)
    torch.testing.assert_close(network.module(SAMPLES.inputs), module(SAMPLES.inputs))
    assert not other_tensors(network.module, survey(network, SAMPLES).layers)


def test_a_sparse_buffer_is_refused_by_name_unless_it_is_not_saved() -> None:
    class Graph(nn.Module):
        def __init__(self, persistent: bool) -> None:
            super().__init__()
            self.linear = nn.Linear(5, 3)
            self.register_buffer("edges", torch.eye(5).to_sparse(), persistent=persistent)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.linear(torch.sparse.mm(self.edges, inputs.T).T)

    with pytest.raises(ValueError, match="'edges' is a sparse tensor"):
        physcomp.wrap(Graph(True), samples=SAMPLES)
    network = physcomp.wrap(Graph(False), samples=SAMPLES)
    assert [layer.name for layer in survey(network, SAMPLES).layers] == ["linear"]


def test_samples_that_do_not_fit_are_refused_before_any_work() -> None:
    with pytest.raises(ValueError, match="cannot take inputs of shape"):
        physcomp.wrap(Net("twice"), samples=physcomp.Samples(torch.rand(4, 7), torch.zeros(4, dtype=torch.int64)))
    network = physcomp.wrap(Net("twice"), samples=SAMPLES)
    wrong = physcomp.Samples(SAMPLES.inputs, torch.arange(12) % 4)
    with pytest.raises(ValueError, match="label 3 is none of the network's 3 classes"):
        physcomp.build_model(network, wrong, card="ideal")


class Cosine(nn.Module):
    """Divides its weights by their size: by gradients they may shrink to nothing."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner, self.classes = nn.Linear(5, 8), nn.Parameter(torch.randn(3, 8))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        seen = functional.normalize(self.inner(inputs))
        return 10 * functional.linear(seen, functional.normalize(self.classes, dim=1))


def test_weights_that_the_network_divides_by_their_size_are_not_taken_away_for_nothing() -> None:
    samples = physcomp.Samples(torch.randn(80, 5, generator=torch.Generator().manual_seed(3)), torch.arange(80) % 3)
    network = physcomp.wrap(Cosine(), samples=samples)
    samples = physcomp.Samples(samples.inputs, network.outputs(samples.inputs).argmax(1))
    model = physcomp.build_model(network, samples, card="ideal", menu=("pruned", "digital(4)"))
    (number,) = [number for number, layer in enumerate(model.layers) if layer.name == "classes"]
    assert [layer.scale_free for layer in model.layers] == [layer.name == "classes" for layer in model.layers]
    start = model.starts[number]
    choice = np.ones(len(model.loss), np.int64)
    choice[start : start + 3] = 0
    plan = physcomp.plan_of(model, choice, method="own", shrinkage=0.0)
    state = physcomp.store(network, plan).read_back()
    rise = physcomp.evaluate_state(network, state, samples).loss - physcomp.evaluate(network, samples).loss
    assert rise > 0.5
    assert 0.3 < plan.proof.predicted_loss_increase / rise < 5


def test_a_gate_whose_errors_switch_outputs_over_stays_digital() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(1)
            self.gate, self.experts = nn.Linear(5, 4), nn.ModuleList(nn.Linear(5, 3) for _ in range(4))

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            picked = functional.one_hot(self.gate(inputs).argmax(1), 4).float()
            picked = picked + 1e-4 * self.gate(inputs).softmax(1)  # so that a gradient reaches the gate
            outputs = torch.stack([3 * expert(inputs) for expert in self.experts], 1)
            return (picked.unsqueeze(2) * outputs).sum(1)

    network = physcomp.wrap(Gated(), samples=SAMPLES)
    seen = survey(network, SAMPLES)
    assert [layer.name for layer in seen.layers] == [f"experts.{number}" for number in range(4)]
    assert dict(seen.digital)["gate.weight"] == "errors of usual size change outputs far more than its gradients say"


def test_a_pruned_filter_without_bias_does_not_keep_its_layer_off_the_cells() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        module[0].weight[3] = 0  # before the ReLU there is exactly 0, where it bends
        module[0].bias[3] = 0
    samples = physcomp.Samples(torch.randn(40, 6), torch.arange(40) % 3)
    inspected = physcomp.inspect(physcomp.wrap(module, samples=samples), samples, card="ideal", costs=False)
    assert {row.name: row.fate for row in inspected.rows if row.name.endswith("weight")} == {
        "0.weight": "cells",
        "2.weight": "cells",
    }
