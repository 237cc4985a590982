import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

import physcomp
from physcomp.choice.loss_model import build_model
from physcomp.choice.planning import uniform_plan
from physcomp.choice.refining import one_code
from physcomp.choice.sequence import GAINS, Sequence
from physcomp.choice.tuning import tuned
from physcomp.codes import parse
from physcomp.codes.menu import DEFAULT
from physcomp.storage import chip, layer_plan
from physcomp.storage.plan import Plan, menu_of

MENU = ("pruned", "digital(1)", "digital(2)", "sparse(75,digital(1))", "analog(1)", "digital(8)")


@pytest.fixture(scope="module")
def model(tiny, tiny_images):
    return build_model(tiny, tiny_images, card="ideal", menu=MENU)


def outputs_of(module, name, images):
    found = []
    handle = module.get_submodule(name).register_forward_hook(lambda _, given, output: found.append(output.clone()))
    with torch.no_grad():
        module(images.inputs)
    handle.remove()
    return found[0].transpose(0, 1).flatten(1)


def misses(model, made, images):
    """Mean squared difference of each layer's outputs, after the rectifier where there is one."""
    network = model.network
    back = chip.store(network, made, card=model.medium.card).read_back()
    module = copy.deepcopy(network.module)
    module.load_state_dict(back, strict=False)
    found = []
    for number, layer in enumerate(model.layers):
        ours, clean = outputs_of(module, layer.name, images), outputs_of(network.module, layer.name, images)
        if number < len(model.layers) - 1:
            ours, clean = ours.relu(), clean.relu()
        found.append(float((ours - clean).square().mean()))
    return np.array(found)


@pytest.mark.parametrize("code", ["digital(1)", "digital(2)", "sparse(75,digital(1))"])
def test_a_corrected_plan_gives_outputs_nearer_to_the_network_at_no_cell_more(model, tiny_images, code):
    plain = uniform_plan(model, code, shrinkage=0.0)
    corrected = Sequence.of(model).rounded(plain, anew=False)
    assert misses(model, corrected, tiny_images)[-1] < 0.8 * misses(model, plain, tiny_images)[-1]
    assert corrected.ledger == plain.ledger
    assert Plan.from_json(corrected.to_json()) == corrected


def test_correction_keeps_every_digit_and_changes_scales_within_bounds(model, tiny):
    plain = uniform_plan(model, "digital(2)", shrinkage=0.0)
    corrected = Sequence.of(model).rounded(plain, anew=False)
    read = [chip.store(tiny, each).read_back() for each in (plain, corrected)]
    for layer, before, after in zip(model.layers, plain.layers, corrected.layers, strict=True):
        old, new = (back[f"{layer.name}.weight"].numpy().reshape(layer.rows.shape) for back in read)
        ratio = np.array(after.scales) / np.array(before.scales)
        # Both scales are bfloat16 numbers, 2^-8 apart.
        assert GAINS[0] * (1 - 2**-8) <= ratio.min() <= ratio.max() <= GAINS[1] * (1 + 2**-8)
        np.testing.assert_allclose(new, old * ratio[:, None].astype(np.float32), rtol=1e-5)


def test_a_gain_and_a_shift_that_were_put_in_are_taken_out_again(model, tiny_images):
    plain = uniform_plan(model, "digital(8)", shrinkage=0.0)
    first = plain.layers[0]
    rows = layer_plan.rows_to_write(first, menu_of(plain), model.layers[0].rows)
    weak = dataclasses.replace(
        first,
        scales=np.float32(0.75) * first.scales,
        rows=np.float32(0.75) * rows,
        biases=first.biases + np.float32(0.125),
    )
    spoiled = dataclasses.replace(plain, layers=(weak, *plain.layers[1:]))
    corrected = Sequence.of(model).rounded(spoiled, anew=False)
    assert misses(model, corrected, tiny_images).max() < 0.01 * misses(model, spoiled, tiny_images).max()
    # Gains and biases are kept to 2^-9 of themselves, and a filter whose outputs are seldom positive fits loosely.
    assert np.median(np.array(corrected.layers[0].scales) / np.array(first.scales)) == pytest.approx(1, abs=0.02)


def test_layers_before_a_rectifier_are_found(model):
    names = [layer.name for layer in model.layers]
    assert Sequence.of(model).rectified == set(names[:-1])


def test_other_groups_than_filters_are_left_as_they_are(tiny, tiny_images):
    model = build_model(tiny, tiny_images, card="ideal", menu=MENU, granularity="layer")
    plain = uniform_plan(model, "digital(2)", shrinkage=0.0)
    assert Sequence.of(model).rounded(plain) is plain


@pytest.fixture(scope="module")
def partly_dead(tiny_images):
    """A loss model, with the default menu, of a network with dead channels, zero filters and constant outputs."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 3)
    )
    with torch.no_grad():
        module[0].bias[1] = -50  # dead after the ReLU
        module[0].weight[2], module[0].bias[2] = 0, 1  # a constant output
        module[0].weight[3] = 0
        module[2].weight[3] = 0
        module[2].bias[4] = -50
        module[2].weight[5] = 0
        module[2].weight[5, 2] = 0.5  # sees the constant channel alone
    return build_model(physcomp.wrap(module, "partly dead"), tiny_images, card="pcm-zarcone")


@pytest.mark.parametrize("code", [name for name in DEFAULT if name.startswith(("digital", "stepped", "sparse"))])
def test_groups_with_constant_outputs_are_corrected_stored_and_read_back(partly_dead, code):
    corrected = Sequence.of(partly_dead).rounded(uniform_plan(partly_dead, code, shrinkage=0.0), anew=False)
    state = chip.store(partly_dead.network, corrected, card=partly_dead.medium.card).read_back()
    for layer, planned in zip(partly_dead.layers, corrected.layers, strict=True):
        assert planned.rows.shape == layer.rows.shape  # every group keeps its row, whether it gets a gain or not
        zeros = ~layer.rows.any(1)
        assert not state[f"{layer.name}.weight"].numpy().reshape(layer.rows.shape)[zeros].any()
    assert all(torch.isfinite(tensor).all() for tensor in state.values())


def test_the_choice_of_a_partly_dead_network_is_stored_and_read_back(partly_dead, tiny_images):
    plan = physcomp.choose(partly_dead, tiny_images, [0.7]).best(0.7)
    stored = chip.store(partly_dead.network, plan, card=partly_dead.medium.card)
    assert physcomp.evaluate_state(partly_dead.network, stored.read_back(), tiny_images).loss < 2


def small_network(seed):
    """A random network that its own answers are the labels of, with calibration and held-out samples."""
    torch.manual_seed(seed)
    kinds = [
        lambda: nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 4)),
        lambda: nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.ReLU6(), nn.Conv2d(8, 12, 1), nn.ReLU(),
            nn.Flatten(), nn.Linear(12 * 16, 4),
        ),
    ]  # fmt: skip
    module = kinds[seed % 2]().eval()
    inputs = torch.randn(400, 12) if seed % 2 == 0 else torch.randn(400, 1, 8, 8)
    with torch.no_grad():
        labels = (4 * module(inputs)).argmax(1)
    samples = physcomp.Samples(inputs, labels)
    return physcomp.wrap(module, f"random {seed}", samples=samples), samples[:250], samples[250:]


@torch.no_grad()
def distance(network, state, samples):
    """Divergence of a stored network's outputs from the trained one's."""
    module = copy.deepcopy(network.module)
    module.load_state_dict(state, strict=False)
    wanted = network.outputs(samples.inputs)
    return float(network.task.divergence(module(samples.inputs), wanted, samples.labels, 1.0))


@pytest.mark.parametrize("seed", range(10))
def test_rounding_in_sequence_is_nearer_to_the_network_than_rounding_alone_on_samples_it_never_saw(seed):
    network, calibration, heldout = small_network(seed)
    model = build_model(network, calibration, card="ideal", menu=("pruned", "digital(8)"))
    plain = one_code(model, parse("coded(2.32)"))
    rounded = Sequence.of(model).rounded(plain)
    before, after = (distance(network, chip.store(network, plan).read_back(), heldout) for plan in (plain, rounded))
    assert after < before


def test_a_plan_rounded_in_sequence_counts_its_cells_anew_and_reads_back_what_it_says(model, tiny):
    plain = one_code(model, parse("coded(3)"))
    rounded = Sequence.of(model).rounded(plain)
    bits = len(chip.store(tiny, rounded).bits)
    assert rounded.ledger["digits"] != plain.ledger["digits"]
    assert rounded.cells * rounded.bits_per_cell == pytest.approx(bits)
    back = chip.store(tiny, rounded).read_back()
    for layer, planned in zip(model.layers, rounded.layers, strict=True):
        read = back[layer.weight].numpy().reshape(layer.rows.shape)
        np.testing.assert_allclose(read, planned.rows, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(("seed", "code"), [(0, "coded(2)"), (1, "stepped(1.5)")])
def test_tuning_keeps_every_digit_and_brings_outputs_nearer_on_samples_it_never_saw(seed, code):
    network, calibration, heldout = small_network(seed)
    model = build_model(network, calibration, card="ideal", menu=("pruned", "digital(8)"))
    rounded = Sequence.of(model).rounded(one_code(model, parse(code)))
    further = tuned(network, rounded, model.medium, calibration)
    assert further.ledger == rounded.ledger
    read = [chip.store(network, each).read_back() for each in (rounded, further)]
    assert distance(network, read[1], calibration) < 0.98 * distance(network, read[0], calibration)
    assert distance(network, read[1], heldout) < distance(network, read[0], heldout)
    for layer, before, after in zip(model.layers, rounded.layers, further.layers, strict=True):
        old, new = (back[layer.weight].numpy().reshape(layer.rows.shape) for back in read)
        ratio = np.array(after.scales) / np.where(np.array(before.scales) > 0, before.scales, 1)
        np.testing.assert_allclose(new, old * ratio[:, None].astype(np.float32), rtol=1e-5, atol=1e-8)
    assert Plan.from_json(further.to_json()) == further
