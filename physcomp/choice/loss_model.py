"""The loss model: what each code would cost each group of a network, in cells and in expected loss increase."""

import copy
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

import devices
import qubo
from physcomp.choice.fits import costs_of, fits_of, losses_of
from physcomp.codes import Code, Medium
from physcomp.codes.base import SCALE_BITS, Ecc, Over, Rows
from physcomp.codes.menu import DEFAULT, part_of, read_menu
from physcomp.compensation.rows import RowsToWrite, rows_for_codes
from physcomp.curvature.blocks import curvatures
from physcomp.curvature.couplings import Coupling, couplings
from physcomp.curvature.gradients import MEMORY_BYTES
from physcomp.networks.layers import Granularity, Layer
from physcomp.networks.network import Network
from physcomp.networks.samples import Samples
from physcomp.networks.survey import survey
from physcomp.storage.other_tensors import bits_of_others, others_of
from physcomp.threads import ShareDone


@dataclass(frozen=True, eq=False)
class LossModel:
    """The expected loss increase and the cells of every code for every group of a network on a card.

    Args:
        network: the network to be stored.
        medium: the cells, and the times at which they are read.
        granularity: which weights form a group.
        layers: the layers with groups (`physcomp.networks.survey`); groups are numbered in this
            order.
        menu: the codes, those offered for choice first.
        offered: number of codes offered for choice; the others are for comparison.
        scales: for each layer float32 (groups, codes), the scale of each group with each code.
        to_write: for each layer, by name of the code, the rows that the code is to write.
        allocations: for each layer, by name of the code, uint8 (groups, weights): the cells of each weight, for codes
            in which they differ.
        learned: for each layer, by name of the code, the numbers that its groups share, for codes with such numbers.
        couplings: for each layer, how the mean errors of the codes raise the loss.
        loss: float64 (groups, codes), expected loss increase in nats if one group alone is stored, by mean and variance
            of its error.
        cost: float64 (groups, codes), cells, scales included; what a layer stores once is in `setups`.
        images: the calibration images.
        seed: seed of the random probes.
        memory_bytes: see `build_models`.
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
    images: Samples
    seed: int
    memory_bytes: int

    @property
    def weights(self) -> int:
        """Number of weights in all groups."""
        return sum(layer.rows.size for layer in self.layers)

    def part(self, part: str) -> list[bool]:
        """One flag per code of the menu: whether it belongs to a part, see `physcomp.codes.menu.part_of`."""
        return part_of(self.menu, part, self.offered)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """The number of the first group of each layer."""
        return tuple(int(n) for n in np.cumsum([0] + [layer.groups for layer in self.layers[:-1]]))

    def rows_for(self, number: int, code: Code) -> Rows:
        """The rows of layer `number` that a code is to write, see `physcomp.compensation.rows`."""
        return self.to_write[number][code.name].rows

    @cached_property
    def setups(self) -> tuple[qubo.Setup, ...]:
        """For each layer the cells that each code takes once if any group uses it; empty without such codes."""
        cells = np.array([code.setup_bits for code in self.menu]) / self.medium.bits_per_cell
        groups = [start + np.arange(layer.groups) for start, layer in zip(self.starts, self.layers, strict=True)]
        return tuple(qubo.Setup(of_layer, cells) for of_layer in groups) if cells.any() else ()

    def overhead(self, codes: int) -> dict[str, float]:
        """Cells that every choice takes, by what they hold; `others` are all tensors outside `layers`."""
        per_cell = self.medium.bits_per_cell
        biases = sum(0 if layer.bias is None else layer.bias.size for layer in self.layers)
        return {
            "biases": biases * SCALE_BITS / per_cell,
            "others": bits_of_others(others_of(self.network, self.layers)) / per_cell,
            "plan": len(self.loss) * (codes - 1).bit_length() / per_cell,
        }

    def selection(self, cells_per_weight: float, *, shrinkage: float = 1.0, part: str = "all") -> qubo.Selection:
        """The selection problem: one code for each group, with the least expected loss increase within a budget.

        Args:
            cells_per_weight: budget for everything stored, in cells per parameter of the network; `overhead` is
                subtracted from it.
            shrinkage: factor, 0 to 1, on the couplings between groups of one layer. Couplings estimated from few images
                are too large, and a solver would exploit their errors.
            part: the part of the menu that is offered, see `physcomp.codes.menu.part_of`.

        Raises:
            ValueError: the budget is below the smallest feasible one, which the error states.
        """
        allowed = np.array(self.part(part))
        fixed = sum(self.overhead(int(allowed.sum())).values())
        blocks = tuple(
            qubo.Block.from_gram(start + np.arange(run.start, run.stop), gram)
            for start, coupling in zip(self.starts, self.couplings, strict=True)
            for run, gram in zip(coupling.runs, coupling.grams, strict=True)
            if len(gram) > 1
        )
        whole = qubo.Selection(loss=self.loss, cost=self.cost, budget=math.inf, blocks=blocks, setup=self.setups)
        offered = whole.with_couplings(shrinkage).restrict(allowed)
        smallest = (offered.smallest_cost + fixed) / self.network.parameters
        if not cells_per_weight >= smallest:
            raise ValueError(
                f"budget: {self.network.name} on {self.medium.card.name} with the menu '{part}' takes at least "
                f"{smallest:.4f} cells/weight, got {cells_per_weight:g}; raise it"
            )
        return offered.with_budget(cells_per_weight * self.network.parameters - fixed)

    def around(self, state: Mapping[str, torch.Tensor], share: float) -> "LossModel":
        """A loss model with the curvature at weights between the trained ones and others; for the codes offered.

        Let w be the trained weights, δ their error and H the Hessian. At a minimum the loss rises by
        ∫ (1 - s) δᵀ H(w + s δ) δ ds over s from 0 to 1. By Taylor's theorem this is ½ δᵀ H(w + s δ) δ for one s in
        between, and s = 1/3 is right to second order. With few cells per weight errors are large, and the curvature at
        the trained weights would not even have the right size.

        Args:
            state: the other parameters by name, such as those read back from a chip of the best plan so far.
            share: where on the way from the trained weights (0) to the others (1).
        """
        module = copy.deepcopy(self.network.module)
        trained = module.state_dict()
        between = {name: torch.lerp(trained[name], tensor, share) for name, tensor in state.items()}
        module.load_state_dict(between, strict=False)
        return _models(
            self.network,
            replace(self.network, module=module),
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
        """The expected loss increase, in nats, of a choice (groups,) of one code for each group."""
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
    images: Samples,
    media: Iterable[tuple[devices.Card | str, float]],
    *,
    menu: tuple[str, ...] = DEFAULT,
    compared: tuple[str, ...] = (),
    granularity: Granularity = "filter",
    ecc: Ecc = "bound",
    read_times_s: tuple[float, ...] = (),
    over: Over = "mean",
    seed: int = 0,
    memory_bytes: int = MEMORY_BYTES,
    progress: ShareDone | None = None,
) -> list[LossModel]:
    """Estimate on calibration images how much each code would raise the loss in each group, for several cards.

    Args:
        network: a network from `physcomp.load_network` or `physcomp.wrap`.
        images: calibration images; 2,000 are enough for a small network.
        media: for each model the card, or its name, and the read time in seconds since programming.
        menu: names of the codes offered for choice.
        compared: names of further codes, for plans that give every group the same code.
        granularity: which weights form a group that gets one code.
        ecc: how digital bits are converted to cells: by the `bound` for any error-correcting code, or by an
            existing `bch` code.
        read_times_s: several read times, in seconds since programming, that all count for the choice. Empty: the read
            time of the card alone.
        over: how they count: `mean`, by the loss averaged over them; or `worst`, by the loss of each code in each group
            at the time of its largest loss, so that (without couplings) no time loses more than predicted.
        seed: seed of the random probes.
        memory_bytes: memory for the couplings, and as much again for passes over images. With less, only groups closer
            to each other are coupled.
        progress: called with the share that is done, 0 to 1.

    Raises:
        ValueError: a read time is outside the range of its card, or the menu or granularity is unknown.
    """
    cells = [
        Medium(
            devices.load_card(card) if isinstance(card, str) else card,
            time,
            ecc=ecc,
            span_s=tuple(read_times_s),
            over=over,
        )
        for card, time in media
    ]
    return _models(
        network,
        network,
        images,
        cells,
        layers=survey(network, images, granularity).layers,
        codes=read_menu((*menu, *(name for name in compared if name not in menu))),
        offered=len(menu),
        granularity=granularity,
        seed=seed,
        memory_bytes=memory_bytes,
        progress=progress,
    )


def _models(
    network: Network,
    bent: Network,
    images: Samples,
    cells: list[Medium],
    *,
    layers: tuple[Layer, ...],
    codes: tuple[Code, ...],
    offered: int,
    granularity: Granularity,
    seed: int,
    memory_bytes: int,
    progress: ShareDone | None,
) -> list[LossModel]:
    """As `build_models`, with the curvature at the weights of `bent` and errors of the weights of `network`."""
    steps = 2 + len(cells)

    def share(step: int) -> ShareDone:
        return lambda done: progress((step + done) / steps) if progress else None

    curved = curvatures(bent, layers, images, seed=seed, memory_bytes=memory_bytes, progress=share(0))
    importances = [curve.importance for curve in curved]
    to_write = []
    for number, layer in enumerate(layers):
        to_write.append(rows_for_codes(layer.rows, curved.pop(0), codes))  # popped, since its blocks are large
        share(1)((number + 1) / len(layers))
    models = []
    for step, medium in enumerate(cells, start=2):
        fitted = fits_of(layers, importances, to_write, codes, medium)
        means = [fit.mean for fit in fitted]
        measured = couplings(bent, layers, images, means, seed=seed, memory_bytes=memory_bytes, progress=share(step))
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
    images: Samples,
    *,
    card: devices.Card | str,
    read_time_s: float = 0.0,
    menu: tuple[str, ...] = DEFAULT,
    compared: tuple[str, ...] = (),
    granularity: Granularity = "filter",
    ecc: Ecc = "bound",
    read_times_s: tuple[float, ...] = (),
    over: Over = "mean",
    seed: int = 0,
    memory_bytes: int = MEMORY_BYTES,
    progress: ShareDone | None = None,
) -> LossModel:
    """Build the loss model of a network on one card; the arguments are those of `build_models`.

    `read_time_s` is the time, in seconds since programming, for which levels are written.
    """
    return build_models(
        network,
        images,
        [(card, read_time_s)],
        menu=menu,
        compared=compared,
        granularity=granularity,
        ecc=ecc,
        read_times_s=read_times_s,
        over=over,
        seed=seed,
        memory_bytes=memory_bytes,
        progress=progress,
    )[0]
