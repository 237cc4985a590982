"""Training for a plan: what is trained is what chips give back, seeds fix every bit, and the result is an own plan."""

import dataclasses

import numpy as np
import pytest
import torch

import devices
import physcomp
from physcomp.choice.planning import plan_of
from physcomp.codes import Code, Medium, parse
from physcomp.codes.base import to_bfloat16
from physcomp.networks.layers import Layer
from physcomp.storage.layer_plan import LayerPlan
from physcomp.storage.plan import Plan
from physcomp.training.finetuning import Finetuned, finetune
from physcomp.training.recipe import Recipe
from physcomp.training.stored_layer import StoredLayer, rewritten

CODES = (
    *("pruned", "float32", "digital(1)", "digital(1.58)", "digital(4)", "analog(2)", "analog(1,pair)", "hybrid(2,1)"),
    *("sparse(50,digital(1))", "sparse(50,analog(1))", "coded(2)", "analog(1.5,sensitive)"),
)
IMITATED = [name for name in CODES if "sensitive" not in name]
RECIPE = Recipe(batch=10, learning_rate=0.02)


@pytest.fixture(scope="module")
def model(tiny: physcomp.Network, tiny_images: physcomp.Images) -> physcomp.LossModel:
    return physcomp.build_model(tiny, tiny_images, card="pcm-nandakumar", read_time_s=3600.0, menu=CODES)


@pytest.fixture(scope="module")
def mixed(model: physcomp.LossModel) -> Plan:
    """Every code on some group."""
    choice = np.arange(len(model.loss), dtype=np.int64) * 5 % len(model.menu)
    return plan_of(model, choice, method="mixed", shrinkage=0.5)


def digital_plan(model: physcomp.LossModel) -> Plan:
    choice = np.array([2 + g % 3 for g in range(len(model.loss))], np.int64)
    choice[1] = 0
    return plan_of(model, choice, method="digital", shrinkage=0.5)


def trained(
    network: physcomp.Network, plan: Plan, images: physcomp.Images, seed: int = 0, epochs: int = 3
) -> Finetuned:
    return finetune(network, plan, images, heldout=images, epochs=epochs, seed=seed, recipe=RECIPE)


@pytest.fixture(scope="module")
def tuned(tiny: physcomp.Network, mixed: Plan, tiny_images: physcomp.Images) -> Finetuned:
    return trained(tiny, mixed, tiny_images)


def stored_layer(name: str, rows: np.ndarray, scale: float, medium: Medium) -> StoredLayer:
    code = parse(name)
    scales = to_bfloat16(np.full(len(rows), scale if code.scale_bits else 0.0))
    planned = LayerPlan(
        "layer",
        rows.shape,
        codes=np.zeros(len(rows), np.int64),
        scales=scales,
        rows=rows if code.keeps_rows else rows[:0],
        biases=np.zeros(0, np.float32),
        cells=np.zeros((0, rows.shape[1]), np.uint8),
    )
    layer = Layer("layer", rows, rows.shape, None)
    return StoredLayer(layer, planned, (code,), medium)


@pytest.fixture(scope="module")
def medium() -> Medium:
    return Medium(devices.load_card("pcm-nandakumar"), 3600.0)


@pytest.mark.parametrize("name", IMITATED)
def test_what_is_imitated_without_noise_is_the_mean_that_the_code_states(
    name: str, rows: np.ndarray, medium: Medium
) -> None:
    layer = stored_layer(name, rows, 0.25, medium)
    layer.prune(1.0)
    code: Code = parse(name)
    mean, _ = code.error(layer.latent(), layer.scales(), medium)
    np.testing.assert_allclose(layer().detach().numpy(), layer.latent() + mean, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["analog(2)", "analog(1,plain)", "hybrid(2,1)"])
def test_imitated_noise_has_the_variance_of_real_cells(name: str, medium: Medium) -> None:
    """4,000 draws: the sample variance has a relative sd of 2.2 % for Gaussians, at most twice that for real cells."""
    rows = np.repeat(np.array([[0.05, -0.1, 0.2]], np.float32), 4000, axis=0)
    layer = stored_layer(name, rows, 0.25, medium)
    ours = layer(torch.Generator().manual_seed(0)).detach().numpy()
    code = parse(name)
    encoded = code.encode(layer.latent(), layer.scales(), medium)
    cells = devices.program(medium.card, encoded.levels.reshape(-1), seed=1)
    read = dataclasses.replace(encoded, levels=cells.read(time_s=3600.0).reshape(encoded.levels.shape))
    theirs = code.decode(read, layer.scales(), 3, medium)
    np.testing.assert_allclose(ours.var(axis=0), theirs.var(axis=0), rtol=0.2)
    np.testing.assert_allclose(ours.mean(axis=0), theirs.mean(axis=0), atol=4 * theirs.std() / np.sqrt(4000))


def test_gradients_of_rounding_are_those_of_learned_step_size_quantization(medium: Medium) -> None:
    """Esser et al., ICLR 2020, equation 3: (round(w/s) - w/s) inside, ±1 where clipped; levels -s, 0, s."""
    rows = np.array([[0.3, -0.1, 0.05, -0.5]], np.float32)
    layer = stored_layer("digital(1.58)", rows, 0.5, medium)
    with torch.no_grad():
        layer.share[0, 3] = -2.0  # grown out of the range in training
    upstream = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    (layer() * upstream).sum().backward()
    expected = 1 * (0.5 - 0.3) + 2 * (0 + 0.1) + 3 * (0 - 0.05) + 4 * -0.5
    assert layer.log_scale.grad is not None
    assert layer.share.grad is not None
    assert float(layer.log_scale.grad[0]) == pytest.approx(expected, rel=1e-5)  # d/d(log s) = s d/ds
    # A positive gradient would move the clipped weight further out.
    np.testing.assert_allclose(layer.share.grad[0], [0.5, 1.0, 1.5, 0.0], rtol=1e-6)


def test_a_clipped_weight_comes_back_when_the_gradient_points_inwards(medium: Medium) -> None:
    layer = stored_layer("digital(1)", np.array([[0.5, 0.5]], np.float32), 0.5, medium)
    with torch.no_grad():
        layer.share.mul_(2)
    (layer() * torch.tensor([[1.0, -1.0]])).sum().backward()
    assert layer.share.grad is not None
    assert layer.share.grad[0].tolist() == [0.5, 0.0]


@pytest.mark.parametrize("name", ["pruned", "digital(4)"])
def test_groups_that_store_nothing_get_no_gradient(name: str, rows: np.ndarray, medium: Medium) -> None:
    layer = stored_layer(name, rows, 0.0, medium)
    layer().sum().backward()
    assert layer.share.grad is not None
    assert not layer.share.grad.any()
    assert not layer.read_back().any()


def test_the_mask_of_a_sparse_code_stays(rows: np.ndarray, medium: Medium) -> None:
    layer = stored_layer("sparse(80,digital(1))", rows[:6], 0.25, medium)
    layer.prune(1.0)
    kept = layer.read_back() != 0
    assert kept.sum(axis=1).tolist() == [10] * 6
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        optimizer.zero_grad()
        (layer() * torch.randn(layer.shape, generator=generator)).sum().backward()
        optimizer.step()
    found = layer.read_back()
    np.testing.assert_array_equal(found != 0, kept)
    assert (np.sign(found) != np.sign(rows[:6]))[kept].any()  # yet signs have changed


def test_weights_that_a_sparse_code_drops_fade_out_the_smallest_first(rows: np.ndarray, medium: Medium) -> None:
    layer = stored_layer("sparse(80,digital(1))", rows[:6], 0.25, medium)
    size = np.abs(layer.latent())
    before = layer.read_back(fading=True)
    kept = layer.read_back() != 0
    np.testing.assert_array_equal(before[~kept], layer.latent()[~kept])
    layer.prune(0.5)  # 1 - 0.5^3 of the 80 % are gone: 35 of 50
    halfway = layer.read_back(fading=True)
    assert (halfway != 0).sum(axis=1).tolist() == [15] * 6
    for row in range(6):
        assert size[row, halfway[row] != 0].min() >= size[row, halfway[row] == 0].max()
    np.testing.assert_array_equal(layer.read_back(), np.where(kept, before, 0))


def test_what_a_noiseless_chip_gives_back_is_the_trained_network_bit_for_bit(
    model: physcomp.LossModel, tiny: physcomp.Network, tiny_images: physcomp.Images
) -> None:
    done = trained(tiny, digital_plan(model), tiny_images)
    assert done.network.sha256 != tiny.sha256
    state = physcomp.store(done.network, done.plan).read_back()
    for name, tensor in done.network.module.state_dict().items():
        assert torch.equal(state[name], tensor), name
    again = Plan.from_json(done.plan.to_json())
    assert again.sha256 == done.plan.sha256


def test_weights_stored_digitally_lie_on_levels_and_pruned_ones_are_zero(tuned: Finetuned) -> None:
    levels = {"digital(1)": 2, "digital(1.58)": 3, "digital(4)": 15}
    seen = set()
    for planned in tuned.plan.layers:
        rows = tuned.network.module.get_parameter(f"{planned.name}.weight").detach().numpy()
        rows = rows.reshape(len(planned.codes), -1)
        for row, index, scale in zip(rows, planned.codes, planned.scales, strict=True):
            name = tuned.plan.menu[index]
            if name == "pruned":
                assert not row.any()
            elif name in levels:
                grid = np.linspace(-1, 1, levels[name]) * scale
                assert np.abs(row[:, None] - grid).min(axis=1).max() <= 1e-6 * scale
            else:
                continue
            seen.add(name)
    assert seen == {"pruned", *levels}


def test_the_mean_over_chips_is_the_trained_network(tuned: Finetuned) -> None:
    """200 chips: the largest of some 250 mean errors is below 5 of its standard errors."""
    states = [physcomp.store(tuned.network, tuned.plan, seed=seed).read_back() for seed in range(200)]
    for planned in tuned.plan.layers:
        name = f"{planned.name}.weight"
        stacked = torch.stack([state[name] for state in states])
        error = (stacked.mean(0) - tuned.network.module.get_parameter(name)).abs()
        assert bool((error <= 5 * stacked.std(0) / 200**0.5 + 1e-6).all())


def test_a_plan_for_one_network_still_refuses_the_other(tuned: Finetuned, tiny: physcomp.Network, mixed: Plan) -> None:
    with pytest.raises(ValueError, match="made for network tiny"):
        physcomp.store(tiny, tuned.plan)
    with pytest.raises(ValueError, match="made for network tiny"):
        physcomp.store(tuned.network, mixed)


def test_codes_and_ledger_stay_and_scales_are_bfloat16_numbers(tuned: Finetuned, mixed: Plan) -> None:
    assert tuned.plan.ledger == mixed.ledger
    for ours, theirs in zip(tuned.plan.layers, mixed.layers, strict=True):
        assert np.array_equal(ours.codes, theirs.codes)
        assert np.array_equal(to_bfloat16(ours.scales), ours.scales)
        assert np.array_equal(to_bfloat16(ours.biases), ours.biases)
        assert np.array_equal(ours.scales > 0, theirs.scales > 0)
    assert any(not np.array_equal(o.scales, t.scales) for o, t in zip(tuned.plan.layers, mixed.layers, strict=True))


def test_the_same_seed_gives_the_same_bits_whatever_came_before(
    tuned: Finetuned, tiny: physcomp.Network, mixed: Plan, tiny_images: physcomp.Images
) -> None:
    torch.rand(3)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        again = trained(tiny, mixed, tiny_images)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert again.network.sha256 == tuned.network.sha256
    assert again.plan.sha256 == tuned.plan.sha256
    assert again.history == tuned.history
    assert trained(tiny, mixed, tiny_images, seed=1).network.sha256 != tuned.network.sha256


def test_training_lowers_the_loss_of_a_coarse_plan(
    model: physcomp.LossModel, tiny: physcomp.Network, tiny_images: physcomp.Images
) -> None:
    plan = digital_plan(model)
    before = physcomp.evaluate_state(tiny, physcomp.store(tiny, plan).read_back(), tiny_images).loss
    done = trained(tiny, plan, tiny_images, epochs=20)
    after = physcomp.evaluate(done.network.module, tiny_images).loss
    assert after < before - 0.01
    assert done.history[-1].heldout_loss == pytest.approx(after)
    assert len(done.history) == 20


def test_distillation_alone_draws_near_the_clean_network_and_looks_at_no_label(
    model: physcomp.LossModel, tiny: physcomp.Network, tiny_images: physcomp.Images
) -> None:
    plan = digital_plan(model)
    recipe = dataclasses.replace(RECIPE, distilled=1.0)
    other = dataclasses.replace(tiny_images, labels=tiny_images.labels.flip(0))
    first, second = (
        finetune(tiny, plan, images, heldout=tiny_images, epochs=20, recipe=recipe) for images in (tiny_images, other)
    )
    assert first.network.sha256 == second.network.sha256
    assert first.history[-1].training_loss < 0.7 * first.history[0].training_loss


def test_the_share_done_is_told_and_the_network_given_is_left_alone(
    tiny: physcomp.Network, mixed: Plan, tiny_images: physcomp.Images
) -> None:
    before = tiny.sha256
    shares: list[float] = []
    recipe = dataclasses.replace(RECIPE, shift=1, mirrored=True)
    finetune(tiny, mixed, tiny_images, heldout=tiny_images, epochs=2, recipe=recipe, progress=shares.append)
    asked = 18 / 4  # eighteen copies of every image take a quarter of an epoch each
    told = [asked * (n + 1) / 4 for n in range(4)] + [asked + (n + 1) / 4 for n in range(8)]
    assert shares == pytest.approx([passes / (asked + 2) for passes in told])
    assert tiny.sha256 == before


def test_a_plan_rewritten_for_its_own_network_stores_the_same_levels_of_noisy_codes(
    tiny: physcomp.Network, mixed: Plan
) -> None:
    again = rewritten(tiny, mixed, devices.load_card("pcm-nandakumar"))
    first, second = (physcomp.store(tiny, plan) for plan in (mixed, again))
    np.testing.assert_allclose(first.cells.levels, second.cells.levels, atol=1e-6)


def test_no_epochs_are_refused(tiny: physcomp.Network, mixed: Plan, tiny_images: physcomp.Images) -> None:
    with pytest.raises(ValueError, match="epochs: at least 1, got 0"):
        trained(tiny, mixed, tiny_images, epochs=0)


def test_a_plan_of_another_network_is_refused(
    tiny: physcomp.Network, mixed: Plan, tiny_images: physcomp.Images
) -> None:
    other = dataclasses.replace(mixed, network_sha256="0" * 64)
    with pytest.raises(ValueError, match="made for network tiny"):
        trained(tiny, other, tiny_images)


def test_a_loss_that_is_no_number_is_refused_with_its_step(
    tiny: physcomp.Network, mixed: Plan, tiny_images: physcomp.Images
) -> None:
    recipe = Recipe(batch=10, learning_rate=1e30, slow=1.0)
    with pytest.raises(
        ValueError, match=r"the loss of tiny is (nan|inf) in step \d of 4 of epoch 1; lower .* \(1e\+30\)"
    ):
        finetune(tiny, mixed, tiny_images, heldout=tiny_images, epochs=1, recipe=recipe)


def test_samples_that_do_not_fit_are_refused_before_the_training(
    tiny: physcomp.Network, mixed: Plan, tiny_images: physcomp.Images
) -> None:
    wrong = physcomp.Images(tiny_images.inputs, tiny_images.labels + 1)
    for samples, heldout in ((wrong, tiny_images), (tiny_images, wrong)):
        with pytest.raises(ValueError, match="label 3 is none of the network's 3 classes"):
            finetune(tiny, mixed, samples, heldout=heldout, epochs=1)
