"""The loss model of a network on a card: what every code would cost each group, in cells and in expected loss."""

import copy
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import devices
import qubo
from physcomp.choice.fits import costs_of, fits_of, losses_of
from physcomp.codes import Code, Medium
from physcomp.codes.base import SCALE_BITS, Over, Rows, Storage
from physcomp.codes.menu import DEFAULT, part_of, read_menu
from physcomp.compensation.rows import RowsToWrite, rows_for_codes
from physcomp.curvature.blocks import curvatures
from physcomp.curvature.couplings import Coupling, couplings
from physcomp.curvature.gradients import MEMORY_BYTES, called_layers
from physcomp.networks.images import Images
from physcomp.networks.layers import Granularity, Layer, other_tensors
from physcomp.networks.network import Network
from physcomp.threads import Progress


@dataclass(frozen=True, eq=False)
class LossModel:
    """Expected loss increase and cost of every code for every group.

    Args:
        network: what is to be stored.
        medium: the cells and the time for which the plan is made.
        granularity: what one decision is for.
        layers: those that `physcomp.curvature.gradients.called_layers` finds; groups are numbered in this order.
        menu: the codes, those offered for choice first.
        offered: how many of them are offered; the others are there for comparison.
        scales: for each layer float32 (groups, codes), the scale each group would have with each code.
        to_write: for each layer the rows that each code is to write, by the code's name.
        allocations: for each layer uint8 (groups, weights), the cells of each weight, by the code's name; of codes
            that let them differ.
        learned: for each layer what its groups share, by the code's name; of codes with a setup of such numbers.
        couplings: for each layer what the codes' mean errors do to the loss.
        loss: float64 (groups, codes): expected loss increase of one code alone, mean error and spread.
        cost: float64 (groups, codes): cells, scales included; what a layer takes once is in `setups`.
        images: the calibration images it was measured on.
        seed: of the random probes.
        memory_bytes: as it was built with, see `build_models`.
    """

    network: Network
    medium: Medium
    granularity: Granularity
    layers: tuple[Layer, ...]
    menu: tuple[Code, ...]
    offered: int
    scales: tuple[Rows, ...]
    to_write: tuple[Mapping[str, RowsToWrite], ...]
    allocations: tuple[Mapping[str, NDArray[np.uint8]], ...]
    learned: tuple[Mapping[str, Rows], ...]
    couplings: tuple[Coupling, ...]
    loss: NDArray[np.float64]
    cost: NDArray[np.float64]
    images: Images
    seed: int
    memory_bytes: int

    @property
    def weights(self) -> int:
        """Number of weights in all groups."""
        return sum(layer.rows.size for layer in self.layers)

    def part(self, part: str) -> list[bool]:
        """Which codes of the menu belong to a part of it, see `physcomp.codes.menu.part_of`."""
        return part_of(self.menu, part, self.offered)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Number of each layer's first group."""
        return tuple(int(n) for n in np.cumsum([0] + [layer.groups for layer in self.layers[:-1]]))

    def rows_for(self, number: int, code: Code) -> Rows:
        """The rows of a layer that a code is to write, see `physcomp.compensation.rows`."""
        return self.to_write[number][code.name].rows

    @cached_property
    def setups(self) -> tuple[qubo.Setup, ...]:
        """For each layer the cells that each code takes once if any of its groups uses it; none without such codes."""
        cells = np.array([code.setup_bits for code in self.menu]) / self.medium.bits_per_cell
        groups = [start + np.arange(layer.groups) for start, layer in zip(self.starts, self.layers, strict=True)]
        return tuple(qubo.Setup(of_layer, cells) for of_layer in groups) if cells.any() else ()

    def overhead(self, codes: int) -> dict[str, float]:
        """Cells taken whatever is chosen, by what they hold; `norms` are all parameters outside of `layers`."""
        per_cell = self.medium.bits_per_cell
        others = sum(tensor.numel() for tensor in other_tensors(self.network.module, self.layers).values())
        biases = sum(0 if layer.bias is None else layer.bias.size for layer in self.layers)
        return {
            "biases": biases * SCALE_BITS / per_cell,
            "norms": others * SCALE_BITS / per_cell,
            "plan": len(self.loss) * (codes - 1).bit_length() / per_cell,
        }

    def selection(self, cells_per_weight: float, *, shrinkage: float = 1.0, part: str = "all") -> qubo.Selection:
        """The problem: one code a group, least expected loss increase, within the budget.

        Args:
            cells_per_weight: budget for everything stored; what is taken in any case is subtracted first.
            shrinkage: factor, 0 to 1, on the couplings between groups of one layer. Estimated from few images they
                are too large, and a solver exploits the error.
            part: the part of the menu offered, see `physcomp.codes.menu.part_of`.

        Raises:
            ValueError: the budget is below the smallest feasible one, which the error names.
        """
        allowed = np.array(self.part(part))
        fixed = sum(self.overhead(int(allowed.sum())).values())
        setups = sum(code.setup_bits for code, offered in zip(self.menu, allowed, strict=True) if offered)
        fixed += setups * len(self.layers) / self.medium.bits_per_cell
        blocks = tuple(
            qubo.Block.from_gram(start + np.arange(run.start, run.stop), gram)
            for start, coupling in zip(self.starts, self.couplings, strict=True)
            for run, gram in zip(coupling.runs, coupling.grams, strict=True)
            if len(gram) > 1
        )
        whole = qubo.Selection(loss=self.loss, cost=self.cost, budget=math.inf, blocks=blocks)
        offered = whole.with_couplings(shrinkage).restrict(allowed)
        smallest = (offered.smallest_cost + fixed) / self.weights
        if not cells_per_weight >= smallest:
            raise ValueError(
                f"budget: {self.network.name} on {self.medium.card.name} with the menu '{part}' takes at least "
                f"{smallest:.4f} cells/weight, got {cells_per_weight:g}; raise it"
            )
        return offered.with_budget(cells_per_weight * self.weights - fixed)

    def around(self, state: Mapping[str, torch.Tensor], share: float) -> "LossModel":
        """The model of the codes offered, with the curvature taken part of the way from the trained network to another.

        With H the Hessian, the loss rise of a perturbation δ is ∫ (1 - s) δᵀ H(w + s δ) δ ds: one value of H in
        between stands for the integral exactly (Taylor's remainder), and s = 1/3 is right to second order in s. Where
        few cells a weight make large errors, the curvature at the trained weights is not even of the right size.

        Args:
            state: the network's tensors, say as read back from a chip of the best plan so far.
            share: how far from the trained network (0) to that one (1).
        """
        module = copy.deepcopy(self.network.module)
        trained = module.state_dict()
        between = {name: torch.lerp(trained[name], tensor, share) for name, tensor in state.items()}
        module.load_state_dict(between, strict=False)
        return _models(
            self.network,
            module,
            self.images,
            [self.medium],
            layers=self.layers,
            codes=self.menu[: self.offered],
            offered=self.offered,
            granularity=self.granularity,
            seed=self.seed,
            memory_bytes=self.memory_bytes,
            progress=None,
        )[0]

    def predict(self, choice: NDArray[np.int64], shrinkage: float) -> float:
        """Expected loss increase, in nats, of a choice of one code a group."""
        total = float(self.loss[np.arange(len(choice)), choice].sum())
        for start, coupling in zip(self.starts, self.couplings, strict=True):
            for run, gram in zip(coupling.runs, coupling.grams, strict=True):
                picked = choice[start + run.start : start + run.stop]
                index = np.arange(len(gram))
                products = gram[index[:, None], picked[:, None], index[None, :], picked[None, :]]
                total += shrinkage * 0.5 * float(products.sum() - np.trace(products))
        return total


def build_models(
    network: Network,
    images: Images,
    media: Iterable[tuple[devices.Card | str, float]],
    *,
    menu: tuple[str, ...] = DEFAULT,
    compared: tuple[str, ...] = (),
    granularity: Granularity = "filter",
    storage: Storage = "bound",
    read_times_s: tuple[float, ...] = (),
    over: Over = "mean",
    seed: int = 0,
    memory_bytes: int = MEMORY_BYTES,
    progress: Progress | None = None,
) -> list[LossModel]:
    """Measure on calibration images what every code of the menu would do to every group, on several cards.

    Args:
        network: as `physcomp.load_network` or `physcomp.wrap` give it.
        images: calibration images; two thousand do for a small network.
        media: for each model the card, or its name, and when the cells will be read, in seconds since programming.
        menu: names of the codes offered.
        compared: names of further codes, for plans that give every group the same one.
        granularity: what one decision is for.
        storage: by what digital bits are counted in cells: `bound`, of any error-correcting code, or `bch`, a code
            that exists.
        read_times_s: times, in seconds since programming, that count for the choice; none: the one the levels are
            written for alone.
        over: what counts of them: `mean`, the loss model averaged over them; or `worst`, each code of each group at
            the time at which it loses most, so that without couplings no time loses more than expected.
        seed: of the random probes.
        memory_bytes: for the couplings, and once more for the passes over images; where it does not hold the couplings
            inside whole layers they are kept between fewer neighbouring groups.
        progress: called with the share done.

    Raises:
        ValueError: a card is outside its range at its time, or the menu or granularity is unknown.
    """
    cells = [
        Medium(
            devices.load_card(card) if isinstance(card, str) else card,
            time,
            storage=storage,
            span_s=tuple(read_times_s),
            over=over,
        )
        for card, time in media
    ]
    return _models(
        network,
        network.module,
        images,
        cells,
        layers=called_layers(network.module, granularity, images),
        codes=read_menu((*menu, *(name for name in compared if name not in menu))),
        offered=len(menu),
        granularity=granularity,
        seed=seed,
        memory_bytes=memory_bytes,
        progress=progress,
    )


def _models(
    network: Network,
    module: nn.Module,
    images: Images,
    cells: list[Medium],
    *,
    layers: tuple[Layer, ...],
    codes: tuple[Code, ...],
    offered: int,
    granularity: Granularity,
    seed: int,
    memory_bytes: int,
    progress: Progress | None,
) -> list[LossModel]:
    """`build_models` with the curvature at the weights of `module`, and errors relative to those of `network`."""
    steps = 2 + len(cells)

    def share(step: int) -> Progress:
        return lambda done: progress((step + done) / steps) if progress else None

    curved = curvatures(module, layers, images, seed=seed, memory_bytes=memory_bytes, progress=share(0))
    importances = [curve.importance for curve in curved]
    to_write = []
    for number, layer in enumerate(layers):
        to_write.append(rows_for_codes(layer.rows, curved.pop(0), codes))  # popped, since its blocks are large
        share(1)((number + 1) / len(layers))
    models = []
    for step, medium in enumerate(cells, start=2):
        fitted = fits_of(layers, importances, to_write, codes, medium)
        means = [fit.mean for fit in fitted]
        measured = couplings(module, layers, images, means, seed=seed, memory_bytes=memory_bytes, progress=share(step))
        models.append(
            LossModel(
                network=network,
                medium=medium,
                granularity=granularity,
                layers=layers,
                menu=codes,
                offered=offered,
                scales=tuple(fit.scales for fit in fitted),
                to_write=tuple(to_write),
                allocations=tuple(fit.allocations for fit in fitted),
                learned=tuple(fit.learned for fit in fitted),
                couplings=tuple(measured),
                loss=np.concatenate([losses_of(m, fit.spread) for m, fit in zip(measured, fitted, strict=True)]),
                cost=np.concatenate(
                    [costs_of(rows, fit.scales, codes, medium) for rows, fit in zip(to_write, fitted, strict=True)]
                ),
                images=images,
                seed=seed,
                memory_bytes=memory_bytes,
            )
        )
    return models


def build_model(
    network: Network,
    images: Images,
    *,
    card: devices.Card | str,
    read_time_s: float = 0.0,
    menu: tuple[str, ...] = DEFAULT,
    compared: tuple[str, ...] = (),
    granularity: Granularity = "filter",
    storage: Storage = "bound",
    read_times_s: tuple[float, ...] = (),
    over: Over = "mean",
    seed: int = 0,
    memory_bytes: int = MEMORY_BYTES,
    progress: Progress | None = None,
) -> LossModel:
    """`build_models` for one card; levels are written for `read_time_s`."""
    return build_models(
        network,
        images,
        [(card, read_time_s)],
        menu=menu,
        compared=compared,
        granularity=granularity,
        storage=storage,
        read_times_s=read_times_s,
        over=over,
        seed=seed,
        memory_bytes=memory_bytes,
        progress=progress,
    )[0]
