"""Binary models as COO text; comment lines hold what a selection needs to be read back from its λ form.

The dialect is dimod's (`dimod.serialization.coo`): "# vartype=BINARY", then one "i j coefficient" a line. dimod's own
writer cuts coefficients to six decimals, and its reader ignores exponents without an error: so coefficients are written
as the shortest decimals that read back exactly, without exponents, and dimod reads them. COO has no offset: a comment.

The comment line about a selection is JSON, an object with the attributes of `Extra`. Without setups it is of version 1,
which has neither "version" nor "setup"; with setups "version" is 2.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

import dimod
import numpy as np

from qubo.formats import setups
from qubo.formats.constrained import MENU, blocks_of, own_blocks
from qubo.selection import Selection

HEADER = "# selection="
"""The comment line that describes a selection, JSON."""
OFFSET = "# offset="
VARTYPE = re.compile(r"vartype[:=]\s*(\w+)")


@dataclass(frozen=True)
class Extra:
    """What a selection's λ form does not hold; the JSON of the comment line.

    Attributes:
        groups: number of groups G.
        codes: width of the menu K; variables are g·K + k.
        budget: cells.
        multiplier: λ of the form, loss per cell.
        loss: (offered,) each offered code's own loss, in the order of the variables' numbers: exact, where coefficients
            have λ·cost and penalties added.
        cost: (offered,) cells, in the same order.
        own: the groups' own Gram blocks, see `qubo.formats.constrained.own_blocks`.
        setup: see `qubo.formats.setups.as_json`.
        version: of this description.
    """

    groups: int
    codes: int
    budget: float
    multiplier: float
    loss: list[float]
    cost: list[float]
    own: list[list[float]]
    setup: list[dict[str, list[Any]]] = field(default_factory=list)
    version: int = 1

    def __post_init__(self) -> None:
        if self.version > 2:
            raise ValueError(f"its comment about a selection is of version {self.version}: read it with a later qubo")

    @classmethod
    def of(cls, selection: Selection, multiplier: float) -> Extra:
        """What to write beside a selection's λ form."""
        return cls(
            groups=selection.groups,
            codes=selection.codes,
            budget=selection.budget,
            multiplier=multiplier,
            loss=selection.loss[selection.offered].tolist(),
            cost=selection.cost[selection.offered].tolist(),
            own=own_blocks(selection),
            setup=setups.as_json(selection),
            version=2 if selection.setup else 1,
        )

    def described(self) -> str:
        """The comment line."""
        held = vars(self)
        if self.version == 1:
            held = {name: value for name, value in held.items() if name not in ("setup", "version")}
        return HEADER + json.dumps(held)

    def selection(self, bqm: dimod.BinaryQuadraticModel) -> Selection:
        """The selection again: losses, costs and budget from here, couplings from its λ form."""
        labels = np.array(list(bqm.variables), dtype=np.int64)
        shape, inside = (self.groups, self.codes), labels < self.groups * self.codes
        number = np.sort(labels[inside])
        fits = number.size == len(self.loss) == len(self.cost) and (self.setup or inside.all())
        if not (fits and 1 <= self.groups <= number.size and 1 <= self.codes <= MENU):
            raise ValueError("its variables do not fit its comment about a selection: write it again")
        loss, cost = np.full(shape, np.inf), np.zeros(shape)
        loss.flat[number], cost.flat[number] = self.loss, self.cost
        pairs = bqm.to_numpy_vectors(variable_order=list(bqm.variables)).quadratic
        own = inside[pairs.row_indices] & inside[pairs.col_indices]
        i, j = labels[pairs.row_indices[own]], labels[pairs.col_indices[own]]
        blocks = blocks_of(self.groups, self.codes, i, j, pairs.biases[own].astype(np.float64), self.own)
        setup = setups.from_json(self.setup)
        return Selection(loss=loss, cost=cost, budget=self.budget, blocks=blocks, setup=setup)


def _decimal(value: float) -> str:
    """The shortest decimal that reads back as `value`, without an exponent."""
    text = repr(float(value))
    return np.format_float_positional(value, trim="-") if "e" in text else text


def to_text(bqm: dimod.BinaryQuadraticModel, extra: Extra | None) -> str:
    """The text of a binary model, with a comment about the selection it stands for.

    Raises:
        ValueError: a variable is not a number from 0.
    """
    wrong = [v for v in bqm.variables if isinstance(v, bool) or not isinstance(v, int) or v < 0]
    if wrong:
        raise ValueError(f"COO takes variables numbered from 0, got {wrong[0]!r}: relabel the model")
    labels = np.array(list(bqm.variables), dtype=np.int64)
    vectors = bqm.to_numpy_vectors(variable_order=list(bqm.variables))  # by default dimod sorts them
    ends = labels[np.array([vectors.quadratic.row_indices, vectors.quadratic.col_indices], dtype=np.int64)]
    # Every variable has a line of its own, if only 0: without couplings it would else be lost.
    i, j = np.concatenate([[labels, labels], np.sort(ends, axis=0)], axis=1)
    value = np.concatenate([vectors.linear_biases, vectors.quadratic.biases])
    order = np.lexsort((j, i))
    lines = [f"# vartype={bqm.vartype.name}", f"{OFFSET}{_decimal(float(bqm.offset))}"]
    if extra is not None:
        lines.append(extra.described())
    rows = zip(i[order].tolist(), j[order].tolist(), value[order].tolist(), strict=True)
    lines += [f"{u} {v} {_decimal(c)}" for u, v, c in rows]
    return "\n".join(lines) + "\n"


def selection_of(text: str) -> Selection:
    """The selection that a text's comments and λ form describe.

    Raises:
        ValueError: no comments about a selection, or a text that does not fit them.
    """
    described = [line for line in text.splitlines() if line.startswith(HEADER)]
    if len(described) != 1:
        raise ValueError("its comments describe no selection: read it as a binary model")
    return Extra(**json.loads(described[0][len(HEADER) :])).selection(from_text(text))


def from_text(text: str) -> dimod.BinaryQuadraticModel:
    """Read the binary model of a COO text by any writer, also with exponents, which the reader of dimod ignores.

    Raises:
        ValueError: a line that is none of the dialect's, no vartype, a coefficient that is not finite.
    """
    header, offset = "", 0.0
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("#"):
            named = VARTYPE.search(line)
            header = named[1] if named else header
            offset = float(line[len(OFFSET) :]) if line.startswith(OFFSET) else offset
        elif line.strip():
            parts = line.split()
            try:
                rows.append((int(parts[0]), int(parts[1]), float(parts[2])))
            except (ValueError, IndexError):
                raise ValueError(f"line {number} is not 'i j coefficient', got {line[:40]!r}: correct it") from None
    if header not in ("BINARY", "SPIN"):
        raise ValueError("no line '# vartype=BINARY' or SPIN: say which")
    if any(not 0 <= label < 2**53 for row in rows for label in row[:2]):
        raise ValueError("a variable has a number below 0 or beyond 2^53: COO numbers variables from 0")
    table = np.array(rows, dtype=np.float64).reshape(-1, 3)
    if not (np.isfinite(table).all() and np.isfinite(offset)):
        raise ValueError("a coefficient is NaN or infinite: correct it")
    labels, position = np.unique(table[:, :2].astype(np.int64), return_inverse=True)
    position = position.reshape(-1, 2)
    own = position[:, 0] == position[:, 1]
    linear = np.zeros(labels.size)
    np.add.at(linear, position[own, 0], table[own, 2])
    pairs = (position[~own, 0], position[~own, 1], table[~own, 2])
    return dimod.BinaryQuadraticModel.from_numpy_vectors(
        linear, pairs, offset, dimod.Vartype[header], variable_order=labels.tolist()
    )
