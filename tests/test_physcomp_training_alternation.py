"""Choosing and training in turn: when it stops, what is kept, and budgets that cannot be met."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

import devices
import physcomp
from physcomp.networks.description import Described, describe, read_description
from physcomp.training.alternation import Round, Schedule, _settled, alternate, best_of
from physcomp.training.rounds import load_result, load_round, save_round


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
    assert first.described is not None
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


def words_network(seed: int) -> physcomp.Network:
    """A network without a description: a table of words with tied weights, and a norm that is folded."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        table, out = nn.Embedding(12, 8), nn.Linear(8, 12)
        out.weight = table.weight
        module = nn.Sequential(table, nn.Flatten(), nn.Linear(32, 8), nn.BatchNorm1d(8), nn.ReLU(), out)
    return physcomp.wrap(module, "words", samples=words_samples()[:2])


def words_samples() -> physcomp.Samples:
    inputs = torch.randint(0, 12, (60, 4), generator=torch.Generator().manual_seed(1))
    return physcomp.Samples(inputs, inputs.sum(1) % 12)


def test_a_network_without_a_description_is_chosen_and_trained_and_its_rounds_are_files(
    schedule: Schedule, tmp_path: Path
) -> None:
    start, samples = words_network(0), words_samples()
    settings = dataclasses.replace(schedule, budget=3.0, rounds=2)
    (first, *more) = alternate(start, samples, samples, heldout=samples, schedule=settings)
    assert first.described is None
    assert first.result is first.finetuned.network
    assert first.cells == first.finetuned.plan.cells <= 3.0 * start.parameters
    save_round(first, tmp_path / "round-0.safetensors")
    other = words_network(1)  # what was wrapped, with other weights
    again = load_round(other, tmp_path / "round-0.safetensors", first.heldout_loss, first.finetuned.history)
    assert again.finetuned.network.sha256 == first.finetuned.network.sha256
    assert again.finetuned.plan == first.finetuned.plan
    assert (again.cells, again.heldout_loss, again.described) == (first.cells, first.heldout_loss, None)
    left = alternate(start, samples, samples, heldout=samples, schedule=settings, done=(again,))
    assert [made.finetuned.plan.sha256 for made in left] == [made.finetuned.plan.sha256 for made in more]
    with pytest.raises(ValueError, match="no such file of weights"):
        load_result(other, tmp_path / "none.safetensors")


def test_a_round_with_a_description_is_files_too(described: Described, first: Round, tmp_path: Path) -> None:
    save_round(first, tmp_path / "round-0.safetensors")
    again = load_round(described, tmp_path / "round-0.safetensors", first.heldout_loss, first.finetuned.history)
    assert isinstance(again.result, Described)
    assert first.described is not None
    assert again.result.description == first.described.description
    assert again.finetuned.network.sha256 == first.finetuned.network.sha256
