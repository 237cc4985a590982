"""Channel removal: narrower networks, without pruned filters and the weights of the next layer that read them.

The outputs of a pruned filter are constant, yet a plan stores every weight of the next layer that multiplies them.
Removing both the filter and these weights gives a smaller network. The constant, passed through the layers in between,
is added to the biases of the next layer. The network computes the same function except near the edges of images: zero
padding interrupts the constant there but not the biases, so outputs within half a kernel of the edge differ. The result
is an ordinary network with its own description.
"""

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray

import devices
from physcomp.codes.base import SCALE_BITS, Rows, to_bfloat16
from physcomp.networks.description import Described, _build
from physcomp.storage.layer_plan import LayerPlan, kept_rows
from physcomp.storage.plan import Plan, menu_of
from physcomp.training.stored_layer import rewritten, stored_layers

Flags = NDArray[np.bool_]


def narrow(whole: Described, plan: Plan, card: devices.Card) -> tuple[Described, Plan]:
    """Remove pruned filters from a network and its plan.

    Args:
        whole: the network that the plan was made for.
        plan: a plan with one group per filter. The last layer keeps all filters, every other layer at least one.
        card: the card of the plan.

    Returns:
        The narrower network and its plan, with its cells counted again. Both are unchanged if nothing can be removed,
        and if groups are not filters, a norm is not folded, or a code has a number of cells for each weight.
    """
    normed = any(layer.split()[0] == "norm" for layer in whole.description.layers)
    if normed or plan.granularity != "filter" or any(layer.cells.size for layer in plan.layers):
        return whole, plan
    stored = stored_layers(whole.network, plan, card)
    layers, planned, state = [], {}, {}
    channels = whole.description.input_shape[0]
    kept, constant = np.ones(channels, bool), np.zeros(channels, np.float32)
    last = plan.layers[-1].name
    for number, text in enumerate(whole.description.layers, start=1):
        kind, *arguments = text.split()
        if kind in ("conv", "linear"):
            layer = next(layer for layer in plan.layers if layer.name == str(number))
            written = stored[layer.name].stored_rows()
            bias = _with_constants(layer.biases, written, kept, constant)
            trained = whole.network.module.get_parameter(f"{number}.weight").detach()
            inputs = np.repeat(kept, layer.shape[1] // len(kept))  # the pixels of a channel are adjacent inputs
            kept = ~np.all(written == 0, axis=1) if layer.name != last else np.ones(len(written), bool)
            kept[0] |= not kept.any()
            constant = bias
            weight = trained[torch.from_numpy(kept)][:, torch.from_numpy(inputs)].clone()
            shape = tuple(weight.shape)
            state[f"{number}.weight"] = weight
            state[f"{number}.bias"] = torch.from_numpy(bias[kept])
            planned[layer.name] = dataclasses.replace(
                layer,
                shape=shape,
                codes=layer.codes[kept],
                scales=layer.scales[kept],
                rows=_rows_left(layer, plan, kept, inputs),
                biases=to_bfloat16(bias[kept]),
                cells=np.zeros((0, weight[0].numel()), np.uint8),
                learned={code: numbers for code, numbers in layer.learned.items() if code in layer.codes[kept]},
            )
            arguments[0] = str(shape[0])
        elif kind == "relu":
            constant = np.maximum(constant, 0)  # pooling and flattening do not change a constant
        layers.append(" ".join([kind, *arguments]))
    if sum(layer.groups for layer in planned.values()) == sum(layer.groups for layer in plan.layers):
        return whole, plan
    narrower = _build(dataclasses.replace(whole.description, layers=tuple(layers)), state)
    return narrower, _recounted(narrower, plan, tuple(planned[layer.name] for layer in plan.layers), card)


def _with_constants(bias: Rows, rows: Rows, kept: Flags, constant: Rows) -> Rows:
    """Add to the biases what the removed channels contributed; `rows` are weights (outputs, inputs × kernel)."""
    of_channel = rows.reshape(len(rows), len(kept), -1)[:, ~kept].sum(axis=2)
    return np.asarray(bias + of_channel @ constant[~kept], np.float32)


def _recounted(narrower: Described, plan: Plan, layers: tuple[LayerPlan, ...], card: devices.Card) -> Plan:
    biases = SCALE_BITS * sum(len(layer.biases) for layer in layers) / plan.bits_per_cell
    left = sum(layer.groups for layer in layers) / sum(layer.groups for layer in plan.layers)
    ledger = {**plan.ledger, "biases": biases, "plan": plan.ledger["plan"] * left}
    plan = dataclasses.replace(plan, layers=layers, ledger=ledger, parameters=narrower.network.parameters)
    return rewritten(narrower.network, plan, card)


def _rows_left(layer: LayerPlan, plan: Plan, kept: Flags, inputs: Flags) -> Rows:
    """The rows that the plan holds, without removed outputs and inputs."""
    stays = kept[kept_rows(layer, menu_of(plan))]
    rows = layer.rows.reshape(-1, *layer.shape[1:])[stays][:, inputs]
    return rows.reshape(len(rows), int(np.prod(rows.shape[1:])))
