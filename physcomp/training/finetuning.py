"""Finetuning: trains the weights of a network for a plan, whose codes stay as they are.

The forward pass uses the weights as they would be read back (`physcomp.training.stored_layer`). The loss is that of the
task (`physcomp.networks.task`) plus distillation from the clean network, as in Isik et al. 2023 (doi 10.1145/3588436);
their weights, the temperature and the optimiser are our choice. If images may be shifted or mirrored, the teacher's
output can be its mean over such copies, which is better than its output for the image alone. The network in training
sees only the image itself: with few cells it cannot learn the copies too. The result is another network with its own
plan, in which every weight that is stored digitally lies exactly on a level.
"""

import copy
import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import nn

import devices
from physcomp.networks.evaluation import evaluate
from physcomp.networks.network import Network
from physcomp.networks.samples import Samples
from physcomp.storage.plan import Plan
from physcomp.threads import ShareDone
from physcomp.training.recipe import Recipe as Recipe
from physcomp.training.teacher import Teacher
from physcomp.training.weights_in_training import WeightsInTraining

PRUNINGS = 400  # about how many times weights are dropped in a training; our choice
ASKED = 0.25  # epochs that one pass of the teacher over all samples takes, about; for the progress bar


@dataclass(frozen=True)
class Epoch:
    """One epoch.

    Args:
        training_loss: the mean loss of the steps, the task's and that of the distillation, weighted.
        heldout_loss: the task's mean loss on held-out samples with weights at their mean read-back, such as
            cross-entropy in nats.
        heldout_accuracy: the task's metric there, such as the share that is right; NaN if it has none.
    """

    training_loss: float
    heldout_loss: float
    heldout_accuracy: float


@dataclass(frozen=True, eq=False)
class Finetuned:
    """A network that was trained for a plan, its own plan, and the history of the training.

    Args:
        network: its digitally stored weights lie on levels, pruned ones are zero, everything outside the groups is as
            it is stored.
        plan: has the same codes as the plan trained for, with the scales learned; stores this network only.
        history: one entry per epoch.
    """

    network: Network
    plan: Plan
    history: tuple[Epoch, ...]


def finetune(
    network: Network,
    plan: Plan,
    samples: Samples,
    *,
    heldout: Samples,
    epochs: int,
    seed: int = 0,
    teacher: nn.Module | None = None,
    card: devices.Card | str | None = None,
    recipe: Recipe | None = None,
    progress: ShareDone | None = None,
) -> Finetuned:
    """Train a network for a plan: with the rounding, pruning and noise of its codes in the forward pass.

    Trained are the weights and scales of all groups, biases, and the parameters outside the groups that are
    floating-point numbers. Buffers, whole and complex numbers stay, as they are stored. The network runs in evaluation
    mode: without dropout, and with the statistics that its norms have.

    Args:
        network: the network that the plan was made for; it is not changed.
        plan: the code of each group. Codes stay; scales and biases are trained with the weights.
        samples: samples to train on; only the teacher sees shifted and mirrored copies, if the recipe asks for them.
        heldout: samples for the loss in the history.
        epochs: passes over the samples, at least 1; the learning rate falls to zero over them.
        seed: seed of the order of samples and of the noise. The same seed on the same processor and torch gives the
            same bits.
        teacher: module of the teacher, of the same task and outputs; None: `network` as it is.
        card: the card that the plan was made for, or its name; None: the built-in card that the plan names.
        recipe: settings of the training.
        progress: called with the share that is done, 0 to 1.

    Raises:
        ValueError: no epochs, the plan was made for another network or card, the samples do not fit the network or the
            recipe, or the loss becomes NaN or infinite.
    """
    recipe = recipe or Recipe()
    card = devices.load_card(card or plan.card) if card is None or isinstance(card, str) else card
    if epochs < 1:
        raise ValueError(f"epochs: at least 1, got {epochs}; raise it")
    plan.check(network, card)
    recipe.check(samples)
    network.check(samples)
    network.check(heldout)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in a fixed order
    try:
        return _trained(network, plan, samples, heldout, epochs, seed, teacher, card, recipe, progress)
    finally:
        torch.set_num_threads(threads)


def _trained(
    network: Network,
    plan: Plan,
    samples: Samples,
    heldout: Samples,
    epochs: int,
    seed: int,
    teacher: nn.Module | None,
    card: devices.Card,
    recipe: Recipe,
    progress: ShareDone | None,
) -> Finetuned:
    asking = ASKED * recipe.copies if recipe.distilled else 0.0

    def tell(passes: float) -> None:
        if progress:
            progress(passes / (asking + epochs))

    weights = WeightsInTraining(network, plan, card, samples, recipe)
    generator = torch.Generator().manual_seed(seed)
    steps = math.ceil(len(samples) / recipe.batch)
    rate = torch.optim.lr_scheduler.LambdaLR(weights.optimizer, lambda step: _rate(step, epochs * steps))
    asked = None
    if recipe.distilled:
        clean = dataclasses.replace(network, module=copy.deepcopy(teacher or network.module).eval())
        asked = Teacher(clean, samples, recipe, lambda share: tell(share * asking))
    history = []
    for epoch in range(epochs):
        total = 0.0
        order = torch.randperm(len(samples), generator=generator)
        for step, picked in enumerate(order.split(recipe.batch)):  # type: ignore[no-untyped-call]
            _prune(weights, epoch * steps + step, epochs * steps, recipe)
            loss = weights.step(samples[picked], asked.of(picked) if asked else None, generator)
            if not math.isfinite(loss):
                raise ValueError(
                    f"finetuning: the loss of {network.name} is {loss} in step {step + 1} of {steps} of epoch "
                    f"{epoch + 1}; lower the recipe's learning_rate ({recipe.learning_rate:g}), or set bfloat16=False"
                )
            total += loss * len(picked)
            rate.step()
            tell(asking + epoch + (step + 1) / steps)
        score = evaluate(weights.network_as_stored(), heldout)
        history.append(Epoch(total / len(samples), score.loss, score.accuracy))
    trained = weights.network_as_stored()
    return Finetuned(trained, weights.plan_as_stored(trained), tuple(history))


def _prune(weights: WeightsInTraining, step: int, steps: int, recipe: Recipe) -> None:
    """Drop the weights that sparse codes are to have dropped before a step."""
    last = min(math.ceil(recipe.pruned * steps), steps - 1)
    if step == last or (step < last and step % max(1, steps // PRUNINGS) == 0):
        weights.prune(step / last if last else 1.0)


def _rate(step: int, steps: int) -> float:
    """Learning rate over the highest one: a linear rise over a twentieth of the steps, then half a cosine to zero."""
    rise = max(1, steps // 20)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))
