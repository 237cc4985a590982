"""Making, saving and storing the plan of a large perceptron, against sorting its weights."""

from itertools import pairwise

import numpy as np
import torch

import physcomp
from simulations.bench.timing import median_s

WIDTHS = (784, 1024, 512, 10)  # 1.3 million weights
CARD = "pcm-zarcone:one-device"


def main() -> None:
    """Print ratios to the time that `numpy.sort` takes for the weights, which does not depend on their values much."""
    torch.manual_seed(0)
    layers: list[torch.nn.Module] = [torch.nn.Flatten()]
    for inputs, outputs in pairwise(WIDTHS):
        layers += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
    network = physcomp.wrap(torch.nn.Sequential(*layers[:-1]), "perceptron")
    images = physcomp.Samples(torch.rand(10, 1, 28, 28), torch.arange(10))  # the plan's size is what counts
    model = physcomp.build_model(network, images, card=CARD, menu=("digital(4)",))
    weights = np.concatenate([layer.rows.ravel() for layer in model.layers])
    plan = physcomp.uniform_plan(model, "digital(4)", shrinkage=0.0)
    chip, text = physcomp.store(network, plan), plan.to_json()
    yardstick = median_s(lambda: np.sort(weights))
    print(f"yardstick: sorting {weights.size:,} weights: {1000 * yardstick:.0f} ms")
    for name, work in (
        ("plan of a choice", lambda: physcomp.uniform_plan(model, "digital(4)", shrinkage=0.0)),
        ("plan to JSON", plan.to_json),
        ("plan from JSON", lambda: physcomp.Plan.from_json(text)),
        ("chip of the plan", lambda: physcomp.store(network, plan)),
        ("chip read back", chip.read_back),
    ):
        print(f"{name}: {median_s(work) / yardstick:.2f} x")
