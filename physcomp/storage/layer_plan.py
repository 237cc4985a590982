"""How one layer is stored: its codes and scales, the rows that are written, and the cells they take."""

import base64
import zlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from physcomp.codes import Code
from physcomp.codes.base import Rows


@dataclass(frozen=True)
class LayerPlan:
    """How one layer is stored.

    Args:
        name: the layer's name in the network.
        shape: the shape of its weight tensor.
        codes: for each group the index of its code in the menu.
        scales: for each group its scale, a bfloat16 number, 0 where the code has none.
        written: the rows that differ from the trained ones, those of digital and sparse codes (rounding and pruning
            make up for their own errors): float32, in the order of the groups, zlib, base64.
        biases: for each output its bias as stored, a bfloat16 number; empty where the layer has none. Includes the
            shift that makes up for the mean error of the code.
        cells: the cells of each weight of groups whose code lets them differ, in the order of the groups: uint8,
            zlib, base64; empty without such groups.
    """

    name: str
    shape: tuple[int, ...]
    codes: tuple[int, ...]
    scales: tuple[float, ...]
    written: str
    biases: tuple[float, ...]
    cells: str = ""


def pack_rows(rows: Rows) -> str:
    """Rows as a plan holds them: zlib, base64."""
    return base64.b64encode(zlib.compress(rows.tobytes(), 9)).decode()


def cells_to_write(plan: LayerPlan, menu: tuple[Code, ...], weights: int) -> dict[int, NDArray[np.uint8]]:
    """The cells of each weight of a layer's groups, (weights,), by group; only of codes that let them differ."""
    groups = [group for group, code in enumerate(plan.codes) if menu[code].allocates]
    if not groups:
        return {}
    packed = np.frombuffer(zlib.decompress(base64.b64decode(plan.cells)), np.uint8)
    return dict(zip(groups, packed.reshape(len(groups), weights), strict=True))


def rows_to_write(plan: LayerPlan, menu: tuple[Code, ...], trained: Rows) -> Rows:
    """The rows of a layer as they are to be written: the plan's where codes have a target."""
    rounded = [group for group, code in enumerate(plan.codes) if menu[code].keeps_rows]
    rows = trained.copy()
    packed = np.frombuffer(zlib.decompress(base64.b64decode(plan.written)), np.float32)
    rows[rounded] = packed.reshape(len(rounded), trained.shape[1])
    return rows


def cells_of(layers: tuple[LayerPlan, ...], menu: tuple[Code, ...], bits_per_cell: float) -> dict[str, float]:
    """Cells that groups take, by what they hold: part of a plan's ledger. Bits are divided by the bits a cell holds."""
    bits = {"digits": 0, "signs": 0, "masks": 0, "scales": 0}
    analog = 0
    for layer in layers:
        weights = int(np.prod(layer.shape)) // len(layer.codes)
        # Where a code keeps no rows of its own in the plan, what it takes does not depend on them.
        rows = rows_to_write(layer, menu, np.zeros((len(layer.codes), weights), np.float32))
        scales, codes = np.array(layer.scales, np.float32), np.array(layer.codes)
        for index in set(layer.codes):
            code, groups = menu[index], np.flatnonzero(codes == index)
            signs, masks = len(groups) * code.sign_bits(weights), len(groups) * code.mask_bits(weights)
            bits["digits"] += code.written_bits(rows[groups], scales[groups]) - signs - masks
            bits["signs"] += signs
            bits["masks"] += masks
            bits["scales"] += len(groups) * code.scale_bits
            analog += len(groups) * code.analog_cells(weights)
    return {"analog": float(analog), **{name: count / bits_per_cell for name, count in bits.items()}}


def bias_tensor(layer: LayerPlan) -> torch.Tensor:
    """The biases of a layer as float32."""
    return torch.tensor(layer.biases, dtype=torch.float32)
