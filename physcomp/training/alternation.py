"""Choosing a plan and training for it in turn, until the held-out loss no longer improves.

Each round chooses a plan for the network, removes pruned filters, and trains the weights for the plan. The next round
starts from the result. Removing a filter also removes the weights of the next layer that read its output, and frees
their cells. The selection problem, with one cost for each group, cannot take this into account. The plan is therefore
chosen at a larger budget: the largest at which the plan keeps to the budget asked for once pruned filters are removed.
All budgets are in cells per weight of the network at the start.

Filters are removed only of networks that have a description, since only then it is known what reads their outputs. Any
other network keeps its shape.
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
from physcomp.networks.network import Network
from physcomp.networks.samples import Samples
from physcomp.storage.measure import heldout_losses
from physcomp.storage.plan import Plan
from physcomp.threads import ShareDone
from physcomp.training.channel_removal import narrow
from physcomp.training.finetuning import Finetuned, Recipe, finetune

# The search for the larger budget; all our choice.
STEPS = 5  # the most steps
LARGEST = 1.5  # the largest factor of one step
CLOSE = 0.985  # the share of the cells allowed at which the search ends
CHOICE_SHARE = 0.3  # share of the choice in the progress of a round; our choice
CHIPS = 5  # chips on which the held-out loss of a plan with analog cells is measured; our choice


@dataclass(frozen=True, eq=False)
class Round:
    """One round: a choice, and the training after it.

    Args:
        described: the network after training, with its description; None if it has none.
        finetuned: network, plan and history of the training.
        cells: cells of everything stored.
        heldout_loss: mean loss over chips on the held-out samples.
        chosen_loss: the same of the plan chosen, before the training; None if it was not measured.
    """

    described: Described | None
    finetuned: Finetuned
    cells: float
    heldout_loss: float
    chosen_loss: float | None = None

    @property
    def result(self) -> Described | Network:
        """The network after training, from which the next round starts."""
        return self.described or self.finetuned.network


RECIPE = Recipe()
# Our choice: a single shrinkage and the whole menu, since training compensates for what other plans would gain.
SEARCH = Search(shrinkages=(0.7,), parts=("all",))


@dataclass(frozen=True)
class Schedule:
    """Settings of choosing and training in turn.

    Args:
        card: the device.
        budget: cells per weight of the network at the start, with everything stored counted.
        read_time_s: seconds from programming to reading.
        rounds: the most rounds.
        epochs: epochs of each training.
        seed: seed of choices and training, from which each round derives its own.
        menu: names of the codes offered.
        recipe: settings of the training.
        search: settings of the choice.
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
    start: Described | Network,
    samples: Samples,
    calibration: Samples,
    *,
    heldout: Samples,
    schedule: Schedule,
    done: tuple[Round, ...] = (),
    progress: ShareDone | None = None,
) -> Iterator[Round]:
    """Choose and train in turn: yields each round as it ends; stops after one that is no better than the best before.

    Args:
        start: the trained network; it is the teacher in all rounds. Without a description no filters are removed.
        samples: samples to train on.
        calibration: samples for the loss models.
        heldout: samples for the loss by which rounds are compared.
        schedule: the settings.
        done: finished rounds of an earlier call that was interrupted; they are not yielded again.
        progress: called with the share of the present round that is done, 0 to 1.
    """
    rounds = list(done)
    clean = _network(start)
    allowed = schedule.budget * clean.parameters
    while len(rounds) < schedule.rounds and not _settled(rounds):
        before = rounds[-1].result if rounds else start
        number = len(rounds)
        chosen, plan = _choose(before, calibration, heldout, schedule, allowed, number, progress)
        plan = dataclasses.replace(plan, budget=allowed / _network(chosen).parameters)
        trained = finetune(
            _network(chosen),
            plan,
            samples,
            heldout=heldout,
            epochs=schedule.epochs,
            seed=schedule.seed + number,
            teacher=clean.module,
            card=schedule.card,
            recipe=schedule.recipe,
            progress=(lambda share: progress(CHOICE_SHARE + (1 - CHOICE_SHARE) * share)) if progress else None,
        )
        after = None
        if isinstance(chosen, Described):
            after = _on(chosen.with_state(trained.network.module.state_dict()), clean.device)
        (loss,) = heldout_losses(trained.network, trained.plan, heldout, card=schedule.card, chips=CHIPS).tolist()
        proof = dataclasses.replace(trained.plan.proof, heldout_loss=loss)
        trained = dataclasses.replace(trained, plan=dataclasses.replace(trained.plan, proof=proof))
        rounds.append(Round(after, trained, trained.plan.cells, loss, plan.proof.heldout_loss))
        yield rounds[-1]


def best_of(rounds: list[Round], allowed: float) -> Round:
    """The round with the least held-out loss among those within the number of cells allowed.

    The cells of entropy-coded groups change in training, so a round may end above the budget.

    Raises:
        ValueError: no round is within it.
    """
    kept = [done for done in rounds if done.cells <= allowed]
    if not kept:
        least = min(done.cells for done in rounds)
        raise ValueError(f"budget: {allowed:.0f} cells are allowed, training ended with {least:.0f}; train more rounds")
    return min(kept, key=lambda done: done.heldout_loss)


def _network(given: Described | Network) -> Network:
    return given.network if isinstance(given, Described) else given


def _narrowed(before: Described | Network, plan: Plan, card: devices.Card) -> tuple[Described | Network, Plan]:
    """The network and its plan without pruned filters, if it has a description."""
    if isinstance(before, Network):
        return before, plan
    narrower, plan = narrow(before, plan, card)
    return _on(narrower, before.network.device), plan


def _on(described: Described, device: str) -> Described:
    return dataclasses.replace(described, network=dataclasses.replace(described.network, device=device))


def _settled(rounds: list[Round]) -> bool:
    losses = [done.heldout_loss for done in rounds]
    return len(losses) > 1 and losses[-1] >= min(losses[:-1])


def _choose(
    before: Described | Network,
    calibration: Samples,
    heldout: Samples,
    schedule: Schedule,
    allowed: float,
    number: int,
    progress: ShareDone | None,
) -> tuple[Described | Network, Plan]:
    """The narrowed network and its plan with the least held-out loss within the number of cells allowed."""
    model = build_model(
        _network(before),
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
    found = [_narrowed(before, p, schedule.card) for p in (*sorted(choices.plans, key=_loss), plan)]
    return next(pair for pair in found if pair[1].cells <= allowed)


def _loss(plan: Plan) -> float:
    assert plan.proof.heldout_loss is not None
    return plan.proof.heldout_loss


def _enlarged(
    model: LossModel, before: Described | Network, card: devices.Card, allowed: float, search: Search
) -> tuple[float, Plan]:
    """Find the largest budget (cells per weight of the model) whose plan, once narrowed, fits the cells allowed."""
    lowest = allowed / model.network.parameters
    budget, best = lowest, (lowest, _plan(model, lowest, search))
    if isinstance(before, Network):
        return best
    cells = narrow(before, best[1], card)[1].cells
    for _ in range(STEPS):
        # Cells after narrowing grow like the square of the width, the budget at least like the width.
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
