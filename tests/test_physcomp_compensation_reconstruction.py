import numpy as np
import pytest
import torch

from physcomp.compensation.reconstruction import ENOUGH, RIDGES, Grid, fitted_rows, moments_of, rounded_rows


def correlated(blocks, positions, weights, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(blocks, weights, weights, generator=generator) / weights**0.5 + 0.5
    return torch.randn(blocks, positions, weights, generator=generator) @ mixing + 1.0


def late_of(positions):
    return np.arange(positions) >= 3 * positions // 4


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("blocks", [1, 3])
def test_fitted_rows_of_a_linear_map_are_the_minimum_of_the_least_squares(blocks, biased):
    inputs = correlated(blocks, 4000, 6).double().float()
    generator = torch.Generator().manual_seed(1)
    true = torch.randn(blocks, 5, 6, generator=generator, dtype=torch.float64)
    shift = torch.randn(blocks, 1, 5, generator=generator) * biased
    wanted = (inputs.double() @ true.transpose(1, 2)).float() + shift
    start = true + 0.3 * torch.randn(true.shape, generator=generator, dtype=torch.float64)
    found, moments = fitted_rows(start, inputs, wanted, late_of(4000), biased=biased)
    # The closed form with the least ridge, which here does best: (H + λ e) Δ = C - H w.
    given = inputs.double() - (inputs.double().mean(1, keepdim=True) if biased else 0)
    target = wanted.double() - (wanted.double().mean(1, keepdim=True) if biased else 0)
    energy = RIDGES[0] * inputs.double().square().mean((1, 2))[:, None, None] * torch.eye(6, dtype=torch.float64)
    square = given.transpose(1, 2) @ given / 4000
    force = given.transpose(1, 2) @ target / 4000 - square @ start.transpose(1, 2)
    expected = start + torch.linalg.solve(square + energy, force).transpose(1, 2)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(moments.covariance, square, rtol=1e-4, atol=1e-5)
    missed = [((inputs.double() @ (rows - true).transpose(1, 2)).square().mean()) for rows in (found, start)]
    assert missed[0] < 1e-2 * missed[1]


def test_rows_stay_as_trained_where_outputs_are_noise_or_positions_too_few():
    rows = torch.randn(1, 4, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    inputs = correlated(1, 40, 8, seed=3)
    noise = torch.randn(1, 40, 4, generator=torch.Generator().manual_seed(4))
    wanted = (inputs.double() @ rows.transpose(1, 2)).float()
    kept, _ = fitted_rows(rows, inputs, wanted + 0.01 * noise, late_of(40), biased=True)
    assert (kept - rows).norm() < 0.1 * rows.norm()
    few = ENOUGH * 8  # of which a quarter is late
    same, _ = fitted_rows(rows, inputs[:, :few], 0 * wanted[:, :few], late_of(few), biased=True)
    assert torch.equal(same, rows)


@pytest.mark.parametrize("half", [0.5, 1.0, 2.5, 7.0])
def test_rounding_stays_on_levels_and_costs_less_than_rounding_each_weight_alone(half):
    inputs = correlated(2, 3000, 12, seed=5)
    rows = torch.randn(2, 9, 12, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    moments = moments_of(inputs, (inputs.double() @ rows.transpose(1, 2)).float(), biased=True)
    scales = np.abs(rows.numpy()).max(2).reshape(-1)
    found = rounded_rows(rows, moments, Grid(scales, np.full(18, half)))
    levels = (np.arange(int(2 * half) + 1) / half - 1)[:, None, None, None] * scales.reshape(2, 9, 1)
    assert np.abs(found - levels).min(axis=0).max() < 1e-9
    alone = np.take_along_axis(levels, np.abs(rows.numpy() - levels).argmin(axis=0)[None], axis=0)[0]

    def loss(values):
        error = torch.from_numpy(values) - rows
        return float(torch.einsum("brw,bwv,brv->", error, moments.covariance, error))

    assert loss(found) < 0.8 * loss(alone)


def test_rows_without_a_grid_come_back_as_they_are_and_zero_scales_give_zeros():
    inputs = correlated(1, 500, 5, seed=7)
    rows = torch.randn(1, 3, 5, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    moments = moments_of(inputs, inputs @ rows.float().transpose(1, 2), biased=True)
    found = rounded_rows(rows, moments, Grid(np.array([1.0, 0.0, 1.0]), np.array([0.0, 3.0, 3.0])))
    np.testing.assert_array_equal(found[0, 0], rows[0, 0].numpy())
    assert not found[0, 1].any()
    assert set(np.round(np.unique(found[0, 2]) * 3, 9)) <= set(range(-3, 4))


def test_constant_and_absent_inputs_are_rounded_like_any_other():
    rows = torch.randn(1, 3, 5, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    inputs = torch.ones(1, 400, 5)
    inputs[:, :, 3:] = 0
    wanted = inputs @ rows.float().transpose(1, 2)
    fitted, moments = fitted_rows(rows, inputs, wanted, late_of(400), biased=True)
    found = rounded_rows(fitted, moments, Grid(np.full(3, 2.0), np.full(3, 7.0)))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, rows.numpy(), atol=2 / 7 / 2 + 1e-6)
