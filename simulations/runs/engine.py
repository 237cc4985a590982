"""The engine: runs a study from its file to its summary and figure, and resumes what a killed run left.

In the folder of a run:
    study.toml        the study as it was run
    plans/*.json      the plan of every method, card by card, as soon as all of a card's are chosen
    trials.csv        one line a trial, appended as it ends
    plan-*.json       the joint plan of each budget (further cards: with the card's name)
    chip-*.h5         a chip of it, programmed with the study's seed
    summary.json      everything in numbers
    accuracy-vs-cells.png, .svg; for a protection or footprint study another figure, and a table as CSV

A card that is read at several times has one plan for all of them, and results at each.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import devices
import physcomp
from devices.files import replacing
from physcomp.choice.joint import Search, choose
from physcomp.networks.layers import weights_of
from physcomp.threads import in_threads
from simulations.runs.ledger import Ledger, Row
from simulations.runs.progress import Progress
from simulations.runs.study import Study, Target, claim, find_parts
from simulations.runs.trained import Trained, find_trained

JOINT, UNCOUPLED, TRAINED = "joint", "joint, no couplings", "joint + training"
RESULTS = ("trials.csv", "plans/*.json", "plan-*.json", "chip-*.h5", "summary.json", "protection.csv", "footprint.csv")


@dataclass(frozen=True, eq=False)
class CardRun:
    """The plans of all methods on one card, and their trials at one time.

    Args:
        target: the card and its times.
        read_time_s: the one of them at which these trials were read, in seconds.
        plans: of every method and budget.
        shrinkage: the factor on couplings with which losses are predicted.
        rows: the trials, plan by plan.
    """

    target: Target
    read_time_s: float
    plans: tuple[physcomp.Plan, ...]
    shrinkage: float
    rows: tuple[Row, ...]

    def rows_of(self, plan: physcomp.Plan) -> list[Row]:
        """The trials of one plan."""
        return [row for row in self.rows if (row.plan, row.method) == (plan.sha256[:12], plan.method)]


@dataclass(frozen=True, eq=False)
class Run:
    """A finished study.

    Args:
        study: what was run.
        network: the network that was stored.
        weights: their number, by which the cells of all plans are divided, those of trained plans too, whose networks
            may have fewer.
        clean: its score on the test images.
        cards: what came of each card at each of its times.
    """

    study: Study
    network: physcomp.Network
    weights: int
    clean: physcomp.Score
    cards: tuple[CardRun, ...]


def run_study(study: Study, folder: Path, progress: Progress, *, fresh: bool = False) -> Run:
    """Run a study, or what is left of it.

    Args:
        study: as `simulations.runs.study.load_study` reads it.
        folder: where the results go.
        progress: told what is being done.
        fresh: forget results of an earlier run there.

    Raises:
        ValueError: the folder holds the results of another study, or the study cannot be run.
    """
    torch.set_num_threads(1)  # trials run side by side instead; results then do not depend on the processors
    network, calibration, heldout, test = find_parts(study)
    weights = weights_of(network)
    trained = find_trained(study, network)
    claim(folder, study, network, fresh, RESULTS)
    with progress.step("compiling kernels (the first run only) and measuring the clean network"):
        clean = physcomp.evaluate(network.module, test)
        for target in study.cards:
            devices.reliable_bits(devices.load_card(target.card), target.read_time_s)
    plans = _all_plans(study, folder, network, calibration, heldout, progress)
    for target, (of_card, _) in zip(study.cards, plans, strict=True):
        of_card.extend(each.plan.named(TRAINED) for each in trained if each.target == target)
    ledger = Ledger(folder / "trials.csv", Row)
    _measure(_Stored(study, network, weights, trained), test, plans, ledger, progress)
    cards = tuple(
        CardRun(target, time_s, tuple(of_card), shrinkage, _rows(ledger, of_card[0], time_s))
        for target, (of_card, shrinkage) in zip(study.cards, plans, strict=True)
        for time_s in target.measured_s
    )
    return Run(study, network, weights, clean, cards)


def _rows(ledger: Ledger[Row], plan: physcomp.Plan, time_s: float) -> tuple[Row, ...]:
    """The trials on the card of a plan at a time."""
    return tuple(r for r in ledger.rows if (r.card, r.read_time_s) == (plan.card, time_s))


Planned = tuple[list[physcomp.Plan], float]


def _all_plans(
    study: Study,
    folder: Path,
    network: physcomp.Network,
    calibration: physcomp.Images,
    heldout: physcomp.Images,
    progress: Progress,
) -> list[Planned]:
    """The plans of every card: from the folder where all of a card's are there, else chosen."""
    (folder / "plans").mkdir(exist_ok=True)
    paths = [folder / "plans" / f"{_slug(target)}.json" for target in study.cards]
    missing = [(target, path) for target, path in zip(study.cards, paths, strict=True) if not path.exists()]
    for over in dict.fromkeys((target.read_times_s, target.over) for target, _ in missing):
        alike = [(target, path) for target, path in missing if (target.read_times_s, target.over) == over]
        with progress.bar("measuring what each code does to each filter") as bar:
            models = physcomp.build_models(
                network,
                calibration,
                [(target.card, target.read_time_s) for target, _ in alike],
                menu=study.menu,
                compared=study.compared,
                storage=study.storage,
                read_times_s=over[0],
                over=over[1],
                seed=study.seed,
                progress=bar,
            )
        for model, (target, path) in zip(models, alike, strict=True):
            with progress.bar(f"choosing codes for {target.card}") as bar:
                search = Search(
                    shrinkages=study.shrinkages,
                    parts=("all", *dict.fromkeys(part for _, part in study.parts)),
                    solver=study.solver,
                    seed=study.seed,
                )
                choices = choose(model, heldout, study.budgets, search=search, progress=bar)
            plans = [*_chosen(study, choices), *_uniform(study, model, choices.shrinkage)]
            _write(path, {"shrinkage": choices.shrinkage, "plans": [json.loads(p.to_json()) for p in plans]})
    return [_read_plans(path) for path in paths]


def _chosen(study: Study, choices: physcomp.Choices) -> Iterator[physcomp.Plan]:
    for budget in study.budgets:
        yield choices.best(budget).named(JOINT)
        yield choices.best(budget, part="all", shrinkage=0.0).named(UNCOUPLED)
        for method, part in study.parts:
            yield choices.best(budget, part=part).named(method)


def _uniform(study: Study, model: physcomp.LossModel, shrinkage: float) -> Iterator[physcomp.Plan]:
    for code in study.compared:
        yield physcomp.uniform_plan(model, code, shrinkage=shrinkage).named(f"uniform {code}")


def _read_plans(path: Path) -> Planned:
    content = json.loads(path.read_text())
    plans = [physcomp.Plan.from_json(json.dumps(fields), str(path)) for fields in content["plans"]]
    return plans, float(content["shrinkage"])


@dataclass(frozen=True, eq=False)
class _Stored:
    """What plans store: the network of the study, or the trained one of a plan."""

    study: Study
    network: physcomp.Network
    weights: int
    trained: tuple[Trained, ...]

    def network_of(self, plan: physcomp.Plan) -> physcomp.Network:
        return next((each.network for each in self.trained if each.plan.sha256 == plan.sha256), self.network)

    def row(self, plan: physcomp.Plan, trial: int, time_s: float, score: physcomp.Score | None = None) -> Row:
        """The ledger's line of a trial; without a score, for its key only."""
        return Row(
            card=plan.card,
            read_time_s=time_s,
            method=plan.method,
            budget=budget_of(plan, self.weights),
            cells_per_weight=plan.cells / self.weights,
            plan=plan.sha256[:12],
            trial=trial,
            seed=self.study.seed + trial,
            loss=score.loss if score else float("nan"),
            accuracy=score.accuracy if score else float("nan"),
        )


def budget_of(plan: physcomp.Plan, weights: int) -> float | None:
    """The budget of a plan in cells per weight of the network at the start, which had so many weights."""
    if plan.budget is None or plan.weights == weights:
        return plan.budget
    return round(plan.budget * plan.weights / weights, 9)


def _measure(
    stored: _Stored, test: physcomp.Images, plans: list[Planned], ledger: Ledger[Row], progress: Progress
) -> None:
    """Measure every trial that the ledger lacks, in order; noiseless plans read back alike on every chip.

    Methods that came to the same plan share its trials, each with a line of its own.
    """
    done = {row.key for row in ledger.rows}
    tasks: dict[tuple[str, int], list[physcomp.Plan]] = {}
    targets: dict[str, Target] = {}
    for target, (of_card, _) in zip(stored.study.cards, plans, strict=True):
        for plan in of_card:
            targets[plan.sha256] = target
            for trial in range(1 if plan.noiseless else stored.study.trials):
                tasks.setdefault((plan.sha256, trial), []).append(plan)
    # Filtered only now: the order of the lines must not depend on which are there already.
    left: dict[tuple[str, int], list[tuple[float, physcomp.Plan]]] = {}
    for (sha256, trial), same in tasks.items():
        lines = [(time_s, plan) for time_s in targets[sha256].measured_s for plan in same]
        lacking = [(time_s, plan) for time_s, plan in lines if stored.row(plan, trial, time_s).key not in done]
        if lacking:
            left[sha256, trial] = lacking

    def measure(task: tuple[tuple[str, int], list[tuple[float, physcomp.Plan]]]) -> list[Row]:
        (sha256, trial), lines = task
        network, card = stored.network_of(lines[0][1]), devices.load_card(targets[sha256].card)
        chip = physcomp.store(network, lines[0][1], card=card, seed=stored.study.seed + trial)
        scores = {
            time_s: physcomp.evaluate_state(network, chip.read_back(time_s=time_s), test)
            for time_s in dict.fromkeys(time_s for time_s, _ in lines)
        }
        return [stored.row(plan, trial, time_s, scores[time_s]) for time_s, plan in lines]

    with progress.bar(f"programming chips and reading them back ({len(left)} trials)") as bar:
        for count, rows in enumerate(in_threads(measure, left.items()), start=1):
            for row in rows:
                ledger.append(row)
            bar(count / len(left))


def save_joint(run: Run, folder: Path) -> None:
    """Write the joint plan of each budget and card, and a chip of it."""
    of_target = {card.target: card for card in run.cards}
    for number, (target, card) in enumerate(of_target.items()):
        prefix = "" if number == 0 else f"{_slug(target)}-"
        for plan in card.plans:
            if plan.method == JOINT:
                plan.save(folder / f"plan-{prefix}{plan.budget:g}.json")
                chip = physcomp.store(run.network, plan, card=target.card, seed=run.study.seed)
                chip.save(folder / f"chip-{prefix}{plan.budget:g}.h5")


def _slug(target: Target) -> str:
    name = Path(target.card).name.replace(":", "-")
    if name.endswith(".toml"):  # files in different folders may have one name
        name = f"{Path(name).stem}-{devices.load_card(target.card).sha256[:8]}"
    times = [target.read_time_s] if target.read_time_s else []
    span = [*target.read_times_s, target.over] if target.read_times_s else []
    return "-".join([name, *(part if isinstance(part, str) else f"{part:g}s" for part in (*times, *span))])


def _write(path: Path, content: object) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, default=_plain) + "\n")


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value)} has no JSON form")
