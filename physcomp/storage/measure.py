"""Store, read back and score: what a plan loses on images."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

import devices
from physcomp.networks.evaluation import Score, evaluate_state
from physcomp.networks.images import Images
from physcomp.networks.network import Network
from physcomp.storage.chip import Chip, store
from physcomp.storage.plan import Plan

# Chips of the held-out measurement have seeds from here on, so that they are none of those that results come from.
HELDOUT_SEED = 1 << 40
PLANNED: tuple[None] = (None,)
"""The one time that a plan was made for."""


def scores_of(
    chip: Chip, network: Network, images: Images, *, times_s: Iterable[float | None] = PLANNED, read: int = 0
) -> Iterator[Score]:
    """Read a chip at several times and score each read-back on images.

    Args:
        chip: a network on programmed cells.
        network: its architecture.
        images: what to score on.
        times_s: seconds since programming; None is the time the plan was made for.
        read: number of the read; another one has new read noise.

    Raises:
        ValueError: a time is outside the card's range, or the network is another one.
    """
    for time_s in times_s:
        yield evaluate_state(network, chip.read_back(time_s=time_s, read=read), images)


def measure(
    network: Network,
    plan: Plan,
    images: Images,
    *,
    card: devices.Card,
    seeds: Iterable[int],
    times_s: Sequence[float | None] = PLANNED,
) -> list[list[Score]]:
    """Store a network by a plan on several chips, and score each, programmed once, at several times.

    Args:
        network: the one the plan was made for.
        plan: which group gets which code.
        images: what to score on.
        card: the device the plan was made for.
        seeds: one a chip.
        times_s: as `scores_of` has them.

    Returns:
        For each chip its scores, one a time.

    Raises:
        ValueError: the plan was made for another network or card, or a time is outside the card's range.
    """
    chips = (store(network, plan, card=card, seed=seed) for seed in seeds)
    return [list(scores_of(chip, network, images, times_s=times_s)) for chip in chips]


def heldout_losses(
    network: Network,
    plan: Plan,
    heldout: Images,
    *,
    card: devices.Card,
    chips: int,
    times_s: Sequence[float | None] = PLANNED,
) -> NDArray[np.float64]:
    """Mean held-out loss at each time over chips that serve for nothing else; one read-back where nothing is noisy."""
    if plan.noiseless:
        chips, times_s = 1, PLANNED
    found = measure(network, plan, heldout, card=card, seeds=range(HELDOUT_SEED, HELDOUT_SEED + chips), times_s=times_s)
    losses = np.array([[score.loss for score in of_chip] for of_chip in found])
    return np.asarray(losses.sum(axis=0) / chips)
