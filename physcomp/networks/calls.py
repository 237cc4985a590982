"""Watches a network at work: which operators use its weights, with which inputs and outputs.

Weights are recognised by identity, not by the kind of module that holds them. A subclass of a layer, a weight that is
passed to a function, and one weight tensor in two places are therefore all seen.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Operator = Literal["linear", "convolution", "transposed", "lookup"]
aten = torch.ops.aten
_CONVOLUTION = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_TRANSPOSED = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
# Operators by the function that computes them, with the names of their arguments in order.
_OPERATORS: dict[Any, tuple[Operator, tuple[str, ...]]] = {
    **dict.fromkeys((functional.linear, aten.linear.default), ("linear", ("input", "weight", "bias"))),
    **dict.fromkeys(
        (torch.conv1d, torch.conv2d, torch.conv3d, aten.conv1d.default, aten.conv2d.default, aten.conv3d.default,
         aten.conv1d.padding, aten.conv2d.padding, aten.conv3d.padding),
        ("convolution", _CONVOLUTION),
    ),
    **dict.fromkeys(
        (torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d, aten.conv_transpose1d.default,
         aten.conv_transpose2d.input, aten.conv_transpose3d.input),
        ("transposed", _TRANSPOSED),
    ),
    functional.embedding: ("lookup", ("input", "weight")),
    aten.embedding.default: ("lookup", ("weight", "input")),
}  # fmt: skip
_RECTIFIERS = (functional.relu, torch.relu, torch.relu_, functional.relu_, torch.Tensor.relu, torch.Tensor.relu_)


@dataclass(frozen=True, eq=False)
class Call:
    """One use of a layer's weights by an operator.

    Args:
        index: the number of the layer.
        operator: what the operator computes.
        given: its input.
        output: its output.
        weight: the weight tensor.
        bias: the bias tensor, or None.
        settings: stride, padding, dilation and groups, as they were passed.
        again: computes the output anew, with what weight and bias hold then.
    """

    index: int
    operator: Operator
    given: torch.Tensor
    output: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor | None
    settings: dict[str, Any]
    again: Callable[[], torch.Tensor] | None = None

    @property
    def channel(self) -> int:
        """The axis of the output that counts the weights' output channels."""
        return 1 if self.operator in ("convolution", "transposed") else self.output.dim() - 1

    @property
    def multiplications(self) -> float:
        """Number of multiplications of weights."""
        if self.operator == "lookup":
            return 0.0
        times = self.given if self.operator == "transposed" else self.output
        return float(times.numel()) * self.weight[0].numel()

    def positions(self, samples: int) -> set[tuple[int, float]]:
        """For each of the first two axes of the input, one of which may count samples: its length per sample."""
        return {(axis, size / samples) for axis, size in enumerate(self.given.shape[:2])}


class Watched(TorchFunctionMode):
    """While it is entered, each use of the weights by an operator is shown to a function, in this thread only.

    Args:
        weights: the number of a layer by the identity (`id`) of its weight tensor.
        see: gets each call; the tensor it returns, if any, replaces the output.
        rectified: gets each tensor that goes into a ReLU.
    """

    def __init__(
        self,
        weights: dict[int, int],
        see: Callable[[Call], torch.Tensor | None],
        rectified: Callable[[torch.Tensor], None] | None = None,
    ) -> None:
        super().__init__()
        self.weights, self.see, self.rectified = weights, see, rectified

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the function, and show the call if it uses one of the weights."""
        kwargs = kwargs or {}
        if func in _RECTIFIERS:
            if self.rectified and args and isinstance(args[0], torch.Tensor):
                self.rectified(args[0])
            return func(*args, **kwargs)
        operator = _OPERATORS.get(func)
        if operator is None:
            return func(*args, **kwargs)
        kind, names = operator
        bound = {**dict(zip(names, args, strict=False)), **kwargs}
        index = self.weights.get(id(bound.get("weight")))
        if index is None:
            return func(*args, **kwargs)
        # Lookups go without `padding_idx`, since an error in the weights of padding counts as any other.
        lookup = kind == "lookup"
        output = functional.embedding(bound["input"], bound["weight"]) if lookup else func(*args, **kwargs)
        settings = {name: bound[name] for name in ("stride", "padding", "dilation", "groups") if name in bound}
        again = None if lookup else functools.partial(func, *args, **kwargs)
        call = Call(index, kind, bound["input"], output, bound["weight"], bound.get("bias"), settings, again)
        replaced = self.see(call)
        return output if replaced is None else replaced
