"""The plan of one layer: the code and scale of each group, the rows written, and the cells they take."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from physcomp.codes import Code, Medium
from physcomp.codes.base import Rows


@dataclass(frozen=True, eq=False)
class LayerPlan:
    """The plan of one layer: how each of its groups is stored.

    Arrays are read-only. Two plans are equal if all their contents are equal.

    Args:
        name: the name of the layer in the network.
        shape: the shape of its weight tensor.
        codes: int64 (groups,), the index of each group's code in the menu.
        scales: float32 (groups,), the scale of each group: a bfloat16 number, or 0 if the code has none.
        rows: float32 (kept, weights), the rows written for groups whose code rounds or prunes with compensation
            (`physcomp.codes.Code.keeps_rows`), in the order of the groups. Other groups are written as trained.
        biases: float32 (outputs,), the biases as stored: bfloat16 numbers that compensate for the mean errors of the
            codes; (0,) if the layer has none.
        cells: uint8 (allocating, weights), the cells of each weight, for groups whose code lets them differ
            (`physcomp.codes.Code.allocates`), in the order of the groups.
        learned: float32 numbers that the groups of a code share, such as a codebook, by the index of the code.
        weight: the name of the weight tensor in the network; empty: `name` and `.weight`.
        bias: the name of the bias; empty: `name` and `.bias`.
        transposed: `physcomp.networks.layers.Layer.transposed`.

    Raises:
        ValueError: an array has a wrong shape.
    """

    name: str
    shape: tuple[int, ...]
    codes: NDArray[np.int64]
    scales: Rows
    rows: Rows
    biases: Rows
    cells: NDArray[np.uint8]
    learned: Mapping[int, Rows] = field(default_factory=dict)
    weight: str = ""
    bias: str = ""
    transposed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "codes", _frozen(self.codes, np.int64))
        for name in ("scales", "rows", "biases"):
            object.__setattr__(self, name, _frozen(getattr(self, name), np.float32))
        object.__setattr__(self, "cells", _frozen(self.cells, np.uint8))
        object.__setattr__(self, "weight", self.weight or f"{self.name}.weight")
        object.__setattr__(self, "bias", self.bias or f"{self.name}.bias")
        learned = {code: _frozen(self.learned[code], np.float32) for code in sorted(self.learned)}
        object.__setattr__(self, "learned", learned)
        groups, size = len(self.codes), int(np.prod(self.shape))
        for name, fits in (
            ("codes", self.codes.ndim == 1 and groups > 0 and size % groups == 0),
            ("scales", self.scales.shape == self.codes.shape),
            *((name, array.ndim == 2 and array.shape[1] * groups == size) for name, array in self._by_weight()),
            ("biases", self.biases.ndim == 1),
        ):
            if not fits:
                shape = getattr(self, name).shape
                raise ValueError(f"plan: layer '{self.name}' {self.shape} has {name} of shape {shape}; make it again")

    def _by_weight(self) -> tuple[tuple[str, NDArray[Any]], ...]:
        return ("rows", self.rows), ("cells", self.cells)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LayerPlan):
            return NotImplemented
        mine, theirs = self.arrays, other.arrays
        same = (self.name, self.shape, self.place, [*mine]) == (other.name, other.shape, other.place, [*theirs])
        return same and all(np.array_equal(mine[name], theirs[name]) for name in mine)

    @property
    def place(self) -> dict[str, Any]:
        """Names of tensors and the order of axes, where they are not the usual ones."""
        usual = {"weight": f"{self.name}.weight", "bias": f"{self.name}.bias", "transposed": 0}
        return {name: getattr(self, name) for name, value in usual.items() if getattr(self, name) != value}

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """All arrays by name; those of `learned` as `learned 3` for code 3."""
        found = {name: getattr(self, name) for name in ("codes", "scales", "rows", "biases", "cells")}
        return found | {f"learned {code}": numbers for code, numbers in self.learned.items()}

    def share_of_codes(self, menu: Sequence[str]) -> dict[str, float]:
        """Share of the layer's weights that each code stores, by its name in the menu."""
        used, counts = np.unique(self.codes, return_counts=True)
        return {menu[code]: float(count / self.groups) for code, count in zip(used, counts, strict=True)}

    @property
    def groups(self) -> int:
        """Number of groups."""
        return len(self.codes)

    @property
    def weights(self) -> int:
        """Number of weights in one group."""
        return int(np.prod(self.shape)) // len(self.codes)


def _frozen(array: NDArray[Any], dtype: type[np.generic]) -> NDArray[Any]:
    """A read-only view of an array, or a read-only copy if its type differs; the original stays writable."""
    view = np.ascontiguousarray(array, dtype).view()
    view.flags.writeable = False
    return view


@dataclass(frozen=True, eq=False)
class CodedGroups:
    """The groups of one layer that have the same code.

    Args:
        code: the code, with its allocation of cells and learned numbers for these groups.
        groups: int64, the numbers of the groups, ascending.
    """

    code: Code
    groups: NDArray[np.int64]

    def read_back(self, rows: Rows, scales: Rows, medium: Medium) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and variance of the weights read back for these groups.

        Args:
            rows: float32 (all groups, weights), the rows to be written.
            scales: float32 (all groups,).
            medium: the cells.

        Returns:
            Mean and variance, each (these groups, weights).
        """
        written = rows[self.groups]
        mean, variance = self.code.error(written, scales[self.groups], medium)
        return written + mean, variance


def by_code(layer: LayerPlan, menu: tuple[Code, ...]) -> Iterator[CodedGroups]:
    """The groups of a layer, sorted by code, in the order of the menu; codes that are not used are left out."""
    place = np.cumsum(np.array([code.allocates for code in menu])[layer.codes]) - 1
    for index, code in enumerate(menu):
        groups = np.flatnonzero(layer.codes == index)
        if len(groups):
            allocation = layer.cells[place[groups]] if code.allocates else None
            yield CodedGroups(code.given(allocation, layer.learned.get(index)), groups)


def kept_rows(layer: LayerPlan, menu: tuple[Code, ...]) -> NDArray[np.bool_]:
    """Mask of the groups whose rows are in the plan: bool (groups,)."""
    return np.array([code.keeps_rows for code in menu])[layer.codes]


def rows_to_write(layer: LayerPlan, menu: tuple[Code, ...], trained: Rows) -> Rows:
    """The rows of a layer to be written: those in the plan, and trained ones for all other groups."""
    rows = trained.copy()
    rows[kept_rows(layer, menu)] = layer.rows
    return rows


def mean_read_back(layer: LayerPlan, menu: tuple[Code, ...], rows: Rows, medium: Medium) -> Rows:
    """The mean over chips of the rows read back if `rows` are written: float32 (groups, weights)."""
    found = np.empty_like(rows)
    for part in by_code(layer, menu):
        found[part.groups] = part.read_back(rows, layer.scales, medium)[0]
    return found


def cells_of(layers: tuple[LayerPlan, ...], menu: tuple[Code, ...], bits_per_cell: float) -> dict[str, float]:
    """Cells that the groups of layers take, by what they hold; bits are divided by the bits per cell."""
    bits = {"digits": 0, "signs": 0, "masks": 0, "scales": 0, "setup": 0}
    analog = 0
    for layer in layers:
        weights = layer.weights
        # The cells of a code without rows in the plan do not depend on the rows.
        rows = rows_to_write(layer, menu, np.zeros((layer.groups, weights), np.float32))
        for part in by_code(layer, menu):
            code, count = part.code, len(part.groups)
            signs, masks = count * code.sign_bits(weights), count * code.mask_bits(weights)
            given = rows[part.groups], layer.scales[part.groups]
            once = code.written_once(*given)
            bits["digits"] += code.written_bits(*given) - signs - masks - once
            bits["setup"] += once
            bits["signs"] += signs
            bits["masks"] += masks
            bits["scales"] += count * code.scale_bits
            analog += count * code.analog_cells(weights)
    return {"analog": float(analog), **{name: count / bits_per_cell for name, count in bits.items()}}
