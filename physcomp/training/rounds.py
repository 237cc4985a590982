"""Files of rounds: the network after training, with or without a description, and its plan."""

from pathlib import Path

from physcomp.networks.description import Described, load_network, read_description
from physcomp.networks.network import Network
from physcomp.networks.prepared_weights import load_prepared, save_prepared
from physcomp.storage.plan import Plan
from physcomp.training.alternation import Round
from physcomp.training.finetuning import Epoch, Finetuned


def save_result(result: Described | Network, path: Path) -> None:
    """Write a trained network.

    Args:
        result: what `Round.result` gives.
        path: ends in .safetensors. A description goes beside it, as a .toml file of the same name; a network without
            one is loaded into what it was built and wrapped from (`physcomp.networks.prepared_weights`).
    """
    if isinstance(result, Described):
        result.save(path.with_suffix(".toml"))
    else:
        save_prepared(result, path)


def load_result(start: Described | Network, path: Path) -> Described | Network:
    """Read a trained network.

    Args:
        start: what the training started from; the network runs on the same device.
        path: the .safetensors file.

    Raises:
        ValueError: a file is missing, or belongs to another network.
    """
    if isinstance(start, Network):
        return load_prepared(start, path)
    description = path.with_suffix(".toml")
    return Described(read_description(description), load_network(description).on(start.network.device))


def save_round(made: Round, path: Path) -> None:
    """Write the network and the plan of a round.

    Args:
        made: the round.
        path: ends in .safetensors; the plan is written beside it as .plan.json.
    """
    save_result(made.result, path)
    made.finetuned.plan.save(path.with_suffix(".plan.json"))


def load_round(
    start: Described | Network,
    path: Path,
    heldout_loss: float,
    history: tuple[Epoch, ...],
    chosen_loss: float | None = None,
) -> Round:
    """Read what `save_round` wrote.

    Args:
        start: what the training started from.
        path: the .safetensors file.
        heldout_loss: `Round.heldout_loss`.
        history: `Finetuned.history`.
        chosen_loss: `Round.chosen_loss`.

    Raises:
        ValueError: a file is missing or damaged, or belongs to another network.
    """
    result = load_result(start, path)
    described = result if isinstance(result, Described) else None
    network = result.network if isinstance(result, Described) else result
    plan = Plan.load(path.with_suffix(".plan.json"))
    plan.check(network)
    return Round(described, Finetuned(network, plan, history), plan.cells, heldout_loss, chosen_loss)
