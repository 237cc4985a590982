"""Choosing and training in turn, until held-out loss improves no more.

A plan is chosen for the trained network, pruned filters are taken out, the weights are trained for the plan, and the
next plan is chosen for what came out. Taking a filter out frees the cells of the weights that read it, which a
selection with one cost a group cannot know: so the plan is chosen at a larger budget, the largest at which what is
left after taking out keeps to the budget asked for. All budgets are in cells per weight of the network at the start.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

import devices
import qubo
from physcomp.choice.joint import Search, choose
from physcomp.choice.loss_model import LossModel, build_model
from physcomp.choice.planning import plan_of
from physcomp.codes.menu import DEFAULT
from physcomp.networks.description import Described
from physcomp.networks.images import Images
from physcomp.networks.layers import weights_of
from physcomp.storage.measure import heldout_losses
from physcomp.storage.plan import Plan
from physcomp.threads import Progress
from physcomp.training.channel_removal import narrow
from physcomp.training.finetuning import Finetuned, Recipe, finetune

# The enlarged budget is sought in so many steps, each at most so large, until so much of the cells is used; our choice.
STEPS = 5
LARGEST = 1.5
CLOSE = 0.985
# What a choice takes of a round's progress bar; our choice.
CHOICE_SHARE = 0.3
# Chips on which the held-out loss of a plan with analog cells is measured; our choice.
CHIPS = 5


@dataclass(frozen=True, eq=False)
class Round:
    """One choice with the training after it.

    Args:
        described: the network after training, with its description.
        finetuned: network, plan and history of the training.
        cells: everything stored.
        heldout_loss: mean over chips on the held-out images, nats.
    """

    described: Described
    finetuned: Finetuned
    cells: float
    heldout_loss: float


RECIPE = Recipe()
# Training mends what a plan of another shrinkage or part of the menu would have gained; our choice.
SEARCH = Search(shrinkages=(0.7,), parts=("all",))


@dataclass(frozen=True)
class Schedule:
    """What is chosen and trained in turn.

    Args:
        card: the device.
        budget: cells per weight of the network at the start, everything stored counted.
        read_time_s: seconds from programming to reading.
        rounds: at most so many choices with training after each.
        epochs: of each training.
        seed: of choices and training; another round has another seed.
        menu: the codes offered.
        recipe: of the training.
        search: of the choice.
    """

    card: devices.Card
    budget: float
    read_time_s: float = 0.0
    rounds: int = 1
    epochs: int = 30
    seed: int = 0
    menu: tuple[str, ...] = DEFAULT
    recipe: Recipe = RECIPE
    search: Search = SEARCH


def alternate(
    start: Described,
    images: Images,
    calibration: Images,
    *,
    heldout: Images,
    schedule: Schedule,
    done: tuple[Round, ...] = (),
    progress: Progress | None = None,
) -> Iterator[Round]:
    """Choose and train in turn; yields each round as it ends, and stops when one is no better than the best before.

    Args:
        start: the network trained on nothing but images; it teaches all rounds.
        images: to train on.
        calibration: to build loss models on.
        heldout: by whose loss rounds are judged.
        schedule: what to do.
        done: rounds of an earlier call that ended early; they are not yielded again.
        progress: called with the share of the present round that is done.
    """
    rounds = list(done)
    allowed = schedule.budget * weights_of(start.network)
    while len(rounds) < schedule.rounds and not _settled(rounds):
        before = rounds[-1].described if rounds else start
        number = len(rounds)
        chosen, plan = _choose(before, calibration, heldout, schedule, allowed, number, progress)
        plan = dataclasses.replace(plan, budget=allowed / plan.weights)
        trained = finetune(
            chosen.network,
            plan,
            images,
            heldout=heldout,
            epochs=schedule.epochs,
            seed=schedule.seed + number,
            teacher=start.network.module,
            card=schedule.card,
            recipe=schedule.recipe,
            progress=(lambda share: progress(CHOICE_SHARE + (1 - CHOICE_SHARE) * share)) if progress else None,
        )
        described = chosen.with_state(trained.network.module.state_dict())
        (loss,) = heldout_losses(trained.network, trained.plan, heldout, card=schedule.card, chips=CHIPS).tolist()
        proof = dataclasses.replace(trained.plan.proof, heldout_loss=loss)
        trained = dataclasses.replace(trained, plan=dataclasses.replace(trained.plan, proof=proof))
        rounds.append(Round(described, trained, trained.plan.cells, loss))
        yield rounds[-1]


def best_of(rounds: list[Round], allowed: float) -> Round:
    """The round of least held-out loss among those that keep to the cells allowed.

    What entropy-coded groups take changes in training, so that a round may end above the budget.

    Raises:
        ValueError: none keeps to it.
    """
    kept = [done for done in rounds if done.cells <= allowed]
    if not kept:
        least = min(done.cells for done in rounds)
        raise ValueError(f"budget: {allowed:.0f} cells are allowed, training ended with {least:.0f}; train more rounds")
    return min(kept, key=lambda done: done.heldout_loss)


def _settled(rounds: list[Round]) -> bool:
    losses = [done.heldout_loss for done in rounds]
    return len(losses) > 1 and losses[-1] >= min(losses[:-1])


def _choose(
    before: Described,
    calibration: Images,
    heldout: Images,
    schedule: Schedule,
    allowed: float,
    number: int,
    progress: Progress | None,
) -> tuple[Described, Plan]:
    """The narrowed network and plan of least held-out loss that take no more cells than allowed."""
    model = build_model(
        before.network,
        calibration,
        card=schedule.card,
        read_time_s=schedule.read_time_s,
        menu=schedule.menu,
        seed=schedule.seed + number,
        progress=(lambda share: progress(CHOICE_SHARE / 2 * share)) if progress else None,
    )
    search = dataclasses.replace(schedule.search, seed=schedule.search.seed + schedule.seed + number)
    budget, plan = _enlarged(model, before, schedule.card, allowed, search)
    choices = choose(model, heldout, [budget], search=search)
    found = [narrow(before, p, schedule.card) for p in (*sorted(choices.plans, key=_loss), plan)]
    return next(pair for pair in found if pair[1].cells <= allowed)


def _loss(plan: Plan) -> float:
    assert plan.proof.heldout_loss is not None
    return plan.proof.heldout_loss


def _enlarged(
    model: LossModel, before: Described, card: devices.Card, allowed: float, search: Search
) -> tuple[float, Plan]:
    """The largest budget, in cells per weight of the model's network, whose plan keeps to what is allowed narrowed."""
    lowest = allowed / model.weights
    budget, best = lowest, (lowest, _plan(model, lowest, search))
    cells = narrow(before, best[1], card)[1].cells
    for _ in range(STEPS):
        # Cells left grow with the square of the width, and the budget with the width itself or faster.
        budget *= max(1 + 1e-3, min(allowed / cells, LARGEST)) if cells <= allowed else (allowed / cells) ** 0.75
        if budget <= lowest:
            break
        plan = _plan(model, budget, search)
        cells = narrow(before, plan, card)[1].cells
        if cells <= allowed and budget > best[0]:
            best = budget, plan
        if CLOSE * allowed <= cells <= allowed:
            break
    return best


def _plan(model: LossModel, budget: float, search: Search) -> Plan:
    shrinkage = search.shrinkages[-1]
    selection = model.selection(budget, shrinkage=shrinkage)
    solution = qubo.solve(selection, search.solver, seed=search.seed)
    choice = np.asarray(solution.choice)
    return plan_of(model, choice, method="all", shrinkage=shrinkage, budget=budget, solution=solution)
