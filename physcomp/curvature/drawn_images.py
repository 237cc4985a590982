"""Fewer images where all would tell hardly more: some are drawn, those with more curvature in the outputs more often.

Of a trained network most images are sure, and their curvature is next to nothing: on the embedded network a fifth of
the images has nine tenths of it. Image n is drawn with a probability p(n) that grows with its curvature in the outputs,
and what it adds to a sum counts 1/p(n) times, so that sums over the drawn images have the sums over all as their mean.
(Horvitz and Thompson, "A generalization of sampling without replacement from a finite universe", JASA 47:663, 1952;
drawn systematically, which keeps their order.)
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from physcomp.curvature.gradients import PASS, Directions, _slices, directions_of
from physcomp.networks.network import Network
from physcomp.networks.samples import Samples
from physcomp.networks.tape import Columns
from physcomp.threads import in_threads

FLOOR = 0.1  # the share of the mean curvature that every image counts as at least when images are drawn; our choice
SIZES = 8  # directions by which an image's curvature in the outputs is told; our choice


@dataclass(frozen=True, eq=False)
class Drawn:
    """Some images with their directions, whose sums estimate those over all.

    Args:
        images: the images that were drawn, in their order.
        directions: of these images; each is scaled by the root of what its image counts.
    """

    images: Samples
    directions: Directions


def drawn(network: Network, images: Samples, most: int, probes: int, seed: int) -> Drawn:
    """Draw some of the images by the curvature in their outputs, or take all where there are no more.

    Args:
        network: the network.
        images: all images.
        most: number of images to draw.
        probes: directions of each image, see `physcomp.curvature.gradients.directions_of`.
        seed: seed of the draw and of the random signs.
    """
    if len(images) <= most:
        return Drawn(images, directions_of(network, images, probes, seed))
    whole = directions_of(network, images, SIZES, seed)

    def sizes_of(part: slice) -> torch.Tensor:
        with torch.no_grad():
            outputs = network.outputs(images[part].inputs)
        return whole.of(part)(outputs.cpu()).flatten(1).square().sum(1)

    sizes = torch.cat(list(in_threads(sizes_of, _slices(0, len(images), PASS)))).double().numpy()
    chance = chances(sizes + FLOOR * sizes.mean() + np.finfo(np.float64).tiny, most)
    offset = np.random.default_rng([seed, most]).random()
    steps = np.floor(np.concatenate([[0.0], np.cumsum(chance)]) + offset)
    chosen = np.flatnonzero(np.diff(steps))
    roots = torch.from_numpy(chance[chosen] ** -0.5).float()
    some = images[torch.from_numpy(chosen)]
    plain = directions_of(network, some, probes, seed, network.task.unit(images.labels))

    def of(part: slice) -> Columns:
        columns = plain.of(part)

        def scaled(outputs: torch.Tensor) -> torch.Tensor:
            found = columns(outputs)
            return found * roots[part].reshape(-1, *[1] * (found.dim() - 1))

        return scaled

    return Drawn(some, Directions(plain.probes, of))


def chances(sizes: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    """Probabilities proportional to sizes above zero, at most 1, that add up to `most`.

    Example:
        >>> chances(np.array([1.0, 1.0, 2.0, 12.0]), 3).round(3).tolist()
        [0.5, 0.5, 1.0, 1.0]
    """
    sure = np.zeros(len(sizes), bool)
    while True:
        chance = np.ones(len(sizes))
        chance[~sure] = (most - sure.sum()) * sizes[~sure] / sizes[~sure].sum()
        more = (chance >= 1) & ~sure
        if not more.any():
            return chance
        sure |= more
