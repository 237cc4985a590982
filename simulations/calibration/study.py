"""How good is the loss model? Predicted against measured loss rise, for random plans and for chosen ones.

A solver minimises the model's loss, not the network's. So the study asks three things: how predictions of random plans
rank and scale against measurements, with couplings and without; which shrinkage of the couplings and how many
calibration images it takes; and whether solving the same problem better makes the network better. Every plan is
stored on one chip, read back, and measured on the test images.

In the folder of a run: `plans.csv`, one line a plan, appended as it ends; `summary.json`; `calibration.png`, `.svg`.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

import physcomp
import qubo
from devices.files import replacing
from physcomp.choice.planning import plan_of
from physcomp.storage.measure import measure
from physcomp.threads import in_threads
from simulations.runs.ledger import Ledger
from simulations.runs.progress import Progress
from simulations.runs.study import Study, claim, find_parts

REDRAWN = (0.03, 0.1, 0.3, 1.0)  # shares of the groups that a random plan draws anew; our choice
RANDOM, CHOSEN = "random", "chosen"


@dataclass(frozen=True)
class Row:
    """One plan: how it came about, what was predicted of it, and what was measured.

    Args:
        plan: `random` or `chosen`.
        number: of the plan among the random ones of its budget; 0 for chosen ones.
        budget: cells per weight.
        images: calibration images of the model that chose it; of the whole model for random plans.
        shrinkage: factor on the couplings in that model.
        solver: that chose it; `none` for random plans.
        energy: that model's loss rise, nats.
        lower_bound: no choice has less energy; None for random plans.
        plain: loss rise by the model of all images without couplings, nats.
        coupled: the same with couplings in full.
        measured: measured loss rise, nats.
    """

    plan: str
    number: int
    budget: float
    images: int
    shrinkage: float
    solver: str
    energy: float
    lower_bound: float | None
    plain: float
    coupled: float
    measured: float

    @property
    def key(self) -> tuple[str, int, float, int, float, str]:
        """What makes a line the same line."""
        return self.plan, self.number, self.budget, self.images, self.shrinkage, self.solver


Key = tuple[str, int, float, int, float, str]


def run_calibration(study: Study, folder: Path, progress: Progress, *, fresh: bool = False) -> dict[str, Any]:
    """Run a calibration study, or what is left of it.

    Args:
        study: of kind `calibration`; its first card is used.
        folder: where the results go.
        progress: told what is being done.
        fresh: forget results of an earlier run there.

    Returns:
        The summary, as saved.

    Raises:
        ValueError: the folder holds the results of another study, or the study cannot be run.
    """
    torch.set_num_threads(1)
    network, calibration, _, test = find_parts(study)
    claim(folder, study, network, fresh, results=("plans.csv", "summary.json"))
    ledger = Ledger(folder / "plans.csv", Row)
    done = {row.key for row in ledger.rows}
    left = [key for key in _keys(study) if key not in done]
    if left:
        target = study.cards[0]
        models = {}
        counts = sorted({study.calibration, *(key[3] for key in left)})
        with progress.bar("building loss models from more and more images") as bar:
            for number, count in enumerate(counts, start=1):
                models[count] = physcomp.build_model(
                    network,
                    calibration[:count],
                    card=target.card,
                    read_time_s=target.read_time_s,
                    menu=study.menu,
                    seed=study.seed,
                )
                bar(number / len(counts))
        clean = physcomp.evaluate(network.module, test).loss
        with progress.bar(f"choosing, storing and reading back {len(left)} plans") as bar:
            rows = in_threads(lambda key: _row(study, models, key, test, clean), left)
            for count, row in enumerate(rows, start=1):
                ledger.append(row)
                bar(count / len(left))
    summary = summarize(study, network, ledger.rows)
    with replacing(folder / "summary.json") as temporary:
        temporary.write_text(json.dumps(summary, indent=1) + "\n")
    return summary


def _keys(study: Study) -> Iterator[Key]:
    """Every plan of the study: random ones, then chosen ones for each count of images, shrinkage and solver."""
    for budget in study.budgets:
        for number in range(study.trials):
            yield RANDOM, number, budget, study.calibration, 0.0, "none"
    for budget in study.budgets:
        for images in study.image_counts:
            for shrinkage in study.shrinkages:
                for solver in study.solvers:
                    yield CHOSEN, 0, budget, images, shrinkage, solver


def _row(study: Study, models: dict[int, physcomp.LossModel], key: Key, test: physcomp.Images, clean: float) -> Row:
    kind, number, budget, images, shrinkage, solver = key
    model = models[images]
    selection = model.selection(budget, shrinkage=shrinkage)
    bound = None
    if kind == RANDOM:
        choice = _random_choice(selection, number, study.seed)
        energy = selection.energy(choice)
    else:
        solution = qubo.solve(selection, solver, seed=study.seed, certificate=qubo.lower_bound(selection, effort=0))
        choice, energy, bound = solution.choice, solution.energy, solution.lower_bound
    plan = plan_of(model, choice, method=kind, shrinkage=shrinkage)
    ((score,),) = measure(model.network, plan, test, card=model.medium.card, seeds=[study.seed])
    whole = models[max(models)]
    return Row(
        *key,
        energy=energy,
        lower_bound=bound,
        plain=whole.predict(choice, 0.0),
        coupled=whole.predict(choice, 1.0),
        measured=score.loss - clean,
    )


def _random_choice(selection: qubo.Selection, number: int, seed: int) -> NDArray[np.int64]:
    """A random plan within the budget: the uncoupled optimum with a share of the groups drawn anew, at most as dear.

    Plans drawn from all alike would be ruins; these go from near the optimum to far from it.
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


def summarize(study: Study, network: physcomp.Network, rows: list[Row]) -> dict[str, Any]:
    """What the plans show: calibration of random plans, and the measured loss of chosen ones."""
    random = [row for row in rows if row.plan == RANDOM]
    chosen = [row for row in rows if row.plan == CHOSEN]
    return {
        "study": study.name,
        "study_sha256": study.sha256,
        "seed": study.seed,
        "network": {"name": network.name, "sha256": network.sha256},
        "card": study.cards[0].card,
        "read_time_s": study.cards[0].read_time_s,
        "test_images": study.test_images,
        "random_plans": {
            "plans": len(random),
            "without_couplings": _calibration([row.plain for row in random], random),
            "with_couplings": _calibration([row.coupled for row in random], random),
            "by_budget": {
                f"{budget:g}": {
                    "without_couplings": _calibration([r.plain for r in random if r.budget == budget], of),
                    "with_couplings": _calibration([r.coupled for r in random if r.budget == budget], of),
                }
                for budget in study.budgets
                if (of := [row for row in random if row.budget == budget])
            },
        },
        "chosen_plans": [
            {
                "budget_cells_per_weight": row.budget,
                "images": row.images,
                "shrinkage": row.shrinkage,
                "solver": row.solver,
                "energy": row.energy,
                "lower_bound": row.lower_bound,
                "measured_loss_increase": row.measured,
            }
            for row in chosen
        ],
        "better_solved": _better_solved(study, chosen),
        "better_solved_by": _by_solvers(study, chosen),
    }


def _calibration(predicted: list[float], rows: list[Row]) -> dict[str, Any]:
    """Rank correlation, and median and quartiles of measured over predicted, where both are above 1e-4 nats."""
    measured = np.array([row.measured for row in rows])
    ahead = np.array(predicted)
    rank = float(spearmanr(ahead, measured).statistic) if len(rows) > 2 else None
    seen = (ahead > 1e-4) & (measured > 1e-4)
    quartiles = np.quantile(measured[seen] / ahead[seen], (0.25, 0.5, 0.75)).tolist() if seen.any() else None
    return {"plans": len(rows), "rank_correlation": rank, "measured_over_predicted_quartiles": quartiles}


def _better_solved(study: Study, chosen: list[Row]) -> list[dict[str, Any]]:
    """For each count of images and shrinkage: how often the solver of less energy gave the network of less loss."""
    pairs = _pairs(chosen)
    return [
        {"images": images, "shrinkage": shrinkage}
        | _agreeing([pair for pair in pairs if (pair[0].images, pair[0].shrinkage) == (images, shrinkage)])
        for images in study.image_counts
        for shrinkage in study.shrinkages
    ]


def _by_solvers(study: Study, chosen: list[Row]) -> list[dict[str, Any]]:
    """The same for each two solvers, over all counts of images and shrinkages."""
    pairs = _pairs(chosen)
    return [
        {"solvers": [one, other]}
        | _agreeing([pair for pair in pairs if {pair[0].solver, pair[1].solver} == {one, other}])
        for one, other in combinations(study.solvers, 2)
    ]


def _pairs(chosen: list[Row]) -> list[tuple[Row, Row]]:
    """Two solutions each of one problem whose energies are a thousandth or more apart."""
    return [
        (one, other)
        for one, other in combinations(chosen, 2)
        if (one.budget, one.images, one.shrinkage) == (other.budget, other.images, other.shrinkage)
        and abs(one.energy - other.energy) > 1e-3 * abs(one.energy)
    ]


def _agreeing(pairs: list[tuple[Row, Row]]) -> dict[str, int]:
    better = [(one.energy < other.energy) == (one.measured < other.measured) for one, other in pairs]
    return {"pairs": len(pairs), "better_too": sum(better)}


def findings(summary: dict[str, Any]) -> list[str]:
    """The study's answers, in sentences."""
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
