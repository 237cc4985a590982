"""Refining plans after the choice: rounding in sequence and tuning; the plan of least held-out loss counts."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from physcomp.choice.loss_model import LossModel
from physcomp.choice.planning import FIXED
from physcomp.choice.sequence import Sequence
from physcomp.choice.tuning import tuned
from physcomp.codes import Code, parse
from physcomp.codes.base import to_bfloat16
from physcomp.networks.evaluation import evaluate
from physcomp.networks.samples import Samples
from physcomp.storage.layer_plan import LayerPlan, cells_of, mean_read_back
from physcomp.storage.measure import heldout_losses
from physcomp.storage.other_tensors import others_of
from physcomp.storage.plan import Plan, Proof
from physcomp.threads import in_threads, release_memory

# The part of the memory that plans take, which are made at a time, and the copies of the weights that one takes: rows,
# parameters, bits and cells. Our choices.
FOR_ATTEMPTS = 4
COPIES = 8
SEQUENCE, TUNED = "rounded in sequence", "tuned"
# A plan whose rise of the loss is so many times the least one at its budget, and more than so many nats, is not tuned:
# tuning took off two thirds at the most. Our choices.
HOPELESS, SMALL = 5.0, 0.01
# Codes that plans with one code for all groups have, from many bits to few; our choice. Entropy-coded, they read back
# what `digital` of as many bits does, in fewer cells.
UNIFORM = tuple(f"coded({bits:.3g})" for bits in (8, 7, 6, 5.5, 5, 4.46, 4, 3.46, 3, 2.32, 2))


class Refining:
    """What refines and measures the plans of one loss model's network.

    Args:
        model: the loss model.
        heldout: held-out samples.
        chips: chips on which plans with analog cells are measured.
        seed: of the tuning.
    """

    def __init__(self, model: LossModel, heldout: Samples, chips: int, seed: int) -> None:
        self.model, self.heldout, self.chips, self.seed = model, heldout, chips, seed
        (self.sequence,) = in_threads(Sequence.of, [model])
        self.clean = evaluate(model.network, heldout).loss
        weights = sum(layer.rows.size for layer in model.layers)
        self.at_once = max(1, model.memory_bytes // FOR_ATTEMPTS // (4 * COPIES * weights))

    def rounded(self, plan: Plan) -> Plan:
        """The plan rounded in sequence; the same plan where that is not possible."""
        rounded = self.sequence.rounded(plan)
        return plan if rounded is plan else _refined(rounded, SEQUENCE)

    def measured(self, plan: Plan) -> Plan:
        """The plan with its held-out loss."""
        medium = self.model.medium
        times_s = [read.read_time_s for read in medium.reads]
        network, card = self.model.network, medium.card
        losses = heldout_losses(network, plan, self.heldout, card=card, chips=self.chips, times_s=times_s)
        return _with_proof(plan, heldout_loss=float(medium.counted(losses)), clean_loss=self.clean)

    def worth_tuning(self, chosen: list[Plan], fixed: list[Plan]) -> list[Plan]:
        """The plans that were chosen, and those with one code for all groups that tuning may bring to the front."""
        least = min(plan.proof.measured_increase or 0.0 for plan in chosen)
        hopeless = max(HOPELESS * least, SMALL)
        return chosen + [plan for plan in fixed if (plan.proof.measured_increase or 0.0) <= hopeless]

    def more(self, plans: list[Plan]) -> Iterator[list[Plan]]:
        """For each plan that was measured, the plans that come of refining it further, measured."""

        def work(plan: Plan) -> list[Plan]:
            further = tuned(self.model.network, plan, self.model.medium, self.model.images, seed=self.seed)
            found = [] if further is plan else [self.measured(_refined(further, TUNED))]
            release_memory()
            return found

        yield from in_threads(work, plans, most=self.at_once)


def candidates(model: LossModel, refining: Refining, budget: float) -> list[Plan]:
    """Plans with one code for all groups within a budget, measured: as they are, and rounded in sequence."""
    found: list[Plan] = []
    for name in UNIFORM:
        plan = one_code(model, parse(name), budget)
        if plan.cells_per_weight > budget:
            continue
        found.append(refining.measured(plan))
        rounded = refining.rounded(plan)
        if rounded.cells_per_weight <= budget:
            found.append(refining.measured(rounded))
            break
    return found


def one_code(model: LossModel, code: Code, budget: float | None = None) -> Plan:
    """The plan that stores every group with one code, which need not be in the menu of the model.

    Args:
        model: the loss model; what each weight's error costs picks the scales and makes the prediction.
        code: a code that rounds all weights, such as `coded(4)`; rows are rounded without compensation.
        budget: cells per weight that are allowed; None: it is not said.
    """
    layers, predicted = [], 0.0
    for layer, held in zip(model.layers, model.importances, strict=True):
        importance = np.asarray(held[:], np.float64)
        scales = code.fit(layer.rows, importance, model.medium)
        made = LayerPlan(
            name=layer.name,
            shape=layer.shape,
            codes=np.zeros(layer.groups, np.int64),
            scales=scales,
            rows=layer.rows if code.keeps_rows else layer.rows[:0],
            biases=to_bfloat16(np.zeros(0) if layer.bias is None else layer.bias),
            cells=np.zeros((0, layer.weights), np.uint8),
            weight=layer.weight,
            bias=layer.bias_name,
            transposed=layer.transposed,
        )
        read = mean_read_back(made, (code,), layer.rows, model.medium)
        predicted += 0.5 * float(np.sum(importance * np.square(read - layer.rows, dtype=np.float64)))
        layers.append(dataclasses.replace(made, rows=read if code.keeps_rows else made.rows))
    medium = model.medium
    return Plan(
        method=code.name,
        network=model.network.name,
        network_sha256=model.network.sha256,
        card=medium.card.name,
        card_sha256=medium.card.sha256,
        read_time_s=medium.written_for_s,
        granularity=model.granularity,
        budget=budget,
        bits_per_cell=medium.bits_per_cell,
        menu=(code.name,),
        layers=tuple(layers),
        others=tuple(others_of(model.network, model.layers)),
        ledger={**cells_of(tuple(layers), (code,), medium.bits_per_cell), **model.overhead(1)},
        proof=Proof(
            solver=FIXED,
            kind="none",
            energy=predicted,
            lower_bound=None,
            gap=None,
            seconds=0.0,
            shrinkage=0.0,
            part=code.name,
            predicted_loss_increase=predicted,
        ),
        ecc=medium.ecc,
        read_times_s=medium.span_s,
        over=medium.over,
        parameters=model.network.parameters,
    )


def _refined(plan: Plan, how: str) -> Plan:
    return _with_proof(plan, refined=(*plan.proof.refined, how))


def _with_proof(plan: Plan, **changes: Any) -> Plan:
    """The plan with changes in its proof."""
    return dataclasses.replace(plan, proof=dataclasses.replace(plan.proof, **changes))
