"""Looks at a network before any work: what becomes of each of its tensors, and what seems wrong with it."""

import time
from dataclasses import dataclass

import numpy as np
from torch import nn

import devices
import qubo
from physcomp.choice.costs import Costs, costs_of
from physcomp.choice.doubts import doubts, reached_by, watched_look
from physcomp.choice.setting import Setting
from physcomp.choice.tensor_table import HEAD, TEXTS, Fate, TensorRow, as_lines, tensor_table, texts_of
from physcomp.codes import Code, Medium
from physcomp.codes.base import Ecc
from physcomp.codes.menu import DEFAULT, read_menu
from physcomp.curvature.gradients import MEMORY_BYTES
from physcomp.networks.evaluation import Score
from physcomp.networks.layers import Granularity, Layer
from physcomp.networks.network import SOME, Network, wrap
from physcomp.networks.samples import Samples
from physcomp.networks.survey import survey
from physcomp.storage import drawing

CARD = "pcm-zarcone:one-device"  # our choice, where none is named


@dataclass(frozen=True)
class Inspection:
    """What becomes of a network that is stored on cells, as known before any work.

    Args:
        network: its name.
        parameters: its parameters, each counted once.
        rows: what becomes of each tensor of its state.
        task: what its outputs mean.
        metric: the name of the task's metric.
        samples: number of samples that it was tried on.
        outputs: shape of the outputs of one sample.
        clean: loss and metric of the network as trained, on these samples.
        card: the name of the card.
        bits_per_cell: digital bits that one of its cells holds.
        codes: number of codes in the menu.
        smallest: the smallest feasible budget in cells per parameter; None if the cells of every code of the menu
            depend on the values of the weights.
        warnings: what seems wrong, one line each.
        costs: what building the loss model on these samples will cost; None if that was not asked for.
    """

    network: str
    parameters: int
    rows: tuple[TensorRow, ...]
    task: str
    metric: str
    samples: int
    outputs: tuple[int, ...]
    clean: Score
    card: str
    bits_per_cell: float
    codes: int
    smallest: float | None
    warnings: tuple[str, ...]
    costs: Costs | None = None

    @property
    def on_cells(self) -> int:
        """Parameters that cells may hold."""
        return self._parameters("cells")

    @property
    def groups(self) -> int:
        """Groups of weights; each gets one code."""
        return sum(row.groups for row in self.rows)

    @property
    def multiplications(self) -> float:
        """Multiplications of one sample in a forward pass, by operators whose weights cells may hold."""
        return sum(row.multiplications or 0.0 for row in self.rows)

    @property
    def bits(self) -> int:
        """Bits that are stored whatever is chosen: tensors that stay digital, and the code of each group."""
        return sum(row.bits for row in self.rows) + self.groups * (self.codes - 1).bit_length()

    @property
    def fixed(self) -> float:
        """Cells per parameter that `bits` take."""
        return self.bits / self.bits_per_cell / self.parameters

    def __repr__(self) -> str:
        return (
            f"<Inspection of {self.network}: {self.parameters:,} parameters, {self.on_cells / self.parameters:.1%} on "
            f"cells, {len(self.warnings)} warnings>"
        )

    def __str__(self) -> str:
        lines = as_lines(self.rows, self.parameters)
        return "\n".join([*lines, "", *self.summary(), *(f"warning: {each}" for each in self.warnings)])

    def _repr_html_(self) -> str:
        """Drawing for notebooks: how many parameters cells may hold, the table, the summary and the warnings."""
        fates: tuple[Fate, ...] = ("cells", "digital", "left out")
        shares: dict[str, float] = {fate: self._parameters(fate) / self.parameters for fate in fates}
        return drawing.page(
            f"{self.network} before it is stored",
            drawing.stacked([(f"{self.parameters:,} parameters", shares)], drawing.colours_of(fates)),
            drawing.table(HEAD, texts_of(self.rows, self.parameters), TEXTS),
            drawing.lines([*self.summary(), *(f"warning: {each}" for each in self.warnings)]),
        )

    def _parameters(self, fate: Fate) -> int:
        return sum(row.parameters for row in self.rows if row.fate == fate)

    def summary(self) -> list[str]:
        """What the table comes to, line by line."""
        smallest = "depends on the values" if self.smallest is None else f"{self.smallest:.4f} cells/weight"
        return [
            f"{self.network}: {self.parameters:,} parameters; cells may hold {self.on_cells:,} "
            f"({self.on_cells / self.parameters:.2%}) in {self.groups:,} groups, "
            f"{self._parameters('digital'):,} stay digital, {self._parameters('left out'):,} are left out",
            f"{self.bits:,} bits whatever is chosen: {self.fixed:.4f} cells/weight on {self.card} "
            f"({self.bits_per_cell:.3f} bits a cell); smallest budget: {smallest}",
            f"{self.multiplications:,.0f} multiplications a sample in layers that cells may hold",
            f"outputs of a sample: {' x '.join(map(str, self.outputs)) or 'one number'}; task: {self.task}",
            f"as trained, on these {self.samples:,} samples: loss {self.clean.loss:.4f}, "
            f"{self.metric} {self.clean.accuracy:.4f}",
            *([] if self.costs is None else [f"with these samples {self.costs}"]),
        ]


def inspect(
    network: Network | nn.Module,
    samples: Samples,
    *,
    card: devices.Card | str = CARD,
    menu: tuple[str, ...] = DEFAULT,
    granularity: Granularity = "filter",
    ecc: Ecc = "bound",
    memory_bytes: int = MEMORY_BYTES,
    costs: bool = True,
) -> Inspection:
    """Say what becomes of each tensor of a network if it is stored on cells, before any work.

    Args:
        network: from `physcomp.wrap` or `physcomp.load_network`; a module is wrapped as a classifier.
        samples: calibration samples, those that the loss model shall be estimated on.
        card: the card, or its name.
        menu: names of the codes offered.
        granularity: which weights form a group.
        ecc: how digital bits are converted to cells, see `physcomp.build_model`.
        memory_bytes: memory that the loss model may take, see `physcomp.build_model`.
        costs: whether to estimate what the loss model will cost, which takes seconds.

    Raises:
        ValueError: the network does not take the samples, or nothing of it can be stored on cells.
    """
    network = network if isinstance(network, Network) else wrap(network, samples=samples)
    medium = Medium(devices.load_card(card) if isinstance(card, str) else card, 0.0, ecc=ecc)
    codes = read_menu(menu)
    start = time.process_time()
    found = survey(network, samples, granularity)
    surveyed = time.process_time() - start
    network = found.network
    rows = tensor_table(network, found)
    look, unused = watched_look(network, found, samples)
    reached = reached_by(network, found, samples, memory_bytes)
    fixed = sum(row.bits for row in rows) + sum(row.groups for row in rows) * (len(codes) - 1).bit_length()
    setting = Setting(network, samples, found.layers, codes, medium, memory_bytes)
    least = _least(found.layers, codes, medium)
    return Inspection(
        network=network.name,
        parameters=network.parameters,
        rows=rows,
        task=network.task.name,
        metric=network.task.metric,
        samples=len(samples),
        outputs=tuple(network.outputs(samples[:SOME].inputs).shape[1:]),
        clean=look.score,
        card=medium.card.name,
        bits_per_cell=medium.bits_per_cell,
        codes=len(codes),
        smallest=None if least is None else (least + fixed / medium.bits_per_cell) / network.parameters,
        warnings=(*look.remarks, *doubts(found, len(samples), reached, unused)),
        costs=costs_of(setting, surveyed) if costs else None,
    )


def _least(layers: tuple[Layer, ...], codes: tuple[Code, ...], medium: Medium) -> float | None:
    """The fewest cells of all groups, of codes whose cells do not depend on the values; None without such codes."""
    stated = [code for code in codes if not code.streams]
    if not stated:
        return None
    cost = np.concatenate(
        [np.tile([code.cost(layer.weights, medium) for code in stated], (layer.groups, 1)) for layer in layers]
    )
    starts = np.cumsum([0, *(layer.groups for layer in layers)])
    setup = np.array([code.setup_bits for code in stated]) / medium.bits_per_cell
    setups = tuple(
        qubo.Setup(start + np.arange(layer.groups), setup) for start, layer in zip(starts, layers, strict=False)
    )
    selection = qubo.Selection(loss=0 * cost, cost=cost, budget=np.inf, setup=setups if setup.any() else ())
    return selection.smallest_cost
