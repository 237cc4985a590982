"""Masks that say which weights of a group are kept, stored in the fewest bits for a fixed number of ones.

There are C(W, k) masks with k ones in W places, and they are numbered: the mask with ones at p_1 < … < p_k has the
number C(p_1, 1) + … + C(p_k, k) (combinatorial number system). The number is stored in ⌈log2 C(W, k)⌉ bits (enumerative
coding, Cover, IEEE Trans. Inf. Theory 19:73, 1973), so the length depends on W and k alone.
"""

from functools import lru_cache
from math import comb

import numpy as np
from numpy.typing import NDArray

from physcomp.codes.base import Bits


@lru_cache(maxsize=4096)
def mask_bits(weights: int, kept: int) -> int:
    """Length of a mask in bits: ⌈log2 C(weights, kept)⌉.

    Raises:
        ValueError: `kept` is below 0 or above `weights`.

    Example:
        >>> mask_bits(576, 144), mask_bits(576, 0), mask_bits(576, 576)
        (463, 0, 0)
    """
    if not 0 <= kept <= weights:
        raise ValueError(f"mask: keeps {kept} of {weights} weights; keep 0 to all of them")
    return (comb(weights, kept) - 1).bit_length()


def encode_mask(mask: NDArray[np.bool_]) -> Bits:
    """Encode masks (groups, weights), all with the same number of ones: uint8 (groups, mask_bits).

    Raises:
        ValueError: the numbers of ones differ.
    """
    weights = mask.shape[1]
    counts = np.unique(mask.sum(axis=1))
    if len(counts) > 1:
        raise ValueError(f"mask: every group keeps equally many weights, got {counts[0]} to {counts[-1]}; cut to one k")
    kept = int(counts[0]) if len(counts) else 0
    length = mask_bits(weights, kept)
    octets = -(-length // 8)
    packed = b"".join(_number(row.tolist(), kept).to_bytes(octets, "big") for row in mask)
    bits = np.unpackbits(np.frombuffer(packed, np.uint8).reshape(len(mask), octets), axis=1)
    return bits[:, 8 * octets - length :]


def decode_mask(bits: Bits, weights: int, kept: int) -> NDArray[np.bool_]:
    """Inverse of `encode_mask`: bool (groups, weights) with `kept` ones in each row."""
    length = mask_bits(weights, kept)
    padded = np.zeros((len(bits), -(-length // 8) * 8), np.uint8)
    padded[:, padded.shape[1] - length :] = bits
    numbers = [int.from_bytes(row.tobytes(), "big") for row in np.packbits(padded, axis=1)]
    masks = np.zeros((len(bits), weights), bool)
    for row, number in zip(masks, numbers, strict=True):
        row[_places(number, weights, kept)] = True
    return masks


def _number(mask: list[bool], kept: int) -> int:
    """The number of a mask, from its last place down; each binomial follows from the one before by one product."""
    number = 0
    below = comb(len(mask) - 1, kept) if mask else 0  # masks of the places below with all ones not yet met
    for place in range(len(mask) - 1, 0, -1):
        if kept == 0:
            return number
        if mask[place]:
            number += below
            below = below * kept // place
            kept -= 1
        else:
            below = below * (place - kept) // place
    return number


def _places(number: int, weights: int, kept: int) -> list[int]:
    """The places of the ones in the mask with this number."""
    places: list[int] = []
    below = comb(weights - 1, kept) if weights else 0
    for place in range(weights - 1, 0, -1):
        if kept == 0:
            return places
        if number >= below:
            places.append(place)
            number -= below
            below = below * kept // place
            kept -= 1
        else:
            below = below * (place - kept) // place
    if kept:
        places.append(0)
    return places
