"""What samples do not show of a network: layers and rows that few of them reach, outputs that depend on the batch."""

from collections.abc import Iterator

import torch

from physcomp.curvature.gradients import directions_of
from physcomp.networks.calls import Call, Watched
from physcomp.networks.first_look import FirstLook, first_look
from physcomp.networks.network import Network
from physcomp.networks.samples import Samples
from physcomp.networks.survey import Survey
from physcomp.networks.tape import Tape, weights_at_once

TRIED = 32  # samples on which it is counted which layers they reach
FEW_SAMPLES = 30  # below this the curvature is mostly chance; our choice
RARE = 0.1  # share of the samples below which a layer is reached by few


def watched_look(network: Network, found: Survey, samples: Samples) -> tuple[FirstLook, dict[str, int]]:
    """A first look at the network on all samples, and for each table the number of its rows that none looks up."""
    layers = [layer for layer in found.layers if found.operators.get(layer.name, ("",))[0] == "lookup"]
    used = [torch.zeros(layer.shape[0], dtype=torch.bool) for layer in layers]

    def see(call: Call) -> None:
        if call.operator == "lookup":
            used[call.index][call.given.flatten().cpu()] = True

    with Watched({id(network.running.get_parameter(layer.weight)): n for n, layer in enumerate(layers)}, see):
        look = first_look(network, samples)
    return look, {layer.name: int((~rows).sum()) for layer, rows in zip(layers, used, strict=True)}


def reached_by(network: Network, found: Survey, samples: Samples, memory_bytes: int) -> dict[str, float]:
    """For each layer the share of the first samples whose outputs depend on it."""
    tried = samples[:TRIED]
    tape, directions = Tape(network, found.layers), directions_of(network, samples, 1, 0)
    counts = [0] * len(found.layers)
    at_once = max(1, min(TRIED, memory_bytes // (16 * weights_at_once(found.layers))))
    for start in range(0, len(tried), at_once):
        part = slice(start, min(start + at_once, len(tried)))
        for index, gradient, _ in tape.gradients(tried[part].inputs, directions.of(part)):
            counts[index] += int(gradient.flatten(1).any(1).sum())
    return {layer.name: count / len(tried) for layer, count in zip(found.layers, counts, strict=True)}


def doubts(found: Survey, samples: int, reached: dict[str, float], unused: dict[str, int]) -> Iterator[str]:
    """Warnings of what the samples do not show, one line each.

    Args:
        found: the survey of the network.
        samples: number of samples.
        reached: from `reached_by`.
        unused: from `watched_look`.
    """
    if found.batched:
        yield (
            "a sample's outputs depend on the other samples of its batch, as with norms that take the statistics of "
            "the batch; what is measured holds for batches of that size only"
        )
    if samples < FEW_SAMPLES:
        yield f"{samples} samples are too few to tell what errors cost; take some hundreds"
    tried = min(TRIED, samples)
    for name, share in reached.items():
        if share < RARE:
            yield f"{name}: {share * tried:.0f} of the first {tried} samples reach it; take more of those that do"
    rows = {layer.name: layer.shape[0] for layer in found.layers}
    for name, count in unused.items():
        if count:
            yield (
                f"{name}: {count:,} of its {rows[name]:,} rows are never looked up by these samples and count as "
                "worthless; take samples that use them"
            )
