"""The table of a network's tensors: what becomes of each, with its numbers; every tensor of the state is in it once."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from physcomp.networks.layers import Layer, _memory
from physcomp.networks.left_out import kind_of, tensors_of
from physcomp.networks.network import Network
from physcomp.networks.survey import Survey
from physcomp.storage.other_tensors import FLOAT, Other, others_of

Fate = Literal["cells", "digital", "left out"]
ADAPTERS = {"mapped": "torch.func", "each": "one sample after the other"}


@dataclass(frozen=True)
class TensorRow:
    """What becomes of one tensor of a network.

    Args:
        name: its name in the network's state.
        kind: the kind of layer that holds it, such as `Conv2d`; `parameter` or `buffer` where that is the network.
        shape: its shape.
        fate: whether `cells` may hold it, whether it stays `digital`, or whether it is `left out`.
        how: for cells how gradients for each sample are taken: from the operator that uses the weights, by torch.func,
            or for one sample after the other; for the others the reason.
        parameters: how many of the network's parameters it holds, each counted once; 0 for buffers, for further names
            of a parameter, and for biases that folding a norm made.
        groups: groups of weights, if cells may hold it.
        bits: bits that it takes whatever is chosen.
        multiplications: of one sample in a forward pass; None if they are unknown.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    fate: Fate
    how: str
    parameters: int
    groups: int = 0
    bits: int = 0
    multiplications: float | None = None

    @property
    def numbers(self) -> int:
        """Numbers in the tensor."""
        return math.prod(self.shape)


def tensor_table(network: Network, found: Survey) -> tuple[TensorRow, ...]:
    """What becomes of every tensor: those of the module in its order, then those that it no longer has.

    Args:
        network: the network.
        found: its survey.

    Raises:
        ValueError: a number that stays digital is too large for bfloat16.
    """
    named = dict(tensors_of(network.module))
    counted = {name: each.numel() for name, each in network.module.named_parameters() if name not in network.made}
    stored = {row.name: row for row in (*_of_layers(network, found, counted), *_of_others(network, found, counted))}
    reasons = dict(found.left_out)
    rows, first = [], dict[object, str]()
    for name, tensor in named.items():
        known = first.setdefault(_memory(tensor), name)
        row = stored.get(name)
        if row is None:
            why = reasons.get(name, f"the same tensor as {known}")
            row = TensorRow(name, kind_of(network.module, name), tuple(tensor.shape), "left out", why, 0)
        rows.append(row)
    for left in network.left_out:
        rows.append(TensorRow(left.name, left.kind, left.shape, "left out", left.why, left.parameters))
    return tuple(rows)


def _of_layers(network: Network, found: Survey, counted: dict[str, int]) -> Iterator[TensorRow]:
    """The weights and biases of the layers that cells may hold."""
    for layer in found.layers:
        operator, work = found.operators.get(layer.name, ("", None))
        how = ADAPTERS.get(layer.adapter, operator or "no operator that is known")
        kind, size = kind_of(network.module, layer.weight), counted.get(layer.weight, 0)
        yield TensorRow(layer.weight, kind, layer.shape, "cells", how, size, layer.groups, 0, work)
        if layer.bias is not None:
            yield _digital(network, Other(layer.bias_name, layer.bias.shape), _why_bias(layer), counted)


def _why_bias(layer: Layer) -> str:
    return f"bias of {layer.name}" + (", set so that it makes up for errors" if layer.bias_of_group else "")


def _of_others(network: Network, found: Survey, counted: dict[str, int]) -> Iterator[TensorRow]:
    reasons = dict(found.digital)
    for other in others_of(network, found.layers):
        yield _digital(network, other, reasons[other.name], counted)


def _digital(network: Network, other: Other, why: str, counted: dict[str, int]) -> TensorRow:
    how = why if other.kind == FLOAT else f"{why} ({other.kind})"
    kind, size = kind_of(network.module, other.name), counted.get(other.name, 0)
    return TensorRow(other.name, kind, tuple(other.shape), "digital", how, size, 0, other.stored_bits)


HEAD = ("tensor", "layer", "kept", "how or why", "weights", "% of all", "groups", "bits", "multiplications")
TEXTS = 4  # columns of texts; the others hold numbers


def texts_of(rows: tuple[TensorRow, ...], parameters: int) -> list[tuple[str, ...]]:
    """The table as texts, a row each, in the columns of `HEAD`."""
    return [
        (
            row.name,
            row.kind,
            row.fate,
            row.how,
            f"{row.numbers:,}",
            f"{100 * row.parameters / parameters:.2f}" if row.parameters else "",
            f"{row.groups:,}" if row.groups else "",
            f"{row.bits:,}" if row.bits else "",
            "" if row.multiplications is None else f"{row.multiplications:,.0f}",
        )
        for row in rows
    ]


def as_lines(rows: tuple[TensorRow, ...], parameters: int) -> list[str]:
    """The table as lines of text, with its head."""
    table = [HEAD, *texts_of(rows, parameters)]
    widths = [max(len(row[column]) for row in table) for column in range(len(HEAD))]
    return [
        "  ".join(
            text.ljust(width) if column < TEXTS else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
