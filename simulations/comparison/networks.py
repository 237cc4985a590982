"""Studies of kind `networks`: how several networks are stored, and whether the loss model says what they lose.

For each network the calibration samples are drawn several times. Each draw builds a loss model and makes plans: every
group with the same code, the joint choice at each budget, and the joint choice with training. Each plan is stored on
one chip and read back. The study reports metric and loss against cells and bits, with the spread over draws; the
predicted rise of the loss with its interval, and the measured one; and what every stage took.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import polars as pl
import torch
from pydantic import AfterValidator, Field, model_validator
from torch import nn

import devices
import physcomp
from physcomp.codes.menu import DEFAULT
from physcomp.networks.datasets.checks import check_alike, check_disjoint
from physcomp.training.recipe import Recipe
from simulations.comparison.draws import Draw, Settings, dealt
from simulations.comparison.networks_figure import draw_networks
from simulations.comparison.networks_tables import sections, summarize
from simulations.comparison.plans import JOINT, TRAINED, UNIFORM
from simulations.runs import fields
from simulations.runs.given import Data
from simulations.runs.kind import Kind, Tables
from simulations.runs.metrics import check_metrics
from simulations.runs.progress import Progress
from simulations.runs.study import NetworkFields, Study, StudyCard

PARTS = ("calibration", "heldout", "test")
MEGABYTE = 1 << 20
INFEASIBLE = "takes at least"  # in the message about a budget that no choice fits


class NetworkEntry(NetworkFields):
    """A network of the study, with its data; what it leaves out is as the study says.

    Args:
        name: in the report.
        perplexity: whether the exponential of the loss is reported in place of the metric, as for texts.
        budgets: cells per weight of the joint choice.
        calibration: number of calibration samples.
        heldout: number of held-out samples.
        test_images: number of test samples.
        trained: budgets at which the weights are trained for the plan, too.
        train_data: another source of the samples to train on; None: the part `train` of the data.
        epochs: of that training.
        shift: of the copies over which the teacher's outputs are averaged; see `physcomp.training.recipe.Recipe`.
        mirrored: whether there are mirrored copies as well.
    """

    network: fields.Source
    data: fields.Source
    name: fields.PlainName
    perplexity: bool = False
    budgets: fields.Budgets | None = None
    calibration: fields.Count | None = None
    heldout: fields.Count | None = None
    test_images: fields.Count | None = None
    trained: Annotated[tuple[fields.Positive, ...], fields.Once] = ()
    train_data: fields.Source | None = None
    epochs: fields.Count = 30
    shift: Annotated[int, Field(strict=True, ge=0)] = 0
    mirrored: bool = False

    def samples(self) -> dict[str, physcomp.Samples]:
        """The parts `calibration`, `heldout` and `test` of the data.

        Raises:
            ValueError: the data cannot be read, or lack one.
        """
        return self.data_of().parts(PARTS)

    def training(self, others: dict[str, physcomp.Samples]) -> dict[str, physcomp.Samples]:
        """These parts, and `train` beside them, with which they share nothing.

        Raises:
            ValueError: there is no part `train`.
        """
        source = Data(self.train_data) if self.train_data else self.data_of()
        parts = {"train": source.part("train"), **others}
        check_alike(f"{self.train_data or self.data} and {self.data}", parts)
        return check_disjoint(parts)


def _names(entries: tuple[NetworkEntry, ...]) -> tuple[NetworkEntry, ...]:
    names = [entry.name for entry in entries]
    if len(set(names)) < len(names):
        raise ValueError(f"hold the same name twice ({', '.join(names)}); rename one")
    return entries


class NetworksStudy(Study):
    """The fields of a study of kind `networks`, besides those of `Study`.

    Args:
        networks: the networks; those that cannot be opened here are left out, and the report says why.
        card: name or file of the card.
        read_time_s: seconds from programming to reading.
        budgets: cells per weight of the joint choice.
        menu: names of the codes offered to the joint choice.
        uniform: names of codes that are given to all groups alike.
        draws: how many times calibration and held-out samples are drawn from both together.
        calibration: number of calibration samples.
        heldout: number of held-out samples, by which plans are picked.
        test_images: number of test samples, on which results are measured.
        memory_mb: megabytes for a loss model, beside six times the bytes of the weights.
    """

    kind: Literal["networks"] = "networks"
    networks: Annotated[tuple[NetworkEntry, ...], fields.AtLeastOne, AfterValidator(_names)]
    card: fields.CardName
    read_time_s: fields.Number = 0.0
    budgets: fields.Budgets
    menu: fields.Menu = DEFAULT
    uniform: Annotated[tuple[fields.CodeName, ...], fields.Once] = ()
    draws: fields.Count = 3
    calibration: fields.Count = 1000
    heldout: fields.Count = 1000
    test_images: fields.Count = 10000
    memory_mb: fields.Count = 1000

    @model_validator(mode="after")
    def _fits(self) -> "NetworksStudy":
        devices.load_card(self.card).check_time(self.read_time_s)
        return self


class NetworkTrial(NamedTuple):
    """The key of a trial: one plan from one draw of calibration samples.

    Args:
        network: its name in the study.
        sha256: the first twelve hex digits of its fingerprint.
        draw: number of the draw, from 0.
        method: `joint`, `joint + training`, or `uniform` and a code.
        budget: cells per weight that were allowed; None for a fixed plan.
    """

    network: str
    sha256: str
    draw: int
    method: str
    budget: float | None


class Networks(Kind[NetworksStudy, NetworkTrial]):
    """Several networks, stored by several methods. The metrics are those of `simulations.comparison.draws.Draw`."""

    model = NetworksStudy
    key = NetworkTrial
    leaves = ("models/*",)
    doing = "building loss models, choosing, storing and reading back"
    in_turn = True

    def __init__(self, study: NetworksStudy, folder: Path, progress: Progress) -> None:
        super().__init__(study, folder, progress)
        self.remarks: list[str] = []
        self.entries: dict[str, NetworkEntry] = {}
        self.opened: dict[str, physcomp.Network] = {}
        for entry in study.networks:
            try:
                parts = entry.samples()  # read again when it is this network's turn
                network = entry.opened(parts["calibration"])
                check_metrics(network.task)
                self._dealt(entry, parts, 0)
            except ValueError as error:
                self._remark(f"{entry.name} is left out: {error}")
                continue
            self.entries[entry.name], self.opened[entry.name] = self._trainable(entry, parts), network
        if not self.opened:
            raise ValueError(self.remarks[0])
        self._draw: tuple[str, int, Draw] | None = None
        self._parts: tuple[str, dict[str, physcomp.Samples]] | None = None

    def _remark(self, text: str) -> None:
        """Say at once, and once more in the report, what is left out."""
        self.remarks.append(text)
        with self.progress.step(text):
            pass

    def _trainable(self, entry: NetworkEntry, parts: dict[str, physcomp.Samples]) -> NetworkEntry:
        """The entry without training where there are no samples to train on."""
        try:
            if entry.trained:
                entry.training(parts)
        except ValueError as error:
            self._remark(f"{entry.name} is not trained for its plans: {error}")
            return entry.model_copy(update={"trained": ()})
        return entry

    @property
    def numbers(self) -> tuple[str, ...]:
        """The metrics that every trial has."""
        return ("accuracy", "loss", "cells_per_weight", "predicted", "measured")

    def tasks(self) -> Iterator[list[NetworkTrial]]:
        """All plans: network after network, draw after draw; first those without a choice."""
        study = self.study
        for name, entry in self.entries.items():
            sha256 = self.opened[name].sha256[:12]
            for draw in range(study.draws):
                for code in study.uniform:
                    yield [NetworkTrial(name, sha256, draw, f"{UNIFORM} {code}", None)]
                for budget in entry.budgets or study.budgets:
                    yield [NetworkTrial(name, sha256, draw, JOINT, budget)]
                for budget in entry.trained:
                    yield [NetworkTrial(name, sha256, draw, TRAINED, budget)]

    def begin(self, left: Sequence[Sequence[NetworkTrial]]) -> None:
        """Compile kernels, so that no stage is charged for it."""
        with self.progress.step("compiling kernels (the first run only)"):
            compile_kernels(self.study.card, self.study.read_time_s)

    def measure(self, keys: Sequence[NetworkTrial]) -> list[dict[str, Any] | None]:
        """Make a plan, store it, read it back; None for a budget that no choice fits."""
        (key,) = keys
        try:
            return [self._at(key).measured(key.method, key.budget)]
        except ValueError as error:
            if key.budget is not None and INFEASIBLE in str(error):
                return [None]
            raise

    def _at(self, key: NetworkTrial) -> Draw:
        """The draw of a trial; the one before is forgotten."""
        if self._draw is None or self._draw[:2] != (key.network, key.draw):
            self._draw = None
            path = self.folder / "models" / f"{key.network}-{key.draw}.h5"
            for old in path.parent.glob("*"):
                if old.stem != path.stem:
                    old.unlink()
            entry = self.entries[key.network]
            parts = self._dealt(entry, self._samples(entry), key.draw)
            draw = Draw(self.opened[key.network], parts, key.draw, self._settings(entry), path)
            self._draw = key.network, key.draw, draw
        return self._draw[2]

    def _dealt(self, entry: NetworkEntry, parts: dict[str, physcomp.Samples], draw: int) -> dict[str, physcomp.Samples]:
        """The parts of the data, with calibration and held-out samples as drawn."""
        counts = (entry.calibration or self.study.calibration, entry.heldout or self.study.heldout)
        drawn = dealt(parts["calibration"], parts["heldout"], counts, self.study.seed + draw)
        return {**parts, "calibration": drawn[0], "heldout": drawn[1]}

    def _settings(self, entry: NetworkEntry) -> Settings:
        study = self.study
        return Settings(
            card=StudyCard(card=study.card, read_time_s=study.read_time_s),
            menu=study.menu,
            uniform=study.uniform,
            memory_bytes=study.memory_mb * MEGABYTE,
            seed=study.seed,
            epochs=entry.epochs,
            recipe=Recipe(shift=entry.shift, mirrored=entry.mirrored),
            source=str(entry.network),
        )

    def _samples(self, entry: NetworkEntry) -> dict[str, physcomp.Samples]:
        """The parts of the data of a network; those of the one before are forgotten."""
        if self._parts is None or self._parts[0] != entry.name:
            self._parts = None
            parts = entry.samples()
            if entry.trained:
                parts = entry.training(parts)
            parts["test"] = parts["test"][: entry.test_images or self.study.test_images]
            self._parts = entry.name, parts
        return self._parts[1]

    def tables(self, trials: pl.DataFrame) -> Tables:
        """A table of results and one of costs for each network."""
        for old in (self.folder / "models").glob("*"):
            old.unlink()
        summary = summarize(self.study.name, self.study.sha256, self._described(), trials)
        return Tables(summary, sections(summary, self.remarks), {"networks": trials})

    def _described(self) -> dict[str, dict[str, Any]]:
        """What the summary says of each network."""
        return {
            name: {
                "parameters": network.parameters,
                "sha256": network.sha256,
                "metric": "perplexity" if self.entries[name].perplexity else network.task.metric,
                "card": self.study.card,
                "read_time_s": self.study.read_time_s,
            }
            for name, network in self.opened.items()
        }

    def figures(self, trials: pl.DataFrame, summary: dict[str, Any]) -> Iterable[Path]:
        """Draw what is lost against bits per weight, one panel a network."""
        return draw_networks(summary, self.folder)


def compile_kernels(card: str, read_time_s: float) -> None:
    """Store a tiny network once, by all stages."""
    generator = torch.Generator().manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))
    samples = physcomp.Samples(torch.rand(8, 1, 4, 4, generator=generator), torch.arange(8) % 2)
    network = physcomp.wrap(module, samples=samples)
    model = physcomp.build_model(network, samples, card=card, read_time_s=read_time_s)
    plan = physcomp.choose(model, samples, [8.0]).best(8.0)
    physcomp.store(network, plan, card=devices.load_card(card)).read_back()
