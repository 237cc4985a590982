"""Store, read back and score: what a plan loses on images."""

import devices
from physcomp.networks.evaluation import Score, evaluate_state
from physcomp.networks.images import Images
from physcomp.networks.network import Network
from physcomp.storage.chip import store
from physcomp.storage.plan import Plan

# Chips of the held-out measurement have seeds from here on, so that they are none of those that results come from.
HELDOUT_SEED = 1 << 40


def measure(
    network: Network, plan: Plan, images: Images, *, card: devices.Card, seed: int, time_s: float | None = None
) -> Score:
    """Store a network by a plan on one chip, read it back, at the plan's time or another, and score it on images."""
    state = store(network, plan, card=card, seed=seed).read_back(time_s=time_s)
    return evaluate_state(network, state, images)
