"""Makes plans of choices: from one code for each group to everything that is stored."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

import qubo
from physcomp.choice.loss_model import LossModel
from physcomp.codes.base import to_bfloat16
from physcomp.storage.layer_plan import LayerPlan, cells_of
from physcomp.storage.other_tensors import others_of
from physcomp.storage.plan import Plan, Proof

Number = TypeVar("Number", bound=np.generic)

FIXED = "fixed"  # the solver named in the proof of plans without a choice


def plan_of(
    model: LossModel,
    choice: NDArray[np.int64],
    *,
    method: str,
    shrinkage: float,
    part: str = "all",
    budget: float | None = None,
    solution: qubo.Solution | None = None,
) -> Plan:
    """Make the plan of a choice of one code for each group.

    Args:
        model: the loss model that the choice was made with.
        choice: (groups,), the index of each group's code in the menu of the model.
        method: the name of the method in reports.
        shrinkage: factor on the couplings for the predicted loss increase.
        part: the part of the menu that was offered; the bits that name a group's code are counted for its size.
        budget: cells per weight that were allowed; None for a fixed plan.
        solution: the solver's solution; None for a fixed plan.
    """
    layers = tuple(_layer_plan(model, number, choice) for number in range(len(model.layers)))
    predicted = model.predict(choice, shrinkage)
    return Plan(
        method=method,
        network=model.network.name,
        network_sha256=model.network.sha256,
        card=model.medium.card.name,
        card_sha256=model.medium.card.sha256,
        read_time_s=model.medium.written_for_s,
        granularity=model.granularity,
        budget=budget,
        bits_per_cell=model.medium.bits_per_cell,
        menu=tuple(code.name for code in model.menu),
        layers=layers,
        others=tuple(others_of(model.network, model.layers)),
        ledger={
            **cells_of(layers, model.menu, model.medium.bits_per_cell),
            **model.overhead(sum(model.part(part))),
        },
        proof=Proof(
            solver=solution.solver if solution else FIXED,
            kind=solution.kind if solution else "none",
            energy=solution.energy if solution else predicted,
            lower_bound=solution.lower_bound if solution else None,
            gap=solution.gap if solution else None,
            seconds=solution.seconds if solution else 0.0,
            shrinkage=shrinkage,
            part=part,
            predicted_loss_increase=predicted,
        ),
        ecc=model.medium.ecc,
        read_times_s=model.medium.span_s,
        over=model.medium.over,
        parameters=model.network.parameters,
    )


def uniform_plan(model: LossModel, code: str, *, shrinkage: float) -> Plan:
    """Make the plan that stores every group with the same code.

    Raises:
        ValueError: the code is not in the model's menu.
    """
    index = model.part(code).index(True)
    choice = np.full(len(model.loss), index, np.int64)
    return plan_of(model, choice, method=code, shrinkage=shrinkage, part=code)


def _layer_plan(model: LossModel, number: int, choice: NDArray[np.int64]) -> LayerPlan:
    layer, coupling = model.layers[number], model.couplings[number]
    start = model.starts[number]
    picked = choice[start : start + layer.groups]
    index = np.arange(layer.groups)
    biases = np.zeros(0) if layer.bias is None else layer.bias.astype(np.float64)
    if coupling.shift is not None:
        biases = biases + coupling.shift[index, picked]
    allocated, learned = model.fits[number].allocations, model.fits[number].learned
    kept = {place: model.to_write[number][code.name].of for place, code in enumerate(model.menu) if code.keeps_rows}
    cells = {place: allocated[code.name].__getitem__ for place, code in enumerate(model.menu) if code.allocates}
    return LayerPlan(
        name=layer.name,
        shape=layer.shape,
        codes=picked,
        scales=model.scales[number][index, picked],
        rows=_gathered(picked, kept, np.zeros((0, layer.weights), np.float32)),
        biases=to_bfloat16(biases),
        cells=_gathered(picked, cells, np.zeros((0, layer.weights), np.uint8)),
        learned={
            place: learned[code.name]
            for place, code in enumerate(model.menu)
            if code.name in learned and place in picked
        },
        weight=layer.weight,
        bias=layer.bias_name,
        transposed=layer.transposed,
    )


def _gathered(
    picked: NDArray[np.int64],
    offered: Mapping[int, Callable[[NDArray[np.int64]], NDArray[Number]]],
    none: NDArray[Number],
) -> NDArray[Number]:
    """By functions from groups to arrays (groups, weights), one per code, the rows of groups in their order."""
    mine = np.flatnonzero(np.isin(picked, list(offered)))
    found = np.empty((len(mine), none.shape[1]), none.dtype)
    for code, rows_of in offered.items():
        here = picked[mine] == code
        if here.any():
            found[here] = rows_of(mine[here])
    return found
