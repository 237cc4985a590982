"""Bits that a cell holds with a practical code: binary BCH on Gray-coded levels, hard decisions, 512-bit words.

`devices.channel.capacity` gives the bound that no code can exceed; this module gives what a code as used in flash
controllers reaches. The levels are those of `capacity`. The thresholds are moved from there to where two neighbouring
levels are confused least, as controllers calibrate them: for pcm-nandakumar at one day that gives 1.70 bits instead of
1.49, since the distribution of its lowest level has a longer tail than a Gaussian. A level carries log2 L bits in Gray
code, so that a read one level off costs one bit. The bits of a cell go to different words (interleaving), so that the
errors within a word are independent. The number of wrong bits in a word is then binomial, at the mean error rate of the
L levels and their bits. (Bits of different rates only narrow the tail: Hoeffding, Ann. Math. Statist. 27:713, 1956, so
the binomial overstates the failures.) A word fails when more than t of its bits are wrong.

The code is the narrow-sense primitive binary BCH code over GF(2^10), of 1023 bits, shortened to 512 data bits and
its parity bits: 10 t of them, a few less where cyclotomic cosets are short or shared (Lin & Costello, Error Control
Coding, 2nd ed. 2004, ch. 6). 512 bits, hard decisions and a word error rate of 1e-12 are our choice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

import numpy as np
from scipy.special import bdtrc

from devices.cards.card import Card
from devices.cards.curves import FloatArray
from devices.cards.library import as_card
from devices.cells.moments import Response, response
from devices.channel.capacity import Capacity, capacity, noise_free_row
from devices.channel.channel import between, symbol_error
from devices.channel.read_distribution import share_below

__all__ = ["PracticalCode", "bit_error", "calibrated", "parity_bits", "practical_bits", "smallest_t", "word_error"]

DATA_BITS = 512
WORD_ERROR = 1e-12
LENGTH = 1023  # 2^10 - 1
LEVELS = (2, 4, 8, 16)
PLACES = 17  # positions of a threshold tried in each of two rounds: 1/128 of the way between two levels (our choice)


@dataclass(frozen=True)
class PracticalCode:
    """The BCH-coded levels that hold the most bits a cell, for one card at one time.

    Attributes:
        card: name of the card.
        time_s: the read, in seconds after the reference read.
        levels: L, the one of 2, 4, 8 and 16 that holds most bits a cell.
        raw_symbol_error: share of cells read as another level, all levels used equally often.
        raw_bit_error: share of wrong bits before correction.
        t: number of wrong bits in a word that the code corrects; 0 where no code is needed.
        parity_bits: bits of a word in addition to its 512 data bits.
        bits_per_cell: log2 L · 512 / (512 + parity_bits).
        word_error: share of words with more than t wrong bits.
        targets: the L levels to write.
        thresholds: the L - 1 read levels between neighbouring decisions.
        beyond_correction: the numbers of levels for which no such code reaches a word error rate of 1e-12.
    """

    card: str
    time_s: float
    levels: int
    raw_symbol_error: float
    raw_bit_error: float
    t: int
    parity_bits: int
    bits_per_cell: float
    word_error: float
    targets: tuple[float, ...]
    thresholds: tuple[float, ...]
    beyond_correction: tuple[int, ...]


@lru_cache(maxsize=1)
def parity_bits() -> tuple[int, ...]:
    """Parity bits of the code that corrects t wrong bits, for t = 0, 1, … as far as 512 data bits leave room.

    The generator has the roots α, α^2, …, α^2t and their conjugates: the union of cyclotomic cosets of 2 modulo 1023.

    >>> parity_bits()[:4], len(parity_bits()) - 1
    ((0, 10, 20, 30), 57)
    """
    roots: set[int] = set()
    counts = [0]
    for power in range(1, LENGTH, 2):
        roots |= {power * 2**i % LENGTH for i in range(10)}
        if DATA_BITS + len(roots) > LENGTH:
            break
        counts.append(len(roots))
    return tuple(counts)


def word_error(t: int, raw_bit_error: float) -> float:
    """Probability that a word of 512 data bits and its parity has more than t wrong bits, all independent."""
    return float(bdtrc(t, DATA_BITS + parity_bits()[t], raw_bit_error))


def smallest_t(raw_bit_error: float) -> int | None:
    """The smallest t whose code reaches a word error rate of 1e-12; None where none does.

    >>> smallest_t(1e-3), smallest_t(0.1)
    (12, None)
    """
    for t in range(len(parity_bits())):
        if word_error(t, raw_bit_error) <= WORD_ERROR:
            return t
    return None


def bit_error(channel: FloatArray) -> float:
    """Bit error rate of Gray-coded levels used equally often; row i of the channel is read correctly as column i.

    A read two or more levels off costs the bits in which the two Gray words differ, not always more than one.

    >>> bit_error(np.array([[0.9, 0.1], [0.1, 0.9]]))
    0.1
    """
    words = np.arange(len(channel)) ^ (np.arange(len(channel)) >> 1)
    wrong = np.bitwise_count(words[:, None] ^ words[None, :])
    return float((channel * wrong).sum() / len(channel) / math.log2(len(channel)))


def practical_bits(card: Card | str, time_s: float) -> PracticalCode:
    """Bits a cell with a BCH code, `time_s` seconds after the reference read; the result is cached.

    Raw errors come from the exact distribution of reads (`devices.channel.read_distribution`), not from a Gaussian.
    A number of levels that needs more correction than any t gives is left out, and the result names it. A card without
    noise holds the bits that it states by convention, without a code.

    Raises:
        ValueError: unknown card, a time at which it does not hold, or too many errors to correct even at two levels.

    >>> code = practical_bits("pcm-zarcone:one-device", 0.0)
    >>> code.levels, code.t, round(code.bits_per_cell, 2), code.beyond_correction
    (4, 11, 1.65, (8, 16))
    """
    device = as_card(card)
    return _practical_bits(device, device.check_time(time_s))


@lru_cache(maxsize=256)
def _practical_bits(card: Card, time_s: float) -> PracticalCode:
    whole, seen = capacity(card, time_s), response(card, time_s)
    if not seen.variance_table.any():
        return _without_noise(card, time_s, whole)
    best = None
    rows = [row for row in whole.levels_table if row.levels in LEVELS]
    for place, row in enumerate(rows):
        targets = np.array(row.targets)
        thresholds = calibrated(seen, targets, np.array(row.thresholds))
        channel = between(share_below(seen, targets, thresholds))
        raw = bit_error(channel)
        t = smallest_t(raw)
        if t is None:  # then more levels are no better
            beyond = tuple(row.levels for row in rows[place:])
            break
        parity = parity_bits()[t]
        found = PracticalCode(
            card=card.name,
            time_s=time_s,
            levels=row.levels,
            raw_symbol_error=symbol_error(channel),
            raw_bit_error=raw,
            t=t,
            parity_bits=parity,
            bits_per_cell=math.log2(row.levels) * DATA_BITS / (DATA_BITS + parity),
            word_error=word_error(t, raw),
            targets=row.targets,
            thresholds=tuple(thresholds.tolist()),
            beyond_correction=(),
        )
        best = found if best is None or found.bits_per_cell > best.bits_per_cell else best
    else:
        beyond = ()
    if best is None:
        raise ValueError(
            f"card '{card.name}' at {time_s:g} s: even two levels have more wrong bits ({raw:.2g}) than a BCH code of "
            f"{DATA_BITS}-bit words corrects to a word error rate of {WORD_ERROR:g}; read earlier, or use the bound"
        )
    return replace(best, beyond_correction=beyond)


def _without_noise(card: Card, time_s: float, whole: Capacity) -> PracticalCode:
    row = noise_free_row(whole.reliable_levels)
    return PracticalCode(
        card=card.name,
        time_s=time_s,
        levels=row.levels,
        raw_symbol_error=0.0,
        raw_bit_error=0.0,
        t=0,
        parity_bits=0,
        bits_per_cell=whole.reliable_bits,
        word_error=0.0,
        targets=row.targets,
        thresholds=row.thresholds,
        beyond_correction=(),
    )


def calibrated(seen: Response, targets: FloatArray, thresholds: FloatArray) -> FloatArray:
    """Move each threshold, between the mean reads of its two levels, to where these are confused least.

    Takes the best of `PLACES` evenly spaced positions, then of as many between its neighbours; a threshold stays where
    no position is better.
    """
    means, moved = seen.mean(targets), thresholds.copy()
    for i, pair in enumerate(pairwise(targets)):
        low, high = means[i], means[i + 1]
        for _ in range(2):
            edges = np.concatenate([[moved[i]], np.linspace(low, high, PLACES)])
            lower, upper = share_below(seen, np.array(pair), edges)
            moved[i] = edges[np.argmin(1.0 - lower + upper)]
            step = (high - low) / (PLACES - 1)
            low, high = moved[i] - step, moved[i] + step
    return moved
