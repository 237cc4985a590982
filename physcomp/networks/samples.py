"""Samples: the inputs of a network with their labels, of any task."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

Inputs = torch.Tensor | tuple[torch.Tensor, ...] | dict[str, torch.Tensor]
"""What a network is called with: one tensor, several in order, or several by name; the first axis counts samples."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs of a network with their labels; a slice of samples, or those at some indices, are samples too.

    Args:
        inputs: one tensor, a tuple of tensors (passed in order) or a dictionary of tensors (passed by name); the first
            axis of each counts samples. Floating-point inputs become float32, integers int64. Images are (N, C, H, W),
            usually in [0, 1]; a network standardises them itself.
        labels: what the outputs should be; the first axis counts samples. Integers become int64: classes (N,), or one
            per token or pixel (N, ...). Floating-point labels become float32.

    Raises:
        ValueError: the numbers of inputs and labels differ, there are none, an input is NaN or infinite, or something
            is no tensor.
    """

    inputs: Inputs
    labels: torch.Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", changed(self.inputs, _as_input))
        object.__setattr__(self, "labels", _as_labels(self.labels))
        counts = {len(tensor) for tensor in tensors_of(self.inputs)}
        if counts != {len(self.labels)} or len(self.labels) == 0:
            found = " and ".join(str(count) for count in sorted(counts)) or "no"
            raise ValueError(
                f"samples: need as many labels as inputs and at least one, got {found} inputs and "
                f"{len(self.labels)} labels; check that both belong together"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, part: slice | torch.Tensor) -> "Samples":
        if not isinstance(part, slice | torch.Tensor):
            raise ValueError(f"samples: take a slice such as [0:10] or a tensor of indices, got {part!r}")
        labels = self.labels[part]
        if not len(labels):
            raise ValueError(f"samples: {part} takes none of the {len(self)} samples; take at least one")
        taken = object.__new__(Samples)  # what was checked once needs no second check
        object.__setattr__(taken, "inputs", changed(self.inputs, lambda tensor: tensor[part]))
        object.__setattr__(taken, "labels", labels)
        return taken

    @property
    def pixels(self) -> Inputs:
        """The inputs, by the name they had when all samples were images."""
        return self.inputs

    @property
    def shape(self) -> str:
        """The shape of one sample, for messages."""
        return " and ".join(str(tuple(tensor.shape[1:])) for tensor in tensors_of(self.inputs))


Images = Samples
"""The name of the class when all samples were images; it stays."""


def tensors_of(inputs: Inputs) -> tuple[torch.Tensor, ...]:
    """The tensors of inputs, in order."""
    if isinstance(inputs, torch.Tensor):
        return (inputs,)
    return tuple(inputs.values()) if isinstance(inputs, dict) else tuple(inputs)


def changed(inputs: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Inputs:
    """Inputs of the same form with every tensor changed by a function."""
    if isinstance(inputs, Mapping):
        return {name: change(tensor) for name, tensor in inputs.items()}
    return tuple(change(tensor) for tensor in inputs) if isinstance(inputs, tuple | list) else change(inputs)


def _as_input(given: Any) -> torch.Tensor:
    tensor = _tensor(given, "inputs")
    if tensor.is_complex():
        raise ValueError("samples: inputs are complex; pass real and imaginary parts as channels")
    if not tensor.is_floating_point():
        return tensor.detach() if tensor.dtype == torch.bool else tensor.detach().long()
    if not bool(torch.isfinite(tensor).all()):
        first = int(torch.nonzero(~torch.isfinite(tensor).flatten(1).all(1))[0]) if tensor.dim() > 1 else 0
        raise ValueError(f"samples: input {first} holds NaN or infinite numbers; leave that sample out or mend it")
    return tensor.detach().float()


def _as_labels(given: Any) -> torch.Tensor:
    tensor = _tensor(given, "labels")
    if not tensor.is_floating_point():
        return tensor.detach().long()
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError("samples: a label is NaN or infinite; leave that sample out or mend it")
    return tensor.detach().float()


def _tensor(given: Any, what: str) -> torch.Tensor:
    try:
        tensor = given if isinstance(given, torch.Tensor) else torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(
            f"samples: {what} are tensors or arrays of numbers, got {type(given).__name__}; convert them"
        ) from None
    if not tensor.dim():
        raise ValueError(f"samples: the first axis of {what} counts samples, got a single number; add that axis")
    return tensor
