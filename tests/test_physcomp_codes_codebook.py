"""The codebook: optimal values by brute force, stored once a layer, paid once, read from the chip's bits alone."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

import devices
import physcomp
import qubo
from physcomp.codes import Codebook, Encoded, Medium, fit_scales, parse
from physcomp.codes.base import to_bfloat16
from physcomp.codes.codebook import book_of

IDEAL = Medium(devices.load_card("ideal"), 0.0)


def loss(values: np.ndarray, costs: np.ndarray, book: np.ndarray) -> float:
    return float((costs * ((values[:, None] - book) ** 2).min(axis=1)).sum())


def least(values: np.ndarray, costs: np.ndarray, count: int) -> float:
    """The least loss of any `count` values: every way to cut the sorted values into runs, each at its mean."""
    order = np.argsort(values)
    values, costs = values[order], costs[order]
    found = np.inf
    for cuts in itertools.combinations(range(1, len(values)), count - 1):
        runs = np.split(np.arange(len(values)), cuts)
        book = np.array([np.average(values[run], weights=costs[run]) for run in runs])
        found = min(found, loss(values, costs, book))
    return found


@pytest.mark.parametrize("seed", range(10))
def test_no_other_book_loses_less(seed: int) -> None:
    random = np.random.default_rng(seed)
    values, costs = random.standard_t(4, 14) / 8, random.exponential(size=14)
    # bfloat16 rounds a mean by 2^-9 of itself, which adds the square of that.
    rounding = float((costs * (2**-9 * np.abs(values).max()) ** 2).sum())
    for bits in (1, 2, 3):
        best = least(values, costs, 2**bits)
        assert best - 1e-12 <= loss(values, costs, book_of(values, costs, bits)) <= best + rounding


def test_every_value_of_a_book_is_the_mean_of_the_weights_nearest_to_it() -> None:
    random = np.random.default_rng(3)
    values, costs = random.normal(0, 0.3, 5000).clip(-1, 1), random.exponential(size=5000)
    book = book_of(values, costs, 3)
    nearest = np.abs(values[:, None] - book).argmin(axis=1)
    means = [np.average(values[nearest == place], weights=costs[nearest == place]) for place in range(8)]
    np.testing.assert_allclose(book, means, rtol=2**-7, atol=1e-3)
    np.testing.assert_array_equal(book, np.sort(to_bfloat16(book)))


def test_few_values_are_kept_exactly_and_no_weights_give_a_book_of_zeros() -> None:
    values = np.repeat([-0.5, 0.0, 0.25, 1.0], [5, 9, 3, 1])
    assert loss(values, np.ones(18), book_of(values, np.ones(18), 2)) == pytest.approx(0, abs=1e-25)
    assert loss(values, np.ones(18), book_of(values, np.ones(18), 8)) == pytest.approx(0, abs=1e-25)
    assert not book_of(np.zeros(0), np.zeros(0), 2).any()


def test_a_book_loses_less_than_evenly_spaced_levels_of_as_many_bits(rows: np.ndarray) -> None:
    importance = np.ones(rows.shape)

    def lost(name: str) -> float:
        code = parse(name)
        scales = fit_scales(code, rows, importance, IDEAL)
        mean, _ = code.writer(rows, importance, scales, IDEAL).error(rows, scales, IDEAL)
        return float((mean**2).sum())

    for bits in (2, 3, 4):
        assert lost(f"codebook({bits})") < lost(f"digital({bits})")


def test_a_reader_needs_nothing_but_the_bits(rows: np.ndarray) -> None:
    scales = fit_scales(parse("codebook(3)"), rows, np.ones(rows.shape), IDEAL)
    book = to_bfloat16(np.array([-1, -0.5, -0.25, 0, 0.125, 0.25, 0.5, 1]))
    writer = Codebook(3).given(None, book)
    bits = writer.encode(rows, scales, IDEAL).bits
    assert bits.shape == (1, 8 * 16 + 3 * rows.size)
    back = Codebook(3).decode(Encoded(bits, np.zeros((7, 0), np.float32)), scales, rows.shape[1], IDEAL)
    np.testing.assert_allclose(back, rows + writer.error(rows, scales, IDEAL)[0], rtol=1e-6, atol=1e-9)
    assert {float(value) for value in np.unique(back[0] / scales[0])} <= {float(value) for value in book}


def test_names_that_are_no_codebook_are_refused_in_one_line() -> None:
    for name in ("codebook(0)", "codebook(9)", "codebook(1.5)", "codebook", "codebook(2,3)"):
        with pytest.raises(ValueError, match=r"^code 'codebook"):
            parse(name)
    for name in ("sparse(50,codebook(2))", "mixed(codebook(2),digital(2),25%)"):
        with pytest.raises(ValueError, match=r"codebook\(2\) stores whole groups only; write digital\(2\) inside"):
            parse(name)


@pytest.fixture(scope="module")
def model(tiny: physcomp.Network, tiny_images: physcomp.Images) -> physcomp.LossModel:
    menu = ("pruned", "digital(3)", "codebook(2)", "coded(4)")
    return physcomp.build_model(tiny, tiny_images, card="pcm-zarcone", menu=menu)


def budget(model: physcomp.LossModel, cells: float) -> float:
    """Cells per weight with what is taken in any case."""
    return (cells + sum(model.overhead(len(model.menu)).values())) / model.weights


def test_a_layer_pays_for_its_book_once_and_only_if_it_uses_it(model: physcomp.LossModel) -> None:
    selection = model.selection(100.0)
    assert len(model.setups) == 3
    per_cell = model.medium.bits_per_cell
    nothing = np.zeros(13, np.int64)
    one, layer = nothing.copy(), nothing.copy()
    one[0], layer[:4] = 2, 2
    books = [selection.total_cost(choice) - model.cost[np.arange(13), choice].sum() for choice in (nothing, one, layer)]
    assert books == pytest.approx([0, 64 / per_cell, 64 / per_cell])
    everything = np.full(13, 2)
    extra = selection.total_cost(everything) - model.cost[:, 2].sum()
    assert extra == pytest.approx(3 * 64 / per_cell)
    assert model.selection(budget(model, 1e-9)).smallest_cost == 0  # offered, and not used


def test_the_ledger_has_the_books_that_the_chip_stores(model: physcomp.LossModel, tiny: physcomp.Network) -> None:
    choice = np.array([2, 2, 1, 0, *[0] * 6, 2, 1, 1])
    plan = physcomp.plan_of(model, choice, method="some", shrinkage=0.0)
    assert plan.ledger["setup"] * plan.bits_per_cell == pytest.approx(2 * 64)
    assert [sorted(layer.learned) for layer in plan.layers] == [[2], [], [2]]
    chip = physcomp.store(tiny, plan)
    stored = plan.cells - plan.ledger["plan"]
    assert len(chip.bits) == pytest.approx(stored * plan.bits_per_cell)
    book = plan.layers[0].learned[2]
    state = chip.read_back()
    first = state[f"{plan.layers[0].name}.weight"].numpy().reshape(4, -1)
    for group in (0, 1):
        levels = book * plan.layers[0].scales[group]
        assert np.abs(first[group][:, None] - levels).min(axis=1).max() <= 1e-6 * np.abs(levels).max()


def test_plan_and_chip_files_keep_the_books(model: physcomp.LossModel, tiny: physcomp.Network, tmp_path: Path) -> None:
    plan = physcomp.uniform_plan(model, "codebook(2)", shrinkage=0.0)
    assert physcomp.Plan.from_json(plan.to_json()) == plan
    first = plan.layers[0]
    other = dataclasses.replace(first, learned={2: 2 * first.learned[2]})
    changed = dataclasses.replace(plan, layers=(other, *plan.layers[1:]))
    assert changed != plan
    assert changed.sha256 != plan.sha256
    chip = physcomp.store(tiny, plan)
    chip.save(tmp_path / "chip.h5")
    loaded = physcomp.load_chip(tmp_path / "chip.h5").read_back()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in chip.read_back().items())


def test_books_that_nobody_uses_leave_the_budget_to_others(
    model: physcomp.LossModel, tiny: physcomp.Network, tiny_images: physcomp.Images
) -> None:
    """At a budget at which no book pays, the optimum is that of the menu without books."""
    plain = physcomp.build_model(tiny, tiny_images, card="pcm-zarcone", menu=("pruned", "digital(3)"))
    cells = 0.6 * float(plain.cost[:, 1].sum())
    cells = min(cells, 0.99 * float(model.setups[0].cost[2:].min() + model.cost[:, 2:].min()))
    chosen = qubo.solve(model.selection(budget(model, cells), shrinkage=0.0), "exact")
    alone = qubo.solve(plain.selection(budget(plain, cells), shrinkage=0.0), "exact")
    np.testing.assert_array_equal(chosen.choice, alone.choice)
    assert alone.choice.any()


def test_training_learns_for_the_book_of_the_plan(
    model: physcomp.LossModel, tiny: physcomp.Network, tiny_images: physcomp.Images
) -> None:
    plan = physcomp.uniform_plan(model, "codebook(2)", shrinkage=0.0)
    done = physcomp.finetune(tiny, plan, tiny_images, heldout=tiny_images, epochs=3)
    assert done.history[-1].training_loss < done.history[0].training_loss
    assert done.plan.cells == plan.cells
    state = physcomp.store(done.network, done.plan).read_back()
    for name, tensor in done.network.module.state_dict().items():
        assert torch.equal(state[name], tensor), name
    for before, after in zip(plan.layers, done.plan.layers, strict=True):
        np.testing.assert_array_equal(before.learned[2], after.learned[2])
