"""Layers whose errors cannot be valued: their parameters stay digital, counted, and come back from the chip."""

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional
from typer.testing import CliRunner

import physcomp
from physcomp.choice import magnitude
from physcomp.networks.description import build_module, read_description
from physcomp.networks.layers import other_tensors
from physcomp.storage.recalibration import recalibrate
from physcomp.training.finetuning import finetune
from simulations.cli import app

MENU = ("pruned", "digital(4)")
BIASES = {"attention.in_proj_bias", "attention.out_proj.bias"}
LAYERS = ["embed", "attention.in_proj_weight", "attention.out_proj", "hidden", "head"]


class Attentive(nn.Module):
    """Rows of an 8 x 8 image as tokens, one attention over them, three classes: 64 + 192 + 72 weights on cells."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.hidden = nn.Linear(8, 24)
        self.head = nn.Linear(24, 3)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        tokens = self.embed(pixels.flatten(1, 2))
        mixed = self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return self.head(functional.relu(self.hidden(mixed)).mean(1))


class Spared(nn.Module):
    """Three layers, of which the middle one is called or not."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.first = nn.Linear(64, 8)
        self.spared = nn.Linear(8, 8)
        self.last = nn.Linear(8, 3)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        seen = functional.relu(self.first(pixels.flatten(1)))
        if self.how == "frozen":
            with torch.no_grad():
                seen = seen + self.spared(seen)
        elif self.how == "function":
            seen = functional.linear(seen, self.spared.weight, self.spared.bias)
        elif self.how == "bright" and float(pixels.max()) > 1.5:
            seen = seen + self.spared(seen)
        elif self.how == "twice":
            seen = self.spared(functional.relu(self.spared(seen)))
        return self.last(seen)


class Untraced(nn.Module):
    """Hides a network from torch.fx, which would drop modules that are never called."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.inside(pixels) if len(pixels) else pixels


def trained(module: nn.Module, images: physcomp.Images) -> physcomp.Network:
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        functional.cross_entropy(module(images.inputs), images.labels).backward()
        optimizer.step()
    return physcomp.wrap(module)


@pytest.fixture(scope="module")
def images() -> physcomp.Images:
    """Rows, columns and checks, with noise."""
    generator = torch.Generator().manual_seed(5)
    i, j = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    patterns = torch.stack([i % 2, j % 2, (i + j) % 2]).float()
    labels = torch.randint(0, 3, (400,), generator=generator)
    noise = torch.randn(400, 1, 8, 8, generator=generator)
    return physcomp.Images((0.4 + 0.2 * patterns[labels][:, None] + 0.35 * noise).clamp(0, 1), labels)


@pytest.fixture(scope="module")
def network(images: physcomp.Images) -> physcomp.Network:
    torch.manual_seed(0)
    return trained(Attentive(), images)


@pytest.fixture(scope="module")
def model(network: physcomp.Network, images: physcomp.Images) -> physcomp.LossModel:
    return physcomp.build_model(network, images, card="ideal", menu=MENU)


def spared(how: str, images: physcomp.Images, **options: Any) -> tuple[physcomp.Network, physcomp.LossModel]:
    torch.manual_seed(1)
    network = trained(Untraced(Spared(how)), images)
    return network, physcomp.build_model(network, images, card="ideal", menu=MENU, **options)


def rise(network: physcomp.Network, plan: physcomp.Plan, images: physcomp.Images) -> float:
    state = physcomp.store(network, plan).read_back()
    return physcomp.evaluate_state(network, state, images).loss - physcomp.evaluate(network.module, images).loss


def test_the_projections_of_an_attention_go_on_cells_and_their_biases_are_counted(
    model: physcomp.LossModel, network: physcomp.Network
) -> None:
    plan = physcomp.uniform_plan(model, "pruned", shrinkage=0.0)
    assert [layer.name for layer in plan.layers] == LAYERS
    assert {other.name for other in plan.others} == BIASES
    numbers = 3 * 8 + 8
    assert plan.ledger["others"] == numbers * 16 / plan.bits_per_cell
    chip = physcomp.store(network, plan)
    back, whole = chip.read_back(), network.module.state_dict()
    assert len(chip.bits) == (numbers + 8 + 24 + 3) * 16
    assert set(back) == set(whole)
    for name in BIASES:
        assert torch.equal(back[name], whole[name].bfloat16().float())
    assert back["attention.out_proj.weight"].abs().max() == 0


@pytest.mark.parametrize("groups", [8, 12])
def test_pruning_the_groups_of_least_predicted_loss_costs_about_what_is_predicted(
    model: physcomp.LossModel, network: physcomp.Network, images: physcomp.Images, groups: int
) -> None:
    """To an order of magnitude, since couplings between layers are not in the model."""
    choice = np.ones(len(model.loss), np.int64)
    choice[model.loss[:, 0].argsort(kind="stable")[:groups]] = 0
    plan = physcomp.plan_of(model, choice, method="own", shrinkage=1.0)
    assert 0.1 < rise(network, plan, images) / plan.proof.predicted_loss_increase < 10


@pytest.mark.parametrize("budget", [1.3, 1.4])
def test_the_predicted_rise_of_a_network_with_attention_is_of_the_size_measured(
    model: physcomp.LossModel, network: physcomp.Network, images: physcomp.Images, budget: float
) -> None:
    choices = physcomp.choose(model, images, [budget])
    plan = choices.best(budget)
    assert plan.cells_per_weight <= budget
    assert any(plan.menu[code] == "pruned" for layer in plan.layers for code in layer.codes)
    # Rounding in sequence and tuning make good some of what is predicted.
    assert 1 / 3 < rise(network, plan, images) / plan.proof.predicted_loss_increase < 1.5


@pytest.mark.parametrize("how", ["unused", "frozen", "bright"])
def test_a_layer_whose_errors_cannot_be_measured_is_kept(how: str, images: physcomp.Images) -> None:
    """Called by nothing, called where no gradient comes back (which the layer before it feels too), or for no image."""
    network, model = spared(how, images)
    before = [] if how == "frozen" else ["inside.first"]
    assert [layer.name for layer in model.layers] == [*before, "inside.last"]
    plan = physcomp.uniform_plan(model, "pruned", shrinkage=0.0)
    state = physcomp.store(network, plan).read_back()
    wanted = network.module.state_dict()
    kept = {"inside.spared.weight", "inside.spared.bias"}
    assert {other.name for other in plan.others} == kept | {
        name for name in ("inside.first.weight", "inside.first.bias") if not before
    }
    assert torch.equal(state["inside.spared.weight"], wanted["inside.spared.weight"].bfloat16().float())
    read = physcomp.Plan.from_json(plan.to_json())
    assert torch.equal(physcomp.store(network, read).read_back()["inside.spared.bias"], state["inside.spared.bias"])


def test_a_layer_that_one_late_image_calls_or_that_is_called_twice_or_by_a_function_goes_on_cells(
    images: physcomp.Images,
) -> None:
    late = physcomp.Images(images.inputs.clone(), images.labels)
    late.inputs[-1] += 1
    for how, given in (("bright", late), ("twice", images), ("function", images)):
        _, model = spared(how, given)
        assert [layer.name for layer in model.layers] == ["inside.first", "inside.spared", "inside.last"]


@pytest.mark.parametrize("granularity", ["layer", "filter", "kernel"])
def test_every_granularity_keeps_the_same_layers(granularity: Any, images: physcomp.Images) -> None:
    network, model = spared("unused", images, granularity=granularity)
    plan = physcomp.uniform_plan(model, "digital(4)", shrinkage=0.0)
    assert [layer.name for layer in plan.layers] == ["inside.first", "inside.last"]
    assert physcomp.store(network, plan).read_back()["inside.spared.weight"].shape == (8, 8)


def test_the_model_around_a_plan_has_the_same_layers(model: physcomp.LossModel, network: physcomp.Network) -> None:
    plan = physcomp.uniform_plan(model, "digital(4)", shrinkage=0.0)
    closer = model.around(physcomp.store(network, plan).read_back(), 1 / 3)
    assert [layer.name for layer in closer.layers] == [layer.name for layer in model.layers]
    np.testing.assert_allclose(closer.cost, model.cost)


def test_the_magnitude_hamiltonian_of_a_model_is_about_its_layers(model: physcomp.LossModel) -> None:
    optimum = magnitude.hamiltonian(model, beta=0.1, gamma=0.0).optimum()
    wide = physcomp.build_model(model.network, model.images, card="ideal", menu=MENU, compared=magnitude.CODES)
    plan = magnitude.plan_of_compression(wide, optimum)
    assert [layer.name for layer in plan.layers] == LAYERS
    assert {other.name for other in plan.others} == BIASES


def test_training_with_the_cells_learns_what_is_kept_and_stores_it(
    model: physcomp.LossModel, network: physcomp.Network, images: physcomp.Images
) -> None:
    plan = physcomp.uniform_plan(model, "digital(4)", shrinkage=0.0)
    done = finetune(network, plan, images, heldout=images, epochs=2, seed=3)
    state, wanted = physcomp.store(done.network, done.plan).read_back(), done.network.module.state_dict()
    assert {other.name for other in done.plan.others} == BIASES
    for name in BIASES:
        assert torch.equal(state[name], wanted[name])  # bfloat16 numbers after training
        assert not torch.equal(state[name], network.module.state_dict()[name].bfloat16().float())


def test_recalibration_leaves_alone_what_no_convolution_or_linear_map_uses(
    model: physcomp.LossModel, network: physcomp.Network, images: physcomp.Images
) -> None:
    state = physcomp.store(network, physcomp.uniform_plan(model, "digital(4)", shrinkage=0.0)).read_back()
    again = recalibrate(network, state, images, bits_per_cell=2.0)
    for name in (*BIASES, "attention.in_proj_weight", "attention.out_proj.weight"):
        assert torch.equal(again.state[name], state[name])
    assert again.extra_bits == (8 + 24 + 3) * 2 * 16


def test_a_weight_that_two_layers_share_is_stored_once_and_comes_back_for_both(images: physcomp.Images) -> None:

    class Tied(Spared):
        def __init__(self) -> None:
            super().__init__("function")
            self.first = nn.Linear(64, 8)
            self.middle = nn.Linear(8, 8)
            self.spared.weight = self.middle.weight

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            seen = self.middle(functional.relu(self.first(pixels.flatten(1))))
            return self.last(functional.linear(seen, self.spared.weight, self.spared.bias))

    torch.manual_seed(2)
    network = trained(Untraced(Tied()), images)
    model = physcomp.build_model(network, images, card="ideal", menu=("float32",))
    assert [layer.name for layer in model.layers] == ["inside.first", "inside.spared", "inside.last"]
    plan = physcomp.uniform_plan(model, "float32", shrinkage=0.0)
    assert abs(rise(network, plan, images)) < 1e-3


def test_a_network_without_a_weight_that_gradients_reach_is_refused(images: physcomp.Images) -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.only = nn.Linear(64, 3)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return functional.linear(pixels.flatten(1), self.only.weight.detach(), self.only.bias)

    network = physcomp.wrap(Untraced(Functional()))
    before = copy.deepcopy(network.module.state_dict())
    with pytest.raises(ValueError, match="none of the weights of network can be stored on cells"):
        physcomp.build_model(network, images, card="ideal", menu=MENU)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.module.state_dict().items())
    assert set(other_tensors(network.module, ())) == {"inside.only.weight", "inside.only.bias"}


def test_choose_names_what_no_code_stores(tiny_folder: Path, tmp_path: Path) -> None:
    network, plan = tmp_path / "net.toml", tmp_path / "plan.json"
    layers = '["conv 2 3", "relu", "norm", "pool 4", "flatten", "linear 3"]'  # a norm after a relu is not folded
    network.write_text(re.sub(r"layers = .*", f"layers = {layers}", (tiny_folder / "net.toml").read_text()))
    save_file(build_module(read_description(network)).state_dict(), network.with_suffix(".safetensors"))
    words = f"choose {network} --images {tiny_folder / 'images'} --card ideal --budget 6 --out {plan} --quiet"
    done = CliRunner().invoke(app, words.split(), catch_exceptions=False)
    assert done.exit_code == 0
    names = [f"3.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
    assert [other.name for other in physcomp.Plan.load(plan).others] == names
    assert f"kept digital, whatever is chosen: {', '.join(names)}\n" in done.stdout
