"""The chip: the bits and programmed cells of a network, with all that is needed to read it back; also an HDF5 file.

Bits are stored in this order. For each layer, and each code of the menu that it uses: the scales (16 bits per group, if
the code has scales), then the bits of the code, either group by group or as one stream, which may begin with what the
layer stores once (a codebook). After the codes of a layer come its biases, 16 bits each. After all layers come the
other tensors (`physcomp.storage.other_tensors`). Analog levels have the same order. The plan says which group has which
code.

The HDF5 file (format `physcomp-chip`, version 1):
    /                 attributes `format`, `version`, `physcomp`, `seed`, `card`, `variant`, `card_sha256`, and
                      `bits`, their number
    /plan             the plan, JSON text (`physcomp.storage.plan_format`, any version that is read)
    /card             the card, TOML text
    /bits             uint8, the bits packed eight to a byte, the first one highest
    /cells/levels     float32 (cells,), the levels asked for, in [0, 1]
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
from physcomp.networks.layers import tensor_of
from physcomp.networks.network import Network
from physcomp.storage import drawing
from physcomp.storage.layer_plan import LayerPlan, by_code, rows_to_write
from physcomp.storage.other_tensors import decoded, encoded, tensors_of
from physcomp.storage.plan import Plan, menu_of

FORMAT = "physcomp-chip"
FORMAT_VERSION = 1

Drift = Literal["card", "reads", "left"]
"""How drift of analog cells is corrected on reading: by the card's mean levels at that time (`card`); by one measured
factor per layer, from two reads of its cells (`reads`); or not at all (`left`)."""


@dataclass(frozen=True, eq=False)
class Chip:
    """A network stored on programmed cells.

    Args:
        plan: the plan by which it is stored.
        card: the device.
        bits: uint8 zeros and ones, everything stored digitally.
        cells: the programmed analog cells, one row.
        seed: seed of the programming noise.
        network: the network stored; None for a chip from a file, which holds parameters but no architecture.
    """

    plan: Plan
    card: devices.Card
    bits: Bits
    cells: devices.Cells
    seed: int
    network: Network | None = None

    def __repr__(self) -> str:
        return (
            f"<Chip {self.seed} of {self.plan.network} on {self.plan.card}: {self.cells.levels.size:,} analog cells, "
            f"{len(self.bits):,} bits, {self.plan.cells_per_weight:.4f} cells/weight>"
        )

    def _repr_html_(self) -> str:
        """Drawing for notebooks: card, cells and bits, and the distribution of levels."""
        drawn = drawing.lines(["no analog cells: every chip of this plan reads back alike"])
        if self.cells.levels.size:
            shown = {"levels asked for": self.cells.levels, "levels right after programming": self.cells.programmed}
            drawn = drawing.histogram(shown, "share of the range")
        return drawing.page(
            repr(self)[1:-1],
            drawing.lines(
                [
                    f"{self.card.name}: {self.card.title}; seed of the programming noise {self.seed}",
                    f"{len(self.bits):,} digital bits in {len(self.bits) / self.plan.bits_per_cell:,.0f} cells of "
                    f"{self.plan.bits_per_cell:.3f} bits",
                ]
            ),
            drawn,
        )

    def read_back(
        self, *, time_s: float | None = None, read: int = 0, drift: Drift = "card"
    ) -> dict[str, torch.Tensor]:
        """Read the cells and decode the parameters of the network, by name.

        Args:
            time_s: seconds since programming; None: the time the plan was made for.
            read: number of the read; another number is another read of the same cells, with new read noise.
            drift: how drift is corrected: "card" by the card's mean drift up to that time; "reads" by one measured
                factor per layer (`devices.drift_compensation`); "left" not at all.

        Raises:
            ValueError: the time is outside the range of the card, `drift` is unknown, or the cells of a layer read 0 or
                less on average, so that no factor corrects them.
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
                read_bits = Encoded(segment.bits_of(self.bits), segment.levels_of(levels))
                scales = segment.scales_of(self.bits)
                rows[segment.groups] = segment.code.decode(read_bits, scales, rows.shape[1], medium)
            state[layer.weight] = tensor_of(torch.from_numpy(rows), layer.shape, layer.transposed)
            bits = bias_start + SCALE_BITS * len(layer.biases)
            if len(layer.biases):
                biases = bits_to_bfloat16(self.bits[bias_start:bits].reshape(-1, SCALE_BITS))
                state[layer.bias] = torch.from_numpy(biases)
        for other in self.plan.others:
            state[other.name] = decoded(other, self.bits[bits : bits + other.stored_bits])
            bits += other.stored_bits
        return state

    def _layer_of_cells(self) -> NDArray[np.int64]:
        """For every analog cell, the number of its layer among the layers with analog cells."""
        ends = [segments[-1].end[1] for _, segments, _ in _layout(self.plan, self.bits)]
        counts = np.diff(ends, prepend=0)
        counts = counts[counts > 0]
        return np.repeat(np.arange(len(counts)), counts)

    def save(self, path: Path | str) -> None:
        """Write the chip as an HDF5 file; a crash leaves no half-written file."""
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
    """Store a network: encode it by its plan and programme the cells of a chip.

    Args:
        network: the network that the plan was made for.
        plan: the code of every group.
        card: the card that the plan was made for, or its name; None: the built-in card that the plan names.
        seed: seed of the programming noise; another seed is another chip.

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
            written = part.code.encode(rows[part.groups], scales, medium)
            if part.code.scale_bits:
                bits.append(bfloat16_to_bits(scales).reshape(-1))
            bits.append(written.bits.reshape(-1))
            levels.append(written.levels.reshape(-1))
        bits.append(bfloat16_to_bits(planned.biases).reshape(-1))
    bits += [encoded(other, tensor) for other, tensor in tensors_of(plan.others, network, layers).items()]
    cells = devices.program(card, np.concatenate(levels), seed=seed)
    return Chip(plan, card, np.concatenate(bits), cells, seed, network)


def load_chip(path: Path | str) -> Chip:
    """Read a chip file.

    Raises:
        ValueError: the file is missing, is not HDF5 or not a chip, has another version, is incomplete, or was changed.
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
    """Where the groups of one layer with one code are among the bits and cells of a chip."""

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
    """For each layer: its segments, and the place of its first bias among the bits stored."""
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
