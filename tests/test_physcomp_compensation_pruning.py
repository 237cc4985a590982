import itertools

import numpy as np
import pytest
from compensated import kept_of, prune_rows, round_rows, unit_curvature

from physcomp.choice.loss_model import build_model
from physcomp.choice.planning import uniform_plan
from physcomp.codes import parse
from physcomp.codes.base import to_bfloat16
from physcomp.compensation.cholesky import factor_of, square_of
from physcomp.compensation.rounding import DAMPING, SHARES
from physcomp.compensation.rows import rows_for_codes
from physcomp.curvature.blocks import Curvature, curvatures
from physcomp.networks.layers import layers_of
from physcomp.storage import chip, plan


def curvature_of(groups: int, weights: int, samples: int, seed: int) -> Curvature:
    """Of correlated random gradients."""
    generator = np.random.default_rng(seed)
    mixing = generator.standard_normal((groups, weights, weights)) / weights**0.5 + np.eye(weights)
    gradients = generator.standard_normal((groups, samples, weights)) @ mixing
    blocks = (gradients.transpose(0, 2, 1) @ gradients / samples).astype(np.float32)
    return Curvature(np.ones((groups, weights)), blocks[:, None])


def damped(curvature: Curvature, group: int, damping: float = DAMPING) -> np.ndarray:
    block = curvature.blocks[group, 0].astype(np.float64)
    return block + damping * np.diag(block).mean() * np.eye(len(block))


def rows_of(groups: int, weights: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((groups, weights)).astype(np.float32)


def form(matrix: np.ndarray, change: np.ndarray) -> float:
    return float(change @ matrix @ change) / 2


def best_with(matrix: np.ndarray, row: np.ndarray, gone: list[int]) -> np.ndarray:
    """The minimum of the quadratic form with some weights at zero: δ = -H⁻¹_:P ([H⁻¹]_PP)⁻¹ w_P."""
    inverse = np.linalg.inv(matrix)
    found = row - inverse[:, gone] @ np.linalg.solve(inverse[np.ix_(gone, gone)], row[gone])
    found[gone] = 0
    return found


def test_one_weight_pruned_is_that_of_least_saliency_and_the_others_move_as_the_optimal_brain_surgeon_says():
    rows, curvature = rows_of(20, 12), curvature_of(20, 12, 40, seed=1)
    pruned = prune_rows(rows, curvature, (1 / 12,))[:, :, 0]
    for group, row in enumerate(rows.astype(np.float64)):
        inverse = np.linalg.inv(damped(curvature, group))
        saliency = row**2 / (2 * np.diag(inverse))
        q = int(saliency.argmin())
        expected = row - row[q] / inverse[q, q] * inverse[:, q]  # Hassibi and Stork 1992, equation 5
        expected[q] = 0
        np.testing.assert_allclose(pruned[group], expected, atol=1e-5)
        assert form(damped(curvature, group), pruned[group] - row) == pytest.approx(saliency[q], rel=1e-4)


def test_for_several_pruned_the_survivors_are_at_the_minimum_of_the_quadratic_form():
    rows, curvature = rows_of(5, 40), curvature_of(5, 40, 60, seed=2)
    shares = (0.5, 0.75, 0.9)
    pruned = prune_rows(rows, curvature, shares)
    for group, index in itertools.product(range(5), range(3)):
        found = pruned[group, :, index].astype(np.float64)
        assert np.count_nonzero(found) == kept_of(40, shares[index])
        gone = np.flatnonzero(found == 0).tolist()
        best = best_with(damped(curvature, group), rows[group].astype(np.float64), gone)
        np.testing.assert_allclose(found, best, atol=2e-5)


def test_greedy_pruning_is_near_the_best_mask_of_all():
    rows, curvature = rows_of(30, 10, seed=3), curvature_of(30, 10, 20, seed=3)
    pruned = prune_rows(rows, curvature, (0.5,))[:, :, 0]
    ratios = []
    for group, row in enumerate(rows.astype(np.float64)):
        matrix = damped(curvature, group)
        best = min(
            form(matrix, best_with(matrix, row, list(gone)) - row) for gone in itertools.combinations(range(10), 5)
        )
        ratios.append(form(matrix, pruned[group] - row) / best)
    # All 252 masks tried: greedy pruning can be no better, and in these thirty it is at most half worse.
    assert min(ratios) > 1 - 1e-4
    assert np.median(ratios) < 1.1
    assert max(ratios) < 1.6


@pytest.mark.parametrize("weights", [9, 64, 200])
def test_it_never_loses_more_than_pruning_by_magnitude(weights):
    rows, curvature = rows_of(6, weights, seed=4), curvature_of(6, weights, 2 * weights, seed=4)
    shares = (0.5, 0.75, 0.9, 0.95)
    ours, plain = prune_rows(rows, curvature, shares), prune_rows(rows, unit_curvature(rows), shares)
    for group, index in itertools.product(range(6), range(4)):
        matrix = damped(curvature, group)
        assert form(matrix, ours[group, :, index] - rows[group]) <= form(matrix, plain[group, :, index] - rows[group])


@pytest.mark.parametrize("weights", [5, 64, 150, 450])
def test_the_factor_gives_the_inverse_curvature_of_the_weights_that_count(weights):
    """Of one panel, of several, and of so many weights that it is found in float32."""
    curvature = curvature_of(1, weights, 2 * weights, seed=8)
    inside = np.flatnonzero(np.arange(weights) % 7 != 1)
    order, factor = factor_of(curvature.blocks[0, 0], inside, DAMPING)
    assert np.all(np.diff(np.diag(curvature.blocks[0, 0])[order]) >= 0)
    assert np.all(np.triu(factor, 1) == 0)
    inverse = np.linalg.inv(damped(curvature, 0)[np.ix_(order, order)])
    np.testing.assert_allclose(factor.T @ factor, inverse, atol=1e-5 * np.abs(inverse).max())
    np.testing.assert_allclose(
        square_of(factor.astype(np.float32)), factor.T @ factor, atol=1e-5 * np.abs(inverse).max()
    )


def test_a_curvature_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="not positive definite"):
        factor_of(np.diag(np.float32([1, -1])), np.arange(2), 0.0)


def test_weights_are_dropped_and_rounded_as_by_plain_loops():
    """More weights than are brought up to date one by one, against the formulas without panels."""
    rows, curvature = rows_of(2, 150, seed=9), curvature_of(2, 150, 300, seed=9)
    pruned = prune_rows(rows, curvature, (0.8,))[:, :, 0]
    rounded, scales = round_rows(rows, curvature, (7,))
    for group in range(2):
        matrix = damped(curvature, group)
        inverse, left, alive = np.linalg.inv(matrix), rows[group].astype(np.float64), np.ones(150, bool)
        for _ in range(120):
            pick = int(np.where(alive, left**2 / np.where(alive, np.diag(inverse), 1), np.inf).argmin())
            left -= left[pick] / inverse[pick, pick] * inverse[:, pick]
            inverse -= np.outer(inverse[:, pick], inverse[pick]) / inverse[pick, pick]
            alive[pick] = False
        np.testing.assert_array_equal(pruned[group] != 0, alive)
        np.testing.assert_allclose(pruned[group], np.where(alive, left, 0), atol=1e-4)

        order = np.argsort(-np.diag(matrix), kind="stable")
        factor = np.linalg.cholesky(np.linalg.inv(matrix[np.ix_(order, order)])).T
        best = np.inf
        for scale in to_bfloat16(np.abs(rows[group]).max() * SHARES).astype(np.float64):
            left, found = rows[group, order].astype(np.float64), np.zeros(150)
            for t in range(150):
                found[t] = np.clip(np.round(left[t] / scale * 3), -3, 3) / 3 * scale
                left[t:] -= (left[t] - found[t]) / factor[t, t] * factor[t, t:]
            error = np.zeros(150)
            error[order] = found - rows[group, order]
            if form(matrix, error) < best:
                best, expected, chosen = form(matrix, error), rows[group] + error, scale
        assert scales[group, 0] == chosen
        np.testing.assert_allclose(rounded[group, :, 0], expected, atol=1e-6)


def test_without_images_it_prunes_by_magnitude_and_moves_nothing():
    rows = rows_of(4, 30)
    pruned = prune_rows(rows, unit_curvature(rows), (0.8,))[:, :, 0]
    for row, found in zip(rows, pruned, strict=True):
        kept = np.sort(np.argsort(-np.abs(row))[:6])
        np.testing.assert_array_equal(np.flatnonzero(found), kept)
        np.testing.assert_allclose(found[kept], row[kept], rtol=1e-6)


def test_several_blocks_share_the_number_of_weights_kept():
    row = np.r_[10 * np.ones(6), 0.1 * np.ones(6)].astype(np.float32)[None]
    eyes = np.tile(np.eye(6, dtype=np.float32), (1, 2, 1, 1))
    pruned = prune_rows(row, Curvature(np.ones((1, 12)), eyes), (7 / 12,))[0, :, 0]
    assert np.count_nonzero(pruned[:6]) == 5
    assert np.count_nonzero(pruned[6:]) == 0


def test_a_larger_share_is_pruned_from_what_a_smaller_one_left():
    pruned = prune_rows(rows_of(3, 50), curvature_of(3, 50, 80, seed=5), (0.5, 0.9))
    assert np.all(pruned[:, :, 0][pruned[:, :, 1] != 0] != 0)


def test_sixteen_images_prune_better_than_none(tiny, tiny_images):
    layers = layers_of(tiny.module)
    few, many = (curvatures(tiny, layers, tiny_images[:count]) for count in (16, 40))
    lost = np.zeros(2)
    for layer, known, all_of_them in zip(layers[:2], few, many, strict=False):
        for number, curvature in enumerate((known, unit_curvature(layer.rows))):
            change = prune_rows(layer.rows, curvature, (0.5,), damping=0.5)[:, :, 0] - layer.rows
            lost[number] += np.einsum("gi,gij,gj->", change, all_of_them.blocks[:, 0], change)
    assert lost[0] < 0.7 * lost[1]


def test_rows_for_codes_sparse_codes_keep_so_many_weights_each_on_a_level():
    rows, curvature = rows_of(6, 80), curvature_of(6, 80, 100, seed=7)
    codes = tuple(parse(f"sparse({inner})") for inner in ("50,digital(2)", "90,digital(2)", "75,analog(1)"))
    targets = rows_for_codes(rows, curvature, codes)
    for code in codes:
        target = targets[code.name]
        assert np.all((target.rows != 0).sum(axis=1) == code.kept(80))
        if target.scales is not None:
            place = np.abs(target.rows[target.rows != 0].reshape(6, -1)) / target.scales[:, None] * 2
            np.testing.assert_allclose(place, np.clip(np.round(place), 1, 2), rtol=1e-5)
    magnitude = rows_for_codes(rows, unit_curvature(rows), codes)
    for code in codes[:2]:
        ours, plain = (found[code.name].rows - rows for found in (targets, magnitude))
        losses = [[form(damped(curvature, g), change[g]) for g in range(6)] for change in (ours, plain)]
        assert np.all(np.array(losses[0]) < np.array(losses[1]))
        assert sum(losses[0]) < 0.8 * sum(losses[1])


def test_a_network_stored_sparsely_reads_back_as_planned(tiny, tiny_images):
    menu = ("pruned", "sparse(50,digital(2))", "sparse(75,analog(1))", "analog(1)")
    model = build_model(tiny, tiny_images, card="ideal", menu=menu)
    for number, name in enumerate(menu[1:3], start=1):
        made = plan.Plan.from_json(uniform_plan(model, name, shrinkage=0.0).to_json())
        state = chip.store(tiny, made).read_back()
        for index, layer in enumerate(model.layers):
            expected = model.rows_for(index, model.menu[number])
            # The scale is a bfloat16 number, so that the largest weight may be clipped by 2^-8 of itself.
            np.testing.assert_allclose(
                state[f"{layer.name}.weight"].numpy().reshape(expected.shape), expected, rtol=2**-8, atol=1e-6
            )
        bits = sum(layer.groups * (model.menu[number].digital_bits(layer.weights) + 16) for layer in model.layers)
        stored = sum(made.ledger[kind] for kind in ("digits", "signs", "masks", "scales"))
        assert stored * made.bits_per_cell == pytest.approx(bits)
