"""Bits a cell holds: the capacity of the channel from the level written to the level read.

The channel is Gaussian with the card's mean and variance at the time of reading (`devices.response`; our choice).
Clamping, drift and multiplicative noise bend the true density: for pcm-nandakumar at one day, against two million
simulated cells, the bits are within 2 % at 4, 8 and 16 levels and symbol errors above a tenth within 6 %, but the
error of 4 levels is stated as 0.0007 where 0.0054 is simulated. Capacities come from the Blahut-Arimoto algorithm
(Blahut; Arimoto, IEEE Trans. Inf. Theory 18, 1972).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import ndtr

from devices.card import Card
from devices.curves import FloatArray, sqrt_grid
from devices.library import as_card
from devices.response import GRID, Response, response

__all__ = ["Capacity", "LevelsRow", "capacity", "reliable_bits"]

MOST_LEVELS = 32
TOLERANCE_BITS = 1e-3
INPUTS_PER_SD = 8  # writable levels of the analog channel; its read bins are four times finer
MOST_INPUTS = 512  # so a nearly noise-free card stops at 9 bits
FLOOR = 1e-5  # least sd as a share of the range, where a card states none
REACH = 6.0  # standard deviations beyond the outermost means that reads are followed to


@dataclass(frozen=True)
class LevelsRow:
    """L levels with hard decisions: bits a cell at the best use of the levels, symbol error at equal use.

    `targets` are the L levels to write, `thresholds` the L - 1 read levels between which one is decided for.
    """

    levels: int
    bits: float
    symbol_error: float
    targets: tuple[float, ...]
    thresholds: tuple[float, ...]


@dataclass(frozen=True)
class Capacity:
    """Bits a cell of one card at one time: analog, by the number of levels, and the best of those."""

    card: str
    time_s: float
    analog_bits: float
    levels_table: tuple[LevelsRow, ...]
    reliable_bits: float
    reliable_levels: int


def blahut_arimoto(channel: FloatArray, tolerance_bits: float = TOLERANCE_BITS) -> float:
    """Capacity in bits of a discrete channel, rows = inputs, summing to 1; a lower bound within the
    tolerance.

    >>> round(blahut_arimoto(np.array([[0.9, 0.1], [0.1, 0.9]])), 3)  # 1 - h(0.1), binary symmetric channel
    0.531
    """
    with np.errstate(divide="ignore"):
        logs = np.log2(channel, where=channel > 0.0, out=np.zeros_like(channel))
    own = (channel * logs).sum(axis=1)
    use = np.full(len(channel), 1.0 / len(channel))
    for _ in range(100_000):
        output = use @ channel
        log_output = np.log2(output, where=output > 0.0, out=np.zeros_like(output))
        gain = own - channel @ log_output
        low = float(use @ gain)
        if float(gain.max()) - low < tolerance_bits:
            break
        use = use * np.exp2(gain - gain.max())
        use /= use.sum()
    return low


@dataclass(frozen=True, eq=False)
class _Channel:
    """Mean and sd of the read against u = ∫ dm/σ, the standard deviations passed since the lowest level."""

    x: FloatArray
    mean: FloatArray
    sd: FloatArray
    u: FloatArray

    @classmethod
    def of(cls, seen: Response) -> _Channel:
        mean = seen.mean_table
        sd = np.maximum(np.sqrt(seen.variance_table), FLOOR * (seen.high - seen.low))
        passed = np.diff(mean) * 0.5 * (1.0 / sd[1:] + 1.0 / sd[:-1])
        return cls(sqrt_grid(GRID), mean, sd, np.concatenate([[0.0], np.cumsum(passed)]))

    def gaussians(self, u: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean and sd of the read of inputs at u."""
        return np.interp(u, self.u, self.mean), np.interp(u, self.u, self.sd)

    def transitions(self, u: FloatArray, edges: FloatArray) -> FloatArray:
        """Probability of each bin, between the read levels `edges` and beyond them, for inputs at u."""
        mean, sd = self.gaussians(u)
        below = ndtr((edges[None, :] - mean[:, None]) / sd[:, None])
        none, all_of_it = np.zeros((len(u), 1)), np.ones((len(u), 1))
        return np.diff(np.hstack([none, below, all_of_it]), axis=1)

    def analog_bits(self) -> float:
        """Capacity with inputs and read bins so fine that finer ones change less than the tolerance."""
        span = float(self.u[-1])
        u = np.linspace(0.0, span, min(MOST_INPUTS, 2 + int(INPUTS_PER_SD * span)))
        edges = np.interp(np.linspace(0.0, span, 4 * len(u)), self.u, self.mean)
        tails = np.linspace(0.0, REACH, 4 * int(REACH * INPUTS_PER_SD))[1:]
        below, above = self.mean[0] - self.sd[0] * tails[::-1], self.mean[-1] + self.sd[-1] * tails
        return blahut_arimoto(self.transitions(u, np.concatenate([below, edges, above])))

    def row(self, levels: int) -> LevelsRow:
        """Levels evenly in u; a threshold lies the same number of standard deviations from both its
        levels."""
        u = np.linspace(0.0, self.u[-1], levels)
        mean, sd = self.gaussians(u)
        thresholds = (mean[:-1] * sd[1:] + mean[1:] * sd[:-1]) / (sd[:-1] + sd[1:])
        matrix = self.transitions(u, thresholds)
        wrong = matrix.sum(axis=1, where=~np.eye(levels, dtype=bool))
        return LevelsRow(
            levels=levels,
            bits=blahut_arimoto(matrix),
            symbol_error=float(wrong.mean()),
            targets=tuple(np.interp(u, self.u, self.x).tolist()),
            thresholds=tuple(thresholds.tolist()),
        )


def _noise_free(card: Card, time_s: float) -> Capacity:
    """The convention of a card without noise: `reliable_bits` of the card itself."""
    if card.reliable_bits is None:
        raise ValueError(f"card '{card.name}' has no noise, so any capacity: state reliable_bits = … on the card")
    rows = []
    for levels in range(2, MOST_LEVELS + 1):
        targets = np.linspace(0.0, 1.0, levels)
        middles = 0.5 * (targets[1:] + targets[:-1])
        rows.append(LevelsRow(levels, math.log2(levels), 0.0, tuple(targets.tolist()), tuple(middles.tolist())))
    return Capacity(card.name, time_s, math.inf, tuple(rows), card.reliable_bits, math.floor(2.0**card.reliable_bits))


def capacity(card: Card | str, time_s: float) -> Capacity:
    """Bits a cell of the card holds when read time_s after the reference read; kept for the next call.

    The L levels are spaced evenly in ∫ dm/σ over the mean reads m, so that neighbours are equally many
    standard deviations apart, and each threshold lies equally many from both its levels, so that no
    neighbour pays for the other. (Thresholds where the densities cross gain up to 2 % of the bits; ours
    keep to closed form.) A noise-free card has infinite analog bits; its reliable bits are a convention
    that the card states.

    Raises:
        ValueError: unknown card, or a time outside its range.

    >>> now = capacity("pcm-zarcone:aligned", 0.0)
    >>> round(now.analog_bits, 2), round(now.levels_table[2].bits, 2)  # 4 levels
    (2.04, 1.8)
    """
    device = as_card(card)
    return _capacity(device, device.check_time(time_s))


@lru_cache(maxsize=256)
def _capacity(card: Card, time_s: float) -> Capacity:
    seen = response(card, time_s)
    if not seen.variance_table.any():
        return _noise_free(card, time_s)
    channel = _Channel.of(seen)
    rows = tuple(channel.row(levels) for levels in range(2, MOST_LEVELS + 1))
    best = max(rows, key=lambda row: row.bits)
    return Capacity(card.name, time_s, channel.analog_bits(), rows, best.bits, best.levels)


def reliable_bits(card: Card | str, time_s: float) -> float:
    """Bits a cell holds at its best number of hard-decision levels, 2 to 32: C of the digital code.

    It bounds what any error-correcting code reaches on those levels, so it flatters digital storage.

    >>> reliable_bits("ideal", 0.0)
    4.0
    """
    return capacity(card, time_s).reliable_bits
