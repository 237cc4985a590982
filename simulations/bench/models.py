"""Building the loss model, against the backward passes it needs."""

from pathlib import Path

import torch
from torch.nn import functional

import physcomp
from simulations.bench.timing import REPEATS, median_s

DATA = Path("data")  # run from the repository
IMAGES = 500
CHUNK = 125
CARD = "pcm-zarcone"


def main() -> None:
    """Print the ratio of the room `physcomp`."""
    network = physcomp.load_network(DATA / "fashion-cnn.toml")
    images = physcomp.load_images(DATA / "fashion-mnist", "calibration")[:IMAGES]
    classes = len(network.classes)
    threads = torch.get_num_threads()

    def backwards() -> None:
        """One forward pass, and a backward pass for every class and for the probe."""
        for start in range(0, IMAGES, CHUNK):
            logits = network.module(images[start : start + CHUNK].pixels)
            root = functional.softmax(logits, 1).detach()
            for column in (*range(classes), 0):
                logits.backward(root * (root[:, column : column + 1]), retain_graph=True)
        network.module.zero_grad()

    yard = median_s(backwards)
    model = median_s(lambda: physcomp.build_model(network, images, card=CARD))
    print(
        f"yardstick: {classes + 1} backward passes over {IMAGES} images, {threads} threads: {yard:.3f} s "
        f"(median of {REPEATS})"
    )
    print(f"loss model of {CARD}: {model / yard:.2f} x")
