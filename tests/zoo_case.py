"""What a case of the zoo is, and how its networks and data are seeded."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

Inputs = torch.Tensor | tuple[torch.Tensor, ...] | dict[str, torch.Tensor]
LENGTH = 5  # tokens of a sequence
WORDS = 11  # words of a vocabulary
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.InstanceNorm2d, nn.LayerNorm, nn.GroupNorm)


@dataclass(frozen=True)
class Case:
    """A small network that is not ours, with data.

    Args:
        name: its name in reports of tests.
        build: makes it, in training mode as any user's, with the same values each time.
        inputs: the inputs of a number of samples, the same each time; the first axis of every tensor counts samples.
        labels: their labels.
        task: what `physcomp.wrap` takes besides the module and the samples.
        note: what makes it hard.
        unused: parameters on which the outputs do not depend.
        refused: words that stand in the refusal, where it cannot be stored.
    """

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[int], Inputs]
    labels: Callable[[int], torch.Tensor]
    task: Mapping[str, Any] = field(default_factory=lambda: {"task": "classes"})
    note: str = ""
    unused: tuple[str, ...] = ()
    refused: str = ""


def seeded(build: Callable[[], nn.Module], seed: int = 7) -> Callable[[], nn.Module]:
    """A network as if trained: drawn from a seed, with norms whose statistics and parameters are not 0 and 1."""

    def built() -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = build()
            for parameter in module.parameters():
                if parameter.ndim > 1:
                    parameter.data *= 1.7  # torch's layers let the spread of their outputs fall by this, layer by layer
            for part in module.modules():
                if isinstance(part, NORMS):
                    _trained(part)
        return module

    return built


@torch.no_grad()
def _trained(norm: Any) -> None:
    if getattr(norm, "running_mean", None) is not None:
        norm.running_mean.normal_(0, 0.3)
        norm.running_var.uniform_(0.5, 2)
    if norm.weight is not None:
        norm.weight.uniform_(0.5, 1.5)
        norm.bias.normal_(0, 0.2)


def numbers(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> Callable[[int], torch.Tensor]:
    """Normal numbers, (samples, *shape)."""
    return lambda count: torch.randn(count, *shape, generator=_generator(seed)).to(dtype)


def whole(limit: int, *shape: int, seed: int = 2) -> Callable[[int], torch.Tensor]:
    """Whole numbers below a limit, (samples, *shape): labels, or words."""
    return lambda count: torch.randint(0, limit, (count, *shape), generator=_generator(seed))


def together(**parts: Callable[[int], torch.Tensor]) -> Callable[[int], dict[str, torch.Tensor]]:
    """Several inputs by name."""
    return lambda count: {name: part(count) for name, part in parts.items()}


def in_order(*parts: Callable[[int], torch.Tensor]) -> Callable[[int], tuple[torch.Tensor, ...]]:
    """Several inputs in order."""
    return lambda count: tuple(part(count) for part in parts)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(name: str, build: Callable[[], nn.Module], note: str = "", **changes: Any) -> Case:
    """A case that classifies images of 2 x 8 x 8 into three classes."""
    return Case(name, seeded(build), **{"inputs": numbers(2, 8, 8), "labels": whole(3), "note": note, **changes})


def vectors(name: str, build: Callable[[], nn.Module], note: str = "", **changes: Any) -> Case:
    """A case that classifies vectors of 6 numbers into three classes."""
    return Case(name, seeded(build), **{"inputs": numbers(6), "labels": whole(3), "note": note, **changes})


def sequences(name: str, build: Callable[[], nn.Module], note: str = "", **changes: Any) -> Case:
    """A case that classifies sequences of vectors of 8 numbers into three classes."""
    return Case(name, seeded(build), **{"inputs": numbers(LENGTH, 8), "labels": whole(3), "note": note, **changes})


def words(name: str, build: Callable[[], nn.Module], note: str = "", **changes: Any) -> Case:
    """A case that classifies sequences of words into three classes."""
    return Case(
        name, seeded(build), **{"inputs": whole(WORDS, LENGTH, seed=3), "labels": whole(3), "note": note, **changes}
    )
