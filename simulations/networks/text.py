"""A text that comes with Python: the docstrings of its standard library, as bytes."""

import ast
import hashlib
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from physcomp.networks.datasets.parts import meaning
from physcomp.networks.samples import Samples

LENGTH = 128  # bytes of a sample
# Top-level modules are dealt to ten parts by a hash of their name, so that no version of Python moves one; our choice.
PARTS = {"test": (0,), "heldout": (1,), "calibration": (2,), "train": (3, 4, 5, 6, 7, 8, 9)}
LEFT_OUT = {"test", "tests", "idlelib", "lib2to3", "distutils", "ensurepip", "site-packages", "dist-packages"}


def docstrings(part: str) -> Samples:
    """Pieces of 128 bytes of docstrings of the standard library, each with the bytes that follow as labels.

    The text differs between versions of Python, and so do losses on it, by little.

    Args:
        part: `train`, `calibration`, `heldout` or `test`; whole modules belong to one part.

    Raises:
        ValueError: there is no such part, or no source of the standard library.
    """
    if meaning(part) not in PARTS:
        raise ValueError(f"docstrings: no part {part}, there are {', '.join(PARTS)}; ask for one")
    root = Path(sysconfig.get_paths()["stdlib"])
    text = "\n\n".join(dict.fromkeys(_docstrings(root, PARTS[meaning(part)]))).encode()
    count = (len(text) - 1) // LENGTH
    if not count:
        raise ValueError(f"docstrings: {root} holds no source of Python's standard library; install Python with it")
    flat = torch.from_numpy(np.frombuffer(text, np.uint8).astype(np.int64))
    inputs, labels = (flat[shift : shift + count * LENGTH].view(count, LENGTH) for shift in (0, 1))
    return Samples(inputs, labels)


def _docstrings(root: Path, numbers: tuple[int, ...]) -> Iterator[str]:
    """The docstrings of the modules whose names fall on some numbers, in the order of their files."""
    for path in sorted(root.rglob("*.py")):
        words = path.relative_to(root).with_suffix("").parts
        if LEFT_OUT.intersection(words) or _number(words[0]) not in numbers:
            continue
        try:
            tree = ast.parse(path.read_bytes())
        except SyntaxError:  # some are there to be wrong
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                found = ast.get_docstring(node)
                if found:
                    yield found


def _number(name: str) -> int:
    return hashlib.sha256(name.encode()).digest()[0] % 10
