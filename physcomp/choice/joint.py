"""The joint choice: all codes compete for one budget, and the plan with the least measured held-out loss is kept.

The loss model is estimated from few images, so the best choice by the model is not always the best plan. Therefore the
selection problem is solved for several shrinkages of the couplings and several parts of the menu. Each plan is written
to a few chips, read back, and measured on held-out images; the plan with the least loss is kept. The held-out images
serve for nothing else, and results are reported on other chips and other images.

Where the best plan at a budget loses much more than predicted, its errors are too large for a quadratic model around
the trained weights. The curvature is then estimated at weights between the trained ones and those of that plan
(`LossModel.around`), and the problem is solved again.
"""

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
import torch

import qubo
from physcomp.choice.checks import budgets_of, check_count, check_parts, check_seed, check_shrinkages
from physcomp.choice.loss_model import LossModel
from physcomp.choice.planning import plan_of
from physcomp.choice.scale_correction import ScaleCorrection
from physcomp.networks.evaluation import evaluate
from physcomp.networks.samples import Samples
from physcomp.storage.chip import store
from physcomp.storage.measure import HELDOUT_SEED, heldout_losses
from physcomp.storage.plan import Plan
from physcomp.threads import ShareDone, in_threads, release_memory

# The curvature is estimated again if the measured loss increase of a plan exceeds the predicted one by this factor ...
DISTRUST = 1.0
WORTH = 0.05  # ... and is more than this, in nats. Both are our choice, as is a single round: a second gained nothing.
# The part of the memory that attempts take, which are made at a time, and the copies of the weights that one takes:
# rows, parameters, bits and cells. Our choices.
FOR_ATTEMPTS = 4
COPIES = 8
EXPANSION = 1 / 3  # how far from the trained weights to those of the plan: see `LossModel.around`


@dataclass(frozen=True)
class Search:
    """Settings of the joint choice: what it tries, and how plans are measured.

    Args:
        shrinkages: factors, 0 to 1, on the couplings between groups of a layer; 0 ignores them.
        parts: parts of the menu, see `physcomp.codes.menu.part_of`.
        solver: name of a solver of `qubo.solve`.
        chips: number of chips on which the held-out loss of a plan with analog cells is measured.
        effort: effort for the lower bound of the best plan of each budget, see `qubo.lower_bound`.
        seed: seed of solver and chips.

    Raises:
        ValueError: there are no shrinkages or parts, the solver is unknown, or a number is out of range.
    """

    shrinkages: tuple[float, ...] = (0.0, 0.7)
    parts: tuple[str, ...] = ("all", "digital", "analog")
    solver: str = "annealer"
    chips: int = 2
    effort: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        check_shrinkages(self.shrinkages)
        check_parts(self.parts)
        check_count("chips", self.chips)
        check_seed(self.seed)
        if self.solver not in qubo.SOLVERS:
            near = get_close_matches(str(self.solver), qubo.SOLVERS, 3) or ["annealer"]
            raise ValueError(f"solver: none is called {self.solver!r}; use {' or '.join(near)}")


@dataclass(frozen=True, eq=False)
class Choices:
    """All plans that the joint choice made, one for each budget, shrinkage and part of the menu.

    Args:
        plans: the plans; `proof` of each says which shrinkage and part it is for, and its measured held-out loss.
        shrinkage: the shrinkage whose plans from the whole menu lost least, by the geometric mean over budgets; all
            predictions are made with it.
    """

    plans: tuple[Plan, ...]
    shrinkage: float

    def best(self, budget: float, *, part: str | None = None, shrinkage: float | None = None) -> Plan:
        """The plan with the least held-out loss at a budget.

        Args:
            budget: cells per weight, one of those chosen for.
            part: only plans from this part of the menu, by the curvature at the trained weights; None: from any.
            shrinkage: only plans with this shrinkage, by the curvature at the trained weights; None: with any.
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
    heldout: Samples,
    budgets: Iterable[float],
    *,
    search: Search | None = None,
    progress: ShareDone | None = None,
) -> Choices:
    """Choose a code for every group at each budget: solve the selection problem in several variants, measure each plan.

    The plan with the least held-out loss at each budget then gets a tighter lower bound.

    Args:
        model: the loss model of the network on a card.
        heldout: images that served neither training nor the loss model.
        budgets: cells per weight, with everything stored counted.
        search: what to try.
        progress: called with the share that is done, 0 to 1.

    Raises:
        ValueError: a budget is infeasible; the error states the smallest feasible one.
    """
    search, budgets = search or Search(), budgets_of(budgets)
    _check(model, heldout, budgets, search)
    tasks = [(model, b, part, rho) for b in budgets for part in search.parts for rho in search.shrinkages]
    plans = _attempts(tasks, heldout, search, lambda done: progress(0.7 * done) if progress else None)
    shrinkage = min(search.shrinkages, key=lambda rho: _badness(plans, rho, search.parts[0]))
    plans = [_with_prediction(model, plan, shrinkage) for plan in plans]
    clean = evaluate(model.network, heldout).loss
    proven: dict[str, Plan] = {}
    for done, budget in enumerate(budgets, start=1):
        best = Choices(tuple(plans), shrinkage).best(budget)
        if _heldout(best) - clean > max(WORTH, DISTRUST * best.proof.predicted_loss_increase):
            closer, more = _expanded(model, best, heldout, search)
            plans += more
            best = Choices(tuple(plans), shrinkage).best(budget)
            if best.proof.expansion:  # proven at once, since nothing else needs the other model
                proven[best.sha256] = _proven(closer, best, search.effort)
            del closer
            release_memory()
        if progress:
            progress(0.7 + 0.3 * done / len(budgets))
    choices = Choices(tuple(plans), shrinkage)
    picked = {plan.sha256: plan for plan in map(choices.best, budgets) if not plan.proof.expansion}
    proofs = in_threads(lambda plan: _proven(model, plan, search.effort), picked.values())
    proven.update(zip(picked, proofs, strict=True))
    return dataclasses.replace(choices, plans=tuple(proven.get(plan.sha256, plan) for plan in choices.plans))


def _check(model: LossModel, heldout: Samples, budgets: tuple[float, ...], search: Search) -> None:
    """Check before the long work that samples fit and that every budget is feasible with every part of the menu."""
    if not isinstance(heldout, Samples):
        raise ValueError(f"heldout: samples with labels, got {type(heldout).__name__}; pass physcomp.Samples")
    model.network.check(heldout)
    for part in search.parts:
        least = model.least_budget(part)
        if min(budgets) < least:
            raise ValueError(
                f"budget: {model.network.name} on {model.medium.card.name} with the menu '{part}' takes at least "
                f"{least:.4f} cells/weight, got {min(budgets):g}; raise it"
            )


def _expanded(model: LossModel, best: Plan, heldout: Samples, search: Search) -> tuple[LossModel, list[Plan]]:
    """The loss model on the way to the weights of a plan, and the plans that it leads to."""
    assert best.budget is not None
    closer = model.around(_read_back(model, best), EXPANSION)
    tasks = [(closer, best.budget, search.parts[0], rho) for rho in search.shrinkages]
    plans = _attempts(tasks, heldout, search, None)
    predicted = [_with_prediction(closer, plan, plan.proof.shrinkage) for plan in plans]
    return closer, [_with_proof(plan, expansion=EXPANSION) for plan in predicted]


def _attempts(
    tasks: list[tuple[LossModel, float, str, float]],
    heldout: Samples,
    search: Search,
    progress: ShareDone | None,
) -> list[Plan]:
    """One plan for each (model, budget, part, shrinkage): with or without scale correction, whichever loses less."""
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
        best = min((measured(model, each) for each in (plan, correction.corrected(plan))), key=_heldout)
        release_memory()
        return best

    def measured(model: LossModel, plan: Plan) -> Plan:
        card, times_s = model.medium.card, [read.read_time_s for read in model.medium.reads]
        losses = heldout_losses(model.network, plan, heldout, card=card, chips=search.chips, times_s=times_s)
        return _with_proof(plan, heldout_loss=float(model.medium.counted(losses)))

    plans = []
    memory = tasks[0][0].memory_bytes // FOR_ATTEMPTS
    most = max(1, memory // (4 * COPIES * sum(layer.rows.size for layer in tasks[0][0].layers)))
    for done, plan in enumerate(in_threads(attempt, tasks, most=most), start=1):
        plans.append(plan)
        if progress:
            progress(done / len(tasks))
    return plans


def _read_back(model: LossModel, plan: Plan) -> dict[str, torch.Tensor]:
    """The parameters read back from one of the chips of the held-out measurement."""
    return store(model.network, plan, card=model.medium.card, seed=HELDOUT_SEED).read_back()


def _badness(plans: list[Plan], shrinkage: float, part: str) -> float:
    losses = [_heldout(p) for p in plans if p.proof.shrinkage == shrinkage and p.proof.part == part]
    return sum(math.log(max(loss, 1e-12)) for loss in losses)


def _proven(model: LossModel, plan: Plan, effort: float) -> Plan:
    """The same plan with a tighter lower bound than the plain one that all plans have."""
    assert plan.budget is not None
    proof = plan.proof
    if proof.shrinkage == 0:
        return plan  # without couplings the plain bound already is the optimum of the dual
    selection = model.selection(plan.budget, shrinkage=proof.shrinkage, part=proof.part)
    bound = max(proof.lower_bound or -math.inf, qubo.lower_bound(selection, effort=effort).bound)
    return _with_proof(plan, lower_bound=bound, gap=(proof.energy - bound) / abs(proof.energy))


def _with_prediction(model: LossModel, plan: Plan, shrinkage: float) -> Plan:
    choice = np.concatenate([layer.codes for layer in plan.layers])
    return _with_proof(plan, predicted_loss_increase=model.predict(choice, shrinkage))


def _with_proof(plan: Plan, **changes: Any) -> Plan:
    return dataclasses.replace(plan, proof=dataclasses.replace(plan.proof, **changes))
