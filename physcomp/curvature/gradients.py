"""Directions of gradients: in which mixtures of outputs the curvature is measured, for each sample.

A sample's curvature in the outputs is L Lᵀ (`physcomp.networks.task`). Gradients of the outputs along all columns of L
give the curvature in the weights exactly, and along random mixtures of them without bias.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from physcomp.networks.network import SOME, Network
from physcomp.networks.samples import Samples
from physcomp.networks.tape import Columns
from physcomp.networks.task import Own

# With at most EXACT_CLASSES outputs every column of L is used; with more, random signs mix them into PROBES columns.
# Our choice: with ten classes and 2,000 images, two probes differ from an estimate on 2,000 other images about as much
# as all ten columns do (median error on the diagonal 0.16 against 0.17, off it 1.36 against 1.19), since the choice of
# images matters far more.
EXACT_CLASSES = 4
PROBES = 2
PASS = 50  # samples per pass, where the memory allows it; more were no faster
SIGNED = 100  # samples whose random signs are drawn from one generator
MEMORY_BYTES = 1 << 30  # our choice


@dataclass(frozen=True)
class Directions:
    """The directions in the outputs for any range of samples.

    Args:
        probes: number of directions of each sample.
        of: from a range of samples to what gives their directions, see `physcomp.networks.tape.Tape.gradients`.
    """

    probes: int
    of: Callable[[slice], Columns]


def directions_of(network: Network, samples: Samples, probes: int, seed: int, unit: float | None = None) -> Directions:
    """The directions in which gradients are taken: mixed columns of L.

    The mixing is random signs over √probes. With several probes and at most `EXACT_CLASSES` outputs it is the identity:
    every column of L is then a probe of its own. A sample's signs do not depend on how many samples pass at a time.

    Args:
        network: gives the task and the number of outputs.
        samples: all calibration samples.
        probes: mixed columns per sample.
        seed: seed of the signs.
        unit: see `physcomp.networks.task.Task.unit`; that of the samples if not given.
    """
    task = network.task
    measure = task.unit(samples.labels) if unit is None else unit
    with torch.no_grad():
        outputs = network.outputs(samples[:SOME].inputs)[0].numel()
    exact = probes > 1 and outputs <= EXACT_CLASSES and not isinstance(task, Own)

    def mixing(part: slice) -> torch.Tensor:
        if exact:
            return torch.eye(outputs).expand(part.stop - part.start, outputs, outputs)
        first = part.start // SIGNED * SIGNED
        drawn = [drawn_at(start) for start in range(first, part.stop, SIGNED)]
        return torch.cat(drawn)[part.start - first : part.stop - first]

    def drawn_at(start: int) -> torch.Tensor:
        mixed = np.random.SeedSequence([seed, start // SIGNED]).generate_state(1)
        generator = torch.Generator().manual_seed(int(mixed[0]))
        return task.mixing(min(SIGNED, len(samples) - start), outputs, probes, generator)

    def of(part: slice) -> Columns:
        labels, mixed = samples.labels[part], mixing(part)
        return lambda found: task.columns(found, labels, mixed, measure)

    return Directions(outputs if exact else probes, of)


def _at_once(gathered: int) -> int:
    """Samples per pass: at least two passes for the samples collected, so that several threads have work."""
    return max(1, min(PASS, -(-gathered // 2)))


def _slices(first: int, last: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, last)) for start in range(first, last, size)]
