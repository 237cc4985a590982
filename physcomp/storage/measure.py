"""Measures plans: store a network on chips, read it back, and compute loss and accuracy on images."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

import devices
from physcomp.networks.evaluation import Score, evaluate_state
from physcomp.networks.network import Network
from physcomp.networks.samples import Samples
from physcomp.storage.chip import store
from physcomp.storage.plan import Plan

# The first seed of chips for held-out losses, far from the seeds of chips on which results are reported.
HELDOUT_SEED = 1 << 40
PLANNED: tuple[None] = (None,)
"""Stands for the one read time that a plan was made for."""


def measure(
    network: Network,
    plan: Plan,
    images: Samples,
    *,
    card: devices.Card,
    seeds: Iterable[int],
    times_s: Sequence[float | None] = PLANNED,
) -> list[list[Score]]:
    """Store a network by a plan on several chips, and score each chip at several times after programming.

    Args:
        network: the network that the plan was made for.
        plan: the code of every group.
        images: images with labels.
        card: the card that the plan was made for.
        seeds: one seed for each chip.
        times_s: seconds since programming; None is the time that the plan was made for.

    Returns:
        For each chip its scores, one for each time.

    Raises:
        ValueError: the plan was made for another network or card, or a time is outside the card's range.
    """
    chips = (store(network, plan, card=card, seed=seed) for seed in seeds)
    return [[evaluate_state(network, chip.read_back(time_s=time_s), images) for time_s in times_s] for chip in chips]


def heldout_losses(
    network: Network,
    plan: Plan,
    heldout: Samples,
    *,
    card: devices.Card,
    chips: int,
    times_s: Sequence[float | None] = PLANNED,
) -> NDArray[np.float64]:
    """Mean loss over chips on held-out images, at each time; a single chip suffices if nothing is noisy."""
    if plan.noiseless:
        chips, times_s = 1, PLANNED
    found = measure(network, plan, heldout, card=card, seeds=range(HELDOUT_SEED, HELDOUT_SEED + chips), times_s=times_s)
    losses = np.array([[score.loss for score in of_chip] for of_chip in found])
    return np.asarray(losses.sum(axis=0) / chips)
