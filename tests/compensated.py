"""Rows rounded and pruned one wish at a time, by the functions of which `physcomp.compensation.rows` is made."""

import numpy as np
from numba import njit

from physcomp.compensation.pruning import compensated, dropping_order
from physcomp.compensation.pruning_runs import masks_of
from physcomp.compensation.rounding import DAMPING, factors_of, round_row
from physcomp.curvature.blocks import Curvature


def unit_curvature(rows: np.ndarray) -> Curvature:
    """The identity for every group: pruning then goes by magnitude and moves no other weight."""
    eye = np.broadcast_to(np.eye(rows.shape[1], dtype=np.float32), (len(rows), 1, rows.shape[1], rows.shape[1]))
    return Curvature(np.ones(rows.shape), eye)


def kept_of(weights: int, share: float) -> int:
    """How many of so many weights stay when a share of them is pruned: at least one."""
    return max(1, round((1 - share) * weights))


def round_rows(rows: np.ndarray, curvature: Curvature, counts: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Rows rounded to several numbers of levels, (groups, weights, counts), and their scales, (groups, counts)."""
    rounded = np.empty((len(rows), len(counts), rows.shape[1]), np.float32)
    scales = np.empty(rounded.shape[:2], np.float32)
    _round_some(rows, curvature.blocks, np.array(counts, np.int64), rounded, scales)
    return rounded.transpose(0, 2, 1), scales


def prune_rows(
    rows: np.ndarray, curvature: Curvature, shares: tuple[float, ...], *, damping: float = DAMPING
) -> np.ndarray:
    """Rows pruned to several shares, the weights kept compensating: (groups, weights, shares)."""
    wanted = np.array([kept_of(rows.shape[1], share) for share in shares], np.int64)
    pruned = np.empty((len(rows), len(wanted), rows.shape[1]), np.float32)
    _prune_some(rows, curvature.blocks, damping, wanted, pruned)
    return pruned.transpose(0, 2, 1)


def prune_runs(
    rows: np.ndarray, curvature: Curvature, run: int, kept: tuple[int, ...], *, damping: float = DAMPING
) -> np.ndarray:
    """Rows pruned run by run to several numbers of runs, the weights kept compensating: (groups, weights, kept)."""
    wanted = np.array([(run, count) for count in kept], np.int64).reshape(-1, 2)
    pruned = np.empty((len(rows), len(wanted), rows.shape[1]), np.float32)
    _prune_some_runs(rows, curvature.blocks, damping, wanted, pruned)
    return pruned.transpose(0, 2, 1)


@njit
def _round_some(rows, blocks, counts, rounded, scales):
    every, zeros, steps = np.ones(rows.shape[1], np.bool_), np.ones(len(counts), np.bool_), np.zeros(len(counts))
    for group in range(len(rows)):
        factors = factors_of(blocks[group], every, DAMPING)
        rounded[group], scales[group] = round_row(rows[group].astype(np.float64), factors, counts, zeros, steps)


@njit
def _prune_some(rows, blocks, damping, wanted, pruned):
    every = np.ones(rows.shape[1], np.bool_)
    for group in range(len(rows)):
        row = rows[group].astype(np.float64)
        sequence = dropping_order(row, factors_of(blocks[group], every, damping), wanted.min())
        for number in range(len(wanted)):
            kept = every.copy()
            kept[sequence[: len(row) - wanted[number]]] = False
            pruned[group, number] = compensated(row, blocks[group], kept, factors_of(blocks[group], kept, damping))


@njit
def _prune_some_runs(rows, blocks, damping, wanted, pruned):
    every = np.ones(rows.shape[1], np.bool_)
    for group in range(len(rows)):
        row = rows[group].astype(np.float64)
        masks = masks_of(row, factors_of(blocks[group], every, damping), wanted)
        for number in range(len(wanted)):
            factors = factors_of(blocks[group], masks[number], damping)
            pruned[group, number] = compensated(row, blocks[group], masks[number], factors)
