"""Which arrays of a file are inputs and which are labels, by their usual names, for each part of the data set.

`x_train`, `train_images`, `test/labels`, `inputs.image`: the words of a name say its part (`train`, `t10k`, ...) and
what it is. Several arrays of inputs become a dictionary by their names.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from physcomp.networks.datasets.parts import ALL, is_part_name

LABELS = ("labels", "label", "y", "targets", "target", "label_ids", "fine_labels", "masks", "segmentation")
IMAGES = ("images", "image", "imgs", "img", "pixels", "pixel_values")
TOKENS = ("tokens", "input_ids", "token_ids")
INPUTS = ("inputs", "input", "x", "data", "features", "feature", "samples", *IMAGES, *TOKENS)
# Inputs that stand beside others, in the terms of language models.
FURTHER = ("attention_mask", "token_type_ids", "position_ids", "mask", "lengths", "input_mask")
NUMBERED = re.compile(
    r"(inputs?|x|images?|features?|tokens?)(_?\d+|_(?!ids?$|mean$|std$|sd$|shape$|names?$|paths?$)\w+)"
)
FILLERS = ("set", "dataset", "split", "ds")
USUAL = "inputs and labels (or x and y, images and labels, x_train and y_train, ...)"


@dataclass(frozen=True)
class Roles:
    """The arrays of one part.

    Args:
        inputs: the name of each array of inputs, by the name by which the network is called.
        labels: the name of the array of labels.
    """

    inputs: dict[str, str]
    labels: str

    @property
    def images(self) -> bool:
        """Whether the inputs are images by their name."""
        return all(name.lower() in IMAGES for name in self.inputs)

    @property
    def tokens(self) -> bool:
        """Whether the inputs are tokens by their name."""
        return all(name.lower() in (*TOKENS, *FURTHER) for name in self.inputs)


def roles_by_part(where: str, names: Iterable[str]) -> dict[str, Roles]:
    """The roles of arrays for every part that their names speak of (`all` where none does).

    Raises:
        ValueError: no arrays are clearly inputs and labels of one part; the message lists the names.
    """
    names = list(names)
    found: dict[str, dict[str, list[tuple[str, str]]]] = {}
    for name in names:
        part, kind, role = _read(name)
        if kind:
            found.setdefault(part, {"inputs": [], "labels": []})[kind].append((role, name))
    listed = ", ".join(" ".join(name.split()) for name in names[:12]) + (", ..." if len(names) > 12 else "")
    listed = listed or "no arrays"
    if not found:
        raise ValueError(f"{where}: no array is named as inputs or labels; found {listed}; name them {USUAL}")
    if ALL in found and len(found) > 1:
        loose = ", ".join(name for kind in found[ALL].values() for _, name in kind)
        raise ValueError(f"{where}: {loose} belong to no part, while others do; found {listed}; name the part of each")
    return {part: _roles(where, part, kinds, listed) for part, kinds in found.items()}


def _roles(where: str, part: str, kinds: dict[str, list[tuple[str, str]]], listed: str) -> Roles:
    at = where if part == ALL else f"{where}, part {part}"
    inputs = dict(kinds["inputs"])
    if not inputs or not kinds["labels"]:
        raise ValueError(f"{at}: no array of {'labels' if inputs else 'inputs'}; found {listed}; name them {USUAL}")
    if len(kinds["labels"]) > 1 or len(inputs) < len(kinds["inputs"]):
        twice = "labels" if len(kinds["labels"]) > 1 else "inputs"
        several = " and ".join(name for _, name in kinds[twice])
        raise ValueError(f"{at}: {several} may all be {twice}; found {listed}; leave one under such a name")
    return Roles(inputs, kinds["labels"][0][1])


def _read(name: str) -> tuple[str, str, str]:
    """Part, kind (`inputs`, `labels` or nothing) and role that a name speaks of."""
    groups = []
    part = ALL
    for group in re.split(r"[/.]", name):
        spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=^[xXyY])(?=train|test|val)", "_", group)
        spaced = re.sub(r"held_out", "heldout", spaced, flags=re.IGNORECASE)
        words = [word for word in re.split(r"[_\-\s]+", spaced) if word]
        part = next((word for word in words if is_part_name(word)), part)
        kept = [word for word in words if not is_part_name(word) and word.lower() not in FILLERS]
        groups += ["_".join(kept)] if kept else []
    lower = [group.lower() for group in groups]
    if len(groups) > 1 and lower[0] in INPUTS:
        named = groups[1:] if lower[0] != "data" else groups  # data/x and data/y: a group of everything
        if named is not groups:
            return part, "inputs", "_".join(named)
    role, plain = (groups[-1], lower[-1]) if groups else ("", "")
    if plain in LABELS:
        return part, "labels", role
    return part, "inputs" if plain in (*INPUTS, *FURTHER) or NUMBERED.fullmatch(plain) else "", role
