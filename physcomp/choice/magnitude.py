"""Wang et al.'s magnitude Hamiltonian of a network, and its solution as a plan, stored and read back like any other.

The Hamiltonian (`qubo.magnitude.hamiltonian`) knows magnitudes alone: filters of small mean |w| are pruned, and each
layer keeps one bit-width for what is left. Its solution becomes a plan of codes `pruned` and `digital(bits)` through
the same menu, with the same rounding and the same ledger, so that what is compared is the choice and nothing else.

What is stored beside the digits is counted as this choice needs it: one bit a filter for the mask, and three bits a
layer for its bit-width.
"""

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

import qubo
from physcomp.choice.loss_model import LossModel
from physcomp.choice.planning import plan_of
from physcomp.networks.layers import Layer, layers_of
from physcomp.networks.network import Network
from physcomp.storage.plan import Plan
from qubo.magnitude.hamiltonian import MAX_BITS, STEPS

CODES = ("pruned", *(f"digital({bits})" for bits in range(1, MAX_BITS + 1)))
"""Every code the Hamiltonian can ask for; pass them as `compared` to `physcomp.build_model`."""
GAMMAS = (1e-9, 1e9)
"""Where `plan_within` looks for γ, over the L_p of pruning everything: from no removal to all of it."""


def hamiltonian(network: Network | LossModel, *, beta: float, gamma: float) -> qubo.Magnitude:
    """The Hamiltonian of a network's Conv2d and Linear layers, norms folded as for storage.

    Args:
        network: as `physcomp.load_network` or `physcomp.wrap` give it; or a loss model of it, for the layers that its
            images call alone.
        beta: weight of the quantization term.
        gamma: weight of the reward for bits removed.

    Raises:
        ValueError: a weight below 0.
    """
    layers = network.layers if isinstance(network, LossModel) else layers_of(network.module)
    return _of_layers(layers, beta, gamma)


def _of_layers(layers: tuple[Layer, ...], beta: float, gamma: float) -> qubo.Magnitude:
    means = tuple(np.abs(layer.rows).mean(axis=1, dtype=np.float64) for layer in layers)
    weights = tuple(np.full(layer.groups, float(layer.weights)) for layer in layers)
    return qubo.Magnitude(means, weights, beta, gamma)


def choice_of(model: LossModel, compression: qubo.Compression) -> NDArray[np.int64]:
    """The codes of a compression: (groups,) indices into the model's menu.

    A bit-width that is not in the menu becomes the next wider one that is, which costs more and loses no accuracy;
    build the model with `compared=CODES` and each is there as it is.

    Raises:
        ValueError: another granularity or other layers, no `pruned`, or no code as wide.
    """
    nothing = [index for index, code in enumerate(model.menu) if not code.stores(1)]
    if model.granularity != "filter":
        raise ValueError(f"model: the magnitude Hamiltonian prunes filters, got granularity '{model.granularity}'")
    if [flags.size for flags in compression.pruned] != [layer.groups for layer in model.layers]:
        raise ValueError("compression: its layers are not the model's; make it from the model")
    if not nothing:
        raise ValueError("menu: the magnitude Hamiltonian prunes, but 'pruned' is not in it; add it")
    wide = {index: code.width for index, code in enumerate(model.menu) if code.width is not None}
    choice = []
    for flags, bits in zip(compression.pruned, compression.bits, strict=True):
        fits = [index for index in wide if wide[index] >= bits]
        if not fits:
            raise ValueError(
                f"menu: no digital code of {bits} bits or more is in it; build the model with compared=magnitude.CODES"
            )
        choice.append(np.where(flags, nothing[0], min(fits, key=wide.__getitem__)))
    return np.concatenate(choice).astype(np.int64)


def plan_of_compression(model: LossModel, compression: qubo.Compression, *, method: str = "magnitude") -> Plan:
    """The plan that stores a compression, its ledger counting the mask and the layers' bit-widths.

    Its proof is a fixed plan's: the Hamiltonian's energy is no loss, and says nothing about ours.

    Args:
        model: the loss model; it predicts the plan's loss, but had no say in the choice.
        compression: what to store, such as `hamiltonian(...).optimum()` or a sampler's, decoded.
        method: what reports call it.

    Raises:
        ValueError: as `choice_of` says.
    """
    plan = plan_of(model, choice_of(model, compression), method=method, shrinkage=0.0)
    return dataclasses.replace(plan, ledger={**plan.ledger, "plan": _naming(model)})


def _naming(model: LossModel) -> float:
    """Cells that say which filters are pruned and how wide each layer is."""
    bits = len(model.loss) + STEPS.size * len(model.layers)
    return bits / model.medium.bits_per_cell


def _cells_per_weight(model: LossModel, compression: qubo.Compression) -> float:
    choice = choice_of(model, compression)
    fixed = {**model.overhead(1), "plan": _naming(model)}
    return float((model.cost[np.arange(choice.size), choice].sum() + sum(fixed.values())) / model.weights)


def plan_within(model: LossModel, cells_per_weight: float, *, beta: float = 0.1, steps: int = 60) -> Plan:
    """The plan of the least reward γ at which the Hamiltonian's optimum takes no more than a budget.

    The Hamiltonian has no budget: γ buys bits removed, and a larger γ never removes fewer. Its optimum is exact
    (`qubo.Magnitude.optimum`), so that bisecting γ gives the best that the Hamiltonian itself can say at a budget.

    Args:
        model: the loss model, for menu and cells alone.
        cells_per_weight: budget for everything stored.
        beta: weight of the quantization term against pruning; of 0.1, 1, 10 and 100 the default had the best accuracy
            on the embedded network from 0.5 to 2 cells per weight (measured).
        steps: bisections of log γ.

    Raises:
        ValueError: even with everything pruned it takes more, or as `choice_of` says.
    """
    zero = _of_layers(model.layers, beta, 0.0)

    def at(gamma: float) -> tuple[qubo.Compression, bool]:
        """The optimum at γ, and whether it keeps the budget."""
        found = dataclasses.replace(zero, gamma=gamma).optimum()
        return found, _cells_per_weight(model, found) <= cells_per_weight

    scale = sum(float(mean.sum()) ** 2 for mean in zero.means) or 1.0
    low, high = (math.log(scale * edge) for edge in GAMMAS)
    best, kept = at(0.0)
    if not kept:
        best, kept = at(math.exp(high))
        if not kept:
            raise ValueError(
                f"budget: {model.network.name} on {model.medium.card.name} with all filters pruned takes "
                f"{_cells_per_weight(model, best):.4f} cells/weight, got {cells_per_weight:g}; raise it"
            )
        for _ in range(steps):
            found, kept = at(math.exp((low + high) / 2))
            if kept:
                best, high = found, (low + high) / 2
            else:
                low = (low + high) / 2
    plan = plan_of_compression(model, best, method=f"magnitude(beta={beta:g})")
    return dataclasses.replace(plan, budget=cells_per_weight)
