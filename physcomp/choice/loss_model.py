"""The loss model: what each code would cost each group of a network, in cells and in expected loss increase."""

import copy
import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

import devices
import qubo
from physcomp.choice.checks import check_card, check_memory, check_names, check_seed
from physcomp.choice.fits import Fit
from physcomp.choice.groundwork import Groundwork, counted_on, groundwork_of, measured_on, of_losses
from physcomp.choice.model_file import read_model, save_model
from physcomp.codes import Code, Medium
from physcomp.codes.base import SCALE_BITS, Ecc, Over, Rows
from physcomp.codes.menu import DEFAULT, part_of, read_menu
from physcomp.compensation.rows import Groups
from physcomp.curvature.column_sums import Coupling, fold_sizes
from physcomp.curvature.couplings import images_for_couplings
from physcomp.curvature.gradients import MEMORY_BYTES
from physcomp.networks.layers import Granularity
from physcomp.networks.network import Network
from physcomp.networks.samples import Samples
from physcomp.networks.survey import survey
from physcomp.storage.other_tensors import bits_of_others, others_of
from physcomp.threads import ShareDone


@dataclass(frozen=True, eq=False)
class LossModel(Groundwork):
    """The expected loss increase and the cells of every code for every group of a network on a card.

    Args:
        medium: the cells, and the times at which they are read.
        fits: for each layer, the codes fitted to it: scales, and what some codes allocate or learn.
        couplings: for each layer, how the mean errors of the codes raise the loss.

    The other arguments are those of `physcomp.choice.groundwork.Groundwork`.
    """

    medium: Medium
    fits: tuple[Fit, ...]
    couplings: tuple[Coupling, ...]

    @cached_property
    def loss(self) -> NDArray[np.float64]:
        """Expected loss increase of one group alone, by mean and variance of its error, in nats: (groups, codes)."""
        return np.concatenate([coupling.loss for coupling in self.couplings])

    @cached_property
    def cost(self) -> NDArray[np.float64]:
        """Cells of each group with each code, scales included; what a layer stores once is in `setups`."""
        return np.concatenate([fit.cost for fit in self.fits])

    @property
    def scales(self) -> tuple[Rows, ...]:
        """For each layer float32 (groups, codes), the scale of each group with each code."""
        return tuple(fit.scales for fit in self.fits)

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

    def rows_for(self, number: int, code: Code, groups: Groups = slice(None)) -> Rows:
        """The rows of layer `number`, or some of them, that a code is to write: see `physcomp.compensation.rows`."""
        return self.to_write[number][code.name].of(groups)

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

    def least_budget(self, part: str = "all") -> float:
        """The smallest feasible budget of a part of the menu, in cells per parameter, everything stored counted."""
        allowed = np.array(self.part(part))
        whole = qubo.Selection(loss=self.loss, cost=self.cost, budget=math.inf, setup=self.setups)
        fixed = sum(self.overhead(int(allowed.sum())).values())
        return (whole.restrict(allowed).smallest_cost + fixed) / self.network.parameters

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
        least = self.least_budget(part)
        if not cells_per_weight >= least:
            raise ValueError(
                f"budget: {self.network.name} on {self.medium.card.name} with the menu '{part}' takes at least "
                f"{least:.4f} cells/weight, got {cells_per_weight:g}; raise it"
            )
        allowed = np.array(self.part(part))
        fixed = sum(self.overhead(int(allowed.sum())).values())
        blocks = tuple(
            qubo.Block.from_gram(start + np.arange(run.start, run.stop), gram)
            for start, coupling in zip(self.starts, self.couplings, strict=True)
            for run, gram in zip(coupling.runs, coupling.grams, strict=True)
            if len(gram) > 1 and shrinkage != 0
        )
        whole = qubo.Selection(loss=self.loss, cost=self.cost, budget=math.inf, blocks=blocks, setup=self.setups)
        offered = whole.with_couplings(shrinkage).restrict(allowed)
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
        bent = dataclasses.replace(self.network, module=module)
        ground = groundwork_of(
            self.network,
            bent,
            self.images,
            layers=self.layers,
            codes=self.menu[: self.offered],
            offered=self.offered,
            granularity=self.granularity,
            seed=self.seed,
            memory_bytes=self.memory_bytes,
            progress=None,
        )
        return _model(ground, bent, self.medium, None)

    def on(
        self,
        card: devices.Card | str,
        *,
        read_time_s: float = 0.0,
        ecc: Ecc = "bound",
        read_times_s: tuple[float, ...] = (),
        over: Over = "mean",
        progress: ShareDone | None = None,
    ) -> "LossModel":
        """The loss model of the same network, menu and images on another card, or at another read time.

        The curvature and the rows that codes write do not depend on the cells and are not measured again. With a menu
        of digital codes alone only cells are counted anew.

        Args:
            card: the card, or its name.
            read_time_s: seconds since programming.
            ecc: see `build_models`.
            read_times_s: see `build_models`.
            over: see `build_models`.
            progress: called with the share that is done, 0 to 1.
        """
        medium = _medium(card, read_time_s, ecc, read_times_s, over)
        if any(code.analog_cells(1) for code in self.menu):
            return _model(self, self.network, medium, progress)
        return dataclasses.replace(self, medium=medium, fits=counted_on(self, self.fits, medium))

    def save(self, path: Path | str) -> None:
        """Write the model to a file, from which `physcomp.load_model` reads it; a crash leaves none half-written."""
        save_model(path, self, self.medium, self.fits, self.couplings)

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

    def error_of(self, choice: NDArray[np.int64], shrinkage: float, level: float = 0.9) -> tuple[float, float]:
        """An interval for the loss increase that `predict` would give with as many images as one likes, in nats.

        The calibration images, and the random probes taken on them, are a sample. Each fold of them gives a loss
        increase of its own, and the spread of their logarithm's mean gives the interval (Student's t, by the delta
        method; a loss increase is positive and its distribution over images long to the right). Couplings are taken to
        scatter as the rest does. That the loss model is quadratic, and that the choice was picked by these images, is
        not in it.

        Args:
            choice: one code for each group, (groups,).
            shrinkage: factor on the couplings, as for `predict`.
            level: the share of calibration sets whose interval is meant to hold the true value.

        Returns:
            The lower and the upper end; (0, inf) where there is one image only, or no image sees an error.

        Raises:
            ValueError: `level` is not between 0 and 1.
        """
        if not 0 < level < 1:
            raise ValueError(f"level: an interval holds a share between 0 and 1, got {level:g}; use 0.9")
        folds = np.concatenate([coupling.folds for coupling in self.couplings], axis=1)
        count, predicted = len(folds), self.predict(choice, shrinkage)
        if count < 2:
            return 0.0, math.inf
        of_fold = folds[:, np.arange(len(choice)), choice].sum(axis=1, dtype=np.float64)
        shares = fold_sizes(count, images := images_for_couplings(len(of_losses(len(self.images))))) / images
        mean = float(shares @ of_fold)
        if not (mean > 0 and predicted > 0):
            return 0.0, math.inf
        spread = math.sqrt(count / (count - 1)) * float(np.linalg.norm(shares * (of_fold - mean))) / mean
        ratio = math.exp(min(float(stats.t.ppf((1 + level) / 2, count - 1)) * spread, 700.0))
        return predicted / ratio, predicted * ratio


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
        memory_bytes: memory that building the model takes beside six times the bytes of the weights. With less, blocks
            of the curvature are smaller, only groups closer to each other are coupled, rows are kept in a temporary
            file, and there are more passes over the images.
        progress: called with the share that is done, 0 to 1.

    Raises:
        ValueError: a read time is outside the range of its card, the menu or granularity is unknown, or an argument is
            of the wrong type or size.
    """
    check_names("menu", menu)
    check_names("compared", compared)
    check_seed(seed)
    check_memory(memory_bytes)
    cells = [_medium(card, time, ecc, read_times_s, over) for card, time in media]

    def share(step: int) -> ShareDone:
        return lambda done: progress((step + done) / (1 + len(cells))) if progress else None

    surveyed = survey(network, images, granularity)
    network = surveyed.network
    ground = groundwork_of(
        network,
        network,
        images,
        layers=surveyed.layers,
        codes=read_menu((*menu, *(name for name in compared if name not in menu))),
        offered=len(menu),
        granularity=granularity,
        seed=seed,
        memory_bytes=memory_bytes,
        progress=share(0),
    )
    return [_model(ground, network, medium, share(step)) for step, medium in enumerate(cells, start=1)]


def _medium(
    card: devices.Card | str, read_time_s: float, ecc: Ecc, read_times_s: tuple[float, ...], over: Over
) -> Medium:
    check_card(card)
    card = devices.load_card(card) if isinstance(card, str) else card
    return Medium(card, read_time_s, ecc=ecc, span_s=tuple(read_times_s), over=over)


def _model(ground: Groundwork, bent: Network, medium: Medium, progress: ShareDone | None) -> LossModel:
    """The loss model on a card, with the curvature at the weights of `bent`."""
    fits, measured = measured_on(ground, bent, medium, progress)
    known = {field.name: getattr(ground, field.name) for field in dataclasses.fields(Groundwork)}
    return LossModel(**known, medium=medium, fits=fits, couplings=measured)


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


def load_model(path: Path | str, network: Network, samples: Samples) -> LossModel:
    """Read a loss model that `LossModel.save` wrote; it chooses what the one that was saved would choose.

    Args:
        path: the file, see `physcomp.choice.model_file`.
        network: the network that it was built for.
        samples: the calibration samples that it was built with.

    Raises:
        ValueError: the file is missing, is not HDF5 or no loss model, has another version, is incomplete or was
            changed, or belongs to another network or to other samples.
    """
    return LossModel(**read_model(path, network, samples))
