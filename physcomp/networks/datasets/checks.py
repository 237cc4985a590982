"""Checks of a data set's parts together: that no sample stands in two of them, and that all have one form."""

import hashlib
from collections.abc import Mapping

import torch

from physcomp.networks.datasets.parts import MEANINGS, rank
from physcomp.networks.samples import Inputs, Samples, tensors_of

FEW = 0.01  # the share of the smaller part up to which copies are left out instead of refused (our choice)


def check_disjoint(parts: Mapping[str, Samples]) -> dict[str, Samples]:
    """The parts without copies: samples whose inputs are, byte for byte, those of a sample of another part.

    Up to 1 % of the smaller of two parts (and at least one sample), copies are left out: of `train` first, then of
    `calibration`, then of `heldout`, never of `test`: what is reported
    must not change. More are refused, since the parts overlap. Labels do not matter.

    Raises:
        ValueError: two parts share more samples, or a part has no others; the message gives the counts.

    Examples:
        >>> images = Samples(torch.arange(6.0).reshape(6, 1), torch.zeros(6))
        >>> parts = check_disjoint({"train": images[:4], "test": images[3:]})
        >>> len(parts["train"]), len(parts["test"])
        (3, 3)
    """
    keys = {name: sample_keys(samples.inputs) for name, samples in parts.items()}
    kept = dict(parts)
    names = sorted(parts, key=lambda name: rank(name) % len(MEANINGS), reverse=True)  # unknown names with train
    for place, name in enumerate(names):
        copies = set[int]()
        for other in names[:place]:
            there = set(keys[other])
            shared = [row for row, key in enumerate(keys[name]) if key in there]
            if len(shared) > max(1, FEW * min(len(parts[name]), len(parts[other]))):
                raise ValueError(
                    f"{name} and {other} share {len(shared)} samples (of {len(parts[name])} and {len(parts[other])}), "
                    f"at most {FEW:.0%} may be copies; take the copies out, or name parts that do not overlap"
                )
            copies |= set(shared)
        if copies:
            kept[name] = _without(name, parts[name], copies)
    return kept


def sample_keys(inputs: Inputs) -> list[bytes]:
    """A hash of the inputs of each sample: equal bytes, equal hash."""
    rows: list[list[memoryview]] = []
    for tensor in tensors_of(inputs):
        content = tensor.reshape(len(tensor), -1).contiguous().view(torch.uint8)
        rows.append([memoryview(row) for row in content.numpy()])
    keys = []
    for pieces in zip(*rows, strict=True):
        digest = hashlib.blake2b(digest_size=16)
        for piece in pieces:
            digest.update(piece)
        keys.append(digest.digest())
    return keys


def _without(name: str, samples: Samples, copies: set[int]) -> Samples:
    left = torch.tensor([row for row in range(len(samples)) if row not in copies])
    if not len(left):
        raise ValueError(f"{name}: all {len(samples)} samples stand in other parts; name parts that do not overlap")
    return samples[left]


def check_alike(where: str, parts: Mapping[str, Samples]) -> None:
    """Refuse parts whose samples differ in shape or whose labels differ in kind.

    Raises:
        ValueError: as said.
    """
    forms = {name: _form(samples) for name, samples in parts.items()}
    first = next(iter(forms))
    for name, form in forms.items():
        if form != forms[first]:
            raise ValueError(f"{where}: {first} has {forms[first]}, but {name} has {form}; bring them to one form")


def _form(samples: Samples) -> str:
    kind = "whole-number" if not samples.labels.is_floating_point() else "floating-point"
    return f"samples of shape {samples.shape} with {kind} labels of shape {tuple(samples.labels.shape[1:])}"
