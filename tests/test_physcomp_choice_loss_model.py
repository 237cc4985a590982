"""The interval of a predicted loss increase holds what many more images would predict, about as often as it says."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

import physcomp
from physcomp.choice.groundwork import of_losses, of_rows
from physcomp.choice.loss_model import _model
from physcomp.curvature.column_sums import FOLDS, fold_sizes

MENU = ("pruned", "digital(2)", "analog(1)")
MANY, FEW, DRAWS = 5000, 250, 60


@pytest.fixture(scope="module")
def population() -> physcomp.Samples:
    """Five overlapping clouds of points."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 5, (MANY,), generator=generator)
    centres = torch.randn(5, 12, generator=generator)
    return physcomp.Samples(0.9 * centres[labels] + torch.randn(MANY, 12, generator=generator), labels)


@pytest.fixture(scope="module")
def model(population: physcomp.Samples) -> physcomp.LossModel:
    """The loss model of a small trained network, on the whole population."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 5))
    optimiser = torch.optim.Adam(module.parameters(), 0.01)
    for _ in range(200):
        loss = nn.functional.cross_entropy(module(population.inputs), population.labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    network = physcomp.wrap(module, samples=population)
    return physcomp.build_model(network, population, card="pcm-zarcone", menu=MENU)


def drawn(model: physcomp.LossModel, seed: int, images: int = FEW) -> physcomp.LossModel:
    """The same codes with the same errors, measured on some images of the population."""
    some = torch.from_numpy(np.random.default_rng(seed).choice(MANY, images, replace=False))
    return _model(dataclasses.replace(model, images=model.images[some], seed=seed), model.network, model.medium, None)


@pytest.fixture(scope="module")
def draws(model: physcomp.LossModel) -> list[physcomp.LossModel]:
    return [drawn(model, seed) for seed in range(DRAWS)]


@pytest.mark.parametrize("shrinkage", [0.0, 0.5])
@pytest.mark.parametrize("code", range(len(MENU)))
def test_nine_intervals_of_ten_hold_what_the_population_predicts(
    model: physcomp.LossModel, draws: list[physcomp.LossModel], code: int, shrinkage: float
) -> None:
    choice = np.full(len(model.loss), code)
    true = model.predict(choice, shrinkage)
    ends = np.array([each.error_of(choice, shrinkage) for each in draws])
    covered = np.mean((ends[:, 0] <= true) & (true <= ends[:, 1]))
    assert 0.8 <= covered <= 0.98
    narrow = np.array([each.error_of(choice, shrinkage, level=0.5) for each in draws])
    assert np.all((ends[:, 0] < narrow[:, 0]) & (narrow[:, 1] < ends[:, 1]))
    assert 0.35 <= np.mean((narrow[:, 0] <= true) & (true <= narrow[:, 1])) <= 0.7


def test_folds_are_the_loss_of_their_images(model: physcomp.LossModel, draws: list[physcomp.LossModel]) -> None:
    for each in (model, draws[0]):
        folds = np.concatenate([coupling.folds for coupling in each.couplings], axis=1)
        assert folds.shape == (FOLDS, *each.loss.shape)
        count = len(of_losses(len(each.images)))
        sizes = fold_sizes(FOLDS, count)
        assert sizes.sum() == count
        mean = np.tensordot(sizes / sizes.sum(), folds.astype(np.float64), 1)
        np.testing.assert_allclose(mean, each.loss, rtol=1e-3, atol=1e-5 * each.loss.max())


def test_a_fold_alone_predicts_its_own_loss(model: physcomp.LossModel) -> None:
    """Every tenth of the images that losses are measured on by itself; three classes take no random signs."""
    images = physcomp.Samples(model.images.inputs[:103], model.images.labels[:103] % 3)
    torch.manual_seed(1)
    network = physcomp.wrap(nn.Sequential(nn.Linear(12, 3, bias=False)), samples=images)
    whole = physcomp.build_model(network, images, card="pcm-zarcone", menu=("digital(2)", "analog(1)"))
    for fold in (0, 3, FOLDS - 1):
        part = dataclasses.replace(whole, images=images[of_losses(len(images))][fold::FOLDS])
        alone = _model(part, whole.network, whole.medium, None)
        np.testing.assert_allclose(whole.couplings[0].folds[fold], alone.loss, rtol=1e-3)


def test_one_image_says_nothing_and_a_level_is_a_share(model: physcomp.LossModel) -> None:
    choice = np.zeros(len(model.loss), np.int64)
    assert drawn(model, 0, images=1).error_of(choice, 0.0) == (0.0, math.inf)
    low, high = drawn(model, 0, images=3).error_of(choice, 0.0)
    assert 0 < low < high
    with pytest.raises(ValueError, match=r"level: .* between 0 and 1, got 90; use 0\.9"):
        model.error_of(choice, 0.0, level=90)


@pytest.mark.parametrize("images", [3, 99, 100, 2000])
def test_the_images_that_say_what_errors_cost_did_not_round_the_rows_where_there_are_enough(images):
    rows, losses = set(of_rows(images).tolist()), set(of_losses(images).tolist())
    assert rows | losses == set(range(images))
    assert not rows & losses if images >= 100 else rows == losses
