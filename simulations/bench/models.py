"""Building the loss model, against the backward passes it needs."""

import copy
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

import physcomp
from physcomp.curvature.gradients import PASS, PROBES, directions_of
from physcomp.networks.forward import forward
from physcomp.networks.layers import layers_of
from physcomp.networks.tape import Tape
from physcomp.threads import in_threads
from simulations.bench.timing import REPEATS

DATA = Path("data")  # run from the repository
IMAGES = 2000
CARD = "pcm-zarcone:one-device"


def main() -> None:
    """Print the ratios of the room `physcomp`."""
    network = physcomp.load_network(DATA / "fashion-cnn.toml")
    images = physcomp.load_images(DATA / "fashion-mnist", "calibration")[:IMAGES]
    trained = copy.deepcopy(network.module).requires_grad_(True)
    parameters = list(trained.parameters())
    tape = Tape(network, layers_of(network.module))
    parts = [slice(start, start + PASS) for start in range(0, IMAGES, PASS)]
    one, several = (directions_of(network, images, probes, seed=0) for probes in (1, PROBES))

    def passes(part: slice) -> None:
        """One forward pass, and a backward pass to outputs and weights for each probe."""
        logits = forward(trained, images[part].inputs)
        cotangents = logits.detach().softmax(1).sqrt()
        for probe in range(1 + PROBES):
            torch.autograd.grad(logits, parameters, cotangents, retain_graph=probe < PROBES)

    def apart(part: slice) -> None:
        """The same with every image's gradient kept apart, as the model takes them, in two forward passes."""
        for directions in (one, several):
            for _ in tape.gradients(images[part].inputs, directions.of(part)):
                pass

    def build() -> dict[str, float]:
        """Seconds of the whole, and of its rounding and pruning: the middle third of its progress."""
        times = {0.0: time.perf_counter()}
        physcomp.build_model(
            network, images, card=CARD, progress=lambda done: times.update({round(done, 9): time.perf_counter()})
        )
        whole = time.perf_counter() - times[0.0]
        rounding = times[round(2 / 3, 9)] - times[round(1 / 3, 9)]
        return {"loss model without rounding and pruning": whole - rounding, "loss model": whole}

    seconds: dict[str, list[float]] = {}
    for repeat in range(REPEATS + 1):
        found = {
            "yardstick": _seconds(passes, parts),
            "gradients of every image apart": _seconds(apart, parts),
            **build(),
        }
        for name, value in found.items() if repeat else ():  # the first compiles and warms up
            seconds.setdefault(name, []).append(value)
    yard = seconds.pop("yardstick")
    print(
        f"yardstick: a forward and {1 + PROBES} backward passes over {IMAGES} images, {os.cpu_count()} threads: "
        f"{statistics.median(yard):.2f} s (medians of {REPEATS}, ratios with their range)"
    )
    for name, values in seconds.items():
        ratios = [value / unit for value, unit in zip(values, yard, strict=True)]
        print(f"{name}, {CARD}: {statistics.median(ratios):.2f} x ({min(ratios):.2f} to {max(ratios):.2f})")


def _seconds(work: Callable[[slice], None], parts: list[slice]) -> float:
    started = time.perf_counter()
    for _ in in_threads(work, parts):
        pass
    return time.perf_counter() - started
