"""The times at which a figure can draw a card: only those at which the card holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from devices.cards.card import Card
from devices.cells.moments import response

__all__ = ["YEAR_S", "changes", "holds", "same_reads", "split_by_time", "times_of"]

YEAR_S = 31_536_000.0  # as far as cards without a last time are drawn


def holds(card: Card, time_s: float) -> bool:
    """Whether the card holds at a time, in seconds after the reference read.

    >>> from devices import load_card
    >>> holds(load_card("pcm-zarcone"), 0.0), holds(load_card("pcm-zarcone"), 86400.0)
    (True, False)
    """
    try:
        card.check_time(time_s)
    except ValueError:
        return False
    return True


def times_of(card: Card, count: int) -> list[float]:
    """Spread `count` times over the decades in which the card holds; or list its times where it holds only at these.

    >>> from devices import load_card
    >>> [round(t) for t in times_of(load_card("pcm-nandakumar"), 4)]
    [0, 2308, 270925, 31536000]
    """
    if card.times.only_s:
        return list(card.times.only_s)
    last = min(card.max_s, YEAR_S)
    if last == 0.0:
        return [0.0]
    if card.t0_s > 0.0:
        spaced = np.geomspace(card.t0_s, card.t0_s + last, count) - card.t0_s
    else:
        spaced = np.concatenate([[0.0], np.geomspace(min(1.0, last / 10.0), last, count - 1)])
    spaced[0], spaced[-1] = 0.0, last  # without rounding
    return [float(time_s) for time_s in spaced]


def changes(card: Card) -> bool:
    """Whether the mean or spread of reads changes with time on this card.

    >>> from devices import load_card
    >>> changes(load_card("pcm-nandakumar")), changes(load_card("pcm-zarcone"))
    (True, False)
    """
    times = times_of(card, 2)
    return not same_reads(card, times[0], times[-1])


def same_reads(card: Card, one_s: float, other_s: float) -> bool:
    """Whether reads at two times have the same mean and spread at every level."""
    one, other = response(card, one_s), response(card, other_s)
    return np.array_equal(one.mean_table, other.mean_table) and np.array_equal(one.variance_table, other.variance_table)


def split_by_time(cards: Sequence[Card], time_s: float | None) -> tuple[list[tuple[Card, float]], list[Card]]:
    """Split cards into those to draw, each with its time, and those that do not hold at the figure's time.

    Raises:
        ValueError: no card, or none that holds at the time (with the message of the first).
    """
    if not cards:
        raise ValueError("a figure of cards needs at least one card, not 0: name a card")
    if time_s is None:
        return [(card, card.first_s) for card in cards], []
    drawn = [(card, card.check_time(time_s)) for card in cards if holds(card, time_s)]
    if not drawn:
        cards[0].check_time(time_s)
    return drawn, [card for card in cards if not holds(card, time_s)]
