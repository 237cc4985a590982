"""Fewer images stand for all: their sums have those over all as their mean, and scatter less than a plain sample's."""

import numpy as np
import pytest
import torch
from torch import nn

import physcomp
from physcomp.curvature.couplings import couplings_of, images_for_couplings
from physcomp.curvature.drawn_images import chances, drawn
from physcomp.networks.layers import layers_of

IMAGES, SOME, DRAWS = 600, 100, 60


@pytest.fixture(scope="module")
def network() -> physcomp.Network:
    """Sure of most of its images: weights are large. Biases would be fitted to the images that are drawn."""
    torch.manual_seed(2)
    module = nn.Sequential(nn.Linear(8, 12, bias=False), nn.ReLU(), nn.Linear(12, 3, bias=False))
    with torch.no_grad():
        module[0].weight *= 3
        module[2].weight *= 4
    return physcomp.wrap(module, samples=samples()[:20])


def samples() -> physcomp.Samples:
    generator = torch.Generator().manual_seed(3)
    return physcomp.Samples(
        torch.randn(IMAGES, 8, generator=generator), torch.randint(0, 3, (IMAGES,), generator=generator)
    )


def losses(network: physcomp.Network, images: physcomp.Samples, most: int | None, seed: int) -> np.ndarray:
    """The loss of one error a group, and its mean over folds: (2, groups)."""
    layers = layers_of(network.module)
    generator = np.random.default_rng(4)
    errors = [generator.standard_normal((*layer.rows.shape, 1)).astype(np.float32) for layer in layers]

    def of_part(part):  # type: ignore[no-untyped-def]
        return errors[part.layer][part.groups], {0: np.ones(errors[part.layer][part.groups].shape[:2], np.float32)}

    found = list(couplings_of(network, layers, images, of_part, codes=1, times=1, seed=seed, most=most))
    return np.stack(
        [
            np.concatenate([each.loss[:, 0] for each in found]),
            np.concatenate([each.folds[:, :, 0].mean(0) for each in found]),
        ]
    )


def test_drawn_images_estimate_without_bias_and_better_than_a_plain_sample(network: physcomp.Network) -> None:
    images = samples()
    whole = losses(network, images, None, 0)
    np.testing.assert_allclose(whole[1], whole[0], rtol=0.02)
    found = np.array([losses(network, images, SOME, seed) for seed in range(DRAWS)])
    generator = torch.Generator().manual_seed(5)
    orders = [torch.randperm(IMAGES, generator=generator)[:SOME] for _ in range(DRAWS)]
    plain = np.array([losses(network, images[order], None, 0)[0] for order in orders])
    of_all = found.sum(2)
    error = of_all.std(0, ddof=1) / DRAWS**0.5
    assert np.all(np.abs(of_all.mean(0) - whole.sum(1)) < 4 * error)
    assert np.all(error < 0.05 * whole.sum(1))  # so the check can fail
    assert of_all[:, 0].std(ddof=1) < 0.7 * plain.sum(1).std(ddof=1)


def test_all_images_are_taken_where_there_are_no_more(network: physcomp.Network) -> None:
    images = samples()
    assert drawn(network, images, IMAGES, 2, 0).images is images
    assert len(drawn(network, images, IMAGES - 1, 2, 0).images) == IMAGES - 1
    assert images_for_couplings(300) == 300


@pytest.mark.parametrize("seed", range(5))
def test_as_many_are_drawn_as_asked_for_in_their_order_and_never_twice(network: physcomp.Network, seed: int) -> None:
    images = samples()
    some = drawn(network, images, SOME, 1, seed)
    numbers = [int(torch.nonzero((images.inputs == row).all(1))) for row in some.images.inputs]  # type: ignore[union-attr]
    assert len(numbers) in (SOME - 1, SOME, SOME + 1)
    assert numbers == sorted(set(numbers))


def test_chances_add_up_and_follow_sizes() -> None:
    sizes = np.random.default_rng(0).exponential(size=50) ** 3
    found = chances(sizes, 20)
    assert found.sum() == pytest.approx(20)
    assert np.all((found > 0) & (found <= 1))
    below = found < 1
    np.testing.assert_allclose(found[below] / sizes[below], (found / sizes)[below][0])
