"""Plain training of a described network, without cells; seeded and on one thread, so that a seed fixes every bit."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from devices.files import replacing
from physcomp.networks.description import Description, build_module
from physcomp.networks.device import CPU, checked_device
from physcomp.networks.samples import Samples
from physcomp.threads import ShareDone

SHIFT = 2  # largest random shift in pixels; our choice
HELD_BACK = 4000  # images at the end of a training set that serve for making plans, never for training
RECIPE = ("epochs", "seed", "batch", "learning_rate", "weight_decay")


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained module, its batch norms not folded, and the mean training loss of each epoch in nats."""

    module: nn.Module
    losses: tuple[float, ...]


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
    recipe = description.recipe
    missing = [name for name in RECIPE if name not in recipe]
    if missing:
        raise ValueError(f"{description.name}: the recipe lacks {', '.join(missing)}; add them under [recipe]")
    device = checked_device(device)
    epochs, size = int(recipe["epochs"]), int(recipe["batch"])
    generator = torch.Generator().manual_seed(int(recipe["seed"]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(recipe["seed"]))
        module = build_module(description).train().to(device)
    optimizer = torch.optim.AdamW(
        module.parameters(), lr=float(recipe["learning_rate"]), weight_decay=float(recipe["weight_decay"])
    )
    steps = math.ceil(len(images) / size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=float(recipe["learning_rate"]), total_steps=epochs * steps, pct_start=0.2
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in a fixed order
    try:
        losses = []
        for epoch in range(epochs):
            total = 0.0
            for step, picked in enumerate(torch.randperm(len(images), generator=generator).split(size), start=1):  # type: ignore[no-untyped-call]
                pixels = _augment(images.inputs[picked], generator).to(device)
                loss = functional.cross_entropy(module(pixels), images.labels[picked].to(device))
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
                total += loss.item() * len(picked)
                if progress:
                    progress((epoch + step / steps) / epochs)
            losses.append(total / len(images))
    finally:
        torch.set_num_threads(threads)
    return Trained(module.cpu().eval(), tuple(losses))


def save(trained: Trained, path: Path) -> None:
    """Write the parameters and buffers of a trained module as safetensors; a crash leaves no half-written file."""
    with replacing(path) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in trained.module.state_dict().items()}, temporary)


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


def _augment(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Mirror half of the images and shift each by up to SHIFT pixels, edges filled with black."""
    count, _, height, width = pixels.shape
    mirrored = torch.rand(count, generator=generator) < 0.5
    pixels = torch.where(mirrored[:, None, None, None], pixels.flip(3), pixels)
    padded = functional.pad(pixels, (SHIFT, SHIFT, SHIFT, SHIFT))
    offsets = torch.randint(0, 2 * SHIFT + 1, (2, count), generator=generator)
    rows = offsets[0][:, None] + torch.arange(height)
    columns = offsets[1][:, None] + torch.arange(width)
    picked = padded[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2).contiguous()
