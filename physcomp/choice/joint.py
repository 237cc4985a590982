"""The joint choice: all codes compete for one budget, and the plan with the least measured held-out loss is kept.

The loss model is estimated from few images, so the best choice by the model is not always the best plan. Therefore the
selection problem is solved for several shrinkages of the couplings and several parts of the menu. Each plan is rounded
in sequence (`physcomp.choice.sequence`), written to a few chips, read back, and measured on held-out images. The best
of each part gets its scales and biases tuned (`physcomp.choice.tuning`) and is measured again. Candidates beside them
are plans that store every group with the same entropy-coded code, rounded in sequence and tuned alike. The plan of
least measured loss within a budget is kept. The held-out images serve for nothing else, and results are reported on
other chips and other images.

Where the best plan at a budget loses much more than predicted, its errors are too large for a quadratic model around
the trained weights. The curvature is then estimated at weights between the trained ones and those of that plan
(`LossModel.around`), and the problem is solved again.
"""

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
import torch

import qubo
from physcomp.choice.checks import budgets_of, check_count, check_parts, check_seed, check_shrinkages
from physcomp.choice.loss_model import LossModel
from physcomp.choice.planning import FIXED, plan_of
from physcomp.choice.refining import Refining, _with_proof, candidates
from physcomp.networks.samples import Samples
from physcomp.storage.chip import store
from physcomp.storage.measure import HELDOUT_SEED
from physcomp.storage.plan import Plan
from physcomp.threads import ShareDone, in_threads, release_memory

# The curvature is estimated again if the measured loss increase of a plan exceeds the predicted one by this factor ...
DISTRUST = 1.0
WORTH = 0.05  # ... and is more than this, in nats. Both are our choice, as is a single round: a second gained nothing.
TRIES = 6  # choices at the most until a plan rounded in sequence keeps to its budget
CAUTION = 0.998  # the share of the cells left over by each that the next is allowed
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
    parts: tuple[str, ...] = ("all", "digital")
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
    """All plans that the joint choice made, several for each budget, shrinkage and part of the menu.

    Args:
        plans: the plans; `proof` of each says which shrinkage and part it is for, how it was refined, and its measured
            held-out loss.
        shrinkage: the shrinkage whose plans from the whole menu lost least, by the geometric mean over budgets; all
            predictions are made with it.
        clean_loss: mean loss of the network as trained on the held-out samples.
    """

    plans: tuple[Plan, ...]
    shrinkage: float
    clean_loss: float = math.nan

    def best(self, budget: float, *, part: str | None = None, shrinkage: float | None = None) -> Plan:
        """The plan with the least held-out loss at a budget.

        Args:
            budget: cells per weight, one of those chosen for.
            part: only plans from this part of the menu, by the curvature at the trained weights; None: any plan that
                takes no more cells, candidates with one code for all groups and plans for smaller budgets included.
            shrinkage: only plans with this shrinkage, by the curvature at the trained weights; None: with any.
        """
        if part is None and shrinkage is None:
            within = (plan for plan in self.plans if _within(plan, budget))
            return min(within, key=lambda plan: (_heldout(plan), plan.budget != budget))
        offered = [
            plan
            for plan in self.plans
            if plan.budget == budget
            and part in (None, plan.proof.part)
            and shrinkage in (None, plan.proof.shrinkage)
            and plan.proof.solver != FIXED
            and not plan.proof.expansion
        ]
        return min(offered, key=_heldout)


def _digital(model: LossModel, search: Search) -> bool:
    """Whether digital codes are offered, so that plans with one of them may be candidates."""
    offered = any("digital" in code.kinds and code.stores(1) for code in model.menu[: model.offered])
    return offered and bool({"all", "digital"} & set(search.parts))


def _within(plan: Plan, budget: float) -> bool:
    return plan.cells_per_weight <= budget * (1 + 1e-9)


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
    refining = Refining(model, heldout, search.chips, search.seed)
    tasks = [(model, b, part, rho) for b in budgets for part in search.parts for rho in search.shrinkages]
    plans = _attempts(tasks, refining, search, lambda done: progress(0.5 * done) if progress else None)
    shrinkage = min(search.shrinkages, key=lambda rho: _badness(plans, rho, search.parts[0]))
    plans = [_with_prediction(model, plan, shrinkage) for plan in plans]
    firsts = []
    for budget in budgets:
        chosen = [Choices(tuple(plans), shrinkage).best(budget, part=part) for part in search.parts]
        fixed = candidates(model, refining, budget) if _digital(model, search) else []
        plans += fixed
        firsts += refining.worth_tuning(chosen, fixed)
    for done, more in enumerate(refining.more(firsts), start=1):
        plans += more
        if progress:
            progress(0.5 + 0.3 * done / len(firsts))
    proven: dict[str, Plan] = {}
    for done, budget in enumerate(budgets, start=1):
        best = Choices(tuple(plans), shrinkage).best(budget)
        if _heldout(best) - refining.clean > max(WORTH, DISTRUST * best.proof.predicted_loss_increase):
            closer, more = _expanded(model, best, budget, refining, search)
            plans += more
            best = Choices(tuple(plans), shrinkage).best(budget)
            if best.proof.expansion:  # proven at once, since nothing else needs the other model
                proven[best.sha256] = _proven(closer, best, search.effort)
            del closer
            release_memory()
        if progress:
            progress(0.8 + 0.2 * done / len(budgets))
    bests = [(Choices(tuple(plans), shrinkage).best(budget), budget) for budget in budgets]
    plans += [_moved(model, best, budget) for best, budget in bests if best.budget != budget]
    choices = Choices(tuple(plans), shrinkage, refining.clean)
    picked = {plan.sha256: plan for plan in map(choices.best, budgets) if not plan.proof.expansion}
    proofs = in_threads(lambda plan: _proven(model, plan, search.effort), picked.values())
    proven.update(zip(picked, proofs, strict=True))
    return dataclasses.replace(choices, plans=tuple(proven.get(plan.sha256, plan) for plan in choices.plans))


def _moved(model: LossModel, plan: Plan, budget: float) -> Plan:
    """A plan of no more cells for another budget, with the bound of that one."""
    plan = dataclasses.replace(plan, budget=budget)
    if plan.proof.solver == FIXED or plan.proof.expansion:
        return _with_proof(plan, lower_bound=None, gap=None)
    selection = model.selection(budget, shrinkage=plan.proof.shrinkage, part=plan.proof.part)
    bound = qubo.lower_bound(selection, effort=0).bound
    return _with_proof(plan, lower_bound=bound, gap=_gap(plan.proof.energy, bound))


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


def _expanded(
    model: LossModel, best: Plan, budget: float, refining: Refining, search: Search
) -> tuple[LossModel, list[Plan]]:
    """The loss model on the way to the weights of a plan, and the plans that it leads to."""
    closer = model.around(_read_back(model, best), EXPANSION)
    tasks = [(closer, budget, search.parts[0], rho) for rho in search.shrinkages]
    plans = _attempts(tasks, refining, search, None)
    predicted = [_with_prediction(closer, plan, plan.proof.shrinkage) for plan in plans]
    plans = [_with_proof(plan, expansion=EXPANSION) for plan in predicted]
    (more,) = refining.more([min(plans, key=_heldout)])
    return closer, plans + more


def _attempts(
    tasks: list[tuple[LossModel, float, str, float]], refining: Refining, search: Search, progress: ShareDone | None
) -> list[Plan]:
    """For each (model, budget, part, shrinkage) a plan, rounded in sequence and as it was before, both measured."""

    def attempt(task: tuple[LossModel, float, str, float]) -> list[Plan]:
        found = [refining.measured(plan) for plan in _planned(*task, refining, search)]
        release_memory()
        return found

    plans = []
    for done, found in enumerate(in_threads(attempt, tasks, most=refining.at_once), start=1):
        plans += found
        if progress:
            progress(done / len(tasks))
    return plans


def _planned(
    model: LossModel, budget: float, part: str, shrinkage: float, refining: Refining, search: Search
) -> list[Plan]:
    """The plan of a selection problem, rounded in sequence; chosen again with fewer cells where that took too many.

    The bits of entropy-coded rows depend on how they are rounded, and are known only then.
    """
    selection = model.selection(budget, shrinkage=shrinkage, part=part)
    bound = qubo.lower_bound(selection, effort=0)
    allowed, certificate, plan = budget, bound, None
    least = model.least_budget(part)
    for _ in range(TRIES):
        solution = qubo.solve(selection, search.solver, seed=search.seed, certificate=certificate)
        plan = plan_of(
            model,
            solution.choice,
            method=part,
            shrinkage=shrinkage,
            part=part,
            budget=budget,
            solution=dataclasses.replace(solution, lower_bound=bound.bound),
        )
        rounded = refining.rounded(plan)
        if _within(rounded, budget):
            return [rounded, plan] if _within(plan, budget) and rounded is not plan else [rounded]
        allowed *= CAUTION * budget / rounded.cells_per_weight
        if allowed < least:
            break
        selection = model.selection(allowed, shrinkage=shrinkage, part=part)
        certificate = qubo.lower_bound(selection, effort=0)
    assert plan is not None
    return [plan]


def _gap(energy: float, bound: float) -> float:
    return (energy - bound) / abs(energy) if energy else 0.0


def _read_back(model: LossModel, plan: Plan) -> dict[str, torch.Tensor]:
    """The parameters read back from one of the chips of the held-out measurement."""
    return store(model.network, plan, card=model.medium.card, seed=HELDOUT_SEED).read_back()


def _badness(plans: list[Plan], shrinkage: float, part: str) -> float:
    losses = [_heldout(p) for p in plans if p.proof.shrinkage == shrinkage and p.proof.part == part]
    return sum(math.log(max(loss, 1e-12)) for loss in losses)


def _proven(model: LossModel, plan: Plan, effort: float) -> Plan:
    """The same plan with a tighter lower bound than the plain one that all plans have."""
    proof = plan.proof
    if proof.shrinkage == 0 or proof.solver == FIXED or plan.budget is None:
        return plan  # without couplings the plain bound already is the optimum of the dual
    selection = model.selection(plan.budget, shrinkage=proof.shrinkage, part=proof.part)
    bound = max(proof.lower_bound or -math.inf, qubo.lower_bound(selection, effort=effort).bound)
    return _with_proof(plan, lower_bound=bound, gap=_gap(proof.energy, bound))


def _with_prediction(model: LossModel, plan: Plan, shrinkage: float) -> Plan:
    choice = np.concatenate([layer.codes for layer in plan.layers])
    low, high = model.error_of(choice, shrinkage)
    return _with_proof(
        plan,
        predicted_loss_increase=model.predict(choice, shrinkage),
        predicted_interval=(low, high) if math.isfinite(high) else (),
    )
