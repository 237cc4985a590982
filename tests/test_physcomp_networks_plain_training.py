"""Training: the seed fixes every bit, the recipe is obeyed, and what is trained has learned."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import physcomp
from physcomp.networks import plain_training
from physcomp.networks.description import Description, build_module, read_description
from physcomp.networks.network import fingerprint


@pytest.fixture(scope="module")
def described(tiny_folder: Path) -> Description:
    whole = read_description(tiny_folder / "net.toml")
    return replace(whole, recipe={**whole.recipe, "epochs": 2})


@pytest.fixture(scope="module")
def images(tiny_folder: Path) -> physcomp.Images:
    return physcomp.load_images(tiny_folder / "images", "train")[:96]


def with_recipe(description: Description, **changes: float) -> Description:
    return replace(description, recipe={**description.recipe, **changes})


def test_the_same_seed_gives_the_same_weights_whatever_came_before(
    described: Description, images: physcomp.Images
) -> None:
    first = plain_training.train(described, images)
    torch.rand(7)  # draws from the global generator change nothing
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        second = plain_training.train(described, images)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert fingerprint(first.module) == fingerprint(second.module)
    assert first.losses == second.losses


def test_another_seed_gives_other_weights(described: Description, images: physcomp.Images) -> None:
    first, other = (plain_training.train(with_recipe(described, seed=seed), images) for seed in (3, 4))
    for name, weight in first.module.named_parameters():
        if name.endswith("weight") and weight.dim() > 1:
            assert not torch.equal(weight, other.module.get_parameter(name))


def test_training_leaves_the_global_generator_alone(described: Description, images: physcomp.Images) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    plain_training.train(described, images)
    assert torch.equal(torch.rand(3), expected)


def test_one_loss_an_epoch_is_kept_and_the_share_done_is_told(described: Description, images: physcomp.Images) -> None:
    shares: list[float] = []
    trained = plain_training.train(described, images, progress=shares.append)
    assert len(trained.losses) == 2
    assert shares == pytest.approx([(n + 1) / 6 for n in range(6)])  # two epochs of 96 / 32 steps
    assert not trained.module.training


def test_a_trained_network_classifies_images_it_has_not_seen(tiny_folder: Path) -> None:
    """Chance is a third: of 200 images 50 % would be 5 sd above it (sd of chance 3.3 points)."""
    network = physcomp.load_network(tiny_folder / "net.toml")
    score = physcomp.evaluate(network.module, physcomp.load_images(tiny_folder / "images", "t10k"))
    assert score.accuracy > 0.5


@pytest.mark.parametrize("name", plain_training.RECIPE)
def test_a_recipe_that_lacks_a_number_is_told_which(described: Description, images: physcomp.Images, name: str) -> None:
    recipe = {key: value for key, value in described.recipe.items() if key != name}
    with pytest.raises(ValueError, match=f"stripes: the recipe lacks {name}; add"):
        plain_training.train(replace(described, recipe=recipe), images)


def test_every_number_of_the_recipe_matters(described: Description, images: physcomp.Images) -> None:
    base = fingerprint(plain_training.train(described, images).module)
    for name, value in (("epochs", 1), ("batch", 16), ("learning_rate", 0.001), ("weight_decay", 0.5)):
        assert fingerprint(plain_training.train(with_recipe(described, **{name: value}), images).module) != base


def test_a_saved_module_is_the_trained_one_bit_for_bit(
    described: Description, images: physcomp.Images, tiny_folder: Path, tmp_path: Path
) -> None:
    trained = plain_training.train(described, images)
    plain_training.save(trained, tmp_path / "net.safetensors")
    (tmp_path / "net.toml").write_text((tiny_folder / "net.toml").read_text())
    loaded = physcomp.load_network(tmp_path / "net.toml")
    assert loaded.sha256 == physcomp.wrap(trained.module).sha256
    assert not list(tmp_path.glob("*.tmp"))


def test_augmented_images_are_mirrored_and_shifted_copies(images: physcomp.Images) -> None:
    pixels = images.inputs[:40]
    found = plain_training.augment(pixels, torch.Generator().manual_seed(0), shift=plain_training.SHIFT, mirrored=True)
    assert found.shape == pixels.shape
    size, wide = pixels.shape[2], plain_training.SHIFT
    padded = torch.nn.functional.pad(pixels, (wide,) * 4)
    used = set()
    for before, after in zip(padded, found, strict=True):
        matches = [
            (mirrored, down, right)
            for mirrored in (False, True)
            for down in range(2 * wide + 1)
            for right in range(2 * wide + 1)
            # Shifting comes after mirroring, and the padding is symmetric.
            if torch.equal((before.flip(2) if mirrored else before)[:, down : down + size, right : right + size], after)
        ]
        assert matches
        used.update(matches)
    # 50 equally likely ways and 40 draws: 27.7 different ones are expected, sd below 3.
    assert len(used) >= 18


def test_what_is_trained_is_what_the_description_says(described: Description, images: physcomp.Images) -> None:
    trained = plain_training.train(described, images)
    shapes = {name: tensor.shape for name, tensor in build_module(described).state_dict().items()}
    assert {name: tensor.shape for name, tensor in trained.module.state_dict().items()} == shapes
