"""Common part of studies that compare ways of storing: choose plans, store each on chips, read these back."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import polars as pl

import devices
import physcomp
from physcomp.networks.first_look import first_look
from simulations.comparison.plans import TRAINED, Planned, StoredStudy, all_plans, save_joint
from simulations.comparison.trained import Trained
from simulations.runs.kind import Kind
from simulations.runs.metrics import ALWAYS, Scorer, check_metrics
from simulations.runs.progress import Progress
from simulations.runs.study import StudyCard

AnyStored = TypeVar("AnyStored", bound=StoredStudy)


class ChipTrial(NamedTuple):
    """The key of a trial: one chip of a plan, read at one time.

    Args:
        card: name of the card with its variant.
        read_time_s: time of the read in seconds since programming.
        method: the method that made the plan.
        budget: cells per weight that were allowed; None for a fixed plan.
        cells_per_weight: cells per weight of the plan, with everything stored counted.
        plan: the first twelve hex digits of its fingerprint.
        trial: number of the chip, from 0.
        seed: seed of its programming noise.
    """

    card: str
    read_time_s: float
    method: str
    budget: float | None
    cells_per_weight: float
    plan: str
    trial: int
    seed: int


class StoredKind(Kind[AnyStored, ChipTrial]):
    """A study of ways of storing: every plan is stored on chips of its own, each read back at all times of its card.

    A card with several read times has one plan for all of them. Cells of every plan are divided by the number of
    weights of the network at the start; trained plans may have networks with fewer weights.
    """

    key = ChipTrial
    leaves = ("plans/*.json", "plan-*.json", "chip-*.h5")
    doing = "programming chips and reading them back"

    def __init__(self, study: AnyStored, folder: Path, progress: Progress) -> None:
        super().__init__(study, folder, progress)
        parts = study.samples(calibration="calibration", heldout="heldout", test="test_images")
        self.calibration, self.heldout, self.test = parts.values()
        self.network = study.opened(self.calibration)
        check_metrics(self.network.task, study.metrics)
        self.weights = self.network.parameters
        self.trained = self.find_trained()

    def find_trained(self) -> tuple[Trained, ...]:
        """Trained plans with networks of their own, which are measured too."""
        return ()

    @property
    def numbers(self) -> tuple[str, ...]:
        """The metrics of the study."""
        return tuple(dict.fromkeys((*ALWAYS, *self.study.metrics)))

    def fingerprints(self) -> dict[str, str]:
        """Fingerprints of the study and of its network."""
        return {**super().fingerprints(), "network": f"{self.network.name} {self.network.sha256}"}

    def tasks(self) -> Iterable[Sequence[ChipTrial]]:
        """The trials of each chip; one chip if all read alike. Methods that chose the same plan share its chips."""
        study = self.study
        with self.progress.step("compiling kernels (the first run only) and measuring the clean network"):
            self.scorer = Scorer.of(self.network, self.test, self.numbers)
            self.remarks = first_look(self.network, self.test, self.scorer.clean).remarks
            for card in study.cards:
                devices.reliable_bits(devices.load_card(card.card), card.read_time_s)
        chosen = all_plans(study, self.network, self.calibration, self.heldout, self.folder, self.progress)
        self.planned = [
            Planned(
                of.card,
                (*of.plans, *(each.plan.named(TRAINED) for each in self.trained if each.card == of.card)),
                of.shrinkage,
            )
            for of in chosen
        ]
        self.of_sha: dict[str, tuple[StudyCard, physcomp.Plan]] = {}
        same: dict[tuple[str, int], list[physcomp.Plan]] = {}
        for of in self.planned:
            for plan in of.plans:
                sha = plan.sha256[:12]
                self.of_sha[sha] = of.card, plan
                for trial in range(1 if plan.noiseless else study.trials):
                    same.setdefault((sha, trial), []).append(plan)
        return [
            [self._key(plan, sha, trial, time_s) for time_s in self.of_sha[sha][0].measured_s for plan in plans]
            for (sha, trial), plans in same.items()
        ]

    def _key(self, plan: physcomp.Plan, sha: str, trial: int, time_s: float) -> ChipTrial:
        return ChipTrial(
            card=plan.card,
            read_time_s=time_s,
            method=plan.method,
            budget=self.budget_of(plan),
            cells_per_weight=plan.cells / self.weights,
            plan=sha,
            trial=trial,
            seed=self.study.seed + trial,
        )

    def budget_of(self, plan: physcomp.Plan) -> float | None:
        """The budget of a plan in cells per weight of the network at the start."""
        if plan.budget is None or plan.per == self.weights:
            return plan.budget
        return round(plan.budget * plan.per / self.weights, 9)

    def measure(self, keys: Sequence[ChipTrial]) -> list[dict[str, Any]]:
        """Measure one chip at each of its read times."""
        card, plan = self.of_sha[keys[0].plan]
        network = next((of.network for of in self.trained if of.plan.sha256 == plan.sha256), self.network)
        chip = physcomp.store(network, plan, card=devices.load_card(card.card), seed=keys[0].seed)
        found = {
            time_s: self.scorer.of_state(network, chip.read_back(time_s=time_s))
            for time_s in dict.fromkeys(key.read_time_s for key in keys)
        }
        return [found[key.read_time_s] for key in keys]

    @property
    def placed(self) -> list[tuple[Planned, float]]:
        """The cards with their plans, once for each read time."""
        return [(of, time_s) for of in self.planned for time_s in of.card.measured_s]

    def with_cards(self, table: pl.DataFrame) -> pl.DataFrame:
        """A table for files: with names and read times of cards in place of their numbers."""
        cards = pl.DataFrame(
            [(place, of.plans[0].card, time_s) for place, (of, time_s) in enumerate(self.placed)],
            schema={"place": pl.Int64, "card": pl.String, "read_time_s": pl.Float64},
            orient="row",
        )
        named = table.join(cards, on="place", maintain_order="left")
        return named.select("card", "read_time_s", *(name for name in table.columns if name != "place"))

    def draw(self, trials: pl.DataFrame, summary: dict[str, Any]) -> list[Path]:
        """Draw the figure of this kind of study; returns the paths written."""
        raise NotImplementedError

    def figures(self, trials: pl.DataFrame, summary: dict[str, Any]) -> list[Path]:
        """Write the joint plans with a chip of each, and draw; returns the paths of the figure."""
        save_joint(self.planned, self.network, self.study.seed, self.folder)
        return self.draw(trials, summary)
