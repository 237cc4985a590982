"""The joint choice: pruning, bits and cells compete for one budget, and measured held-out loss has the last word.

The loss model is an estimate from few images, and a better solution of a worse model is a worse plan. So the problem
is solved for several shrinkages of its couplings and several parts of the menu, each plan is written to a few chips
and read back, and the plan of least measured loss on the held-out images is kept. The held-out images serve for
nothing else, and neither the chips nor the images are those on which results are reported.

Where the best plan of a budget loses much more than its model says, the errors are too large for the curvature at the
trained weights: the model is built again on the way to that plan, and the problem solved once more.
"""

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import qubo
from physcomp.choice.loss_model import LossModel
from physcomp.choice.planning import plan_of
from physcomp.choice.scale_correction import ScaleCorrection
from physcomp.networks.evaluation import evaluate
from physcomp.networks.images import Images
from physcomp.storage.chip import store
from physcomp.storage.measure import HELDOUT_SEED, heldout_losses
from physcomp.storage.plan import Plan
from physcomp.threads import Progress, in_threads

# The model is built again where a plan's measured loss rise is more than so many times the predicted one, and more than
# so many nats, a third of the way to it: the node of Taylor's remainder. Our choices, as is one round: a second gained
# nothing.
DISTRUST = 1.0
WORTH = 0.05
EXPANSION = 1 / 3


@dataclass(frozen=True)
class Search:
    """What the joint choice tries.

    Args:
        shrinkages: factors on the couplings between groups of a layer; 0 ignores them.
        parts: parts of the menu, see `physcomp.codes.menu.part_of`.
        solver: of `qubo.solve`.
        chips: chips on which the held-out loss of a plan with analog cells is measured.
        effort: spent on the lower bound of each budget's best plan, see `qubo.lower_bound`.
        seed: of solver and chips.
    """

    shrinkages: tuple[float, ...] = (0.0, 0.7)
    parts: tuple[str, ...] = ("all", "digital", "analog")
    solver: str = "annealer"
    chips: int = 2
    effort: float = 0.1
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Choices:
    """The plans of every budget, shrinkage and part of the menu, with their measured held-out loss.

    Args:
        plans: all of them; `proof` says of each what it was offered and what it lost.
        shrinkage: the one whose plans of the whole menu lost least, by the geometric mean over budgets; all
            predictions are made with it.
    """

    plans: tuple[Plan, ...]
    shrinkage: float

    def best(self, budget: float, *, part: str | None = None, shrinkage: float | None = None) -> Plan:
        """The plan of least held-out loss at a budget.

        Args:
            budget: cells per weight.
            part: only plans of this part of the menu, chosen by the model at the trained weights.
            shrinkage: only plans of this shrinkage, chosen by the model at the trained weights.
        """
        plain = part is not None or shrinkage is not None
        offered = [
            plan
            for plan in self.plans
            if plan.budget == budget
            and part in (None, plan.proof.part)
            and shrinkage in (None, plan.proof.shrinkage)
            and not (plain and plan.proof.expansion)
        ]
        return min(offered, key=_heldout)


def _heldout(plan: Plan) -> float:
    loss = plan.proof.heldout_loss
    return math.inf if loss is None else loss


def choose(
    model: LossModel,
    heldout: Images,
    budgets: Iterable[float],
    *,
    search: Search | None = None,
    progress: Progress | None = None,
) -> Choices:
    """Solve the selection problem for every budget, shrinkage and part of the menu, and measure each plan.

    The plan of least held-out loss at each budget is then proven: its lower bound is made tighter.

    Args:
        model: of the network on the card.
        heldout: images that served neither training nor the model.
        budgets: cells per weight, everything stored counted.
        search: what to try.
        progress: called with the share done.

    Raises:
        ValueError: a budget is infeasible; the error names the smallest.
    """
    search = search or Search()
    budgets = tuple(budgets)
    tasks = [(model, b, part, rho) for b in budgets for part in search.parts for rho in search.shrinkages]
    plans = _attempts(tasks, heldout, search, lambda done: progress(0.7 * done) if progress else None)
    shrinkage = min(search.shrinkages, key=lambda rho: _badness(plans, rho, search.parts[0]))
    plans = [_with_prediction(model, plan, shrinkage) for plan in plans]
    models = {plan.sha256: model for plan in plans}
    clean = evaluate(model.network.module, heldout).loss
    for done, budget in enumerate(budgets, start=1):
        best = Choices(tuple(plans), shrinkage).best(budget)
        if _heldout(best) - clean > max(WORTH, DISTRUST * best.proof.predicted_loss_increase):
            closer = model.around(_read_back(model, best), EXPANSION)
            tasks = [(closer, budget, search.parts[0], rho) for rho in search.shrinkages]
            for plan in _attempts(tasks, heldout, search, None):
                expanded = _with_proof(_with_prediction(closer, plan, plan.proof.shrinkage), expansion=EXPANSION)
                models[expanded.sha256] = closer
                plans.append(expanded)
        if progress:
            progress(0.7 + 0.3 * done / len(budgets))
    choices = Choices(tuple(plans), shrinkage)
    picked = {choices.best(budget).sha256: choices.best(budget) for budget in budgets}
    proofs = in_threads(lambda item: _proven(models[item[0]], item[1], search.effort), picked.items())
    proven = dict(zip(picked, proofs, strict=True))
    return dataclasses.replace(choices, plans=tuple(proven.get(plan.sha256, plan) for plan in choices.plans))


def _attempts(
    tasks: list[tuple[LossModel, float, str, float]],
    heldout: Images,
    search: Search,
    progress: Progress | None,
) -> list[Plan]:
    """Solve each (model, budget, part, shrinkage); measure the plans, with scales corrected and as they are."""
    correction = ScaleCorrection.of(tasks[0][0])

    def attempt(task: tuple[LossModel, float, str, float]) -> Plan:
        model, budget, part, shrinkage = task
        selection = model.selection(budget, shrinkage=shrinkage, part=part)
        plain = qubo.lower_bound(selection, effort=0)
        solution = qubo.solve(selection, search.solver, seed=search.seed, certificate=plain)
        plan = plan_of(
            model,
            solution.choice,
            method=part,
            shrinkage=shrinkage,
            part=part,
            budget=budget,
            solution=solution,
        )
        return min((measured(model, each) for each in (plan, correction.corrected(plan))), key=_heldout)

    def measured(model: LossModel, plan: Plan) -> Plan:
        card, times_s = model.medium.card, [read.read_time_s for read in model.medium.reads]
        losses = heldout_losses(model.network, plan, heldout, card=card, chips=search.chips, times_s=times_s)
        return _with_proof(plan, heldout_loss=float(model.medium.counted(losses)))

    plans = []
    for done, plan in enumerate(in_threads(attempt, tasks), start=1):
        plans.append(plan)
        if progress:
            progress(done / len(tasks))
    return plans


def _read_back(model: LossModel, plan: Plan) -> dict[str, torch.Tensor]:
    """The network as read back from one chip of the held-out measurement."""
    return store(model.network, plan, card=model.medium.card, seed=HELDOUT_SEED).read_back()


def _badness(plans: list[Plan], shrinkage: float, part: str) -> float:
    losses = [_heldout(p) for p in plans if p.proof.shrinkage == shrinkage and p.proof.part == part]
    return sum(math.log(max(loss, 1e-12)) for loss in losses)


def _proven(model: LossModel, plan: Plan, effort: float) -> Plan:
    """The same plan with a better lower bound; while many are tried a plain one is enough."""
    assert plan.budget is not None
    proof = plan.proof
    if proof.shrinkage == 0:
        return plan  # without couplings the plain bound is the exact dual
    selection = model.selection(plan.budget, shrinkage=proof.shrinkage, part=proof.part)
    bound = max(proof.lower_bound or -math.inf, qubo.lower_bound(selection, effort=effort).bound)
    return _with_proof(plan, lower_bound=bound, gap=(proof.energy - bound) / abs(proof.energy))


def _with_prediction(model: LossModel, plan: Plan, shrinkage: float) -> Plan:
    choice = np.concatenate([layer.codes for layer in plan.layers])
    return _with_proof(plan, predicted_loss_increase=model.predict(choice, shrinkage))


def _with_proof(plan: Plan, **changes: Any) -> Plan:
    return dataclasses.replace(plan, proof=dataclasses.replace(plan.proof, **changes))
