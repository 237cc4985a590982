"""The exact distribution of a read, with clamping, drift and multiplicative noise, in place of a Gaussian.

Error-correcting codes depend on the tails of this distribution, where a Gaussian of the same mean and variance may be
wrong by a factor of ten. For a given drift exponent and read noise, the read is a Gaussian, clamped or not, whose
distribution function is closed. The drift exponent and the read noise are integrated numerically, in equal steps of
their standard normals z; for smooth functions that is exact to far below what is needed (trapezoidal rule; Trefethen &
Weideman, SIAM Review 56:385, 2014).
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from devices.cards.curves import FloatArray, interpolate
from devices.cells.moments import Response
from devices.cells.tables import FloatTable, ReadTables, programming_table, read_tables

__all__ = ["share_below"]

STEP = 0.4  # of z; our choice: a step of 0.1 changes error rates above 1e-9 by less than a thousandth
REACH = 8.5  # beyond it lie 2e-17 of a normal
FLOOR = 1e-9  # least sd in levels, so that a card may state none
NODES: FloatArray = np.arange(-REACH, REACH + STEP / 2, STEP)
WEIGHTS: FloatArray = np.exp(-0.5 * NODES**2) / np.exp(-0.5 * NODES**2).sum()


def share_below(seen: Response, targets: FloatArray, edges: FloatArray) -> FloatArray:
    """Share of reads at or below each edge, for cells written to each target; shape (targets, edges).

    Args:
        seen: mean and variance of the card at one time. The targets of a card with finite levels are among these.
        targets: levels written, in [0, 1].
        edges: levels read. The distribution of a clamped card jumps at 0; where its read noise can exceed the level
            itself, the share at 0 is only accurate to 0.02. Between mean reads, where thresholds lie, nothing jumps.

    >>> from devices import response
    >>> share_below(response("pcm-zarcone", 0.0), np.array([0.5]), np.array([0.5])).round(6)
    array([[0.5]])
    """
    card, tables = seen.card, read_tables(seen.card, seen.time_s) or ReadTables()

    def at(table: FloatTable | None) -> FloatArray:
        """A table at the targets, with axes for edges, drift, read noise and added noise."""
        values = np.zeros_like(targets) if table is None else interpolate(table, targets)
        return values[:, None, None, None, None]

    mean = targets[:, None, None, None, None] + at(tables.shift)
    sd = np.maximum(np.hypot(at(programming_table(card)), at(tables.spread)), FLOOR)
    added = at(tables.added)
    edge = edges[None, :, None, None, None]
    lost, drift_weights = _axis(tables.drift_mean is not None or tables.drift_sd is not None, 2)
    kept = np.exp2(-np.abs(at(tables.drift_mean) + at(tables.drift_sd) * lost))
    noise, noise_weights = _axis(tables.noise is not None, 3)
    factor = kept * (1.0 + at(tables.noise) * noise)
    if card.level.clamp_at_0:
        own, own_weights = _axis(tables.added is not None, 4)
        below = _clamped(mean, sd, factor, edge - added * own)
    else:  # a sum of two Gaussians is one
        own_weights = np.ones(1)
        below = ndtr((edge - mean * factor) / np.hypot(sd * factor, added))
    healthy: FloatArray = np.einsum("tedna,d,n,a->te", below, drift_weights, noise_weights, own_weights, optimize=True)
    stuck = card.stuck
    at_ends = stuck.low * (edges >= 0.0) + stuck.high * (edges >= 1.0)
    return (1.0 - stuck.low - stuck.high) * healthy + at_ends


def _axis(present: bool, place: int) -> tuple[FloatArray, FloatArray]:
    """Nodes along one of five axes, and their weights; a single node at 0 for a part that a card does not have."""
    nodes, weights = (NODES, WEIGHTS) if present else (np.zeros(1), np.ones(1))
    shape = [1] * 5
    shape[place] = -1
    return nodes.reshape(shape), weights


def _clamped(mean: FloatArray, sd: FloatArray, factor: FloatArray, edge: FloatArray) -> FloatArray:
    """P(factor · max(0, N(mean, sd)) <= edge); a large read noise may make the factor negative."""
    positive = factor > 0.0
    ratio = edge / np.where(np.abs(factor) > FLOOR**2, factor, FLOOR**2)
    share: FloatArray = ndtr(np.where(positive, 1.0, -1.0) * (ratio - mean) / sd)
    certain = np.where(positive, 0.0, 1.0)  # no read is below 0 for a positive factor, every one for a negative
    return np.where((ratio > 0.0) | ((ratio == 0.0) & positive), share, certain)
