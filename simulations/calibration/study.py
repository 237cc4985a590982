"""Studies of kind `calibration`: how well does the loss model predict the measured loss increase?

A solver minimises the loss of the model, not of the network. So the study asks three questions. How do predictions for
random plans compare with measurements, in rank and size, with and without couplings? Which shrinkage of the couplings
and how many calibration images are needed? Does a better solution of the same problem give a better network? Every plan
is stored on one chip, read back, and measured on the test images.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, product
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import model_validator
from scipy.stats import spearmanr

import devices
import physcomp
import qubo
from physcomp.choice.planning import plan_of
from physcomp.codes.menu import DEFAULT
from simulations.calibration.figure import predicted_vs_measured
from simulations.runs import fields
from simulations.runs.kind import Kind, Section, Tables
from simulations.runs.metrics import Scorer
from simulations.runs.progress import Progress
from simulations.runs.study import NetworkStudy

REDRAWN = (0.03, 0.1, 0.3, 1.0)  # shares of the groups that get a random code in a random plan; our choice
RANDOM, CHOSEN = "random", "chosen"


class CalibrationStudy(NetworkStudy):
    """The fields of a study of kind `calibration`, besides those of `NetworkStudy`.

    Args:
        card: name or file of the card.
        read_time_s: seconds from programming to reading.
        budgets: cells per weight.
        calibration: number of calibration images of the model that predicts.
        test_images: number of test images on which plans are measured.
        trials: number of random plans for each budget.
        menu: names of the codes offered.
        image_counts: numbers of calibration images of the models that choose plans.
        shrinkages: factors on the couplings in these models.
        solvers: names of solvers of `qubo.solve`, all for the same problems.
    """

    kind: Literal["calibration"] = "calibration"
    network: fields.Source
    card: fields.CardName
    read_time_s: fields.Number = 0.0
    budgets: fields.Budgets
    calibration: fields.Count = 2000
    test_images: fields.Count = 4000
    trials: fields.Count = 5
    menu: fields.Menu = DEFAULT
    image_counts: Annotated[tuple[fields.Count, ...], fields.AtLeastOne, fields.Once] = (100, 500, 2000)
    shrinkages: Annotated[tuple[fields.Share, ...], fields.AtLeastOne, fields.Once] = physcomp.Search.shrinkages
    solvers: Annotated[tuple[fields.SolverName, ...], fields.AtLeastOne, fields.Once] = (
        "random",
        "lagrangian",
        "annealer",
    )

    @model_validator(mode="after")
    def _fits(self) -> "CalibrationStudy":
        devices.load_card(self.card).check_time(self.read_time_s)
        if max(self.image_counts) > self.calibration:
            raise ValueError(f"image_counts go up to calibration, {self.calibration}, got {max(self.image_counts)}")
        return self


class PlanTrial(NamedTuple):
    """The key of a trial: one plan on one chip.

    Args:
        plan: `random` or `chosen`.
        number: number among the random plans of its budget; 0 for chosen ones.
        budget: cells per weight.
        images: number of calibration images of the model that chose it; for random plans of the model that predicts.
        shrinkage: factor on the couplings in that model.
        solver: the solver that chose it; `none` for random plans.
    """

    plan: str
    number: int
    budget: float
    images: int
    shrinkage: float
    solver: str


class Calibration(Kind[CalibrationStudy, PlanTrial]):
    """The loss increases of plans, predicted and measured. Metrics, in nats:

    energy       loss increase by the model that chose the plan
    lower_bound  no choice has less energy; None for random plans
    plain        loss increase by the model from all images, without couplings
    coupled      the same with full couplings
    measured     measured loss increase
    """

    model = CalibrationStudy
    key = PlanTrial
    doing = "choosing, storing and reading back plans"

    def __init__(self, study: CalibrationStudy, folder: Path, progress: Progress) -> None:
        super().__init__(study, folder, progress)
        self.images, self.test = study.samples(exactly=True, calibration="calibration", test="test_images").values()
        self.network = study.opened(self.images)

    @property
    def numbers(self) -> tuple[str, ...]:
        """The metrics that random and chosen plans have."""
        return ("energy", "plain", "coupled", "measured")

    def fingerprints(self) -> dict[str, str]:
        """Fingerprints of the study and of its network."""
        return {**super().fingerprints(), "network": f"{self.network.name} {self.network.sha256}"}

    def tasks(self) -> Iterator[list[PlanTrial]]:
        """All plans: random ones, then chosen ones for each number of images, shrinkage and solver."""
        study = self.study
        for budget in study.budgets:
            for number in range(study.trials):
                yield [PlanTrial(RANDOM, number, budget, study.calibration, 0.0, "none")]
        for budget in study.budgets:
            for images in study.image_counts:
                for shrinkage in study.shrinkages:
                    for solver in study.solvers:
                        yield [PlanTrial(CHOSEN, 0, budget, images, shrinkage, solver)]

    def begin(self, left: Sequence[Sequence[PlanTrial]]) -> None:
        """Build the loss models that the remaining tasks need, and measure the clean network."""
        study, self.models = self.study, dict[int, physcomp.LossModel]()
        counts = sorted({study.calibration, *(key.images for keys in left for key in keys)})
        with self.progress.bar("building loss models from more and more images") as bar:
            for number, count in enumerate(counts, start=1):
                self.models[count] = physcomp.build_model(
                    self.network,
                    self.images[:count],
                    card=study.card,
                    read_time_s=study.read_time_s,
                    menu=study.menu,
                    seed=study.seed,
                )
                bar(number / len(counts))
        self.scorer = Scorer.of(self.network, self.test)

    def measure(self, keys: Sequence[PlanTrial]) -> list[dict[str, Any]]:
        """Choose a plan, predict its loss by the model from all images, and measure it on one chip."""
        ((kind, number, budget, images, shrinkage, solver),) = keys
        model, seed = self.models[images], self.study.seed
        selection = model.selection(budget, shrinkage=shrinkage)
        bound = None
        if kind == RANDOM:
            choice = random_choice(selection, number, seed)
            energy = selection.energy(choice)
        else:
            solution = qubo.solve(selection, solver, seed=seed, certificate=qubo.lower_bound(selection, effort=0))
            choice, energy, bound = solution.choice, solution.energy, solution.lower_bound
        plan = plan_of(model, choice, method=kind, shrinkage=shrinkage)
        state = physcomp.store(self.network, plan, card=model.medium.card, seed=seed).read_back()
        whole = self.models[max(self.models)]
        return [
            {
                "energy": energy,
                "lower_bound": bound,
                "plain": whole.predict(choice, 0.0),
                "coupled": whole.predict(choice, 1.0),
                "measured": self.scorer.of_state(self.network, state)["loss"] - self.scorer.clean_score.loss,
            }
        ]

    def tables(self, trials: pl.DataFrame) -> Tables:
        """The findings, in sentences."""
        summary = summarize(self.study, self.network, trials)
        return Tables(summary, [Section(lines=findings(summary))])

    def figures(self, trials: pl.DataFrame, summary: dict[str, Any]) -> Iterable[Path]:
        """Draw predictions against measurements."""
        return predicted_vs_measured(trials, summary, self.folder)


def random_choice(selection: qubo.Selection, number: int, seed: int) -> NDArray[np.int64]:
    """A random choice within the budget: the optimum without couplings, with random codes in a share of the groups.

    A random code costs at most as much as the one it replaces. Entirely random plans would all be useless; these range
    from near the optimum to far from it.
    """
    generator = np.random.default_rng((seed, number))
    plain = selection.with_couplings(0.0)
    choice = qubo.solve(plain, "lagrangian", seed=seed).choice.copy()
    anew = generator.random(selection.groups) < REDRAWN[number % len(REDRAWN)]
    for group in np.flatnonzero(anew):
        cost = selection.cost[group]
        affordable = np.flatnonzero((cost <= cost[choice[group]]) & np.isfinite(selection.loss[group]))
        choice[group] = generator.choice(affordable)
    return choice


def summarize(study: CalibrationStudy, network: physcomp.Network, trials: pl.DataFrame) -> dict[str, Any]:
    """Evaluate the plans: how well random ones are predicted, and what chosen ones lose."""
    random = trials.filter(pl.col("plan") == RANDOM)
    chosen = trials.filter(pl.col("plan") == CHOSEN)
    return {
        "study": study.name,
        "study_sha256": study.sha256,
        "seed": study.seed,
        "network": {"name": network.name, "sha256": network.sha256},
        "card": study.card,
        "read_time_s": study.read_time_s,
        "test_images": study.test_images,
        "random_plans": {
            "plans": len(random),
            **_predictions(random),
            "by_budget": {
                fields.short(budget): _predictions(of)
                for budget in study.budgets
                if not (of := random.filter(pl.col("budget") == budget)).is_empty()
            },
        },
        "chosen_plans": chosen.select(
            "images",
            "shrinkage",
            "solver",
            "energy",
            "lower_bound",
            budget_cells_per_weight="budget",
            measured_loss_increase="measured",
        ).to_dicts(),
        "better_solved": better_solved(study, chosen),
        "better_solved_by": better_solved_by(study, chosen),
    }


def _predictions(random: pl.DataFrame) -> dict[str, Any]:
    return {
        "without_couplings": calibration(random["plain"], random["measured"]),
        "with_couplings": calibration(random["coupled"], random["measured"]),
    }


def calibration(predicted: pl.Series, measured: pl.Series) -> dict[str, Any]:
    """Rank correlation; median and quartiles of measured over predicted loss increases where both exceed 1e-4 nats."""
    ahead, found = predicted.to_numpy(), measured.to_numpy()
    rank = float(spearmanr(ahead, found).statistic) if len(ahead) > 2 else None
    seen = (ahead > 1e-4) & (found > 1e-4)
    quartiles = np.quantile(found[seen] / ahead[seen], (0.25, 0.5, 0.75)).tolist() if seen.any() else None
    return {"plans": len(ahead), "rank_correlation": rank, "measured_over_predicted_quartiles": quartiles}


def pairs(chosen: pl.DataFrame) -> pl.DataFrame:
    """Pairs of solutions of one problem (`solver`, `solver_other`) whose energies differ by a thousandth or more.

    The column `agree` says whether the solution with less energy also has less measured loss.
    """
    problem = ["budget", "images", "shrinkage"]
    rows = chosen.with_row_index("row").select("row", *problem, "solver", "energy", "measured")
    both = rows.join(rows, on=problem, suffix="_other").filter(
        pl.col("row") < pl.col("row_other"),
        (pl.col("energy") - pl.col("energy_other")).abs() > 1e-3 * pl.col("energy").abs(),
    )
    less, less_loss = (pl.col(name) < pl.col(f"{name}_other") for name in ("energy", "measured"))
    return both.with_columns(agree=less == less_loss)


def better_solved(study: CalibrationStudy, chosen: pl.DataFrame) -> list[dict[str, Any]]:
    """For each number of images and shrinkage: how often the solution with less energy has less measured loss."""
    found = pairs(chosen)
    return [
        {"images": count, "shrinkage": factor}
        | _agreeing(found.filter(pl.col("images") == count, pl.col("shrinkage") == factor))
        for count, factor in product(study.image_counts, study.shrinkages)
    ]


def better_solved_by(study: CalibrationStudy, chosen: pl.DataFrame) -> list[dict[str, Any]]:
    """The same for each pair of solvers, over all numbers of images and shrinkages."""
    found = pairs(chosen)
    return [
        {"solvers": list(two)}
        | _agreeing(found.filter(*(pl.col(name).is_in(list(two)) for name in ("solver", "solver_other"))))
        for two in combinations(study.solvers, 2)
    ]


def _agreeing(found: pl.DataFrame) -> dict[str, int]:
    return {"pairs": len(found), "better_too": int(found["agree"].sum())}


def findings(summary: dict[str, Any]) -> list[str]:
    """The findings of the study, in sentences."""
    lines = []
    random = summary["random_plans"]
    for name in ("without_couplings", "with_couplings"):
        of = random[name]
        if of["rank_correlation"] is None or of["measured_over_predicted_quartiles"] is None:
            continue
        low, middle, high = of["measured_over_predicted_quartiles"]
        lines.append(
            f"{of['plans']} random plans, predicted {name.replace('_', ' ')}: rank correlation "
            f"{of['rank_correlation']:.3f}; measured over predicted rise {middle:.2f} "
            f"(quartiles {low:.2f}, {high:.2f})."
        )
    for of in summary["better_solved"]:
        if of["pairs"]:
            lines.append(
                f"{of['images']:,} images, couplings × {of['shrinkage']:g}: of {of['pairs']} pairs of solutions of one "
                f"problem the one of less energy had the less measured loss in {of['better_too']}."
            )
    for of in summary["better_solved_by"]:
        if of["pairs"]:
            lines.append(
                f"{' against '.join(of['solvers'])}, all of these: of {of['pairs']} pairs the one of less energy had "
                f"the less measured loss in {of['better_too']}."
            )
    return lines
