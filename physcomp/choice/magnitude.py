"""The magnitude Hamiltonian of Wang et al. for a network, and plans made of its solutions.

The Hamiltonian (`qubo.magnitude.hamiltonian`) depends on magnitudes alone: filters with a small mean |w| are pruned,
and each layer has one bit-width for the others. Its solution becomes a plan of the codes `pruned` and `digital(bits)`,
with the same rounding and the same count of cells as other plans, so that only the choice differs.

Besides the digits the plan counts what this choice needs: one bit per filter for the mask, and three bits per layer for
the bit-width.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

import qubo
from physcomp.choice.loss_model import LossModel
from physcomp.choice.planning import plan_of
from physcomp.networks.layers import layers_of
from physcomp.networks.network import Network
from physcomp.storage.plan import Plan
from qubo.magnitude.hamiltonian import MAX_BITS, STEPS

CODES = ("pruned", *(f"digital({bits})" for bits in range(1, MAX_BITS + 1)))
"""All codes that the Hamiltonian can choose; pass them as `compared` to `physcomp.build_model`."""


def hamiltonian(network: Network | LossModel, *, beta: float, gamma: float) -> qubo.Magnitude:
    """The magnitude Hamiltonian of the Conv2d and Linear layers of a network.

    Args:
        network: a network from `physcomp.load_network` or `physcomp.wrap`; or a loss model of it, for only the layers
            that its images call.
        beta: weight β of the quantization term.
        gamma: weight γ of the reward for bits removed.

    Raises:
        ValueError: a weight below 0.
    """
    layers = network.layers if isinstance(network, LossModel) else layers_of(network.module)
    means = tuple(np.abs(layer.rows).mean(axis=1, dtype=np.float64) for layer in layers)
    weights = tuple(np.full(layer.groups, float(layer.weights)) for layer in layers)
    return qubo.Magnitude(means, weights, beta, gamma)


def choice_of(model: LossModel, compression: qubo.Compression) -> NDArray[np.int64]:
    """The code of each group in a solution of the Hamiltonian: (groups,) indices into the menu of a loss model.

    A bit-width that is not in the menu becomes the next wider one, which costs more and loses no accuracy. The menu of
    a model built with `compared=CODES` has all of them.

    Raises:
        ValueError: groups are not filters, layers differ, or the menu lacks `pruned` or a digital code as wide.
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
    """Make the plan that stores a solution of the Hamiltonian, with its mask and bit-widths counted.

    Its proof states no energy and no bound, since the energy of the Hamiltonian is no loss.

    Args:
        model: the loss model; it predicts the loss of the plan, but has no part in the choice.
        compression: a solution, such as `hamiltonian(...).optimum()`, or the decoded state of a sampler.
        method: the name of the method in reports.

    Raises:
        ValueError: as `choice_of` says.

    Example:
        >>> import physcomp, torch
        >>> network = physcomp.wrap(torch.nn.Sequential(torch.nn.Linear(4, 3)), "small")
        >>> images = physcomp.Samples(torch.rand(8, 4), torch.zeros(8, dtype=torch.int64))
        >>> model = physcomp.build_model(network, images, card="ideal", compared=CODES)
        >>> nothing_removed = hamiltonian(model, beta=0.1, gamma=0.0).optimum()
        >>> plan_of_compression(model, nothing_removed).share_of_codes()
        {'digital(8)': 1.0}
    """
    plan = plan_of(model, choice_of(model, compression), method=method, shrinkage=0.0)
    return dataclasses.replace(plan, ledger={**plan.ledger, "plan": _naming(model)})


def _naming(model: LossModel) -> float:
    """Cells for the mask of pruned filters and the bit-widths of the layers."""
    bits = len(model.loss) + STEPS.size * len(model.layers)
    return bits / model.medium.bits_per_cell
