"""Choosing and training in turn: when it stops, what is kept, and budgets that cannot be met."""

import dataclasses
from pathlib import Path

import pytest

import devices
import physcomp
from physcomp.networks.description import Described, describe, read_description
from physcomp.training.alternation import Round, Schedule, _settled, alternate, best_of


@pytest.fixture(scope="module")
def described(tiny_folder: Path) -> Described:
    path = tiny_folder / "net.toml"
    return describe(read_description(path), physcomp.load_network(path))


@pytest.fixture(scope="module")
def images(tiny_folder: Path) -> physcomp.Images:
    return physcomp.load_images(tiny_folder / "images", "train")[:100]


@pytest.fixture(scope="module")
def schedule() -> Schedule:
    return Schedule(card=devices.load_card("pcm-zarcone"), budget=1.5, rounds=1, epochs=1)


@pytest.fixture(scope="module")
def first(described: Described, images: physcomp.Images, schedule: Schedule) -> Round:
    (made,) = alternate(described, images, images, heldout=images, schedule=schedule)
    return made


def test_a_round_keeps_to_the_budget_and_its_parts_belong_together(
    first: Round, described: Described, schedule: Schedule
) -> None:
    plan = first.finetuned.plan
    assert first.cells == plan.cells <= schedule.budget * described.network.parameters
    assert plan.budget is not None
    assert plan.cells_per_weight <= plan.budget
    assert plan.network_sha256 == first.described.network.sha256 == first.finetuned.network.sha256
    assert plan.proof.heldout_loss == first.heldout_loss
    if plan.noiseless:
        assert first.heldout_loss == pytest.approx(first.finetuned.history[-1].heldout_loss)


def test_no_more_rounds_are_made_than_asked_for(
    first: Round, described: Described, images: physcomp.Images, schedule: Schedule
) -> None:
    assert list(alternate(described, images, images, heldout=images, schedule=schedule, done=(first,))) == []


def test_it_stops_when_a_round_is_no_better_than_the_best_before(first: Round) -> None:
    losses = [dataclasses.replace(first, heldout_loss=loss) for loss in (0.5, 0.4, 0.4)]
    assert not _settled(losses[:1])
    assert not _settled(losses[:2])
    assert _settled(losses)


def test_the_best_round_is_the_one_of_least_loss_within_the_cells_allowed(first: Round) -> None:
    rounds = [dataclasses.replace(first, heldout_loss=h, cells=c) for h, c in ((0.5, 90.0), (0.3, 110.0), (0.4, 100.0))]
    assert best_of(rounds, 100.0) is rounds[2]
    assert best_of(rounds, 120.0) is rounds[1]
    with pytest.raises(ValueError, match="80 cells are allowed, training ended with 90"):
        best_of(rounds, 80.0)


def test_a_budget_below_the_smallest_feasible_one_names_that_one(
    described: Described, images: physcomp.Images, schedule: Schedule
) -> None:
    small = dataclasses.replace(schedule, budget=0.01)
    with pytest.raises(ValueError, match="takes at least"):
        next(alternate(described, images, images, heldout=images, schedule=small))
