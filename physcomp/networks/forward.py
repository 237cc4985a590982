"""Calls a module on the inputs of samples, whatever form they have, and takes the one output tensor that counts."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.fx import GraphModule

from physcomp.networks.samples import Inputs, tensors_of

Pick = str | int | None
"""Which output counts, where a module has several: its name or its number; None: the one that is usual."""

# What modules raise where inputs do not fit them.
_REFUSALS = (
    RuntimeError, TypeError, ValueError, IndexError, AssertionError, KeyError, NotImplementedError, AttributeError
)  # fmt: skip
USUAL = ("logits", "out", "output", "outputs", "prediction", "predictions")


def forward(module: nn.Module, inputs: Inputs, output: Pick = None, *, channels_last: bool = False) -> torch.Tensor:
    """Call a module on inputs: a tensor alone, a tuple in order, a dictionary by name.

    Args:
        module: in evaluation mode.
        inputs: copied first, since a module may change its input in place.
        output: which output counts, if there are several; None: the first of a tuple, and of named ones that with a
            usual name (`logits`, `out`, …) or the only one.
        channels_last: whether images get their channels as the last axis in memory, which makes convolutions faster.

    Returns:
        The output (samples, ...), float32 unless the module computes in float64.

    Raises:
        ValueError: the module cannot take the inputs, or none of its outputs is the one that counts.
    """
    try:
        found = _called(module, inputs, channels_last)
    except _REFUSALS as error:
        if channels_last:  # which a module that looks at memory itself cannot take
            return forward(module, inputs, output)
        shape = " and ".join(str(tuple(tensor.shape[1:])) for tensor in tensors_of(inputs))
        raise ValueError(
            f"network: cannot take inputs of shape {shape} ({_one_line(error)}); use the data it was trained on"
        ) from None
    return _picked(found, output, len(tensors_of(inputs)[0]))


def _called(module: nn.Module, inputs: Inputs, channels_last: bool) -> Any:
    """Call the module; where it fails on channels as the last axis, as with `Tensor.view`, call it without them."""
    if channels_last and not has_views(module):
        try:
            return _call(module, inputs, channels_last)
        except RuntimeError:
            pass
    return _call(module, inputs, False)


def has_views(module: nn.Module) -> bool:
    """Whether a traced module calls `Tensor.view`, which mostly fails on images with channels as the last axis."""
    graphs = [part.graph for part in module.modules() if isinstance(part, GraphModule)]
    return any(node.op == "call_method" and node.target == "view" for graph in graphs for node in graph.nodes)


def _call(module: nn.Module, inputs: Inputs, channels_last: bool) -> Any:
    if isinstance(inputs, dict):
        return module(**{name: tensor.clone() for name, tensor in inputs.items()})
    if isinstance(inputs, tuple):
        return module(*(tensor.clone() for tensor in inputs))
    return module(
        inputs.clone(
            memory_format=torch.channels_last if channels_last and inputs.dim() == 4 else torch.preserve_format
        )
    )


def _picked(found: Any, output: Pick, samples: int) -> torch.Tensor:
    if dataclasses.is_dataclass(found) and not isinstance(found, Mapping | type):
        found = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    if hasattr(found, "_asdict"):
        found = found._asdict()
    if isinstance(found, Mapping):
        tensors = {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}
        usual = [name for name in USUAL if name in tensors] or (list(tensors) if len(tensors) == 1 else [])
        name = output if output is not None else usual[0] if usual else None
        if name not in tensors:
            raise ValueError(f"network: its outputs are {', '.join(map(str, found))}; name one with output=")
        found = tensors[name]
    elif isinstance(found, tuple | list):
        number = output or 0
        if not isinstance(number, int) or not -len(found) <= number < len(found):
            raise ValueError(f"network: it has {len(found)} outputs, numbered from 0, got output={output!r}; name one")
        found = found[number]
    elif output is not None:
        raise ValueError(f"network: it has a single output, got output={output!r}; leave it out")
    if not isinstance(found, torch.Tensor) or found.is_complex() or not found.is_floating_point():
        what = f"{found.dtype} numbers" if isinstance(found, torch.Tensor) else type(found).__name__
        raise ValueError(f"network: its output is {what}, not a tensor of real numbers; name another with output=")
    if not found.dim() or len(found) != samples:
        raise ValueError(
            f"network: {samples} samples give an output of shape {tuple(found.shape)}; its first axis must count them"
        )
    return found if found.dtype == torch.float64 else found.float()


def _one_line(error: Exception) -> str:
    lines = str(error).split("\n\n")[0]
    return " ".join(lines.split()) or type(error).__name__
