"""A device that is not there: its tensors are computed on the processor, but may not meet those of the processor."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

NAME = "meta"  # a device that torch knows, and whose tensors autograd takes
aten = torch.ops.aten
BETWEEN = (aten.copy_.default, aten._to_copy.default)  # what may see both devices
PRODUCTS = (
    functional.linear, functional.embedding, functional.multi_head_attention_forward, torch.conv1d, torch.conv2d,
    torch.conv3d, torch.conv_transpose2d, torch.matmul, torch.Tensor.matmul, torch.einsum, torch.addmm, torch.lstm,
)  # fmt: skip


class Away(torch.Tensor):
    """A tensor on the device, with its numbers in `inner`."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "Away":
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device=NAME,
        )  # fmt: skip
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})


def leaves(tree: Any) -> Iterator[Any]:
    if isinstance(tree, dict):
        tree = tuple(tree.values())
    if isinstance(tree, list | tuple):
        for branch in tree:
            yield from leaves(branch)
    else:
        yield tree


def changed(tree: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(tree, dict):
        return {name: changed(branch, change) for name, branch in tree.items()}
    return type(tree)(changed(branch, change) for branch in tree) if type(tree) in (list, tuple) else change(tree)


def is_away(device: Any) -> bool:
    return isinstance(device, str | torch.device) and torch.device(device).type == NAME


def computed(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [leaf for leaf in leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    away = [tensor for tensor in tensors if isinstance(tensor, Away)]
    if func not in BETWEEN and any(tensor.dim() and not isinstance(tensor, Away) for tensor in tensors):
        raise RuntimeError(f"{func} takes tensors of two devices")
    stays = is_away(kwargs["device"]) if kwargs.get("device") is not None else True
    if func is aten.copy_.default:
        stays = isinstance(args[0], Away)
    inner = {id(tensor.inner): tensor for tensor in away}
    args, kwargs = changed((args, kwargs), lambda leaf: leaf.inner if isinstance(leaf, Away) else leaf)
    if kwargs.get("device") is not None:
        kwargs = {**kwargs, "device": "cpu"}
    found = func(*args, **kwargs)
    if not stays:
        return found

    def wrapped(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        return inner[id(leaf)] if id(leaf) in inner else Away(leaf)

    return changed(found, wrapped)


class FakeDevice(TorchFunctionMode):
    """Makes tensors of the device where these are asked for, and counts the products of matrices here and there."""

    def __init__(self) -> None:
        super().__init__()
        self.here = self.there = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in PRODUCTS:
            if any(isinstance(leaf, torch.Tensor) and is_away(leaf.device) for leaf in leaves((args, kwargs))):
                self.there += 1
            else:
                self.here += 1
        if func is torch.Tensor.to and is_away(args[1]):
            return args[0] if isinstance(args[0], Away) else Away(args[0].detach().clone())
        if is_away(kwargs.get("device")) and not any(isinstance(leaf, Away) for leaf in leaves(args)):
            return Away(func(*args, **{**kwargs, "device": "cpu"}))
        return func(*args, **kwargs)
