"""One draw of calibration samples of one network: its loss model, its plans, and what these cost and lose."""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

import devices
import physcomp
from physcomp.choice.planning import FIXED
from physcomp.choice.process import peak_of
from physcomp.networks.description import Described, describe, read_description
from physcomp.networks.samples import changed, tensors_of
from physcomp.training.alternation import Schedule, alternate, best_of
from physcomp.training.recipe import Recipe
from simulations.comparison.plans import JOINT, TRAINED, UNIFORM
from simulations.comparison.results import bits_bch, cells_bch
from simulations.runs.engine import write_json
from simulations.runs.metrics import Scorer
from simulations.runs.study import StudyCard

STAGES = ("model", "choice", "store", "read")
Found = TypeVar("Found")


@dataclass(frozen=True)
class Cost:
    """What a stage of the work took.

    Args:
        seconds: of the processor, over all threads, so that other work on the machine counts little.
        bytes: the peak of the memory that was taken for it; None where the system does not tell.
    """

    seconds: float
    bytes: int | None


def costed(work: Callable[[], Found]) -> tuple[Found, Cost]:
    """The result of work, and what it cost."""
    started = time.process_time()
    found, peak = peak_of(work)
    return found, Cost(time.process_time() - started, peak)


@dataclass(frozen=True)
class Settings:
    """What all draws of a network have in common.

    Args:
        card: the card with its read time.
        menu: names of the codes offered to the joint choice.
        uniform: names of the codes that every group gets alike.
        memory_bytes: for the loss model.
        seed: of the study; that of a draw is larger by its number.
        epochs: of the training for cells.
        recipe: of the training for cells.
        source: the network as it was named.
    """

    card: StudyCard
    menu: tuple[str, ...]
    uniform: tuple[str, ...]
    memory_bytes: int
    seed: int
    epochs: int
    recipe: Recipe
    source: str


class Draw:
    """One draw of calibration and held-out samples, and the plans made with it.

    Args:
        network: as trained.
        parts: the samples `calibration`, `heldout`, `test`, and `train` if plans are trained for.
        number: of the draw, from 0.
        settings: what all draws share.
        path: file that keeps the loss model, so that a killed run need not build it again.
    """

    def __init__(
        self,
        network: physcomp.Network,
        parts: Mapping[str, physcomp.Samples],
        number: int,
        settings: Settings,
        path: Path,
    ) -> None:
        self.network, self.parts, self.settings, self.path = network, parts, settings, path
        self.seed = settings.seed + number
        self.card = devices.load_card(settings.card.card)

    @cached_property
    def scorer(self) -> Scorer:
        """Measures on the test samples."""
        return Scorer.of(self.network, self.parts["test"])

    @cached_property
    def model(self) -> tuple[physcomp.LossModel, Cost]:
        """The loss model, built or read, and what building it cost."""
        noted = self.path.with_suffix(".json")
        if self.path.exists() and noted.exists():
            try:
                kept = physcomp.load_model(self.path, self.network, self.parts["calibration"])
                return kept, Cost(**json.loads(noted.read_text()))
            except ValueError:  # of another version, or damaged: it is built again
                pass
        model, cost = costed(
            lambda: physcomp.build_model(
                self.network,
                self.parts["calibration"],
                card=self.card,
                read_time_s=self.settings.card.read_time_s,
                menu=self.settings.menu,
                compared=self.settings.uniform,
                seed=self.seed,
                memory_bytes=self.settings.memory_bytes,
            )
        )
        self.path.parent.mkdir(exist_ok=True)
        model.save(self.path)
        write_json(noted, asdict(cost))
        return model, cost

    def measured(self, method: str, budget: float | None) -> dict[str, Any]:
        """Make the plan of a method, store the network by it, read it back, and measure it on the test samples.

        Raises:
            ValueError: the budget is infeasible.
        """
        building = self.model[1]  # built before the choice is timed
        (network, plan, interval), choosing = costed(lambda: self._plan(method, budget))
        chip, storing = costed(lambda: physcomp.store(network, plan, card=self.card, seed=self.seed))
        state, reading = costed(chip.read_back)
        found, clean = self.scorer.of_state(network, state), self.scorer.clean_score
        costs = dict(zip(STAGES, (building, choosing, storing, reading), strict=True))
        weights, cells = self.network.parameters, plan.cells
        low, high = interval
        return {
            **found,
            "clean_accuracy": clean.accuracy,
            "clean_loss": clean.loss,
            "cells_per_weight": cells / weights,
            "cells_per_weight_bch": cells_bch(plan, bits_bch(self.settings.card), weights),
            "bits_per_weight": None if plan.ledger["analog"] else cells * plan.bits_per_cell / weights,
            "predicted": plan.proof.predicted_loss_increase,
            "predicted_low": low,
            "predicted_high": high,
            "measured": found["loss"] - clean.loss,
            "heldout_loss": plan.proof.heldout_loss,
            "way": way_of(plan),
            **{f"{stage}_seconds": cost.seconds for stage, cost in costs.items()},
            **{f"{stage}_bytes": cost.bytes for stage, cost in costs.items()},
        }

    def _plan(
        self, method: str, budget: float | None
    ) -> tuple[physcomp.Network, physcomp.Plan, tuple[float | None, float | None]]:
        """The network that is stored, its plan, and the interval of the predicted rise."""
        if method == TRAINED:
            assert budget is not None
            network, plan = self._trained(budget)
            return network, plan, (None, None)  # the prediction is from before training
        model = self.model[0]
        search = physcomp.Search(seed=self.seed)
        if method == JOINT:
            assert budget is not None
            choices = physcomp.choose(model, self.parts["heldout"], [budget], search=search)
            plan, shrinkage = choices.best(budget), choices.shrinkage
        else:
            shrinkage = search.shrinkages[-1]
            plan = physcomp.uniform_plan(model, method.removeprefix(f"{UNIFORM} "), shrinkage=shrinkage)
        return self.network, plan, interval_of(model, plan, shrinkage)

    def _trained(self, budget: float) -> tuple[physcomp.Network, physcomp.Plan]:
        """The network trained for a plan of its own, and that plan."""
        source = self.settings.source
        start: physcomp.Network | Described = self.network
        if source.endswith(".toml"):
            start = describe(read_description(Path(source)), self.network)
        schedule = Schedule(
            card=self.card,
            budget=budget,
            read_time_s=self.settings.card.read_time_s,
            epochs=self.settings.epochs,
            seed=self.seed,
            menu=self.settings.menu,
            recipe=self.settings.recipe,
        )
        rounds = list(
            alternate(
                start,
                self.parts["train"],
                self.parts["calibration"],
                heldout=self.parts["heldout"],
                schedule=schedule,
            )
        )
        best = best_of(rounds, budget * self.network.parameters)
        return best.finetuned.network, best.finetuned.plan


def interval_of(model: physcomp.LossModel, plan: physcomp.Plan, shrinkage: float) -> tuple[float | None, float | None]:
    """The interval that holds the rise predicted for a plan in nine of ten draws; None where it is not known.

    A fixed plan's proof does not say it; the loss model does, if the plan's code is in its menu.
    """
    given = plan.proof.predicted_interval
    if not given and plan.proof.solver == FIXED and plan.menu == tuple(code.name for code in model.menu):
        codes = np.concatenate([layer.codes for layer in plan.layers])
        given = model.error_of(codes, shrinkage)
    if not given or not all(math.isfinite(end) for end in given):
        return None, None
    return float(given[0]), float(given[1])


def way_of(plan: physcomp.Plan) -> str:
    """How a plan that was kept came about: the part of the menu or the code of every filter, and what followed."""
    again = ["curvature near it"] if plan.proof.expansion else []
    return ", ".join([plan.proof.part, *again, *plan.proof.refined])


def dealt(
    calibration: physcomp.Samples, heldout: physcomp.Samples, counts: tuple[int, int], seed: int
) -> tuple[physcomp.Samples, physcomp.Samples]:
    """Calibration and held-out samples, dealt anew from both together.

    Args:
        calibration: those of the data.
        heldout: those of the data.
        counts: how many of each.
        seed: of the order.

    Raises:
        ValueError: there are not as many.
    """
    others = iter(tensors_of(heldout.inputs))
    inputs = changed(calibration.inputs, lambda tensor: torch.cat([tensor, next(others)]))
    pool = physcomp.Samples(inputs, torch.cat([calibration.labels, heldout.labels]))
    if sum(counts) > len(pool):
        raise ValueError(
            f"calibration and heldout: {counts[0]} and {counts[1]} samples are asked for, calibration and heldout have "
            f"{len(pool)} together; ask for fewer"
        )
    order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(seed))
    return pool[order[: counts[0]]], pool[order[counts[0] : sum(counts)]]
