"""Finetuning: trains the weights of a network for a plan, whose codes stay as they are.

The forward pass uses the weights as they would be read back (`physcomp.training.stored_layer`). The loss is
cross-entropy plus distillation from the clean network, as in Isik et al. 2023 (doi 10.1145/3588436); their weights, the
temperature and the optimiser are our choice. The teacher's output is its mean over mirrored and shifted copies of an
image, which is better than its output for the image alone. The network in training sees only the image itself: with few
cells it cannot learn the copies too. The result is another network with its own plan, in which every weight that is
stored digitally lies exactly on a level.
"""

import copy
import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

import devices
from physcomp.networks.evaluation import evaluate
from physcomp.networks.layers import other_tensors
from physcomp.networks.network import Network
from physcomp.networks.plain_training import copies
from physcomp.networks.samples import Samples
from physcomp.storage.plan import Plan
from physcomp.threads import ShareDone
from physcomp.training.stored_layer import as_bfloat16, plan_as_stored, stored_layers

PRUNINGS = 400  # about how many times weights are dropped in a training; our choice
ASKED = 0.25  # epochs that one pass of the teacher over all images takes, about; for the progress bar


@dataclass(frozen=True)
class Recipe:
    """Settings of finetuning; all values are our choice.

    Args:
        batch: images per step.
        learning_rate: the highest learning rate of Adam, for weights divided by the scale of their group.
        slow: factor on the learning rate for logarithms of scales, for biases and for norms.
        temperature: temperature of the softmax in the distillation.
        distilled: weight of the distillation, 0 to 1; cross-entropy has the rest. With 1 labels are not used.
        pruned: share of the steps after which sparse codes have dropped all weights that they do not keep.
        shift: largest shift, in pixels, of the copies of an image over which the teacher's output is averaged.
        mirrored: whether these copies are mirrored as well; wrong if mirror images belong to different classes.
        bfloat16: whether matrix products are computed in bfloat16, twice as fast on processors that support it.
    """

    batch: int = 125
    learning_rate: float = 1.6e-3
    slow: float = 0.25
    temperature: float = 1.0
    distilled: float = 0.8
    pruned: float = 0.35
    shift: int = 1
    mirrored: bool = True

    @property
    def copies(self) -> int:
        """Number of copies of an image over which the teacher's output is averaged."""
        return (2 * self.shift + 1) ** 2 * (1 + self.mirrored)

    bfloat16: bool = True


@dataclass(frozen=True)
class Epoch:
    """One epoch: mean training loss in nats; held-out loss and accuracy with weights at their mean read-back."""

    training_loss: float
    heldout_loss: float
    heldout_accuracy: float


@dataclass(frozen=True, eq=False)
class Finetuned:
    """A network that was trained for a plan, its own plan, and the history of the training.

    Args:
        network: its digitally stored weights lie on levels, pruned ones are zero, biases are bfloat16 numbers.
        plan: has the same codes as the plan trained for, with the scales learned; stores this network only.
        history: one entry per epoch.
    """

    network: Network
    plan: Plan
    history: tuple[Epoch, ...]


def finetune(
    network: Network,
    plan: Plan,
    images: Samples,
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

    Args:
        network: the network that the plan was made for; it is not changed.
        plan: the code of each group. Codes stay; scales and biases are trained with the weights.
        images: images to train on; only the teacher sees shifted and mirrored copies.
        heldout: images for the loss in the history.
        epochs: passes over the images, at least 1; the learning rate falls to zero over them.
        seed: seed of the order of images and of the noise. The same seed on the same processor and torch gives the same
            bits.
        teacher: module of the teacher; None: `network` as it is.
        card: the card that the plan was made for, or its name; None: the built-in card that the plan names.
        recipe: settings of the training.
        progress: called with the share that is done, 0 to 1.

    Raises:
        ValueError: no epochs, or the plan was made for another network or card.
    """
    recipe = recipe or Recipe()
    card = devices.load_card(card or plan.card) if card is None or isinstance(card, str) else card
    if epochs < 1:
        raise ValueError(f"epochs: at least 1, got {epochs}; raise it")
    plan.check(network, card)
    training = _Training(network, plan, card, recipe)
    generator = torch.Generator().manual_seed(seed)
    steps = math.ceil(len(images) / recipe.batch)
    rate = torch.optim.lr_scheduler.LambdaLR(training.optimizer, lambda step: _rate(step, epochs * steps))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in a fixed order
    history = []
    asking = ASKED * recipe.copies

    def tell(passes: float) -> None:
        if progress:
            progress(passes / (asking + epochs))

    try:
        wanted = _teacher_outputs(teacher or network.module, images, recipe, lambda share: tell(share * asking))
        for epoch in range(epochs):
            total = 0.0
            order = torch.randperm(len(images), generator=generator)
            for step, picked in enumerate(order.split(recipe.batch)):  # type: ignore[no-untyped-call]
                pixels = _pixel_by_pixel(_pixels(images[picked]))
                labels = images.labels[picked]
                training.prune(epoch * steps + step, epochs * steps)
                total += training.step(pixels, labels, wanted[picked], generator) * len(picked)
                rate.step()
                tell(asking + epoch + (step + 1) / steps)
            score = evaluate(dataclasses.replace(network, module=training.module_as_stored()), heldout)
            history.append(Epoch(total / len(images), score.loss, score.accuracy))
    finally:
        torch.set_num_threads(threads)
    return training.finished(network, plan, tuple(history))


@torch.no_grad()
def _teacher_outputs(teacher: nn.Module, images: Samples, recipe: Recipe, progress: ShareDone) -> torch.Tensor:
    """Logits of the teacher for each image, with probabilities averaged over copies: (images, classes)."""
    module = _channels_last(copy.deepcopy(teacher).eval())
    found = []
    for start in range(0, len(images), recipe.batch):
        seen = copies(_pixels(images[start : start + recipe.batch]), recipe.shift, mirrored=recipe.mirrored)
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bfloat16):
            outputs = torch.stack([module(_pixel_by_pixel(pixels)).float() for pixels in seen])
        found.append(functional.log_softmax(outputs, dim=2).logsumexp(dim=0))
        progress(min(1.0, (start + recipe.batch) / len(images)))
    return torch.cat(found)


def _pixels(images: Samples) -> torch.Tensor:
    if not isinstance(images.inputs, torch.Tensor):
        raise ValueError("finetuning: takes inputs of one tensor; wrap a module that takes them apart itself")
    return images.inputs


def _channels_last(module: nn.Module) -> nn.Module:
    """The module with channels as the last axis in memory, which makes pooling several times as fast."""
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _pixel_by_pixel(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.clone(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


def _rate(step: int, steps: int) -> float:
    """Learning rate over the highest one: a linear rise over a twentieth of the steps, then half a cosine to zero."""
    rise = max(1, steps // 20)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


class _Training:
    """The state of a training: the network, its layers as stored, and the optimiser of their parameters."""

    def __init__(self, network: Network, plan: Plan, card: devices.Card, recipe: Recipe) -> None:
        self.recipe = recipe
        self.module = _channels_last(copy.deepcopy(network.module).eval())
        self.layers = stored_layers(network, plan, card, pruned=False)
        self.others = {
            name: tensor.clone().requires_grad_()
            for name, tensor in other_tensors(network.module, plan.layers_in(network)).items()
            if name in dict(network.module.named_parameters())
        }
        weights = [layer.share for layer in self.layers.values()]
        slow: list[torch.Tensor] = [layer.log_scale for layer in self.layers.values()]
        slow += [layer.bias for layer in self.layers.values() if layer.bias is not None]
        slow += list(self.others.values())
        self.optimizer = torch.optim.Adam(
            [
                {"params": weights, "lr": recipe.learning_rate},
                {"params": slow, "lr": recipe.learning_rate * recipe.slow},
            ],
            fused=True,
        )

    def _parameters(self, generator: torch.Generator | None) -> dict[str, torch.Tensor]:
        layers = self.layers.values()
        found = {layer.weight: _pixel_by_pixel(layer(generator)) for layer in layers}
        found |= {layer.bias_name: as_bfloat16(layer.bias) for layer in layers if layer.bias is not None}
        return found | {name: as_bfloat16(tensor) for name, tensor in self.others.items()}

    def prune(self, step: int, steps: int) -> None:
        """Drop the weights that sparse codes are to have dropped before a step."""
        last = min(math.ceil(self.recipe.pruned * steps), steps - 1)
        if step == last or (step < last and step % max(1, steps // PRUNINGS) == 0):
            for layer in self.layers.values():
                layer.prune(step / last if last else 1.0)

    def step(
        self, pixels: torch.Tensor, labels: torch.Tensor, wanted: torch.Tensor, generator: torch.Generator
    ) -> float:
        """Take one step of the optimiser on a batch; returns the loss in nats."""
        r = self.recipe
        with torch.autocast("cpu", torch.bfloat16, enabled=r.bfloat16):
            logits = functional_call(self.module, self._parameters(generator), (pixels,)).float()
        loss = (1 - r.distilled) * functional.cross_entropy(logits, labels) + r.distilled * _divergence(
            logits, wanted, r.temperature
        )
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.item()

    @torch.no_grad()
    def module_as_stored(self) -> nn.Module:
        """The module with the parameters as read back, as means over chips."""
        module = copy.deepcopy(self.module)
        state = {}
        for layer in self.layers.values():
            state[layer.weight] = layer.tensor(torch.from_numpy(layer.stored_rows()))
            if layer.bias is not None:
                state[layer.bias_name] = torch.from_numpy(layer.stored_biases())
        state |= {name: tensor.bfloat16().float() for name, tensor in self.others.items()}
        module.load_state_dict(state, strict=False)
        return module

    def finished(self, network: Network, plan: Plan, history: tuple[Epoch, ...]) -> Finetuned:
        """The network and the plan with the trained weights, scales and biases."""
        trained = dataclasses.replace(network, module=self.module_as_stored())
        return Finetuned(trained, plan_as_stored(trained, plan, self.layers), history)


def _divergence(logits: torch.Tensor, wanted: torch.Tensor, temperature: float) -> torch.Tensor:
    """Kullback-Leibler divergence from the teacher's softmax at a temperature, times the temperature squared."""
    ours, theirs = (functional.log_softmax(output / temperature, dim=1) for output in (logits, wanted))
    return temperature**2 * functional.kl_div(ours, theirs, reduction="batchmean", log_target=True)
