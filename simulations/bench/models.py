"""Building the loss model, against the backward passes it needs, on several networks; and how it grows.

Seconds are of the processor, all threads together, so that other programs hardly change them.
"""

import copy
import os
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn

import physcomp
from physcomp.curvature.gradients import PASS, PROBES
from physcomp.networks.forward import forward
from physcomp.threads import in_threads
from simulations.bench.timing import REPEATS
from simulations.networks.resnet import resnet20

DATA = Path("data")  # run from the repository
CARD = "pcm-zarcone:one-device"
WIDTHS = (784, 300, 100, 10)
FEW = 2  # repetitions of what takes long
GROWTH = ((15, 500), (15, 2000), (48, 500))  # width of a plain convolutional network, and images


def main() -> None:
    """Print the ratios of the room `physcomp`."""
    print(
        f"yardstick: a forward and {1 + PROBES} backward passes over all images, {PASS} at a time, "
        f"{os.cpu_count()} threads"
    )
    for name, network, images, repeats in _networks():
        _compare(name, network, images, repeats)
    for width, count in GROWTH:
        _grow(width, count)


def _networks() -> Iterator[tuple[str, physcomp.Network, physcomp.Samples, int]]:
    """Networks with images, and how often they are measured; only the embedded one is trained."""
    images: physcomp.Samples = physcomp.load_images(DATA / "fashion-mnist", "calibration")
    yield "embedded network", physcomp.load_network(DATA / "fashion-cnn.toml"), images[:2000], REPEATS
    torch.manual_seed(0)
    coloured = physcomp.Samples(torch.rand(1000, 3, 32, 32), torch.randint(0, 10, (1000,)))
    deep = resnet20()
    deep(torch.rand(100, 3, 32, 32))  # running statistics of the norms
    yield "ResNet-20, untrained", physcomp.wrap(deep.eval(), samples=coloured[:100]), coloured, FEW
    network = physcomp.wrap(_perceptron(WIDTHS), samples=images[:100])
    yield f"perceptron {WIDTHS}, untrained", network, images[:1000], FEW


def _perceptron(widths: tuple[int, ...]) -> nn.Module:
    layers: list[nn.Module] = [nn.Flatten()]
    for given, out in pairwise(widths):
        layers += [nn.Linear(given, out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _compare(name: str, network: physcomp.Network, images: physcomp.Samples, repeats: int) -> None:
    trained = copy.deepcopy(network.module).requires_grad_(True)
    parameters = list(trained.parameters())
    parts = [slice(start, min(start + PASS, len(images))) for start in range(0, len(images), PASS)]

    def passes(part: slice) -> None:
        """One forward pass, and a backward pass to outputs and weights for each probe."""
        logits = forward(trained, images[part].inputs)
        cotangents = logits.detach().softmax(1).sqrt()
        for probe in range(1 + PROBES):
            torch.autograd.grad(logits, parameters, cotangents, retain_graph=probe < PROBES)

    def run() -> None:
        for _ in in_threads(passes, parts):
            pass

    pairs = [
        (_seconds(lambda: physcomp.build_model(network, images, card=CARD)), _seconds(run)) for _ in range(repeats + 1)
    ][1:]  # the first compiles and warms up
    ratios, needed = [whole / needed for whole, needed in pairs], statistics.median(needed for _, needed in pairs)
    print(
        f"loss model of {name}, {network.parameters:,} parameters, {len(images)} images: "
        f"{statistics.median(ratios):.2f} x {needed:.2f} s ({min(ratios):.2f} to {max(ratios):.2f}, {repeats} runs)"
    )


def _grow(width: int, count: int) -> None:
    """Print what a weight and image cost in a plain network of convolutions."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    given = 3
    for out, stride in ((width, 1), (width, 1), (2 * width, 2), (2 * width, 1), (4 * width, 2), (8 * width, 2)):
        layers += [nn.Conv2d(given, out, 3, stride, 1), nn.ReLU()]
        given = out
    images = physcomp.Samples(torch.rand(count, 3, 16, 16), torch.randint(0, 10, (count,)))
    module = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(given, 10))
    network = physcomp.wrap(module, samples=images[:50])
    seconds = _seconds(lambda: physcomp.build_model(network, images, card=CARD))
    print(
        f"convolutions, {network.parameters:,} parameters, {count} images: {seconds:.1f} s, "
        f"{1e9 * seconds / (network.parameters * count):.1f} ns a weight and image"
    )


def _seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started
