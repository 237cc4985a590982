"""The noisy channel from the level written to the level read: transition probabilities, thresholds, capacities.

Reads are Gaussian with the card's mean and variance at the time of reading (`devices.cells.moments`), or counted from
simulated cells. Capacities come from the Blahut-Arimoto algorithm (Blahut; Arimoto, IEEE Trans. Inf. Theory 18, 1972).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.special import ndtr, xlogy

from devices.cards.curves import FloatArray, sqrt_grid
from devices.cells.moments import GRID, Response

__all__ = ["Channel", "blahut_arimoto", "mutual_information", "simulated_below", "soft_thresholds", "symbol_error"]

TOLERANCE_BITS = 1e-3
INPUTS_PER_SD = 8  # writable levels of the analog channel; its read bins are four times finer
MOST_INPUTS = 512  # so a nearly noise-free card stops at 9 bits
FLOOR = 1e-5  # least sd as a share of the range, where a card states none
REACH = 6.0  # standard deviations beyond the outermost means that reads are followed to
READS_PER_SD = 16  # places a soft threshold may take: below 1e-4 bits from the best place
MOST_PLACES = 8192
DENSE = 100_000  # entries from which a channel may be worth a sparse matrix
NEGLIGIBLE = 1e-15  # probabilities that change no digit

Below = Callable[[FloatArray], FloatArray]
"""A distribution function: read levels, shape (k,), to the share of reads at or below each, shape (levels, k)."""


def blahut_arimoto(channel: FloatArray, tolerance_bits: float = TOLERANCE_BITS, least: float = 0.0) -> float:
    """Capacity in bits of a discrete memoryless channel: a lower bound, at most `tolerance_bits` below it.

    Row i of `channel` holds the probabilities of the outputs of input i and sums to 1. The iteration ends early, at a
    looser lower bound, once the capacity is certain to be less than `least` bits.

    >>> round(blahut_arimoto(np.array([[0.9, 0.1], [0.1, 0.9]])), 3)  # 1 - h(0.1), binary symmetric channel
    0.531
    """
    with np.errstate(divide="ignore"):
        logs = np.log2(channel, where=channel > 0.0, out=np.zeros_like(channel))
    own = (channel * logs).sum(axis=1)
    use = np.full(len(channel), 1.0 / len(channel))
    few = channel.size > DENSE and (channel > NEGLIGIBLE).mean() < 0.25  # reads of low noise: a band
    product = channel
    if few:
        from scipy.sparse import csr_array  # only here, since it takes longer to import than most cards to compute

        product = csr_array(np.where(channel > NEGLIGIBLE, channel, 0.0))
    for _ in range(100_000):
        output = use @ product
        log_output = np.log2(output, where=output > 0.0, out=np.zeros_like(output))
        gain = own - product @ log_output
        low = float(use @ gain)
        high = float(gain.max())
        if high - low < tolerance_bits or high < least:
            break
        use = use * np.exp2(gain - high)
        use /= use.sum()
    return low


def _information(shares: FloatArray) -> FloatArray:
    """Information in bits that each column (a result of a read) carries about equally used rows, shape (columns,)."""
    whole = shares.sum(axis=0)
    bits: FloatArray = (xlogy(shares, shares).sum(axis=0) - xlogy(whole, whole / len(shares))) / math.log(2.0)
    return bits / len(shares)


def mutual_information(channel: FloatArray) -> float:
    """Mutual information in bits of a discrete channel whose inputs (rows) are used equally often.

    >>> round(mutual_information(np.array([[1.0, 0.0], [0.5, 0.5]])), 4)  # Z-channel: h(1/4) - h(1/2) / 2
    0.3113
    """
    return min(max(0.0, float(_information(channel).sum())), math.log2(len(channel)))  # of rounding


def symbol_error(channel: FloatArray) -> float:
    """Share of wrong decisions when the inputs are used equally often; row i is read correctly as column i."""
    return float(channel.sum(axis=1, where=~np.eye(len(channel), dtype=bool)).mean())


def between(below: FloatArray) -> FloatArray:
    """Probabilities of the bins between and beyond thresholds, from the shares at or below each threshold."""
    none, whole = np.zeros((len(below), 1)), np.ones((len(below), 1))
    return np.diff(np.hstack([none, below, whole]), axis=1)


@dataclass(frozen=True, eq=False)
class Channel:
    """The Gaussian channel of a card at one time, along u = ∫ dm/σ, the distance in standard deviations from level 0.

    Attributes:
        x: levels written, rising; the finite levels of a card that has them.
        mean, sd: mean and standard deviation of the read of each, in levels.
        u: number of standard deviations between the mean reads of level 0 and each.
        finite: whether the card has finite levels.
    """

    x: FloatArray
    mean: FloatArray
    sd: FloatArray
    u: FloatArray
    finite: bool

    @classmethod
    def of(cls, seen: Response) -> Channel:
        """The channel of a card as it reads at one time."""
        finite = bool(seen.card.written_levels)
        x = np.array(seen.card.written_levels) if finite else sqrt_grid(GRID)
        mean, variance = (seen.mean(x), seen.variance(x)) if finite else (seen.mean_table, seen.variance_table)
        sd = np.maximum(np.sqrt(variance), FLOOR * (seen.high - seen.low))
        passed = np.diff(mean) * 0.5 * (1.0 / sd[1:] + 1.0 / sd[:-1])
        return cls(x, mean, sd, np.concatenate([[0.0], np.cumsum(passed)]), finite)

    def gaussians(self, u: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean and sd of the read of inputs at u."""
        return np.interp(u, self.u, self.mean), np.interp(u, self.u, self.sd)

    def below(self, u: FloatArray) -> Below:
        """The Gaussian distribution functions of inputs at u."""
        mean, sd = self.gaussians(u)
        return lambda edges: ndtr((edges[None, :] - mean[:, None]) / sd[:, None])

    def read_levels(self, count: int) -> FloatArray:
        """Edges for bins of reads: `count` evenly spaced in u over the means, and the tails on both sides, rising."""
        middle = np.interp(np.linspace(0.0, self.u[-1], count), self.u, self.mean)
        tails = np.linspace(0.0, REACH, 4 * int(REACH * INPUTS_PER_SD))[1:]
        below, above = self.mean[0] - self.sd[0] * tails[::-1], self.mean[-1] + self.sd[-1] * tails
        return np.concatenate([below, middle, above])

    def analog_bits(self) -> float:
        """Capacity with any level written and read, on inputs and bins so fine that finer ones change nothing."""
        span = float(self.u[-1])
        count = min(MOST_INPUTS, 2 + int(INPUTS_PER_SD * span))
        u = self.u if self.finite else np.linspace(0.0, span, count)
        return blahut_arimoto(between(self.below(u)(self.read_levels(4 * count))))

    def inputs(self, levels: int) -> FloatArray:
        """Choose L inputs evenly spaced in u, so that neighbours are equally many standard deviations apart.

        Of finite levels these are the lowest, the highest and those between them for which the smallest distance
        between neighbours, in standard deviations, is largest.
        """
        if not self.finite:
            return np.linspace(0.0, self.u[-1], levels)
        apart = (self.mean[None, :] - self.mean[:, None]) / (self.sd[None, :] + self.sd[:, None])  # sd to a threshold
        worst = np.where(np.arange(len(self.u)) == 0, np.inf, -np.inf)  # of the best choice that ends at each level
        before = []
        for _ in range(levels - 1):
            chains = np.minimum(worst[:, None], np.where(apart > 0.0, apart, -np.inf))
            before.append(chains.argmax(axis=0))
            worst = chains.max(axis=0)
        chosen = [len(self.u) - 1]
        for back in reversed(before):
            chosen.append(int(back[chosen[-1]]))
        return self.u[chosen[::-1]]

    def targets(self, u: FloatArray) -> tuple[float, ...]:
        """The levels to write for inputs at u."""
        return tuple(np.interp(u, self.u, self.x).tolist())

    def thresholds(self, u: FloatArray) -> FloatArray:
        """Read levels that decide between neighbouring inputs, equally many standard deviations from both."""
        mean, sd = self.gaussians(u)
        between_two: FloatArray = (mean[:-1] * sd[1:] + mean[1:] * sd[:-1]) / (sd[:-1] + sd[1:])
        return between_two

    def places(self) -> FloatArray:
        """Positions that soft thresholds may take."""
        return self.read_levels(min(MOST_PLACES, 2 + int(READS_PER_SD * float(self.u[-1]))))


def simulated_below(seen: Response, targets: tuple[float, ...], cells: int, seed: int) -> Below:
    """Distribution functions of reads counted from simulated cells, `cells` a level, instead of Gaussian ones."""
    from devices.cells.cells import program  # closed forms need no compiled cells

    written = np.repeat(np.array(targets, dtype=np.float32), cells)
    reads = program(seen.card, written, seed=seed).read(time_s=seen.time_s).reshape(len(targets), cells)
    ordered = np.sort(reads.astype(np.float64), axis=1)
    return lambda edges: np.stack([np.searchsorted(row, edges, side="right") for row in ordered]) / cells


def soft_thresholds(below: Below, hard: FloatArray, places: FloatArray, count: int) -> FloatArray:
    """Thresholds of a soft read: the hard ones and those that add most information, `count` in all, rising.

    One threshold is added at a time, the one that adds most bits when the levels are used equally often. It splits one
    bin and leaves the others unchanged, so the best split is the best over the bins. Since further thresholds only
    split bins, bits rise with their number however often each level is used (data processing). Reads of flash memory
    are refined one threshold at a time, too. (The best set for each count, found by dynamic programming as in Kurkoski
    & Yagi, IEEE Trans. Inf. Theory 60:4544, 2014, would not contain the smaller sets.)
    """
    edges = np.unique(np.concatenate([hard, places]))
    shares = np.hstack([np.zeros((len(hard) + 1, 1)), below(edges), np.ones((len(hard) + 1, 1))])
    ends = [0, *(np.searchsorted(edges, hard) + 1).tolist(), len(edges) + 1]  # columns of `shares`
    chosen = ends[1:-1]
    queue: list[tuple[float, int, int, int]] = []

    def offer(start: int, stop: int) -> None:
        if stop - start < 2:
            return
        left, right = shares[:, start + 1 : stop] - shares[:, [start]], shares[:, [stop]] - shares[:, start + 1 : stop]
        gain = _information(left) + _information(right)
        best = int(gain.argmax())
        whole = float(_information(shares[:, [stop]] - shares[:, [start]])[0])
        heapq.heappush(queue, (whole - float(gain[best]), start, start + 1 + best, stop))

    for start, stop in pairwise(ends):
        offer(start, stop)
    while len(chosen) < count and queue:
        _, start, at, stop = heapq.heappop(queue)
        chosen.append(at)
        offer(start, at)
        offer(at, stop)
    return edges[np.array(sorted(chosen), dtype=np.int64) - 1]
