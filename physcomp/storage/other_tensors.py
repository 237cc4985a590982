"""Tensors outside all groups, as they are stored: floating-point numbers as bfloat16 or float32, whole ones exactly."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch

from physcomp.codes.base import SCALE_BITS, Bits, bfloat16_to_bits, bits_to_bfloat16
from physcomp.networks.layers import Layer, other_tensors
from physcomp.networks.network import Network

FLOAT, EXACT, COMPLEX = "bfloat16", "float32", "complex"
EXACT_BITS = 32


class Other(NamedTuple):
    """How one tensor outside all groups is stored.

    Args:
        name: its name in the network.
        shape: its shape.
        kind: `bfloat16`; `float32`; `complex`, two bfloat16 numbers each; or the type of whole numbers, such as `int64`
            or `bool`, which are stored as their differences from the least one.
        bits: bits of one number.
        low: the least of whole numbers.
    """

    name: str
    shape: tuple[int, ...]
    kind: str = FLOAT
    bits: int = SCALE_BITS
    low: int = 0

    @property
    def stored_bits(self) -> int:
        """Bits of the whole tensor."""
        return self.bits * int(np.prod(self.shape))


def others_of(network: Network, layers: tuple[Layer, ...]) -> dict[Other, torch.Tensor]:
    """The tensors of a network outside its layers, each with how it is stored, in the order in which they are.

    Raises:
        ValueError: a number is too large for bfloat16.
    """
    tensors = other_tensors(network.module, layers).items()
    return {
        Other(name, tuple(tensor.shape), EXACT, EXACT_BITS) if name in network.exact else _how(name, tensor): tensor
        for name, tensor in tensors
    }


def tensors_of(others: Iterable[Other], network: Network, layers: tuple[Layer, ...]) -> dict[Other, torch.Tensor]:
    """The tensors of a network outside its layers, each with how a plan says that it is stored."""
    tensors = other_tensors(network.module, layers)
    return {other: tensors[other.name] for other in others}


def bits_of_others(others: Iterable[Other]) -> int:
    """Bits that tensors outside all groups take."""
    return sum(other.stored_bits for other in others)


def _how(name: str, tensor: torch.Tensor) -> Other:
    shape = tuple(tensor.shape)
    if tensor.is_complex():
        return Other(name, shape, COMPLEX, 2 * SCALE_BITS)
    if tensor.is_floating_point():
        wide = tensor.isfinite() & ~tensor.float().bfloat16().isfinite()
        if bool(wide.any()):
            raise ValueError(
                f"network: '{name}' holds {float(tensor[wide][0]):g}, too large for bfloat16; scale the tensor down"
            )
        return Other(name, shape)
    numbers = tensor.cpu().numpy()  # which knows unsigned ones too
    low, high = (int(numbers.min()), int(numbers.max())) if tensor.numel() else (0, 0)
    if high >= 1 << 63:
        raise ValueError(f"network: '{name}' holds {high}, too large for int64; hold such numbers in two tensors")
    return Other(name, shape, str(tensor.dtype).removeprefix("torch."), (high - low).bit_length(), low)


def encoded(other: Other, tensor: torch.Tensor) -> Bits:
    """The bits of a tensor outside all groups."""
    if other.kind == COMPLEX:
        tensor = torch.view_as_real(tensor)
    if other.kind == EXACT:
        numbers = np.ascontiguousarray(tensor.detach().float().cpu().reshape(-1).numpy(), "<f4")
        return np.unpackbits(numbers.view(np.uint8))
    if other.kind in (FLOAT, COMPLEX):
        return bfloat16_to_bits(tensor.detach().float().cpu().reshape(-1).numpy()).reshape(-1)
    above = tensor.detach().cpu().flatten().to(torch.int64).numpy() - other.low
    places = np.arange(other.bits - 1, -1, -1)
    return np.asarray((above[:, None] >> places) & 1, np.uint8).reshape(-1)


def decoded(other: Other, bits: Bits) -> torch.Tensor:
    """Inverse of `encoded`."""
    if other.kind == EXACT:
        return torch.from_numpy(np.packbits(bits).view("<f4").astype(np.float32)).reshape(other.shape)
    if other.kind in (FLOAT, COMPLEX):
        values = torch.from_numpy(bits_to_bfloat16(bits.reshape(-1, SCALE_BITS)))
        if other.kind == COMPLEX:
            return torch.view_as_complex(values.reshape(*other.shape, 2).contiguous())
        return values.reshape(other.shape)
    count = int(np.prod(other.shape))
    places = 1 << np.arange(other.bits - 1, -1, -1, dtype=np.int64)
    numbers = bits.reshape(count, other.bits).astype(np.int64) @ places + other.low
    return torch.from_numpy(numbers.reshape(other.shape)).to(getattr(torch, other.kind))
