"""Read-back: chips and plans, times and repeated reads, spreads, and what is refused."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import physcomp
from simulations.runs.readback import Trial, read_back, spread

TRIAL = Trial(trial=0, seed=0, time_s=0.0, read=0, loss=0.2, accuracy=0.9)


@pytest.fixture(scope="module")
def network(tiny_folder: Path) -> physcomp.Network:
    return physcomp.load_network(tiny_folder / "net.toml")


@pytest.fixture(scope="module")
def pictures(tiny_folder: Path) -> physcomp.Images:
    return physcomp.load_images(tiny_folder / "images", "t10k")


def plan_on(
    network: physcomp.Network, images: physcomp.Images, card: str, time_s: float = 0.0, code: str = "analog(1)"
) -> physcomp.Plan:
    model = physcomp.build_model(network, images, card=card, read_time_s=time_s, menu=(code,))
    return physcomp.uniform_plan(model, code, shrinkage=0.0)


@pytest.fixture(scope="module")
def drifting(network: physcomp.Network, pictures: physcomp.Images) -> physcomp.Plan:
    return plan_on(network, pictures, "pcm-nandakumar", 3600.0)


def test_a_plan_is_programmed_anew_for_each_trial_with_its_own_seed(
    network: physcomp.Network, pictures: physcomp.Images, drifting: physcomp.Plan
) -> None:
    trials = read_back(drifting, pictures.inputs, pictures.labels, network=network, trials=4, seed=11)
    assert [(t.trial, t.seed, t.read, t.time_s) for t in trials] == [(n, 11 + n, 0, 3600.0) for n in range(4)]
    assert len({t.loss for t in trials}) == 4
    later = read_back(drifting, pictures.inputs, pictures.labels, network=network, trials=1, seed=13)
    assert (later[0].loss, later[0].accuracy) == (trials[2].loss, trials[2].accuracy)


def test_a_chip_is_read_anew_for_each_trial_and_its_cells_stay_as_they_are(
    network: physcomp.Network, pictures: physcomp.Images, drifting: physcomp.Plan
) -> None:
    chip = physcomp.store(network, drifting, seed=4)
    programmed = chip.cells.programmed.copy()
    trials = read_back(chip, pictures.inputs, pictures.labels, trials=3)
    assert [(t.trial, t.seed, t.read) for t in trials] == [(0, 4, 0), (1, 4, 1), (2, 4, 2)]
    assert len({t.loss for t in trials}) == 3  # read noise is drawn anew
    np.testing.assert_array_equal(chip.cells.programmed, programmed)
    again = read_back(chip, pictures.inputs, pictures.labels, trials=3)
    assert again == trials


def test_reads_of_one_chip_differ_less_than_chips(
    network: physcomp.Network, pictures: physcomp.Images, drifting: physcomp.Plan
) -> None:
    """Programming noise is the larger part at one hour (sd 0.010 to 0.043 of g_max against a read noise of less)."""
    layer = physcomp.layers_of(network.module)[1]
    name = f"{layer.name}.weight"
    chip = physcomp.store(network, drifting, seed=0)
    reads = torch.stack([chip.read_back(read=n)[name] for n in range(20)])
    chips = torch.stack([physcomp.store(network, drifting, seed=n).read_back()[name] for n in range(20)])
    # 216 weights of 20 values each: a pooled sd is known to 1/√(2·216·19) = 1.1 %.
    assert reads.var(0).mean().sqrt() < 0.9 * chips.var(0).mean().sqrt()
    assert reads.var(0).mean() > 0


def test_a_card_without_read_noise_reads_alike_every_time(network: physcomp.Network, pictures: physcomp.Images) -> None:
    plan = plan_on(network, pictures, "rram-milo")
    trials = read_back(physcomp.store(network, plan), pictures.inputs, pictures.labels, trials=3)
    assert len({(t.loss, t.accuracy) for t in trials}) == 1


def test_a_chip_and_its_plan_agree_on_the_first_trial(
    network: physcomp.Network, pictures: physcomp.Images, drifting: physcomp.Plan
) -> None:
    chip = physcomp.store(network, drifting, seed=7)
    of_chip = read_back(chip, pictures.inputs, pictures.labels)
    of_plan = read_back(drifting, pictures.inputs, pictures.labels, network=network, seed=7)
    by_card = read_back(drifting, pictures.inputs, pictures.labels, network=network, card="pcm-nandakumar", seed=7)
    assert of_chip == of_plan == by_card


def test_each_trial_is_read_at_all_times_in_turn(
    network: physcomp.Network, pictures: physcomp.Images, drifting: physcomp.Plan
) -> None:
    times = [60.0, 3600.0, 86400.0]
    shares: list[float] = []
    trials = read_back(
        drifting,
        pictures.inputs,
        pictures.labels,
        network=network,
        trials=2,
        times_s=times,
        progress=shares.append,
    )
    assert [(t.trial, t.time_s) for t in trials] == [(n, time) for n in range(2) for time in times]
    assert shares == pytest.approx([n / 6 for n in range(1, 7)])
    (alone,) = read_back(drifting, pictures.inputs, pictures.labels, network=network)
    assert alone == trials[1]  # what is read before does not change what is read after


def test_a_digital_plan_reads_back_alike_on_every_chip(network: physcomp.Network, pictures: physcomp.Images) -> None:
    plan = plan_on(network, pictures, "pcm-zarcone", code="digital(4)")
    assert plan.noiseless
    trials = read_back(plan, pictures.inputs, pictures.labels, network=network, trials=3)
    assert len({(t.loss, t.accuracy) for t in trials}) == 1


def test_read_back_leaves_the_network_as_it_was(
    network: physcomp.Network, pictures: physcomp.Images, drifting: physcomp.Plan
) -> None:
    before = network.sha256
    read_back(drifting, pictures.inputs, pictures.labels, network=network)
    assert network.sha256 == before


def test_what_cannot_be_read_back_is_refused(
    network: physcomp.Network, pictures: physcomp.Images, drifting: physcomp.Plan, tmp_path: Path
) -> None:
    pixels, labels = pictures.inputs, pictures.labels
    chip = physcomp.store(network, drifting)
    chip.save(tmp_path / "chip.h5")
    for stored in (drifting, physcomp.load_chip(tmp_path / "chip.h5")):
        with pytest.raises(ValueError, match="pass network="):
            read_back(stored, pixels, labels)
    for trials in (0, -1):
        with pytest.raises(ValueError, match=f"at least one trial, got {trials}"):
            read_back(chip, pixels, labels, trials=trials)
    for time_s in (-1.0, 1e30, float("nan")):
        with pytest.raises(ValueError, match="pcm-nandakumar"):
            read_back(chip, pixels, labels, times_s=[time_s])
    with pytest.raises(ValueError, match="made for card pcm-nandakumar, got ideal"):
        read_back(drifting, pixels, labels, network=network, card="ideal")
    with pytest.raises(ValueError, match="as many labels as inputs"):
        read_back(chip, pixels, labels[1:])


def test_a_chip_of_another_network_is_refused(
    network: physcomp.Network, tiny: physcomp.Network, pictures: physcomp.Images, drifting: physcomp.Plan
) -> None:
    chip = physcomp.store(network, drifting)
    with pytest.raises(ValueError, match="got tiny") as caught:
        read_back(chip, pictures.inputs, pictures.labels, network=tiny)
    assert "\n" not in str(caught.value)
    changed = copy.deepcopy(network.module)
    with torch.no_grad():
        next(changed.parameters()).mul_(1.5)
    with pytest.raises(ValueError, match=r"made for network .* got"):
        read_back(chip, pictures.inputs, pictures.labels, network=physcomp.wrap(changed, network.name))


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 1)), min_size=2, max_size=20))
def test_the_spread_is_numpys_mean_and_sample_deviation(values: list[tuple[float, float]]) -> None:
    over = spread(replace(TRIAL, trial=n, loss=loss, accuracy=share) for n, (loss, share) in enumerate(values))
    losses, shares = np.array(values).T
    assert over.trials == len(values)
    assert (over.loss_mean, over.loss_sd) == pytest.approx((losses.mean(), losses.std(ddof=1)), abs=1e-12)
    assert (over.accuracy_mean, over.accuracy_sd) == pytest.approx((shares.mean(), shares.std(ddof=1)), abs=1e-12)


def test_one_trial_has_no_deviation_and_none_no_spread() -> None:
    over = spread([TRIAL])
    assert (over.trials, over.loss_mean, over.loss_sd, over.accuracy_sd) == (1, 0.2, 0.0, 0.0)
    with pytest.raises(ValueError, match="run at least one"):
        spread([])
