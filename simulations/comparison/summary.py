"""The summary of a run: every result with its spread, and what was to be shown held against what was measured."""

import csv
import json
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scipy.stats import spearmanr

import devices
import physcomp
from devices.files import replacing
from physcomp.codes import Medium
from simulations.runs.engine import JOINT, TRAINED, UNCOUPLED, CardRun, Run, budget_of
from simulations.runs.ledger import Row
from simulations.runs.readback import Trial, spread

# What the joint choice is meant to hold on test images against any other method of as many cells; our goals.
LOSS_MARGIN = 0.03
ACCURACY_MARGIN = 0.003
POINTS = 0.005  # the accuracy that may be lost, half a point
FLOAT32_RATIO = 15.0


def summarize(run: Run) -> dict[str, Any]:
    """The content of `summary.json`: the first card's results at the top, further cards under `further_cards`."""
    first, *further = (_card(run, card) for card in run.cards)
    return {
        "study": run.study.name,
        "study_sha256": run.study.sha256,
        "physcomp": version("physcomp"),
        "python": platform.python_version(),
        "seed": run.study.seed,
        "network": {
            "name": run.network.name,
            "weights": run.weights,
            "sha256": run.network.sha256,
        },
        "clean_accuracy": run.clean.accuracy,
        "clean_loss": run.clean.loss,
        "test_images": run.study.test_images,
        "trials": run.study.trials,
        **first,
        "further_cards": further,
    }


def _card(run: Run, card: CardRun) -> dict[str, Any]:
    practical = _practical(card)
    results = [_result(run, card, plan, practical) for plan in card.plans]
    return {
        "card": card.plans[0].card,
        "card_sha256": card.plans[0].card_sha256,
        "clean_accuracy": run.clean.accuracy,
        "read_time_s": card.read_time_s,
        "read_times_s": list(card.target.read_times_s),
        "over": card.target.over,
        "bits_per_cell": card.plans[0].bits_per_cell,
        "bits_per_cell_bch": practical,
        "storage": card.plans[0].storage,
        "shrinkage_of_predictions": card.shrinkage,
        "results": results,
        "rank_correlation": rank_correlation([r for r in results if r["method"] != TRAINED]),
        "goals": _goals(run, results),
    }


def _practical(card: CardRun) -> float | None:
    """Bits a cell with a BCH code, at all times of the card; None where its errors are too many for any."""
    medium = Medium(
        devices.load_card(card.target.card), card.target.read_time_s, storage="bch", span_s=card.target.read_times_s
    )
    try:
        return medium.bits_per_cell
    except ValueError:
        return None


def _cells_bch(plan: physcomp.Plan, practical: float | None) -> float | None:
    """Cells of a plan whose bits are stored with a BCH code; None where none is strong enough."""
    if practical is None:
        return None
    analog = plan.ledger["analog"]
    return analog + (plan.cells - analog) * plan.bits_per_cell / practical


def _result(run: Run, card: CardRun, plan: physcomp.Plan, practical: float | None) -> dict[str, Any]:
    """What came of a plan; a trained plan's own predictions were made before training and are left out."""
    over = spread(_trials(card.rows_of(plan)))
    cells_bch = _cells_bch(plan, practical)
    proof = plan.proof
    return {
        "method": plan.method,
        "budget_cells_per_weight": budget_of(plan, run.weights),
        "cells_per_weight": plan.cells / run.weights,
        "cells_per_weight_bch": None if cells_bch is None else cells_bch / run.weights,
        "trials": over.trials,
        "accuracy_mean": over.accuracy_mean,
        "accuracy_sd": over.accuracy_sd,
        "loss_mean": over.loss_mean,
        "loss_sd": over.loss_sd,
        "predicted_loss_increase": None if plan.method == TRAINED else proof.predicted_loss_increase,
        "measured_loss_increase": over.loss_mean - run.clean.loss,
        "energy": proof.energy,
        "lower_bound": proof.lower_bound,
        "gap": proof.gap,
        "solver": proof.solver,
        "solver_kind": proof.kind,
        "seconds": proof.seconds,
        "shrinkage": proof.shrinkage,
        "menu_part": proof.part,
        "heldout_loss": proof.heldout_loss,
        "share_of_codes": plan.share_of_codes(),
        "ledger_cells": plan.ledger,
        "plan_sha256": plan.sha256,
    }


def _trials(rows: list[Row]) -> list[Trial]:
    return [Trial(row.trial, row.seed, row.read_time_s, 0, row.loss, row.accuracy) for row in rows]


def rank_correlation(results: list[dict[str, Any]]) -> float | None:
    """Spearman's rank correlation of predicted and measured loss increase over all plans; None below three."""
    pairs = {r["plan_sha256"]: (r["predicted_loss_increase"], r["measured_loss_increase"]) for r in results}
    if len(pairs) < 3:
        return None
    return float(spearmanr(*zip(*pairs.values(), strict=True)).statistic)


def _goals(run: Run, results: list[dict[str, Any]]) -> dict[str, Any]:
    """What was to be shown, and whether it holds."""
    joint = [result for result in results if result["method"] == JOINT]
    close = [r for r in joint if run.clean.accuracy - r["accuracy_mean"] <= POINTS]
    cheapest = min((r["cells_per_weight"] for r in close), default=None)
    copies = [r["cells_per_weight"] for r in results if r["method"] == "uniform float32"]
    ratio = copies[0] / cheapest if copies and cheapest else None
    return {
        "joint_against_others": [_against(result, results) for result in joint],
        "points_lost_by_joint": {
            f"{r['budget_cells_per_weight']:g}": 100 * (run.clean.accuracy - r["accuracy_mean"]) for r in joint
        },
        "cheapest_joint_within_half_a_point": cheapest,
        "float32_over_cheapest_joint": ratio,
        "float32_goal_met": None if ratio is None else ratio >= FLOAT32_RATIO,
    }


def _against(joint: dict[str, Any], results: list[dict[str, Any]]) -> dict[str, Any]:
    """The joint plan against the best of the other methods that take no more cells than it was allowed."""
    budget = joint["budget_cells_per_weight"]
    others = [r for r in results if r["method"] not in (JOINT, TRAINED) and r["cells_per_weight"] <= budget]
    best = min(others, key=lambda r: r["loss_mean"])
    ratio = joint["loss_mean"] / best["loss_mean"]
    points = joint["accuracy_mean"] - max(r["accuracy_mean"] for r in others)
    return {
        "budget_cells_per_weight": budget,
        "best_other": best["method"],
        "loss_ratio": ratio,
        "accuracy_minus_best_other": points,
        "holds": ratio <= 1 + LOSS_MARGIN and points >= -ACCURACY_MARGIN,
    }


@dataclass(frozen=True)
class Report:
    """What is printed of a card.

    Args:
        columns: heads of a table.
        rows: its rows.
        lines: what it shows, in sentences.
    """

    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    lines: list[str]


def table_rows(card: dict[str, Any]) -> list[tuple[str, ...]]:
    """A card's results as cells of a table, methods in order, budgets ascending."""
    order = [JOINT, UNCOUPLED]
    ranked = sorted(
        card["results"],
        key=lambda r: (
            r["budget_cells_per_weight"] is None,
            order.index(r["method"]) if r["method"] in order else len(order),
            r["method"] if r["budget_cells_per_weight"] is not None else "",
            r["cells_per_weight"],
        ),
    )
    return [
        (
            r["method"],
            f"{r['cells_per_weight']:.3f}",
            f"{100 * r['accuracy_mean']:.2f} ± {100 * r['accuracy_sd']:.2f}",
            f"{r['loss_mean']:.4f}",
            f"{r['predicted_loss_increase']:.4f}",
            f"{r['measured_loss_increase']:.4f}",
            f"{r['energy']:.4f}",
            "" if r["lower_bound"] is None else f"{r['lower_bound']:.4f}",
        )
        for r in ranked
    ]


def findings(card: dict[str, Any], summary: dict[str, Any]) -> list[str]:
    """What a card's results show, in sentences, goals missed included."""
    goals = card["goals"]
    solvers = sorted({f"{r['solver']} ({r['solver_kind']})" for r in card["results"] if r["solver_kind"] != "none"})
    lines = [
        f"Means over {summary['trials']} chips; plans without analog cells read back alike on every chip. Chosen by "
        f"{', '.join(solvers)}: energy is the loss rise it minimised, and no choice within the budget goes below bound."
    ]
    if card["rank_correlation"] is not None:
        lines.append(
            f"Predicted and measured loss rise over all plans: rank correlation {card['rank_correlation']:.3f}. "
            "Each joint plan is the one of least held-out loss among several shrinkages, parts of the menu and, where "
            "a plan lost more than predicted, a loss model built again on the way to it."
        )
    for against in goals["joint_against_others"]:
        lines.append(
            f"At {against['budget_cells_per_weight']:g} cells/weight the joint choice has "
            f"{against['loss_ratio']:.3f} × the loss of the best other method ({against['best_other']}) and "
            f"{100 * against['accuracy_minus_best_other']:+.2f} points to the most accurate: "
            + ("goal met." if against["holds"] else f"goal MISSED (≤ {1 + LOSS_MARGIN:g} ×, ≥ -0.3 points).")
        )
    lost = ", ".join(f"{points:.2f} at {budget}" for budget, points in goals["points_lost_by_joint"].items())
    lines.append(f"Points lost by the joint choice, without retraining: {lost}.")
    if goals["cheapest_joint_within_half_a_point"] is None:
        lines.append("No joint plan is within half a point of the clean network: goal MISSED.")
    if goals["float32_over_cheapest_joint"] is not None:
        lines.append(
            f"A 32-bit digital copy costs {goals['float32_over_cheapest_joint']:.1f} × the cells of the cheapest joint "
            f"plan within half a point of the clean network ({goals['cheapest_joint_within_half_a_point']:.3f}): "
            + ("goal met." if goals["float32_goal_met"] else f"goal MISSED ({FLOAT32_RATIO:g} ×).")
        )
    return lines


def report(card: dict[str, Any], summary: dict[str, Any]) -> Report:
    """Every result of a card, and what they show."""
    return Report(TABLE_COLUMNS, table_rows(card), findings(card, summary))


def save(summary: dict[str, Any], folder: Path) -> None:
    """Write `summary.json`, under a temporary name first."""
    with replacing(folder / "summary.json") as temporary:
        temporary.write_text(json.dumps(summary, indent=1) + "\n")


TABLE_COLUMNS = (
    "method",
    "cells per weight",
    "accuracy % ± sd",
    "loss",
    "predicted rise",
    "measured rise",
    "energy",
    "bound",
)


def save_entries(summary: dict[str, Any], name: str, columns: tuple[str, ...], path: Path) -> None:
    """Write the entries that every card has under a name as CSV, a line each; what is None is left empty."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("card", "read_time_s", *columns))
        for card in (summary, *summary["further_cards"]):
            for entry in card[name]:
                writer.writerow((card["card"], card["read_time_s"], *(entry[column] for column in columns)))
