"""Plain training of a network, without cells: AdamW with a one-cycle learning rate, seeded.

In float32 it runs on one thread, so that a seed fixes every bit on the same torch build and processor.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from devices.files import replacing
from physcomp.networks.description import Description, build_module
from physcomp.networks.device import CPU, checked_device, inputs_on
from physcomp.networks.forward import Pick, forward
from physcomp.networks.samples import Inputs, Samples
from physcomp.networks.task import CLASSES, Task
from physcomp.networks.training_checkpoint import Checkpoint
from physcomp.threads import ShareDone

Precision = Literal["float32", "bfloat16"]
SHIFT = 2  # largest random shift in pixels in the training of a description; our choice
HELD_BACK = 4000  # images at the end of a training set that serve for making plans, never for training
RECIPE = ("epochs", "seed", "batch", "learning_rate", "weight_decay")
RISE = 0.2  # share of the steps in which the learning rate rises; our choice

EpochDone = Callable[[int, float, float], None]
"""Called after an epoch with its number from 1, its mean loss and its seconds."""


@dataclass(frozen=True)
class PlainRecipe:
    """Settings of plain training; all values are our choice.

    Args:
        epochs: passes over the samples.
        seed: of the weights a network begins with, of the order of samples and of everything else that is random.
        batch: samples per step.
        learning_rate: the highest one; it rises over a fifth of the steps and falls to almost zero over the others.
        weight_decay: of AdamW, for all parameters.
        shift: largest random shift of images in pixels, up and down and to both sides; edges are filled with zeros.
        mirrored: whether half of the images, drawn anew each time, are mirrored; wrong for digits and letters.
        precision: `float32`, or `bfloat16`: matrix products are computed in bfloat16 (the weights stay float32) and
            images have their channels as the last axis in memory, on as many threads as torch uses.

    Raises:
        ValueError: a setting is outside its range.
    """

    epochs: int = 30
    seed: int = 0
    batch: int = 128
    learning_rate: float = 0.002
    weight_decay: float = 0.02
    shift: int = 0
    mirrored: bool = False
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        for name, rule, holds in (
            ("epochs", "at least 1", self.epochs >= 1),
            ("seed", "at least 0", self.seed >= 0),
            ("batch", "at least 1", self.batch >= 1),
            ("learning_rate", "a number above 0", 0 < self.learning_rate < math.inf),
            ("weight_decay", "a number of at least 0", 0 <= self.weight_decay < math.inf),
            ("shift", "at least 0", self.shift >= 0),
            ("precision", f"one of {', '.join(get_args(Precision))}", self.precision in get_args(Precision)),
        ):
            if not holds:
                raise ValueError(f"recipe: {name} is {rule}, got {getattr(self, name)}; change it")

    def check(self, samples: Samples) -> None:
        """Check that samples can be shifted and mirrored, if that is asked for.

        Raises:
            ValueError: they are no images, or too small for the shift.
        """
        if self.shift or self.mirrored:
            check_images(samples, self.shift, "use shift 0 and leave mirrored out")


def check_images(samples: Samples, shift: int, cure: str) -> None:
    """Check that samples are images that can be shifted and mirrored.

    Args:
        samples: the samples.
        shift: largest shift in pixels.
        cure: what to do if they are no images.

    Raises:
        ValueError: they are no images, or too small for the shift.
    """
    inputs = samples.inputs
    if not isinstance(inputs, torch.Tensor) or inputs.dim() != 4 or not inputs.is_floating_point():
        raise ValueError(
            f"recipe: only images (samples, channels, height, width) can be shifted and mirrored, got inputs of "
            f"shape {samples.shape} a sample; {cure}"
        )
    if shift >= min(inputs.shape[2:]):
        raise ValueError(f"recipe: a shift of {shift} pixels leaves nothing of images {samples.shape}; lower it")


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained module, its batch norms not folded, and for each epoch the mean training loss and the seconds."""

    module: nn.Module
    losses: tuple[float, ...]
    seconds: tuple[float, ...] = ()


def recipe_of(description: Description) -> PlainRecipe:
    """The recipe of a description, whose images are mirrored, and shifted by up to `SHIFT` pixels.

    Raises:
        ValueError: the recipe lacks a number, or one is outside its range.
    """
    given = description.recipe
    missing = [name for name in RECIPE if name not in given]
    if missing:
        raise ValueError(f"{description.name}: the recipe lacks {', '.join(missing)}; add them under [recipe]")
    return PlainRecipe(
        epochs=int(given["epochs"]),
        seed=int(given["seed"]),
        batch=int(given["batch"]),
        learning_rate=float(given["learning_rate"]),
        weight_decay=float(given["weight_decay"]),
        shift=SHIFT,
        mirrored=True,
    )


def seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """What a function builds with the random numbers of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def train(
    description: Description, images: Samples, progress: ShareDone | None = None, *, device: str = CPU
) -> Trained:
    """Train the network of a description by its recipe: AdamW, one-cycle cosine, random flips and shifts.

    Args:
        description: the layers and the recipe (`epochs`, `seed`, `batch`, `learning_rate`, `weight_decay`).
        images: what to train on.
        progress: called with the share of the training that is done, 0 to 1.
        device: the device of torch that it runs on; random numbers are drawn on the processor.

    Returns:
        The module in evaluation mode, on the processor. The same seed on the same torch build and processor gives the
        same weights.

    Raises:
        ValueError: the recipe lacks a number, or there is no such device.
    """
    recipe = recipe_of(description)
    module = seeded(lambda: build_module(description), recipe.seed)
    return train_module(module, images, recipe, device=device, progress=progress, name=description.name)


def train_module(
    module: nn.Module,
    samples: Samples,
    recipe: PlainRecipe,
    *,
    task: Task = CLASSES,
    output: Pick = None,
    device: str = CPU,
    name: str = "network",
    checkpoint: Checkpoint | None = None,
    done: EpochDone | None = None,
    progress: ShareDone | None = None,
) -> Trained:
    """Train a module on samples by a recipe.

    Args:
        module: its weights are where the training begins; it is trained in place.
        samples: what to train on.
        recipe: the settings.
        task: what the outputs mean; its loss is minimised.
        output: which output counts, if the module has several.
        device: the device of torch that it runs on; the order of samples and their shifts are drawn on the processor.
        name: the network's, for messages.
        checkpoint: keeps the state after each epoch; a state that is there already is continued, to the same bits.
        done: called after each epoch.
        progress: called with the share of the training that is done, 0 to 1.

    Returns:
        The module in evaluation mode, on the processor.

    Raises:
        ValueError: there is no such device, samples do not fit, no parameter can be trained, the checkpoint is of
            another training, or the loss becomes NaN or infinite.
    """
    recipe.check(samples)
    threads = torch.get_num_threads()
    if recipe.precision == "float32":
        torch.set_num_threads(1)  # sums in a fixed order
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            training = _Training(module, samples, recipe, task, output, checked_device(device), name)
            return training.run(checkpoint, done, progress)
    finally:
        torch.set_num_threads(threads)


class _Training:
    """The state of a training, and its steps."""

    def __init__(
        self, module: nn.Module, samples: Samples, recipe: PlainRecipe, task: Task, output: Pick, device: str, name: str
    ) -> None:
        self.samples, self.recipe, self.task, self.output, self.device = samples, recipe, task, output, device
        self.name = name
        self.bfloat16 = recipe.precision == "bfloat16"
        self.module = module.train().to(device)
        if self.bfloat16:
            self.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        if not trained:
            raise ValueError(f"{name}: has no parameter that can be trained; set requires_grad of some")
        self.optimizer = torch.optim.AdamW(trained, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
        self.steps = math.ceil(len(samples) / recipe.batch)
        total = recipe.epochs * self.steps
        rise = RISE if round(RISE * total, 6) != 1 else 2 * RISE  # torch divides by the steps of the rise less one
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, max_lr=recipe.learning_rate, total_steps=total, pct_start=rise
        )
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.losses: list[float] = []
        self.seconds: list[float] = []

    def run(self, checkpoint: Checkpoint | None, done: EpochDone | None, progress: ShareDone | None) -> Trained:
        """All epochs that are left."""
        if checkpoint is not None and (kept := checkpoint.load()) is not None:
            self._resume(kept)
        for epoch in range(len(self.losses), self.recipe.epochs):
            started = time.perf_counter()
            self.losses.append(self._epoch(epoch, progress))
            self.seconds.append(time.perf_counter() - started)
            if checkpoint is not None:
                checkpoint.save(self._state())
            if done is not None:
                done(epoch + 1, self.losses[-1], self.seconds[-1])
        module = self.module.cpu().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        return Trained(module.eval(), tuple(self.losses), tuple(self.seconds))

    def _epoch(self, epoch: int, progress: ShareDone | None) -> float:
        """One pass over the samples; the mean loss."""
        total = 0.0
        order = torch.randperm(len(self.samples), generator=self.generator)
        for step, picked in enumerate(order.split(self.recipe.batch), start=1):  # type: ignore[no-untyped-call]
            loss = self._step(self.samples[picked]) if len(picked) > 1 or self.steps == 1 else None
            self.schedule.step()
            if loss is not None and not math.isfinite(loss):
                raise ValueError(
                    f"{self.name}: the loss is {loss} in step {step} of {self.steps} of epoch {epoch + 1}; lower the "
                    f"learning rate ({self.recipe.learning_rate:g})"
                )
            total += 0.0 if loss is None else loss * len(picked)
            if progress:
                progress((epoch + step / self.steps) / self.recipe.epochs)
        return total / len(self.samples)

    def _step(self, samples: Samples) -> float:
        """One step of the optimiser; a norm over a batch needs more than the one sample that may be left over."""
        inputs = inputs_on(_augmented(samples.inputs, self.recipe, self.generator), self.device)
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.bfloat16):
            outputs = forward(self.module, inputs, self.output, channels_last=self.bfloat16)
        loss = self.task.loss(outputs, samples.labels.to(self.device))
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.item()

    def _state(self) -> dict[str, Any]:
        return {
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "order": self.generator.get_state(),
            "random": torch.get_rng_state(),
            "losses": self.losses,
            "seconds": self.seconds,
        }

    def _resume(self, kept: dict[str, Any]) -> None:
        self.module.load_state_dict(kept["module"])
        self.optimizer.load_state_dict(kept["optimizer"])
        self.schedule.load_state_dict(kept["schedule"])
        self.generator.set_state(kept["order"])
        torch.set_rng_state(kept["random"])
        self.losses, self.seconds = list(kept["losses"]), list(kept["seconds"])


def save(trained: Trained, path: Path) -> None:
    """Write the parameters and buffers of a trained module as safetensors; a crash leaves no half-written file."""
    state = {
        name: tensor.detach().clone(memory_format=torch.contiguous_format)  # tied weights may share memory
        for name, tensor in trained.module.state_dict().items()
        if isinstance(tensor, torch.Tensor)
    }
    with replacing(path) as temporary:
        save_file(state, temporary)


def copies(pixels: torch.Tensor, shift: int, *, mirrored: bool = True) -> Iterator[torch.Tensor]:
    """Every shifted copy of a batch of images, such as `train` draws at random.

    Args:
        pixels: (images, channels, height, width).
        shift: largest shift in pixels, up and down and to both sides; the edges are filled with black.
        mirrored: whether each shift comes mirrored (left to right) as well.

    Yields:
        (2 `shift` + 1)² copies, twice as many if mirrored, each of the shape of `pixels`.
    """
    height, width = pixels.shape[2:]
    for original in (pixels, pixels.flip(3)) if mirrored else (pixels,):
        padded = functional.pad(original, (shift, shift, shift, shift))
        for row, column in itertools.product(range(2 * shift + 1), repeat=2):
            yield padded[:, :, row : row + height, column : column + width]


def _augmented(inputs: Inputs, recipe: PlainRecipe, generator: torch.Generator) -> Inputs:
    if not isinstance(inputs, torch.Tensor) or not (recipe.shift or recipe.mirrored):
        return inputs
    return augment(inputs, generator, shift=recipe.shift, mirrored=recipe.mirrored)


def augment(pixels: torch.Tensor, generator: torch.Generator, *, shift: int, mirrored: bool) -> torch.Tensor:
    """Mirror half of the images and shift each by up to some pixels, edges filled with zeros, at random.

    Args:
        pixels: (images, channels, height, width).
        generator: of the random numbers.
        shift: the largest shift, up and down and to both sides.
        mirrored: whether half of the images are mirrored, left to right.
    """
    count, _, height, width = pixels.shape
    if mirrored:
        turned = torch.rand(count, generator=generator) < 0.5
        pixels = torch.where(turned[:, None, None, None], pixels.flip(3), pixels)
    if not shift:
        return pixels
    padded = functional.pad(pixels, (shift, shift, shift, shift))
    offsets = torch.randint(0, 2 * shift + 1, (2, count), generator=generator)
    rows = offsets[0][:, None] + torch.arange(height)
    columns = offsets[1][:, None] + torch.arange(width)
    picked = padded[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2).contiguous()
