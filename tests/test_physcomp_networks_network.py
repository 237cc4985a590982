"""Networks: descriptions, weights from files, folded norms, fingerprints and scores."""

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

import physcomp
from physcomp.networks.description import Normalise, build_module, read_description
from physcomp.networks.network import fingerprint, prepare

TEXT = """name = "n"
input = [1, 8, 8]
mean = 0.5
sd = 0.25
classes = ["a", "b"]
layers = ["conv 2 3", "norm", "relu", "pool 2", "flatten", "linear 2"]
recipe = {epochs = 1}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "n.toml"


def with_statistics(module: nn.Module, *inputs: torch.Tensor) -> nn.Module:
    """The module after a few batches in training mode, with uneven scales, so that its norms do something."""
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 2.0)
            nn.init.uniform_(part.bias, -1.0, 1.0)
    with torch.no_grad():
        for pixels in inputs:
            module.train()(pixels)
    return module


def norms(module: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d) for part in module.modules())


def test_a_description_becomes_the_layers_it_lists(path: Path) -> None:
    path.write_text(TEXT)
    described = read_description(path)
    assert (described.name, described.input_shape, described.classes) == ("n", (1, 8, 8), ("a", "b"))
    module = build_module(described)
    kinds = [Normalise, nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d, nn.Flatten, nn.Linear]
    assert [type(part) for part in module] == kinds
    assert module[1].weight.shape == (2, 1, 3, 3)
    assert module[-1].weight.shape == (2, 2 * 4 * 4)
    assert module(torch.rand(3, 1, 8, 8)).shape == (3, 2)


def test_pixels_are_normalised_by_mean_and_sd_of_the_description() -> None:
    pixels = torch.tensor([0.0, 0.5, 1.0])
    assert Normalise(0.5, 0.25)(pixels).tolist() == [-2.0, 0.0, 2.0]


@pytest.mark.parametrize("name", ["name", "input", "mean", "sd", "classes", "layers", "recipe"])
def test_a_description_that_lacks_a_field_is_told_which(path: Path, name: str) -> None:
    path.write_text("".join(line + "\n" for line in TEXT.splitlines() if not line.startswith(name)))
    with pytest.raises(ValueError, match=f"the field '{name}' is missing") as caught:
        read_description(path)
    assert str(path) in str(caught.value)


def test_a_description_that_is_missing_or_not_toml_is_named(path: Path) -> None:
    with pytest.raises(ValueError, match="no such description"):
        read_description(path)
    path.write_text("name =")
    with pytest.raises(ValueError, match="not valid TOML"):
        read_description(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[1, 8, 8]", "8"),
        ("[1, 8, 8]", "[8, 8]"),
        ("[1, 8, 8]", '["a", 8, 8]'),
        ("mean = 0.5", 'mean = "dark"'),
        ("sd = 0.25", "sd = 0"),
        ('["a", "b"]', "2"),
        ('"relu"', "3"),
        ("{epochs = 1}", "1"),
        ('"pool 2"', '"pool two"'),
        ('"pool 2"', '"pool"'),
        ('"pool 2"', '"pool 0"'),
        ('"conv 2 3"', '"conv 0 3"'),
        ('"conv 2 3"', '"conv 2 -3"'),
        ('"relu"', '"gelu"'),
        ('"relu"', '""'),
    ],
)
def test_each_wrong_value_of_a_description_is_refused_in_one_line_that_names_it(path: Path, old: str, new: str) -> None:
    assert TEXT.count(old) == 1
    path.write_text(TEXT.replace(old, new))
    with pytest.raises(ValueError, match=r".") as caught:
        build_module(read_description(path))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith((f"{path}: ", "n: ")), message


def test_weights_come_from_the_file_beside_the_description(path: Path) -> None:
    path.write_text(TEXT)
    torch.manual_seed(1)
    module = build_module(read_description(path)).eval()
    save_file(module.state_dict(), path.with_suffix(".safetensors"))
    network = physcomp.load_network(path)
    assert network.name == "n"
    pixels = torch.rand(4, 1, 8, 8)
    torch.testing.assert_close(network.module(pixels), module(pixels))


def test_weights_that_are_missing_foreign_or_not_numbers_are_refused(path: Path) -> None:
    path.write_text(TEXT)
    weights = path.with_suffix(".safetensors")
    with pytest.raises(ValueError, match="no such file; train it with 'physcomp train"):
        physcomp.load_network(path)
    state = build_module(read_description(path)).state_dict()
    missing = {name: tensor for name, tensor in state.items() if name != "1.bias"}
    longer = {**state, "1.weight": torch.zeros(3, 1, 3, 3)}
    for content in (missing, longer, {**state, "9.weight": torch.zeros(1)}):
        save_file(content, weights)
        with pytest.raises(ValueError, match="does not hold the weights that") as caught:
            physcomp.load_network(path)
        assert str(weights) in str(caught.value)
        assert "\n" not in str(caught.value)
    weights.write_bytes(b"not safetensors at all")
    with pytest.raises(ValueError, match="does not hold the weights that"):
        physcomp.load_network(path)
    for value in (math.nan, math.inf):
        save_file({**state, "2.running_var": torch.tensor([1.0, value])}, weights)
        with pytest.raises(ValueError, match=r"'2\.running_var' holds NaN or infinite"):
            physcomp.load_network(path)


@pytest.mark.parametrize("bias", [True, False])
def test_a_norm_after_a_convolution_folds_and_the_answers_stay(bias: bool) -> None:
    module = nn.Sequential(nn.Conv2d(2, 5, 3, bias=bias), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Linear(80, 3))
    with_statistics(module, torch.rand(64, 2, 6, 6), torch.rand(64, 2, 6, 6) * 2)
    prepared = prepare(module)
    assert norms(prepared) == 0
    assert [layer.name for layer in physcomp.layers_of(prepared)] == ["0", "4"]
    assert physcomp.layers_of(prepared)[0].bias is not None
    pixels = torch.rand(10, 2, 6, 6)
    torch.testing.assert_close(prepared(pixels), module.eval()(pixels), rtol=1e-4, atol=1e-5)


def test_a_norm_after_a_linear_layer_folds_and_the_answers_stay() -> None:
    module = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    with_statistics(module, torch.rand(64, 6))
    prepared = prepare(module)
    assert norms(prepared) == 0
    values = torch.rand(10, 6)
    torch.testing.assert_close(prepared(values), module.eval()(values), rtol=1e-4, atol=1e-5)


class Shared(nn.Module):
    """One convolution called twice, and once more read beside its norm: nothing here may be folded."""

    def __init__(self, twice: bool) -> None:
        super().__init__()
        self.twice = twice
        self.conv, self.norm, self.out = nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1), nn.Linear(36, 2)

    def forward(self, pixels: torch.Tensor) -> Any:
        found = self.conv(pixels)
        normed = self.norm(self.conv(found)) if self.twice else self.norm(found) + found
        return self.out(torch.flatten(normed, 1))


class Untraceable(nn.Module):
    """Its path depends on the values it is given, which torch.fx cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.out = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(32, 3)

    def forward(self, pixels: torch.Tensor) -> Any:
        found = self.norm(self.conv(pixels))
        if found.mean() > 100:
            found = -found
        return self.out(torch.flatten(found, 1))


@pytest.mark.parametrize(
    "module", [Shared(True), Shared(False), Untraceable()], ids=["called twice", "read twice", "if"]
)
def test_a_norm_that_cannot_be_folded_stays_and_the_answers_stay(module: nn.Module) -> None:
    with_statistics(module, torch.rand(32, 1, 6, 6))
    prepared = prepare(module)
    assert norms(prepared) == 1
    pixels = torch.rand(10, 1, 6, 6)
    torch.testing.assert_close(prepared(pixels), module.eval()(pixels))


def test_a_module_that_cannot_be_traced_is_planned_stored_and_read_back_with_its_norm_counted() -> None:
    module = with_statistics(Untraceable(), torch.rand(32, 1, 6, 6))
    network = physcomp.wrap(module, "untraceable")
    images = physcomp.Images(torch.rand(20, 1, 6, 6), torch.arange(20) % 3)
    model = physcomp.build_model(network, images, card="ideal", menu=("float32",))
    plan = physcomp.uniform_plan(model, "float32", shrinkage=0.0)
    assert plan.ledger["others"] == 4 * 2 * 16 / 4  # four numbers a channel of 16 bits, four bits a cell
    state = physcomp.store(network, plan).read_back()
    score = physcomp.evaluate_state(network, state, images)
    assert score.loss == pytest.approx(physcomp.evaluate(network.module, images).loss, rel=0.02)  # bfloat16: 2^-8


def test_a_norm_before_a_convolution_stays() -> None:
    module = nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(32, 2))
    with_statistics(module, torch.rand(32, 1, 6, 6))
    assert norms(prepare(module)) == 1


def test_preparing_leaves_the_users_module_alone() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(32, 2)).train()
    before = copy.deepcopy(module.state_dict())
    prepared = prepare(module)
    assert module.training
    assert not prepared.training
    assert norms(module) == 1
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_a_network_without_layers_to_store_is_refused() -> None:
    with pytest.raises(ValueError, match="no tensor of weights with two axes"):
        physcomp.layers_of(nn.ReLU())


def test_a_fingerprint_follows_names_shapes_types_and_values() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(4, 2)
    module = nn.Sequential(linear)
    base = fingerprint(module)
    assert fingerprint(copy.deepcopy(module)) == base
    assert len(base) == 64
    other, flat = copy.deepcopy(linear), copy.deepcopy(linear)
    with torch.no_grad():
        other.weight[1, 2] = torch.nextafter(linear.weight[1, 2], torch.tensor(9.0))
    flat.weight = nn.Parameter(linear.weight.reshape(4, 2))
    others = (
        nn.Sequential(other),
        nn.Sequential(flat),
        nn.Sequential(nn.Identity(), linear),
        copy.deepcopy(module).double(),
    )
    assert len({base, *(fingerprint(changed) for changed in others)}) == 5


def test_two_descriptions_that_normalise_differently_have_different_fingerprints(path: Path) -> None:
    """They answer differently to the same pixels, so a plan or chip of one must not pass for the other's."""
    path.write_text(TEXT)
    described = read_description(path)
    torch.manual_seed(0)
    state = build_module(described).state_dict()
    found = []
    for mean in (0.5, 0.1):
        module = build_module(replace(described, mean=mean))
        module.load_state_dict(state, strict=False)
        found.append(physcomp.wrap(module).sha256)
    assert found[0] != found[1]


def test_scores_are_cross_entropy_and_share_of_right_answers_whatever_the_batch(
    tiny: physcomp.Network, tiny_images: physcomp.Images
) -> None:
    with torch.no_grad():
        logits = tiny.module(tiny_images.inputs).double()
    loss = float(functional.cross_entropy(logits, tiny_images.labels))
    accuracy = float((logits.argmax(1) == tiny_images.labels).double().mean())
    for batch in (1, 7, 40, 500):
        score = physcomp.evaluate(tiny.module, tiny_images, batch=batch)
        assert score.loss == pytest.approx(loss, rel=1e-5)
        assert score.accuracy == pytest.approx(accuracy, abs=1e-12)


def test_a_network_that_answers_nan_is_refused(tiny_images: physcomp.Images) -> None:
    class Divides(nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return pixels.flatten(1)[:, :3] * math.nan

    with pytest.raises(ValueError, match="an output is NaN"):
        physcomp.evaluate(Divides(), tiny_images)


def test_a_state_is_scored_in_place_of_the_networks_own_and_leaves_it_alone(
    tiny: physcomp.Network, tiny_images: physcomp.Images
) -> None:
    before = tiny.sha256
    changed = copy.deepcopy(tiny.module)
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter.mul_(1.5)
    expected = physcomp.evaluate(changed, tiny_images)
    assert physcomp.evaluate_state(tiny, changed.state_dict(), tiny_images) == expected
    assert expected != physcomp.evaluate(tiny.module, tiny_images)
    assert tiny.sha256 == before
    assert physcomp.evaluate_state(tiny, tiny.module.state_dict(), tiny_images) == physcomp.evaluate(tiny, tiny_images)
    with pytest.raises(ValueError, match=r"read-back: lacks 0\.bias, 0\.weight, 4\.bias of network tiny"):
        physcomp.evaluate_state(tiny, {}, tiny_images)


def test_a_state_that_does_not_fit_is_refused_in_one_line(tiny: physcomp.Network, tiny_images: physcomp.Images) -> None:
    name = next(iter(tiny.module.state_dict()))
    for state, told in (({name: torch.zeros(2, 2)}, "does not fit network tiny"), ({"x": torch.zeros(1)}, "has no x")):
        with pytest.raises(ValueError, match=told) as caught:
            physcomp.evaluate_state(tiny, state, tiny_images)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 5, 5), (1, 9, 40)])
def test_images_that_do_not_fit_the_network_are_refused_with_their_shape(
    tiny: physcomp.Network, shape: tuple[int, ...]
) -> None:
    images = physcomp.Images(torch.zeros(2, *shape), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match=str(shape[-1])) as caught:
        physcomp.evaluate(tiny.module, images)
    assert "\n" not in str(caught.value)


def test_labels_beyond_the_classes_are_refused(tiny: physcomp.Network, tiny_images: physcomp.Images) -> None:
    images = physcomp.Images(tiny_images.inputs[:2], torch.tensor([0, 3]))
    with pytest.raises(ValueError, match="3"):
        physcomp.evaluate(tiny.module, images)


def test_the_embedded_network_is_what_its_file_of_weights_holds(data_dir: Path) -> None:
    described = read_description(data_dir / "fashion-cnn.toml")
    assert {name: t.shape for name, t in load_file(data_dir / "fashion-cnn.safetensors").items()} == {
        name: t.shape for name, t in build_module(described).state_dict().items()
    }
