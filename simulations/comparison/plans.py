"""The fields of studies that compare ways of storing, and the plans of all their methods on each card.

In the folder of a run:
    plans/*.json   the plans of all methods on a card, written once all are chosen
    plan-*.json    the joint plan of each budget (further cards: with the card's name)
    chip-*.h5      a chip of it, programmed with the study's seed
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

import devices
import physcomp
from physcomp.choice.joint import Search, choose
from physcomp.codes.base import Ecc
from physcomp.codes.menu import DEFAULT, part_of, read_menu
from simulations.runs import fields
from simulations.runs.engine import write_json
from simulations.runs.metrics import METRICS
from simulations.runs.progress import Progress
from simulations.runs.study import NetworkStudy, StudyCard

JOINT, UNCOUPLED, TRAINED = "joint", "joint, no couplings", "joint + training"
RESERVED = (JOINT, UNCOUPLED, TRAINED)
UNIFORM = "uniform"


def _places(cards: tuple[StudyCard, ...]) -> tuple[StudyCard, ...]:
    if len({card.place for card in cards}) < len(cards):
        raise ValueError("hold the same card at the same times twice; remove one")
    return cards


def _method(name: str) -> str:
    if not name.strip() or not name.isprintable() or name.split("(")[0].strip() in RESERVED or name.startswith(UNIFORM):
        taken = ", ".join(f"'{reserved}'" for reserved in RESERVED)
        raise ValueError(f"a name in one line, not of another method ({taken}, '{UNIFORM} …'), got {name!r}; rename it")
    return name


MethodName = Annotated[str, AfterValidator(_method)]


class StoredStudy(NetworkStudy):
    """The fields of a study that compares ways of storing, besides those of `NetworkStudy`.

    Args:
        budgets: cells per weight.
        cards: the cards with their read times.
        calibration: number of calibration samples for the loss model.
        heldout: number of held-out samples on which plans are picked.
        test_images: number of test samples on which results are measured.
        trials: number of chips for each plan with analog cells.
        metrics: further metrics beside accuracy and loss, names in `runs.metrics.METRICS`.
        uniform: names of codes that are given to all groups alike, for comparison.
        menu: names of the codes offered to the joint choice.
        parts: methods that choose from only a part of the menu (`physcomp.codes.menu.part_of`): name and part.
        shrinkages: factors on the couplings that are tried; without 0.0 there is no method "joint, no couplings".
        solver: name of a solver of `qubo.solve`.
        ecc: how digital bits are converted to cells: by the `bound` for any code, or by an existing `bch` code.
    """

    network: fields.Source
    budgets: fields.Budgets
    cards: Annotated[tuple[StudyCard, ...], fields.AtLeastOne, AfterValidator(_places)]
    calibration: fields.Count = 2000
    heldout: fields.Count = 2000
    test_images: fields.Count = 4000
    trials: fields.Count = 5
    metrics: Annotated[tuple[Annotated[str, fields.one_of(METRICS)], ...], fields.Once] = ()
    uniform: Annotated[tuple[fields.CodeName, ...], fields.Once] = ()
    menu: fields.Menu = DEFAULT
    parts: dict[MethodName, str] = Field(default={"digital codes only": "digital", "analog codes only": "analog"})
    shrinkages: Annotated[tuple[fields.Share, ...], fields.AtLeastOne, fields.Once] = physcomp.Search.shrinkages
    solver: fields.SolverName = physcomp.Search.solver
    ecc: Ecc = "bound"

    @property
    def compared(self) -> tuple[str, ...]:
        """The names of codes that are given to all groups alike."""
        return self.uniform

    @model_validator(mode="after")
    def _known_parts(self) -> "StoredStudy":
        menu = read_menu((*self.menu, *(name for name in self.compared if name not in self.menu)))
        for part in self.parts.values():
            part_of(menu, part, len(self.menu))
        return self


@dataclass(frozen=True, eq=False)
class Planned:
    """The plans of all methods on one card.

    Args:
        card: the card and its times.
        plans: the plans of all methods and budgets.
        shrinkage: factor on the couplings with which losses are predicted.
    """

    card: StudyCard
    plans: tuple[physcomp.Plan, ...]
    shrinkage: float


def all_plans(
    study: StoredStudy,
    network: physcomp.Network,
    calibration: physcomp.Samples,
    heldout: physcomp.Samples,
    folder: Path,
    progress: Progress,
) -> list[Planned]:
    """The plans of every card: read from the folder if all of a card are there, else chosen and saved there."""
    (folder / "plans").mkdir(exist_ok=True)
    paths = {card: folder / "plans" / f"{_slug(card)}.json" for card in study.cards}
    missing = [card for card in study.cards if not paths[card].exists()]
    for times_s, over in dict.fromkeys((card.read_times_s, card.over) for card in missing):
        alike = [card for card in missing if (card.read_times_s, card.over) == (times_s, over)]
        with progress.bar("measuring what each code does to each filter") as bar:
            models = physcomp.build_models(
                network,
                calibration,
                [(card.card, card.read_time_s) for card in alike],
                menu=study.menu,
                compared=study.compared,
                ecc=study.ecc,
                read_times_s=times_s,
                over=over,
                seed=study.seed,
                progress=bar,
            )
        for model, card in zip(models, alike, strict=True):
            with progress.bar(f"choosing codes for {card.card}") as bar:
                search = Search(
                    shrinkages=study.shrinkages,
                    parts=("all", *dict.fromkeys(study.parts.values())),
                    solver=study.solver,
                    seed=study.seed,
                )
                choices = choose(model, heldout, study.budgets, search=search, progress=bar)
            plans = [*_chosen(study, choices), *_uniform(study, model, choices.shrinkage)]
            content = {"shrinkage": choices.shrinkage, "plans": [json.loads(plan.to_json()) for plan in plans]}
            write_json(paths[card], content)
    return [_read(card, path) for card, path in paths.items()]


def _chosen(study: StoredStudy, choices: physcomp.Choices) -> Iterator[physcomp.Plan]:
    for budget in study.budgets:
        yield choices.best(budget).named(JOINT)
        if 0.0 in study.shrinkages:
            yield choices.best(budget, part="all", shrinkage=0.0).named(UNCOUPLED)
        for method, part in study.parts.items():
            yield choices.best(budget, part=part).named(method)


def _uniform(study: StoredStudy, model: physcomp.LossModel, shrinkage: float) -> Iterator[physcomp.Plan]:
    for code in study.compared:
        yield physcomp.uniform_plan(model, code, shrinkage=shrinkage).named(f"{UNIFORM} {code}")


def _read(card: StudyCard, path: Path) -> Planned:
    content = json.loads(path.read_text())
    plans = tuple(physcomp.Plan.from_json(json.dumps(plan), str(path)) for plan in content["plans"])
    return Planned(card, plans, float(content["shrinkage"]))


def save_joint(planned: list[Planned], network: physcomp.Network, seed: int, folder: Path) -> None:
    """Write the joint plan of each budget and card, and a chip of each plan."""
    for number, of in enumerate(planned):
        prefix = "" if number == 0 else f"{_slug(of.card)}-"
        for plan in of.plans:
            if plan.method == JOINT:
                name = f"{prefix}{fields.short(plan.budget or 0.0)}"
                plan.save(folder / f"plan-{name}.json")
                chip = physcomp.store(network, plan, card=of.card.card, seed=seed)
                chip.save(folder / f"chip-{name}.h5")


def _slug(card: StudyCard) -> str:
    name = Path(card.card).name.replace(":", "-")
    if name.endswith(".toml"):  # files in different folders may have the same name
        name = f"{Path(name).stem}-{devices.load_card(card.card).sha256[:8]}"
    times = [card.read_time_s] if card.read_time_s else []
    span = [*card.read_times_s, card.over] if card.read_times_s else []
    return "-".join([name, *(part if isinstance(part, str) else f"{fields.short(part)}s" for part in (*times, *span))])
