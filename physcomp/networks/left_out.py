"""Tensors of a network as it was given that its prepared copy no longer has, each with the reason."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import nn


class LeftOut(NamedTuple):
    """A tensor that is not stored.

    Args:
        name: its name in the network as it was given.
        why: why it is not stored.
        kind: the kind of layer that holds it, see `kind_of`.
        shape: its shape.
        parameters: how many of the network's parameters it holds; 0 for buffers and for further names of a parameter.
    """

    name: str
    why: str
    kind: str = ""
    shape: tuple[int, ...] = ()
    parameters: int = 0


def tensors_of(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Every parameter and every buffer, saved or not, under each of its names; parameters first."""
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)


def kind_of(module: nn.Module, name: str) -> str:
    """The kind of layer that holds a tensor: its class, with the layer of torch that it is made from.

    `parameter` or `buffer` where no layer of its own holds it: in the network itself, or in a part of a graph.
    """
    owner = module.get_submodule(name.rpartition(".")[0])
    kind = type(owner)
    usual = next((base for base in kind.__mro__ if getattr(nn, base.__name__, None) is base), nn.Module)
    if owner is module or kind is nn.Module:
        return "parameter" if isinstance(getattr(owner, name.rpartition(".")[2]), nn.Parameter) else "buffer"
    if kind is usual or kind.__module__.startswith("torch.nn."):
        return usual.__name__ if usual is not nn.Module else kind.__name__
    return kind.__name__ if usual is nn.Module else f"{kind.__name__} ({usual.__name__})"


def left_out(given: nn.Module, prepared: nn.Module) -> tuple[LeftOut, ...]:
    """What the prepared copy of a module no longer has.

    Args:
        given: the plain module.
        prepared: its copy with norms folded; names of tensors are those of `given`.
    """
    kept = {name for name, _ in tensors_of(prepared)}
    main: dict[int, str] = {}  # the name by which each tensor is known: the first that is kept, or the first of all
    for name, tensor in sorted(tensors_of(given), key=lambda each: each[0] not in kept):
        main.setdefault(id(tensor), name)
    parameters = {id(parameter) for parameter in given.parameters()}
    found = []
    for name, tensor in tensors_of(given):
        if name in kept:
            continue
        known = main[id(tensor)]
        count = tensor.numel() if known == name and id(tensor) in parameters else 0
        why = _why(given, name) if known == name else f"the same tensor as {known}"
        found.append(LeftOut(name, why, kind_of(given, name), tuple(tensor.shape), count))
    return tuple(found)


def _why(given: nn.Module, name: str) -> str:
    if isinstance(given.get_submodule(name.rpartition(".")[0]), nn.modules.batchnorm._BatchNorm):
        return "folded into the layer before it"
    return "no output depends on it"
