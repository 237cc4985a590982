"""Plans moved to other cells: the same bits, counted in the other card's cells, read back alike."""

import dataclasses

import numpy as np
import pytest
import torch

import devices
import physcomp

MENU = ("digital(4)", "sparse(50,digital(1))", "analog(1)")


@pytest.fixture(scope="module")
def model(tiny: physcomp.Network, tiny_images: physcomp.Images) -> physcomp.LossModel:
    return physcomp.build_model(tiny, tiny_images, card="pcm-zarcone", menu=MENU)


@pytest.fixture(scope="module")
def digital(model: physcomp.LossModel) -> physcomp.Plan:
    choice = np.arange(len(model.loss)) % 2
    return physcomp.plan_of(model, choice, method="own", shrinkage=0.0, budget=3.0)


def test_a_moved_plan_holds_the_same_bits_in_the_cells_of_the_other_card(
    digital: physcomp.Plan, tiny: physcomp.Network
) -> None:
    card = devices.load_card("pcm-nandakumar")
    moved = physcomp.moved(digital, card, 3600.0)
    assert moved.bits_per_cell == devices.reliable_bits(card, 3600.0) != digital.bits_per_cell
    for name, cells in digital.ledger.items():
        assert moved.ledger[name] * moved.bits_per_cell == pytest.approx(cells * digital.bits_per_cell)
    assert moved.budget is not None
    assert moved.cells_per_weight / moved.budget == pytest.approx(digital.cells_per_weight / 3.0)
    chip, before = physcomp.store(tiny, moved, card=card, seed=1), physcomp.store(tiny, digital, seed=2)
    np.testing.assert_array_equal(chip.bits, before.bits)
    for name, tensor in chip.read_back().items():
        assert torch.equal(tensor, before.read_back()[name])
    assert physcomp.Plan.from_json(moved.to_json()) == moved
    assert physcomp.moved(digital, "pcm-nandakumar", 3600.0) == moved


def test_a_moved_plan_counts_by_the_storage_of_the_first(digital: physcomp.Plan) -> None:
    card = devices.load_card("pcm-nandakumar")
    practical = physcomp.moved(dataclasses.replace(digital, ecc="bch"), card, 60.0)
    assert practical.bits_per_cell == devices.practical_bits(card, 60.0).bits_per_cell


def test_a_plan_with_analog_cells_or_for_a_card_outside_its_range_does_not_move(
    model: physcomp.LossModel, digital: physcomp.Plan
) -> None:
    analog = physcomp.plan_of(model, np.full(len(model.loss), 2), method="own", shrinkage=0.0)
    with pytest.raises(ValueError, match="has analog cells written for pcm-zarcone"):
        physcomp.moved(analog, devices.load_card("pcm-nandakumar"), 60.0)
    with pytest.raises(ValueError, match="pcm-zarcone"):
        physcomp.moved(digital, devices.load_card("pcm-zarcone"), 86400.0)
