"""Rounding towards outputs: weights that, with the inputs a layer really gets, give the outputs it should give.

In a network stored with errors a layer no longer gets the inputs it was trained on. Its weights are therefore fitted
anew, by least squares, to give the outputs of the trained network on the inputs of the stored one, and then rounded one
by one, those not yet rounded compensating for the errors of the others (Frantar et al., "GPTQ", ICLR 2023, arXiv
2210.17323). The quadratic form is that of the layer's outputs: the covariance of its inputs, since biases take up
means. Fitting layer after layer towards the clean outputs is that of Nagel et al. ("Up or down?", ICML 2020, arXiv
2004.10568) and Li et al. ("BRECQ", ICLR 2021, arXiv 2102.05426), here in closed form.

Arrays have a leading axis of blocks: the channels of a grouped convolution come in blocks with inputs of their own.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray

from physcomp.compensation.cholesky import PANEL
from physcomp.compensation.rounding import DAMPING

# All of these are our choice.
RIDGES = (1e-3, 1e-2, 1e-1)  # of the least squares, as shares of the mean square of the inputs
ENOUGH = 2  # positions for each weight below which nothing is fitted
FLOOR = 1e-6  # of the damping, as a share of the mean square of the inputs: constant inputs have no covariance
CHUNK = 2048  # positions whose products are summed in float32


@dataclass(frozen=True, eq=False)
class Grid:
    """The levels of each row of a layer: `count` levels spaced evenly from -scale to scale.

    Args:
        scales: float64 (rows,); a row with scale 0 becomes 0.
        halves: float64 (rows,): (count - 1) / 2; 0 where the row is not rounded.
    """

    scales: NDArray[np.float64]
    halves: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Moments:
    """Means over positions: what least squares and rounding need of inputs and outputs.

    Args:
        covariance: float64 (blocks, weights, weights), of the inputs; about zero if there is no bias.
        crossed: float64 (blocks, weights, rows), of the inputs with the outputs wanted.
        inputs: float64 (blocks, weights), means of the inputs; zeros if there is no bias.
        outputs: float64 (blocks, rows), means of the outputs wanted; zeros if there is no bias.
        energy: float64 (blocks,), mean square of the inputs, their means included.
    """

    covariance: torch.Tensor
    crossed: torch.Tensor
    inputs: torch.Tensor
    outputs: torch.Tensor
    energy: torch.Tensor


def moments_of(inputs: torch.Tensor, wanted: torch.Tensor, *, biased: bool) -> Moments:
    """The moments of some positions.

    Args:
        inputs: float32 (blocks, positions, weights).
        wanted: float32 (blocks, positions, rows), the outputs wanted.
        biased: whether biases take up the means.
    """
    blocks, count, weights = inputs.shape
    energy = inputs.square().mean((1, 2), dtype=torch.float64)
    means = torch.zeros(blocks, weights, dtype=torch.float64), torch.zeros(blocks, wanted.shape[2], dtype=torch.float64)
    if biased and count:
        means = inputs.mean(1, dtype=torch.float64), wanted.mean(1, dtype=torch.float64)
    covariance = torch.zeros(blocks, weights, weights, dtype=torch.float64)
    crossed = torch.zeros(blocks, weights, wanted.shape[2], dtype=torch.float64)
    for start in range(0, count, CHUNK):
        here = slice(start, start + CHUNK)
        given = inputs[:, here] - means[0].unsqueeze(1).float()
        covariance += given.transpose(1, 2) @ given
        crossed += given.transpose(1, 2) @ (wanted[:, here] - means[1].unsqueeze(1).float())
    return Moments(covariance / max(count, 1), crossed / max(count, 1), *means, energy)


def fitted_rows(
    rows: torch.Tensor, inputs: torch.Tensor, wanted: torch.Tensor, late: NDArray[np.bool_], *, biased: bool
) -> tuple[torch.Tensor, Moments]:
    """The rows of least squared error, drawn towards the trained ones by the ridge that does best on late positions.

    The trained rows stay where no ridge does better on the late positions, or there are too few positions.

    Args:
        rows: float64 (blocks, rows, weights), as trained.
        inputs: as for `moments_of`.
        wanted: as for `moments_of`.
        late: bool (positions,): those that only serve for the comparison.
        biased: as for `moments_of`.

    Returns:
        Rows of the shape of `rows`, and the moments of all positions.
    """
    whole = moments_of(inputs, wanted, biased=biased)
    early = torch.from_numpy(~late)
    if int(early.sum()) < ENOUGH * rows.shape[2] or not late.any():
        return rows, whole
    some = moments_of(inputs[:, early], wanted[:, early], biased=biased)
    checks = [inputs[:, ~early], wanted[:, ~early]]
    best, least = rows, _missed(rows, some, *checks)
    chosen = torch.zeros(len(rows), dtype=torch.int64)
    for number, ridge in enumerate(RIDGES, start=1):
        tried = _solved(rows, some, ridge)
        missed = _missed(tried, some, *checks)
        chosen = torch.where(missed < least, number, chosen)
        least = torch.minimum(missed, least)
    for number, ridge in enumerate(RIDGES, start=1):
        if bool((chosen == number).any()):
            best = torch.where((chosen == number)[:, None, None], _solved(rows, whole, ridge), best)
    return best, whole


def _missed(rows: torch.Tensor, moments: Moments, inputs: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Squared errors of outputs with the best biases by the moments: (blocks,)."""
    error = torch.zeros(len(rows), dtype=torch.float64)
    for start in range(0, inputs.shape[1], CHUNK):
        given = inputs[:, start : start + CHUNK] - moments.inputs.unsqueeze(1).float()
        target = wanted[:, start : start + CHUNK] - moments.outputs.unsqueeze(1).float()
        error += (given @ rows.float().transpose(1, 2) - target).square().sum((1, 2), dtype=torch.float64)
    return error


def _solved(rows: torch.Tensor, moments: Moments, ridge: float) -> torch.Tensor:
    """The minimum of the mean squared error plus `ridge` · energy · ‖change of the rows‖²; unchanged if that fails."""
    size = rows.shape[2]
    drawn = (ridge * moments.energy)[:, None, None] * torch.eye(size, dtype=torch.float64)
    factor, failed = torch.linalg.cholesky_ex(moments.covariance + drawn)
    force = moments.crossed - moments.covariance @ rows.transpose(1, 2)
    change = torch.cholesky_solve(force, factor).transpose(1, 2)
    usable = ((failed == 0) & torch.isfinite(change).all((1, 2)))[:, None, None]
    return torch.where(usable, rows + change, rows)


def rounded_rows(rows: torch.Tensor, moments: Moments, grid: Grid) -> NDArray[np.float64]:
    """Round rows to their levels, with compensation in the quadratic form of the outputs.

    Args:
        rows: float64 (blocks, rows, weights).
        moments: of the same layer.
        grid: the levels of all rows, block by block.

    Returns:
        float64 (blocks, rows, weights). Rows that are not rounded (`Grid.halves` of 0) come back as they are.
    """
    found = rows.numpy().copy()
    size, per = rows.shape[2], rows.shape[1]
    damping = DAMPING * moments.covariance.diagonal(dim1=1, dim2=2).mean(1) + FLOOR * moments.energy
    for block in range(len(found)):
        mine = slice(block * per, (block + 1) * per)
        diagonal = moments.covariance[block].diagonal()
        order = torch.argsort(diagonal, stable=True)
        damped = moments.covariance[block][order][:, order] + float(damping[block] + 1e-30) * torch.eye(
            size, dtype=torch.float64
        )
        factor, failed = torch.linalg.cholesky_ex(damped)
        if int(failed) or not bool(torch.isfinite(factor).all() and (factor.diagonal() > 0).all()):
            factor = torch.diag(damped.diagonal().clamp(min=1e-30).nan_to_num(posinf=1.0).sqrt())
        inverse = torch.linalg.solve_triangular(factor, torch.eye(size, dtype=torch.float64), upper=False)
        places = order.numpy()
        ordered = np.ascontiguousarray(found[block][:, places].T)
        _round(ordered, inverse.numpy(), grid.scales[mine], grid.halves[mine])
        found[block][:, places] = ordered.T
    return found


@njit(cache=True, nogil=True, fastmath=True)
def _round(
    left: NDArray[np.float64],
    factor: NDArray[np.float64],
    scales: NDArray[np.float64],
    halves: NDArray[np.float64],
) -> None:
    """Round columns in place, the last weight first; `factor` is the lower K with KᵀK the inverse covariance."""
    size, rows = left.shape
    passed = np.zeros((size, rows))
    stop = size
    while stop > 0:
        start = max(0, stop - PANEL)
        for t in range(stop - 1, start - 1, -1):
            pivot = 1 / factor[t, t]
            for r in range(rows):
                value, half = left[t, r], halves[r]
                if half > 0:
                    level = 0.0
                    if scales[r] > 0:
                        digit = np.floor((value / scales[r] + 1) * half + 0.5)
                        level = (min(max(digit, 0.0), 2 * half) / half - 1) * scales[r]
                    left[t, r] = level
                    passed[t, r] = (value - level) * pivot
            for u in range(start, t):
                share = factor[t, u]
                for r in range(rows):
                    left[u, r] -= share * passed[t, r]
        if start > 0:
            before = np.dot(factor[start:stop, :start].copy().T, passed[start:stop])
            for u in range(start):
                for r in range(rows):
                    left[u, r] -= before[u, r]
        stop = start
