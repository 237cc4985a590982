"""The magnitude Hamiltonian of a network, and its answers stored and read back."""

import numpy as np
import pytest
import torch

import physcomp
import qubo
from physcomp.choice import magnitude


@pytest.fixture(scope="module")
def model(tiny, tiny_images):
    return physcomp.build_model(tiny, tiny_images, card="pcm-nandakumar", compared=magnitude.CODES)


@pytest.fixture(scope="module")
def plain(tiny, tiny_images):
    """The same with a menu whose whole bit-widths are 1 and 8."""
    menu = ("pruned", "digital(1)", "digital(2.32)", "digital(3.91)", "digital(4.95)", "digital(8)")
    return physcomp.build_model(tiny, tiny_images, card="pcm-nandakumar", menu=menu)


def compression(bits, pruned=()):
    """Bits a layer of the tiny network, and the pruned filters counted through all layers."""
    flags = np.zeros(13, dtype=bool)
    flags[list(pruned)] = True
    return qubo.Compression(tuple(np.split(flags, [4, 10])), tuple(bits), 0.0)


def names(model, choice):
    return [model.menu[index].name for index in choice]


def test_the_hamiltonian_is_that_of_the_folded_weights(tiny):
    built = magnitude.hamiltonian(tiny, beta=0.5, gamma=2.0)
    parts = [part for part in tiny.module.modules() if isinstance(part, torch.nn.Conv2d | torch.nn.Linear)]
    assert built.variables == 4 + 6 + 3 + 3 * 3
    for mean, count, part in zip(built.means, built.weights, parts, strict=True):
        weight = part.weight.detach().double().flatten(1)
        assert mean == pytest.approx(weight.abs().sum(dim=1).numpy() / weight.shape[1], rel=1e-6)
        assert (count == weight.shape[1]).all()


def test_its_optimum_is_that_of_a_sampler_run_on_its_binary_model(tiny):
    from dwave.samplers import SimulatedAnnealingSampler

    built = magnitude.hamiltonian(tiny, beta=0.05, gamma=0.5)
    best = built.optimum()
    bqm = built.to_bqm()
    found = SimulatedAnnealingSampler().sample(bqm, num_reads=50, seed=1)
    sample = [found.first.sample[v] for v in range(built.variables)]
    assert built.decode(sample).energy == pytest.approx(best.energy, abs=1e-9)
    assert 0 < sum(flags.sum() for flags in best.pruned) < 13  # neither corner


def test_every_bit_width_has_its_code_if_compared(model):
    chosen = names(model, magnitude.choice_of(model, compression([1, 5, 8], pruned=[0, 12])))
    assert chosen == ["pruned", *["digital(1)"] * 3, *["digital(5)"] * 6, *["digital(8)"] * 2, "pruned"]
    assert {code.name for code in model.menu} >= set(magnitude.CODES)


@pytest.mark.parametrize(("bits", "code"), [(1, "digital(1)"), (2, "digital(2.32)"), (3, "digital(3.91)"),
                                           (4, "digital(4.95)"), (5, "digital(8)"), (8, "digital(8)")])  # fmt: skip
def test_a_bit_width_that_the_menu_lacks_becomes_the_next_wider_one(plain, bits, code):
    assert set(names(plain, magnitude.choice_of(plain, compression([bits] * 3)))) == {code}


def test_a_plan_reads_back_the_pruned_filters_as_zero_and_the_others_on_their_levels(tiny, model):
    plan = magnitude.plan_of_compression(model, compression([2, 4, 8], pruned=[1, 5, 11]))
    state = physcomp.store(tiny, plan).read_back()
    assert plan.noiseless
    weights = [state[f"{layer.name}.weight"].flatten(1) for layer in plan.layers]
    for layer, (rows, gone, bits) in enumerate(zip(weights, ([1], [1], [1]), (2, 4, 8), strict=True)):
        for filter_, row in enumerate(rows):
            if filter_ in gone:
                assert (row == 0).all()
            else:
                assert 1 < len(row.unique()) <= 2**bits - 1, (layer, filter_)


def test_the_ledger_counts_one_bit_a_filter_and_three_a_layer(model):
    plan = magnitude.plan_of_compression(model, compression([8, 8, 8]))
    assert plan.ledger["plan"] * plan.bits_per_cell == pytest.approx(13 + 3 * 3)
    assert plan.ledger["analog"] == 0
    digits = sum(layer.rows.size for layer in model.layers) * 8
    assert (plan.ledger["digits"] + plan.ledger["signs"]) * plan.bits_per_cell == pytest.approx(digits)


def test_eight_bits_and_nothing_pruned_keep_the_accuracy(tiny, model, tiny_images):
    plan = magnitude.plan_of_compression(model, compression([8, 8, 8]))
    score = physcomp.evaluate_state(tiny, physcomp.store(tiny, plan).read_back(), tiny_images)
    assert score.loss == pytest.approx(physcomp.evaluate(tiny.module, tiny_images).loss, rel=0.02)


def test_a_plan_survives_its_file(model, tmp_path):
    plan = magnitude.plan_of_compression(model, compression([3, 3, 3], pruned=[2]))
    plan.save(tmp_path / "plan.json")
    assert physcomp.Plan.load(tmp_path / "plan.json") == plan


def test_what_does_not_fit_is_refused_in_one_line(tiny, tiny_images, model):
    kernels = physcomp.build_model(tiny, tiny_images, card="ideal", granularity="layer")
    narrow = physcomp.build_model(tiny, tiny_images, card="ideal", menu=("pruned", "digital(2)"))
    full = physcomp.build_model(tiny, tiny_images, card="ideal", menu=("digital(8)",))
    other = qubo.Compression((np.zeros(4, dtype=bool),), (8,), 0.0)
    for where, what, line in (
        (kernels, compression([8] * 3), "prunes filters, got granularity 'layer'"),
        (narrow, compression([3] * 3), "no digital code of 3 bits or more is in it"),
        (full, compression([8] * 3), "'pruned' is not in it"),
        (model, other, "its layers are not the model's"),
    ):
        with pytest.raises(ValueError, match=line) as caught:
            magnitude.choice_of(where, what)
        assert "\n" not in str(caught.value)
