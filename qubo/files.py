"""Selections and binary models to and from files that other tools read: one suffix a format.

- `.cqm`: dimod's own zip of the constrained model, each group a discrete constraint and the budget one linear row. The
  whole problem, which comes back as a `Selection`. One member more, `selection.json`, which dimod ignores, keeps the
  width of the menu ("codes"), the exact "budget" and the groups' own Gram blocks ("own"): version 1. With setups
  ("setup", a list of objects with "groups" and "cost", null where a code is offered to none) it says "version": 2. In a
  file without the member (another tool's) each group's codes are its variables in order, and the bound on dense
  couplings is looser.
- `.bqm`: dimod's own binary format. Of a selection it holds the λ form (`qubo.formats.binary.to_bqm`), which has lost
  the budget and the codes' costs: it comes back as a binary model, never as a `Selection`.
- `.coo`: dimod's COO text, one "i j coefficient" a line, for anything that reads text. COO has no offset and nothing of
  groups: comment lines carry the offset, and of a selection all that the λ form loses, so that it comes back either
  way (see `qubo.formats.coo`).
"""

from __future__ import annotations

import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import dimod

from qubo.bounds.certificate import lower_bound
from qubo.formats import binary, bqm_bytes, coo, setups
from qubo.formats.constrained import from_cqm, own_blocks
from qubo.magnitude.hamiltonian import Magnitude
from qubo.selection import Selection

T = TypeVar("T")
SUFFIXES = (".cqm", ".bqm", ".coo")
MEMBER = "selection.json"
"""Our member of a `.cqm` zip."""
DAMAGED = (
    ValueError, LookupError, TypeError, AttributeError, OverflowError, RuntimeError, OSError, EOFError,
    zipfile.BadZipFile, zlib.error, struct.error,
)  # fmt: skip
"""What reading a foreign or damaged file may raise."""


def save(
    problem: Selection | Magnitude | dimod.BinaryQuadraticModel, path: Path | str, *, multiplier: float | None = None
) -> None:
    """Writes a problem in the format its suffix names, under a temporary name first.

    Args:
        problem: a selection; a magnitude Hamiltonian or a binary model, for `.bqm` and `.coo`.
        path: ending in .cqm, .bqm or .coo.
        multiplier: λ of a selection's λ form, loss per cell; that of `qubo.lower_bound` by default.

    Raises:
        ValueError: an unknown suffix, a format that cannot hold the problem, variables that are not numbered.

    >>> import qubo, tempfile
    >>> problem = qubo.generate("Q", groups=8)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(problem, f"{folder}/problem.cqm")
    ...     again = load_selection(f"{folder}/problem.cqm")
    >>> abs(again.energy([3] * 8) - problem.energy([3] * 8)) < 1e-9
    True
    """
    path = Path(path)
    kind = _suffix(path)
    if multiplier is not None and not (isinstance(problem, Selection) and kind != ".cqm"):
        raise ValueError(f"{path}: multiplier is only for a selection's λ form, .bqm or .coo: leave it out")
    temporary = Path(f"{path}.tmp")
    try:
        if kind == ".cqm":
            _write_cqm(problem, temporary)
        else:
            _write_bqm(problem, kind, temporary, multiplier)
        os.replace(temporary, path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not written: {error}") from None
    finally:
        temporary.unlink(missing_ok=True)


def load_selection(path: Path | str) -> Selection:
    """The selection of a `.cqm` file, or of a `.coo` file that a selection was written to.

    Energies agree with the written ones up to rounding.

    Raises:
        ValueError: no such file, not of its format, or a model that is no selection, with one line saying why.
    """
    path = Path(path)
    kind = _suffix(path)
    if kind == ".bqm":
        raise ValueError(f"{path}: a .bqm has no budget and no costs, so it is no selection: use load_bqm")
    if kind == ".cqm":
        return _guarded(path, lambda: _read_cqm(path))
    return _guarded(path, lambda: coo.selection_of(path.read_text()))


def load_bqm(path: Path | str) -> dimod.BinaryQuadraticModel:
    """The binary model of a `.bqm` or `.coo` file; a selection's is its λ form.

    Raises:
        ValueError: no such file, or not of its format.
    """
    path = Path(path)
    kind = _suffix(path)
    if kind == ".cqm":
        raise ValueError(f"{path}: a .cqm has constraints, so it is no binary model: use load_selection")
    if kind == ".coo":
        return _guarded(path, lambda: coo.from_text(path.read_text()))
    return _guarded(path, lambda: _read_bqm(path))


def _suffix(path: Path) -> str:
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: unknown format '{path.suffix}': end the name in {', '.join(SUFFIXES)}")
    return path.suffix


def _guarded(path: Path, read: Callable[[], T]) -> T:
    """What `read` returns; whatever a foreign or damaged file raises becomes one line."""
    try:
        return read()
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file: name one that exists") from None
    except DAMAGED as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path}: {reason}") from None


def _write_bqm(
    problem: Selection | Magnitude | dimod.BinaryQuadraticModel, kind: str, path: Path, multiplier: float | None
) -> None:
    extra = None
    if isinstance(problem, Selection):
        lam = lower_bound(problem).multiplier if multiplier is None else multiplier
        bqm, extra = binary.to_bqm(problem, lam), coo.Extra.of(problem, lam)
    elif isinstance(problem, Magnitude):
        bqm = problem.to_bqm()
    elif isinstance(problem, dimod.BinaryQuadraticModel):
        bqm = problem
    else:
        raise ValueError(f"a problem is a Selection, a Magnitude or a dimod model, got {type(problem).__name__}")
    if kind == ".coo":
        path.write_text(coo.to_text(bqm, extra))
        return
    with bqm.to_file() as source, path.open("wb") as target:
        target.writelines(source)


def _read_bqm(path: Path) -> dimod.BinaryQuadraticModel:
    bqm: dimod.BinaryQuadraticModel = dimod.BinaryQuadraticModel.from_file(bqm_bytes.checked(path.read_bytes()))
    return bqm


def _write_cqm(problem: Selection | Magnitude | dimod.BinaryQuadraticModel, path: Path) -> None:
    if not isinstance(problem, Selection):
        raise ValueError(f".cqm holds selections, got {type(problem).__name__}: use .bqm or .coo")
    with binary.to_cqm(problem).to_file(compress=True) as source, path.open("wb") as target:
        target.writelines(source)
    with zipfile.ZipFile(path, "a") as archive:
        extra = {"codes": problem.codes, "budget": problem.budget, "own": own_blocks(problem)}
        if problem.setup:
            extra |= {"version": 2, "setup": setups.as_json(problem)}
        archive.writestr(MEMBER, json.dumps(extra), zipfile.ZIP_DEFLATED)


def _read_cqm(path: Path) -> Selection:
    with path.open("rb") as file:
        cqm = dimod.ConstrainedQuadraticModel.from_file(file)
    with zipfile.ZipFile(path) as archive:
        extra = json.loads(archive.read(MEMBER)) if MEMBER in archive.namelist() else None
    if extra is None:
        return from_cqm(cqm)
    if extra.get("version", 1) > 2:
        raise ValueError(f"its {MEMBER} is of version {extra['version']}, known are 1 and 2: read it with a later qubo")
    selection = from_cqm(cqm, codes=int(extra["codes"]), own=extra["own"])
    return replace(selection, budget=float(extra["budget"]), setup=setups.from_json(extra.get("setup", [])))
