"""Structured pruning: runs dropped together against closed form, brute force and pruning weight by weight."""

import itertools

import numpy as np
import pytest
from compensated import prune_rows, prune_runs, unit_curvature

from physcomp.codes import parse
from physcomp.compensation.rows import rows_for_codes
from physcomp.curvature.blocks import Curvature


def problem(weights: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A row, and a curvature whose weights are strongly coupled."""
    generator = np.random.default_rng(seed)
    mixing = generator.standard_normal((weights, weights)) / weights**0.5 + np.eye(weights)
    gradients = generator.standard_normal((2 * weights, weights)) @ mixing
    matrix = gradients.T @ gradients / len(gradients)
    matrix = (matrix + 0.05 * np.diag(matrix).mean() * np.eye(weights)).astype(np.float32)
    return generator.standard_normal(weights).astype(np.float32), matrix.astype(np.float64)


def curvature_of(*matrices: np.ndarray, size: int | None = None) -> Curvature:
    """With blocks of so many weights, what lies outside them left out."""
    weights = len(matrices[0])
    size = size or weights
    starts = range(0, weights, size)
    blocks = np.zeros((len(matrices), len(starts), size, size), np.float32)
    for group, (number, start) in itertools.product(range(len(matrices)), enumerate(starts)):
        part = matrices[group][start : start + size, start : start + size]
        blocks[group, number, : len(part), : len(part)] = part
    return Curvature(np.stack([np.diag(matrix) for matrix in matrices]), blocks)


def pruned(row: np.ndarray, matrix: np.ndarray, run: int, *counts: int, size: int | None = None) -> np.ndarray:
    """(counts, weights), with the curvature as it is."""
    return prune_runs(row[None], curvature_of(matrix, size=size), run, counts, damping=0.0)[0].T.astype(np.float64)


def form(matrix: np.ndarray, change: np.ndarray) -> float:
    return float(change @ matrix @ change) / 2


def best_with(matrix: np.ndarray, row: np.ndarray, gone: np.ndarray) -> np.ndarray:
    """The minimum of the quadratic form with some weights at zero, by solving for the others."""
    found = np.zeros(len(row))
    left = ~gone
    found[left] = row[left] + np.linalg.solve(matrix[np.ix_(left, left)], matrix[np.ix_(left, gone)] @ row[gone])
    return found


def dropped(runs: tuple[int, ...], run: int, weights: int) -> np.ndarray:
    return np.isin(np.arange(weights) // run, runs)


def runs_kept(found: np.ndarray, run: int) -> list[int]:
    return sorted(set((np.flatnonzero(found) // run).tolist()))


@pytest.mark.parametrize(("weights", "run"), [(12, 3), (18, 9), (20, 6), (7, 2)])
def test_one_run_dropped_is_that_of_least_saliency_and_the_others_move_as_the_closed_form_says(weights, run):
    for seed in range(15):
        row, matrix = problem(weights, seed)
        inverse = np.linalg.inv(matrix)
        saliencies, moved = [], []
        for start in range(0, weights, run):
            places = np.arange(start, min(start + run, weights))
            block = np.linalg.inv(inverse[np.ix_(places, places)])
            # Kurtic et al. 2022, equations 4 and 5: the rise, and the move of all weights.
            saliencies.append(0.5 * row[places] @ block @ row[places])
            moved.append(row - inverse[:, places] @ block @ row[places])
        cheapest = int(np.argmin(saliencies))
        (found,) = pruned(row, matrix, run, len(saliencies) - 1)
        assert cheapest not in runs_kept(found, run)
        np.testing.assert_allclose(found, moved[cheapest], atol=1e-5)
        assert form(matrix, found - row) == pytest.approx(saliencies[cheapest], rel=1e-4)


@pytest.mark.parametrize("run", [2, 4, 9])
@pytest.mark.parametrize("weights", [41, 200])
def test_for_several_runs_dropped_the_survivors_are_at_the_minimum_of_the_quadratic_form(weights, run):
    row, matrix = problem(weights, seed=run)
    runs = -(-weights // run)
    counts = (runs, runs - 1, runs // 2, 2, 1)
    for count, found in zip(counts, pruned(row, matrix, run, *counts), strict=True):
        kept = runs_kept(found, run)
        assert len(kept) == count
        gone = ~dropped(tuple(kept), run, weights)
        np.testing.assert_array_equal(found == 0, gone)
        np.testing.assert_allclose(found, best_with(matrix, row, gone), atol=1e-4)


@pytest.mark.parametrize(("weights", "run"), [(41, 4), (200, 9), (200, 3)])
def test_each_run_dropped_is_the_cheapest_of_those_left(weights, run):
    # The closed form again after every step, from scratch: 200 weights take several panels of the kernel.
    row, matrix = problem(weights, seed=1)
    runs = -(-weights // run)
    counts = tuple(range(runs, 0, -1))
    alive = list(range(runs))
    left = row.astype(np.float64)
    for found in pruned(row, matrix, run, *counts)[1:]:
        inside = ~dropped(tuple(set(range(runs)) - set(alive)), run, weights)
        inverse = np.zeros((weights, weights))
        inverse[np.ix_(inside, inside)] = np.linalg.inv(matrix[np.ix_(inside, inside)])
        costs = []
        for number in alive:
            places = np.flatnonzero(dropped((number,), run, weights))
            costs.append(left[places] @ np.linalg.solve(inverse[np.ix_(places, places)], left[places]))
        (gone,) = set(alive) - set(runs_kept(found, run))
        assert costs[alive.index(gone)] <= min(costs) * (1 + 1e-3)
        alive.remove(gone)
        left = best_with(matrix, row.astype(np.float64), ~dropped(tuple(alive), run, weights))


def test_greedy_dropping_of_runs_is_near_the_best_choice_of_all():
    ratios = []
    for seed in range(30):
        row, matrix = problem(21, 100 + seed)
        (found,) = pruned(row, matrix, 3, 4)
        losses = []
        for runs in itertools.combinations(range(7), 3):
            gone = dropped(runs, 3, 21)
            losses.append(form(matrix, best_with(matrix, row, gone) - row))
        ratios.append(form(matrix, found - row) / min(losses))
    # All 35 choices tried: greedy dropping can be no better, and in these thirty it is at most 1.55 times as bad.
    assert min(ratios) > 1 - 1e-4
    assert np.median(ratios) < 1.05
    assert max(ratios) < 1.6


def test_runs_of_one_weight_are_pruned_as_weights_are():
    rows, matrices = zip(*(problem(30, seed) for seed in range(5)), strict=True)
    curvature = curvature_of(*matrices)
    ours = prune_runs(np.stack(rows), curvature, 1, (15, 6, 3))
    theirs = prune_rows(np.stack(rows), curvature, (0.5, 0.8, 0.9))
    np.testing.assert_array_equal(ours, theirs)


def test_blocks_of_whole_runs_are_pruned_as_one_curvature():
    for seed in range(5):
        row, matrix = problem(37, seed)
        joined = np.where(np.arange(37)[:, None] // 10 == np.arange(37) // 10, matrix, 0)
        ours, theirs = pruned(row, matrix, 5, 6, 3, 1, size=10), pruned(row, joined, 5, 6, 3, 1)
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_runs_across_blocks_go_as_a_whole_and_the_others_compensate():
    ratios = []
    for seed in range(10):
        row, matrix = problem(37, seed)
        joined = np.where(np.arange(37)[:, None] // 8 == np.arange(37) // 8, matrix, 0)  # runs of five lie across
        for ours, theirs in zip(pruned(row, matrix, 5, 6, 3, size=8), pruned(row, joined, 5, 6, 3), strict=True):
            gone = ~dropped(tuple(runs_kept(ours, 5)), 5, 37)
            np.testing.assert_array_equal(ours == 0, gone)
            np.testing.assert_allclose(ours, best_with(joined, row, gone), atol=1e-5)
            ratios.append(form(joined, ours - row) / form(joined, theirs - row))
    assert np.mean(ratios) < 1.2  # each block orders its part of a run for itself, which costs little


def test_without_images_the_largest_runs_stay_and_nothing_moves():
    rows = np.random.default_rng(0).standard_normal((3, 50)).astype(np.float32)
    code = parse("sparse(60,analog(1),9)")
    found = prune_runs(rows, unit_curvature(rows), 9, (code.kept_runs(50),))[:, :, 0]
    np.testing.assert_array_equal(found != 0, code.mask(rows))
    np.testing.assert_allclose(found[found != 0], rows[found != 0], rtol=1e-6)


def test_second_order_loses_less_than_dropping_the_smallest_runs():
    lost = np.zeros(2)
    for seed in range(10):
        row, matrix = problem(72, seed)
        (ours,) = pruned(row, matrix, 9, 2)
        (plain,) = prune_runs(row[None], unit_curvature(row[None]), 9, (2,))[0].T
        losses = form(matrix, ours - row), form(matrix, plain - row)
        assert losses[0] < losses[1]
        lost += losses
    assert lost[0] < 0.7 * lost[1]


def test_rows_for_codes_structured_codes_keep_whole_runs_each_weight_on_a_level():
    rows = np.random.default_rng(7).standard_normal((6, 81)).astype(np.float32)
    matrices = [problem(81, seed)[1] for seed in range(6)]
    curvature = curvature_of(*matrices)
    names = (
        *("sparse(50,digital(2),9)", "sparse(75,digital(2),9)", "sparse(75,digital(2))", "sparse(50,digital(3),9)"),
        *("sparse(75,analog(1),7)", "sparse(75,digital(2),7)", "sparse(75,analog(1,split),9)"),
    )
    codes = tuple(parse(name) for name in names)
    targets = rows_for_codes(rows, curvature, codes)
    for code in codes:
        target = targets[code.name]
        kept = target.rows != 0
        np.testing.assert_array_equal(kept, code.mask(target.rows))
        runs = np.add.reduceat(kept, np.arange(0, 81, code.run), axis=1)
        assert np.all((runs > 0).sum(axis=1) == code.kept_runs(81))
        if "digital" in code.name:
            levels = code.inner.count // 2
            for row, scale in zip(target.rows, target.scales, strict=True):
                place = np.abs(row[row != 0]) / scale * levels
                np.testing.assert_allclose(place, np.clip(np.round(place), 1, levels), rtol=1e-5)
        else:
            assert target.scales is None
    magnitude = rows_for_codes(rows, unit_curvature(rows), codes)
    for code in codes[:2]:
        ours, plain = (
            sum(form(matrix, row - old) for matrix, row, old in zip(matrices, found[code.name].rows, rows, strict=True))
            for found in (targets, magnitude)
        )
        assert ours < 0.8 * plain


def test_a_code_has_the_same_target_whatever_else_is_in_the_menu():
    rows = np.random.default_rng(7).standard_normal((4, 45)).astype(np.float32)
    curvature = curvature_of(*(problem(45, seed)[1] for seed in range(4)))
    names = ("sparse(80,digital(2),9)", "sparse(60,digital(2),9)", "sparse(80,digital(2),3)", "sparse(80,digital(2))")
    together = rows_for_codes(rows, curvature, tuple(parse(name) for name in (*names, "digital(2)", "analog(1)")))
    for name in names:
        alone = rows_for_codes(rows, curvature, (parse(name),))[name]
        np.testing.assert_allclose(together[name].rows, alone.rows, atol=1e-6)
        np.testing.assert_array_equal(together[name].scales, alone.scales)
