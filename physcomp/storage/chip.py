"""The chip: programmed cells with all that is needed to read them back, in memory and as an HDF5 file.

What is stored, in order. For each layer, for each code of the menu that it uses: the scales (16 bits a group, where
the code has scales) and the code's bits, group by group or in one stream, which may begin with what the layer stores
once (a codebook); then the layer's biases, 16 bits each. Then the further tensors, 16 bits a number. Analog levels
follow the same order. The plan says which group has which code.

The HDF5 file (format `physcomp-chip`, version 1):
    /                 attributes `format`, `version`, `physcomp`, `seed`, `card`, `variant`, `card_sha256`, and
                      `bits`, their number
    /plan             the plan, JSON text (`physcomp.storage.plan_format`, any version that is read)
    /card             the card, TOML text
    /bits             uint8, the bits packed eight to a byte, first bit highest
    /cells/levels     float32 (cells,), the levels meant, in [0, 1]
    /cells/programmed float32 (cells,), the levels right after programming
Each data set carries the SHA-256 of its content as the attribute `sha256`.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

import devices
from devices.files import replacing
from physcomp.codes import Code, Encoded, Medium
from physcomp.codes.base import SCALE_BITS, Bits, Rows, bfloat16_to_bits, bits_to_bfloat16
from physcomp.networks.layers import other_tensors
from physcomp.networks.network import Network
from physcomp.storage.layer_plan import LayerPlan, by_code, rows_to_write
from physcomp.storage.plan import Plan, menu_of

FORMAT = "physcomp-chip"
FORMAT_VERSION = 1

Drift = Literal["card", "reads", "left"]
"""How the drift of analog cells is undone when they are read: by the card's mean reads at that time; by one factor a
layer, measured with two reads of its cells; or not at all, as if they were read at the card's first time."""


@dataclass(frozen=True, eq=False)
class Chip:
    """A network on programmed cells.

    Args:
        plan: which group has which code.
        card: the device.
        bits: uint8 zeros and ones, what is stored digitally.
        cells: the programmed analog cells, one row.
        seed: of the programming.
        network: what was stored; None for a chip read from a file, which holds parameters but no architecture.
    """

    plan: Plan
    card: devices.Card
    bits: Bits
    cells: devices.Cells
    seed: int
    network: Network | None = None

    def read_back(
        self, *, time_s: float | None = None, read: int = 0, drift: Drift = "card"
    ) -> dict[str, torch.Tensor]:
        """Read the cells and decode: the network's parameters, by name.

        Args:
            time_s: seconds since programming; None: the time the plan was made for.
            read: number of the read; another number reads the same cells again, with new read noise.
            drift: how it is undone: "card" takes the card's mean drift until that time as known; "reads" measures it,
                with one factor a layer (`devices.drift_compensation`); "left" does nothing.

        Raises:
            ValueError: the time is outside the card's range, there is no such way to undo drift, or the cells of a
                layer read 0 or less on average, so that no factor undoes it.
        """
        if drift not in get_args(Drift):
            raise ValueError(f"read-back: drift is one of {', '.join(get_args(Drift))}, got '{drift}'; name one")
        time_s = self.plan.read_time_s if time_s is None else time_s
        medium = Medium(self.card, self.plan.read_time_s, time_s if drift == "card" else self.card.first_s)
        levels = self.cells.read(time_s=time_s, read=read)
        if drift == "reads" and levels.size:
            layers = self._layer_of_cells()
            factors = devices.drift_compensation(self.cells, time_s=time_s, read=read, groups=layers)
            levels = levels * factors.astype(np.float32)[layers]
        state: dict[str, torch.Tensor] = {}
        bits = 0
        for layer, segments, bias_start in _layout(self.plan, self.bits):
            rows = np.empty((layer.groups, layer.weights), np.float32)
            for segment in segments:
                encoded = Encoded(segment.bits_of(self.bits), segment.levels_of(levels))
                scales = segment.scales_of(self.bits)
                rows[segment.groups] = segment.code.decode(encoded, scales, rows.shape[1], medium)
            state[f"{layer.name}.weight"] = torch.from_numpy(rows.reshape(layer.shape))
            bits = bias_start + SCALE_BITS * len(layer.biases)
            if len(layer.biases):
                biases = bits_to_bfloat16(self.bits[bias_start:bits].reshape(-1, SCALE_BITS))
                state[f"{layer.name}.bias"] = torch.from_numpy(biases)
        for name, shape in self.plan.others:
            count = int(np.prod(shape))
            values = bits_to_bfloat16(self.bits[bits : bits + count * SCALE_BITS].reshape(-1, SCALE_BITS))
            state[name] = torch.from_numpy(values.reshape(shape))
            bits += count * SCALE_BITS
        return state

    def _layer_of_cells(self) -> NDArray[np.int64]:
        """For every analog cell the number of its layer, among the layers that have such cells."""
        ends = [segments[-1].end[1] for _, segments, _ in _layout(self.plan, self.bits)]
        counts = np.diff(ends, prepend=0)
        counts = counts[counts > 0]
        return np.repeat(np.arange(len(counts)), counts)

    def save(self, path: Path | str) -> None:
        """Write the HDF5 file, under a temporary name first."""
        with replacing(path) as temporary, h5py.File(temporary, "w") as file:
            file.attrs.update(
                {
                    "format": FORMAT,
                    "version": FORMAT_VERSION,
                    "physcomp": version("physcomp"),
                    "seed": self.seed,
                    "card": self.card.name,
                    "variant": self.card.variant,
                    "card_sha256": self.card.sha256,
                    "bits": len(self.bits),
                }
            )
            file["plan"] = self.plan.to_json()
            file["card"] = self.card.text
            for name, content in (
                ("bits", np.packbits(self.bits)),
                ("cells/levels", self.cells.levels),
                ("cells/programmed", self.cells.programmed),
            ):
                packing: dict[str, Any] = {"compression": "gzip", "shuffle": True} if content.size else {}
                file.create_dataset(name, data=content, **packing)
            for name in ("plan", "card", "bits", "cells/levels", "cells/programmed"):
                file[name].attrs["sha256"] = _checksum(file[name])


def store(network: Network, plan: Plan, *, card: devices.Card | str | None = None, seed: int = 0) -> Chip:
    """Encode a network by its plan and programme the cells.

    Args:
        network: the one the plan was made for.
        plan: which group gets which code.
        card: the device the plan was made for, or its name; None: found by the plan's name of it.
        seed: of the programming noise; another seed is another chip.

    Raises:
        ValueError: the plan was made for another network or card.
    """
    card = devices.load_card(card or plan.card) if card is None or isinstance(card, str) else card
    plan.check(network, card)
    medium, menu = Medium(card, plan.read_time_s), menu_of(plan)
    layers = plan.layers_in(network)
    bits: list[Bits] = []
    levels: list[Rows] = []
    for layer, planned in zip(layers, plan.layers, strict=True):
        rows = rows_to_write(planned, menu, layer.rows)
        for part in by_code(planned, menu):
            scales = planned.scales[part.groups]
            encoded = part.code.encode(rows[part.groups], scales, medium)
            if part.code.scale_bits:
                bits.append(bfloat16_to_bits(scales).reshape(-1))
            bits.append(encoded.bits.reshape(-1))
            levels.append(encoded.levels.reshape(-1))
        bits.append(bfloat16_to_bits(planned.biases).reshape(-1))
    for tensor in other_tensors(network.module, layers).values():
        bits.append(bfloat16_to_bits(tensor.float().cpu().numpy()).reshape(-1))
    cells = devices.program(card, np.concatenate(levels), seed=seed)
    return Chip(plan, card, np.concatenate(bits), cells, seed, network)


def load_chip(path: Path | str) -> Chip:
    """Read a chip file.

    Raises:
        ValueError: no such file, not HDF5, not a chip, of another version, incomplete, or changed since it was written.
    """
    try:
        with h5py.File(path, "r") as file:
            return _load(file, str(path))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such chip; make one with 'physcomp store'") from None
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path}: not a readable HDF5 file ({reason}); store the plan again") from None
    except KeyError as error:
        raise ValueError(f"{path}: the chip file is incomplete ({error}); store the plan again") from None


def _load(file: h5py.File, source: str) -> Chip:
    if file.attrs.get("format") != FORMAT:
        raise ValueError(f"{source}: an HDF5 file, but not a chip of physcomp; name one that 'physcomp store' wrote")
    if file.attrs["version"] != FORMAT_VERSION:
        raise ValueError(f"{source}: chip version {file.attrs['version']}, this physcomp reads {FORMAT_VERSION}")
    for name in ("plan", "card", "bits", "cells/levels", "cells/programmed"):
        if _checksum(file[name]) != file[name].attrs["sha256"]:
            raise ValueError(f"{source}: /{name} does not match its checksum; store the plan again")
    plan = Plan.from_json(file["plan"].asstr()[()], f"{source}: /plan")
    card = devices.Card.from_text(file["card"].asstr()[()], file.attrs["variant"])
    if card.sha256 != plan.card_sha256:
        raise ValueError(f"{source}: its card is not the one of its plan; store the plan again")
    seed = int(file.attrs["seed"])
    bits = np.unpackbits(file["bits"][()])[: int(file.attrs["bits"])]
    cells = devices.Cells(card, file["cells/levels"][()], file["cells/programmed"][()], seed)
    return Chip(plan, card, bits, cells, seed)


def _checksum(data: h5py.Dataset) -> str:
    content = data[()]
    return hashlib.sha256(content if isinstance(content, bytes) else content.tobytes()).hexdigest()


@dataclass(frozen=True, eq=False)
class _Segment:
    """Where the groups of one layer with one code lie among bits and cells."""

    code: Code
    groups: NDArray[np.int64]
    bits: int
    cells: int
    stored: int
    cells_each: int

    @property
    def _code_start(self) -> int:
        return self.bits + self.code.scale_bits * len(self.groups)

    @property
    def end(self) -> tuple[int, int]:
        return self._code_start + self.stored, self.cells + len(self.groups) * self.cells_each

    def scales_of(self, bits: Bits) -> Rows:
        if not self.code.scale_bits:
            return np.zeros(len(self.groups), np.float32)
        return bits_to_bfloat16(bits[self.bits : self._code_start].reshape(-1, SCALE_BITS))

    def bits_of(self, bits: Bits) -> Bits:
        return bits[self._code_start : self.end[0]].reshape(1 if self.code.streams else len(self.groups), -1)

    def levels_of(self, levels: Rows) -> Rows:
        return levels[self.cells : self.end[1]].reshape(len(self.groups), self.cells_each)


def _layout(plan: Plan, stored: Bits) -> Iterator[tuple[LayerPlan, list[_Segment], int]]:
    """For each layer its segments and where its biases begin among the bits that are stored."""
    bits, cells, menu = 0, 0, menu_of(plan)
    for layer in plan.layers:
        weights = layer.weights
        segments = []
        for part in by_code(layer, menu):
            code, groups = part.code, part.groups
            own = code.stored_bits(stored[bits + code.scale_bits * len(groups) :], len(groups), weights)
            segment = _Segment(code, groups, bits, cells, own, code.analog_cells(weights))
            bits, cells = segment.end
            segments.append(segment)
        yield layer, segments, bits
        bits += SCALE_BITS * len(layer.biases)
