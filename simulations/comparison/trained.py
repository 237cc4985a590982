"""Trained plans: networks with plans of their own, in folders that `physcomp finetune` wrote."""

from dataclasses import dataclass
from glob import glob
from pathlib import Path

import devices
import physcomp
from simulations.runs.study import StudyCard


@dataclass(frozen=True, eq=False)
class Trained:
    """A network that was trained for a plan, and its plan.

    Args:
        network: the network after training; without pruned filters, so that it may have fewer weights than before.
        plan: the plan of this network.
        card: the card of the study on which it is stored.
    """

    network: physcomp.Network
    plan: physcomp.Plan
    card: StudyCard


def find_trained(
    patterns: tuple[Path, ...], cards: tuple[StudyCard, ...], network: physcomp.Network
) -> tuple[Trained, ...]:
    """Find the trained plans in some folders, in the order in which these are named.

    A plan without analog cells is stored on every card of the study, since it reads back alike on all of them; other
    plans only on the card that they were made for.

    Args:
        patterns: folders that hold `net.toml`, `net.safetensors` and `plan.json`, or patterns of them with `*`.
        cards: the cards of the study.
        network: the network at the start.

    Raises:
        ValueError: a folder is missing or incomplete, or a plan is for another kind of network, card or time.
    """
    folders: dict[str, None] = {}
    for name in patterns:
        found = sorted(glob(str(name)))
        if not found:
            raise ValueError(f"{name}: no such folder; make one with 'physcomp finetune', or remove it from the study")
        folders |= dict.fromkeys(found)
    return tuple(each for folder in folders for each in _trained(cards, network, Path(folder)))


def _trained(of: tuple[StudyCard, ...], start: physcomp.Network, folder: Path) -> list[Trained]:
    plan = physcomp.Plan.load(folder / "plan.json")
    network = physcomp.load_network(folder / "net.toml")
    if network.sha256 != plan.network_sha256:
        raise ValueError(f"{folder}: plan.json was made for another network than net.toml; train again")
    if network.classes != start.classes:
        raise ValueError(f"{folder}: a network of other classes than {start.name}; remove the folder from the study")
    cards = {place: devices.load_card(place.card) for place in of}
    if plan.noiseless:
        return [Trained(network, physcomp.moved(plan, card, at.read_time_s), at) for at, card in cards.items()]
    for place, card in cards.items():
        if (card.sha256, place.read_time_s) == (plan.card_sha256, plan.read_time_s):
            return [Trained(network, plan, place)]
    raise ValueError(
        f"{folder}: a plan for {plan.card} read after {plan.read_time_s:g} s, which is no card of the study; add that "
        "card or remove the folder"
    )
