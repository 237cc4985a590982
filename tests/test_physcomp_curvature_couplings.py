import numpy as np
import pytest
import torch
from compensated import round_rows
from torch import nn
from torch.func import functional_call, jacrev

import physcomp
from physcomp.curvature.blocks import NOISE, curvatures
from physcomp.curvature.couplings import FOR_COUPLINGS, couplings
from physcomp.networks.layers import layers_of


def exact_columns(network, layers, images, perturbations):
    """Lᵀ J δ̄ of every image, group and code from autograd's whole Jacobian: (groups, codes, images·classes)."""
    parameters = {n: p.detach().double() for n, p in network.module.named_parameters()}
    module = network.module.double()
    pixels = images.inputs.double()
    jacobian = jacrev(lambda p: functional_call(module, p, (pixels,)))(parameters)
    p = functional_call(module, parameters, (pixels,)).softmax(1)
    root = torch.diag_embed(p.sqrt()) - p.unsqueeze(2) * p.sqrt().unsqueeze(1)
    network.module.float()
    out = []
    for layer, delta in zip(layers, perturbations, strict=True):
        weight = jacobian[f"{layer.name}.weight"].reshape(*p.shape, *layer.rows.shape)
        columns = torch.einsum("nlc,nlgw,gwk->gknc", root, weight, torch.from_numpy(delta).double())
        bias = torch.einsum("nlc,nlg->gnc", root, jacobian[f"{layer.name}.bias"])
        importance = torch.einsum("nlc,nlgw->ncgw", root, weight).square().sum((0, 1)) / len(pixels)
        out.append((columns.flatten(2).numpy(), bias.flatten(1).numpy(), importance.numpy()))
    return out


@pytest.fixture
def perturbations(tiny):
    generator = np.random.default_rng(5)
    return [
        generator.standard_normal((*layer.rows.shape, 3)).astype(np.float32) * 0.1 for layer in layers_of(tiny.module)
    ]


def test_columns_importance_and_bias_shift_agree_with_autograd(tiny, tiny_images, perturbations):
    layers = layers_of(tiny.module)
    found = couplings(tiny, layers, tiny_images, perturbations)
    exact = exact_columns(tiny, layers, tiny_images, perturbations)
    for coupling, (columns, bias, importance) in zip(found, exact, strict=True):
        power = np.square(bias).sum(1)[:, None]  # 0 for a filter whose output is never positive
        shift = -np.einsum("gkn,gn->gk", columns, bias) / np.where(power > 0, power, np.inf)
        compensated = columns + shift[:, :, None] * bias[:, None, :]
        gram = np.einsum("gkn,hln->gkhl", compensated, compensated) / len(tiny_images)
        scale = np.abs(gram).max()
        np.testing.assert_allclose(coupling.grams[0], gram, atol=1e-4 * scale)
        np.testing.assert_allclose(coupling.shift, shift, rtol=2e-3, atol=1e-4 * np.abs(shift).max())
        np.testing.assert_allclose(coupling.importance, importance, rtol=1e-3, atol=1e-6 * importance.max())


def test_half_a_square_is_the_loss_rise_of_a_small_perturbation(tiny, tiny_images):
    """With labels drawn from the network itself the expected rise is second order: KL(p || p'), here by itself."""
    layers = layers_of(tiny.module)
    size = 1e-2
    generator = np.random.default_rng(6)
    deltas = [generator.standard_normal((*layer.rows.shape, 1)).astype(np.float32) * size for layer in layers]
    grams = [c.grams[0] for c in couplings(tiny, layers, tiny_images, deltas)]
    state = {n: t.clone() for n, t in tiny.module.state_dict().items()}
    clean = tiny.module(tiny_images.inputs).detach().double().log_softmax(1)
    last, shift = layers[-1], couplings(tiny, layers, tiny_images, deltas)[-1].shift
    state[f"{last.name}.weight"] += torch.from_numpy(deltas[-1][:, :, 0]).reshape(last.shape)
    state[f"{last.name}.bias"] += torch.from_numpy(shift[:, 0]).float()
    changed = functional_call(tiny.module, state, (tiny_images.inputs,)).detach().double().log_softmax(1)
    rise = float((clean.exp() * (clean - changed)).sum(1).mean())
    assert rise == pytest.approx(grams[-1].sum() / 2, rel=0.03)


@pytest.mark.parametrize("size", [0, 2, 3])
def test_with_less_memory_fewer_neighbours_are_coupled_and_nothing_else_changes(tiny, tiny_images, perturbations, size):
    layers = layers_of(tiny.module)
    codes = perturbations[0].shape[2]
    groups = sum(layer.groups for layer in layers)
    little = FOR_COUPLINGS * 8 * (codes + 1) ** 2 * groups * size
    whole = couplings(tiny, layers, tiny_images, perturbations)
    for full, part in zip(whole, couplings(tiny, layers, tiny_images, perturbations, memory_bytes=little), strict=True):
        np.testing.assert_allclose(part.alone, full.alone, rtol=1e-3, atol=1e-6 * full.alone.max())
        np.testing.assert_allclose(part.importance, full.importance, rtol=1e-4, atol=1e-9)
        np.testing.assert_allclose(part.shift, full.shift, rtol=2e-3, atol=1e-4 * np.abs(full.shift).max())
        assert len(part.grams) == (-(-len(full.alone) // size) if size else 0)
        for run, gram in zip(part.runs, part.grams, strict=True):
            expected = full.grams[0][run, :, run, :]
            np.testing.assert_allclose(gram, expected, rtol=1e-3, atol=1e-5 * np.abs(full.grams[0]).max())


def test_bias_shift_never_makes_a_column_longer(tiny, tiny_images, perturbations):
    layers = layers_of(tiny.module)
    compensated = couplings(tiny, layers, tiny_images, perturbations)
    for coupling, (columns, _, _) in zip(
        compensated, exact_columns(tiny, layers, tiny_images, perturbations), strict=True
    ):
        alone = coupling.alone
        assert np.all(alone <= np.square(columns).sum(2) / len(tiny_images) * (1 + 1e-4))


def test_probes_estimate_the_curvature_without_bias(tiny, tiny_images):
    layers = layers_of(tiny.module)
    exact = [
        c.importance
        for c in couplings(tiny, layers, tiny_images, [np.zeros((*x.rows.shape, 1), np.float32) for x in layers])
    ]
    estimates = [curvatures(tiny, layers, tiny_images, seed=seed) for seed in range(200)]
    for number, importance in enumerate(exact):
        drawn = np.array([estimate[number].importance.sum() for estimate in estimates])
        error = drawn.std(ddof=1) / np.sqrt(len(drawn))
        assert abs(drawn.mean() - importance.sum()) < 4 * error
        assert error < 0.05 * importance.sum()  # so the check can fail


def signs(images: int, classes: int, *, seed: int) -> torch.Tensor:
    """Random signs as a seed gives them, 100 images from one generator."""
    drawn = []
    for number, first in enumerate(range(0, images, 100)):
        state = np.random.SeedSequence([seed, number]).generate_state(1)
        generator = torch.Generator().manual_seed(int(state[0]))
        drawn.append(torch.randint(0, 2, (min(100, images - first), classes, 1), generator=generator) * 2.0 - 1)
    return torch.cat(drawn)


@pytest.mark.parametrize("size", [100, 60, 16])
def test_curvature_blocks_are_products_of_the_probed_gradients_without_what_the_bias_mends(size):
    """Blocks of more and fewer weights than are taken one by one, the last one partial."""
    torch.manual_seed(5)
    network = physcomp.wrap(nn.Sequential(nn.Flatten(), nn.Linear(100, 4), nn.Tanh(), nn.Linear(4, 3)))
    images = physcomp.Images(torch.rand(130, 1, 10, 10), torch.zeros(130, dtype=torch.int64))
    layers = layers_of(network.module)
    weights = sum(layer.rows.size for layer in layers)
    found = curvatures(network, layers, images, seed=3, memory_bytes=4 * weights * size)
    parameters = {n: p.detach() for n, p in network.module.named_parameters()}
    jacobian = jacrev(lambda p: functional_call(network.module, p, (images.inputs,)))(parameters)
    p = network.module(images.inputs).detach().softmax(1)
    root = torch.diag_embed(p.sqrt()) - p.unsqueeze(2) * p.sqrt().unsqueeze(1)
    probed = torch.bmm(root, signs(130, 3, seed=3))[:, :, 0]
    for layer, curvature in zip(layers, found, strict=True):
        rows = torch.einsum("nc,ncgw->gnw", probed, jacobian[f"{layer.name}.weight"]).double()
        bias = torch.einsum("nc,ncg->gn", probed, jacobian[f"{layer.name}.bias"]).double()
        whole = rows.transpose(1, 2) @ rows / 130
        np.testing.assert_allclose(curvature.importance, whole.diagonal(dim1=1, dim2=2), rtol=1e-4)
        crossed = (bias.unsqueeze(1) @ rows / 130).squeeze(1)
        whole -= crossed.unsqueeze(2) * crossed.unsqueeze(1) / bias.square().mean(1)[:, None, None]
        width = min(size, layer.weights)
        assert curvature.blocks.shape == (layer.groups, -(-layer.weights // width), width, width)
        for number, start in enumerate(range(0, layer.weights, width)):
            expected = whole[:, start : start + width, start : start + width]
            block = curvature.blocks[:, number, : expected.shape[1], : expected.shape[2]]
            np.testing.assert_allclose(block, expected, atol=1e-5 * float(whole.abs().max()))


@pytest.mark.parametrize("seed", range(5))
def test_curvature_that_the_bias_mends_wholly_can_still_be_factored(seed):
    """With the same input every time a bias does what any weight does, and rounding errors are left."""
    torch.manual_seed(seed)
    network = physcomp.wrap(nn.Sequential(nn.Flatten(), nn.Linear(60, 40)))
    images = physcomp.Images(torch.rand(1, 1, 6, 10).expand(64, 1, 6, 10), torch.zeros(64, dtype=torch.int64))
    layers = layers_of(network.module)
    (curvature,) = curvatures(network, layers, images)
    left = np.einsum("gbii->gbi", curvature.blocks)[:, 0] / curvature.importance.mean(1, keepdims=True)
    assert left.max() < 2 * NOISE
    rounded, _ = round_rows(layers[0].rows, curvature, (255,))
    np.testing.assert_allclose(rounded[:, :, 0], layers[0].rows, atol=0.01)


def test_with_less_memory_the_same_signs_are_drawn():
    torch.manual_seed(6)
    network = physcomp.wrap(nn.Sequential(nn.Flatten(), nn.Linear(16, 8)))
    images = physcomp.Images(torch.rand(230, 1, 4, 4), torch.zeros(230, dtype=torch.int64))
    layers = layers_of(network.module)
    deltas = [np.random.default_rng(1).random((8, 16, 2)).astype(np.float32)]
    (much,), (little,) = (
        couplings(network, layers, images, deltas, memory_bytes=memory) for memory in (1 << 30, 1 << 13)
    )
    np.testing.assert_allclose(little.importance, much.importance, rtol=1e-4)
    np.testing.assert_allclose(little.alone, much.alone, rtol=1e-3)
    (other,) = couplings(network, layers, images, deltas, seed=1)
    assert np.abs(other.importance / much.importance - 1).max() > 0.01


def test_grouped_strided_dilated_and_unbiased_convolutions_agree_with_autograd():
    torch.manual_seed(3)
    module = nn.Sequential(
        nn.Conv2d(4, 6, 3, groups=2, dilation=2, padding="same", bias=False),
        nn.Tanh(),
        nn.Conv2d(6, 6, (3, 1), stride=(2, 1), groups=6),
        nn.Flatten(),
        nn.Linear(6 * 3 * 8, 4),
    )
    network = physcomp.wrap(module)
    images = physcomp.Images(torch.rand(5, 4, 8, 8), torch.zeros(5, dtype=torch.int64))
    layers = layers_of(network.module)
    deltas = [np.ones((*layer.rows.shape, 1), np.float32) for layer in layers]
    found = couplings(network, layers, images, deltas)
    assert found[0].shift is None
    parameters = {n: p.detach() for n, p in network.module.named_parameters()}
    jacobian = jacrev(lambda p: functional_call(network.module, p, (images.inputs,)))(parameters)
    p = network.module(images.inputs).detach().softmax(1)
    root = torch.diag_embed(p.sqrt()) - p.unsqueeze(2) * p.sqrt().unsqueeze(1)
    for layer, coupling in zip(layers, found, strict=True):
        weight = jacobian[f"{layer.name}.weight"].reshape(*p.shape, *layer.rows.shape)
        importance = torch.einsum("nlc,nlgw->ncgw", root, weight).square().sum((0, 1)) / len(images)
        np.testing.assert_allclose(coupling.importance, importance, rtol=2e-3, atol=1e-6 * float(importance.max()))


def test_a_layer_called_twice_adds_both_gradients():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = nn.Linear(5, 5)
            self.last = nn.Linear(5, 3)

        def forward(self, x):
            return self.last(torch.tanh(self.one(torch.tanh(self.one(x.flatten(1))))))

    torch.manual_seed(4)
    network = physcomp.wrap(Twice())
    images = physcomp.Images(torch.rand(6, 1, 1, 5), torch.zeros(6, dtype=torch.int64))
    layers = layers_of(network.module)
    deltas = [np.random.default_rng(0).random((*layer.rows.shape, 2)).astype(np.float32) for layer in layers]
    found = couplings(network, layers, images, deltas)
    exact = exact_columns(network, layers, images, deltas)
    for coupling, (_, _, importance) in zip(found, exact, strict=True):
        np.testing.assert_allclose(coupling.importance, importance, rtol=1e-3, atol=1e-7)


def test_granularities_hold_the_same_weights(tiny):
    for granularity, groups in (("layer", 3), ("filter", 13), ("kernel", 4 + 24 + 18)):
        layers = layers_of(tiny.module, granularity)
        assert sum(layer.groups for layer in layers) == groups
        assert sum(layer.rows.size for layer in layers) == 36 + 216 + 18


def test_a_network_without_layers_and_an_unknown_granularity_are_refused():
    with pytest.raises(ValueError, match="no tensor of weights with two axes"):
        layers_of(nn.Sequential(nn.ReLU()))
    with pytest.raises(ValueError, match="granularity: must be one of layer, filter, kernel, got 'row'"):
        layers_of(nn.Linear(2, 2), "row")
