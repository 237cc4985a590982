"""The channel from the level written to the level read, and what it carries in bits.

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
"""Read levels, shape (k,) -> the share of reads at or below each, a row a level written, shape (levels, k)."""


def blahut_arimoto(channel: FloatArray, tolerance_bits: float = TOLERANCE_BITS, least: float = 0.0) -> float:
    """Capacity in bits of a discrete channel, rows = inputs, summing to 1; a lower bound within the
    tolerance. A channel that is sure to hold less than `least` bits is left early, at a looser bound.

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
    """Bits that each column (one result of a read) carries about equally used rows, shape (columns,)."""
    whole = shares.sum(axis=0)
    bits: FloatArray = (xlogy(shares, shares).sum(axis=0) - xlogy(whole, whole / len(shares))) / math.log(2.0)
    return bits / len(shares)


def mutual_information(channel: FloatArray) -> float:
    """Bits that a discrete channel carries when its inputs (rows) are used equally often.

    >>> round(mutual_information(np.array([[1.0, 0.0], [0.5, 0.5]])), 4)  # Z-channel: h(1/4) - h(1/2) / 2
    0.3113
    """
    return min(max(0.0, float(_information(channel).sum())), math.log2(len(channel)))  # of rounding


def symbol_error(channel: FloatArray) -> float:
    """Share of wrong decisions when the inputs are used equally often; row i should be read as column i."""
    return float(channel.sum(axis=1, where=~np.eye(len(channel), dtype=bool)).mean())


def between(below: FloatArray) -> FloatArray:
    """Probabilities of the bins between thresholds, and beyond them, from the shares below each threshold."""
    none, whole = np.zeros((len(below), 1)), np.ones((len(below), 1))
    return np.diff(np.hstack([none, below, whole]), axis=1)


@dataclass(frozen=True, eq=False)
class Channel:
    """Mean and sd of the read against u = ∫ dm/σ, the standard deviations passed since the lowest level.

    A card with finite levels has these alone: `finite`, and x, mean, sd and u are theirs.
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
        """`count` read levels evenly in u over the means, and the tails on both sides, rising."""
        middle = np.interp(np.linspace(0.0, self.u[-1], count), self.u, self.mean)
        tails = np.linspace(0.0, REACH, 4 * int(REACH * INPUTS_PER_SD))[1:]
        below, above = self.mean[0] - self.sd[0] * tails[::-1], self.mean[-1] + self.sd[-1] * tails
        return np.concatenate([below, middle, above])

    def analog_bits(self) -> float:
        """Capacity with inputs and read bins so fine that finer ones change less than the tolerance."""
        span = float(self.u[-1])
        count = min(MOST_INPUTS, 2 + int(INPUTS_PER_SD * span))
        u = self.u if self.finite else np.linspace(0.0, span, count)
        return blahut_arimoto(between(self.below(u)(self.read_levels(4 * count))))

    def inputs(self, levels: int) -> FloatArray:
        """L inputs evenly in u, so that neighbours are equally many standard deviations apart.

        Of finite levels: the lowest, the highest, and those between that leave the nearest two neighbours the most
        standard deviations apart.
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
        """Where soft thresholds may stand."""
        return self.read_levels(min(MOST_PLACES, 2 + int(READS_PER_SD * float(self.u[-1]))))


def simulated_below(seen: Response, targets: tuple[float, ...], cells: int, seed: int) -> Below:
    """Distribution functions counted from simulated cells, `cells` a level: clamping, drift and finite levels as
    they are, not their Gaussian."""
    from devices.cells.cells import program  # closed forms need no compiled cells

    written = np.repeat(np.array(targets, dtype=np.float32), cells)
    reads = program(seen.card, written, seed=seed).read(time_s=seen.time_s).reshape(len(targets), cells)
    ordered = np.sort(reads.astype(np.float64), axis=1)
    return lambda edges: np.stack([np.searchsorted(row, edges, side="right") for row in ordered]) / cells


def soft_thresholds(below: Below, hard: FloatArray, places: FloatArray, count: int) -> FloatArray:
    """The hard thresholds and the best further ones, `count` in all, rising.

    Each further threshold is the one that adds most bits at equal use of the levels: splitting a bin changes no
    other bin, so the best split is the best of each bin's best. As more of them only split bins, bits rise with
    their number for any use of the levels (data processing). Adding one at a time is how soft sensing of flash
    reads go, too (our choice; the best set for each count, by dynamic programming, as in Kurkoski & Yagi,
    IEEE Trans. Inf. Theory 60:4544, 2014, is not nested).
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
