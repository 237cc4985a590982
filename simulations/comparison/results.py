"""Results of studies that compare ways of storing: one row per plan and read time, and a summary per card."""

import platform
from importlib.metadata import version
from typing import Any

import polars as pl
from scipy.stats import spearmanr

import devices
import physcomp
from physcomp.codes import Medium
from simulations.comparison.plans import JOINT, TRAINED, Planned
from simulations.comparison.stored import StoredKind
from simulations.runs.fields import short
from simulations.runs.metrics import mean_sd
from simulations.runs.study import StudyCard

POINTS = 0.005  # of the metric; what "within half a point" means


def by_plan(kind: StoredKind[Any], trials: pl.DataFrame) -> pl.DataFrame:
    """One row per plan and read time: its cells, mean and standard deviation of each metric, and predictions.

    The column `place` numbers the cards with their read times, in the order of the study.
    """
    groups = trials.partition_by("card", "read_time_s", "method", "budget", "plan", as_dict=True, maintain_order=True)
    rows = []
    for place, (of, time_s) in enumerate(kind.placed):
        practical = bits_bch(of.card)
        for plan in of.plans:
            sha256, budget = plan.sha256, kind.budget_of(plan)
            mine = groups[plan.card, time_s, plan.method, budget, sha256[:12]]
            spreads = {name: mean_sd(mine[name].to_list()) for name in kind.numbers}
            proof = plan.proof
            rows.append(
                {
                    "place": place,
                    "method": plan.method,
                    "budget_cells_per_weight": budget,
                    "cells_per_weight": plan.cells / kind.weights,
                    "cells_per_weight_bch": cells_bch(plan, practical, kind.weights),
                    "trials": len(mine),
                    **{f"{name}_mean": mean for name, (mean, _) in spreads.items()},
                    **{f"{name}_sd": sd for name, (_, sd) in spreads.items()},
                    # The predictions in a trained plan are from before training.
                    "predicted_loss_increase": None if plan.method == TRAINED else proof.predicted_loss_increase,
                    "measured_loss_increase": spreads["loss"][0] - kind.scorer.clean_score.loss,
                    "energy": proof.energy,
                    "lower_bound": proof.lower_bound,
                    "gap": proof.gap,
                    "solver": proof.solver,
                    "solver_kind": proof.kind,
                    "seconds": proof.seconds,
                    "shrinkage": proof.shrinkage,
                    "menu_part": proof.part,
                    "heldout_loss": proof.heldout_loss,
                    "plan_sha256": sha256,
                }
            )
    return pl.DataFrame(rows, infer_schema_length=None)


def bits_bch(at: StudyCard) -> float | None:
    """Bits per cell with a BCH code, at all times of the card; None if there are too many errors for any code."""
    card = devices.load_card(at.card)
    try:
        return Medium(card, at.read_time_s, ecc="bch", span_s=at.read_times_s).bits_per_cell
    except ValueError:
        return None


def cells_bch(plan: physcomp.Plan, practical: float | None, weights: int) -> float | None:
    """Cells per weight of a plan if its bits are stored with a BCH code; None if no code is strong enough."""
    if practical is None:
        return None
    analog = plan.ledger["analog"]
    return (analog + (plan.cells - analog) * plan.bits_per_cell / practical) / weights


def summarize(kind: StoredKind[Any], results: pl.DataFrame) -> dict[str, Any]:
    """The content of `summary.json`: the study, and under `cards` the results on each card at each read time."""
    clean, study = kind.scorer.clean_score, kind.study
    return {
        "study": study.name,
        "kind": study.kind,
        "study_sha256": study.sha256,
        "physcomp": version("physcomp"),
        "python": platform.python_version(),
        "seed": study.seed,
        "network": {"name": kind.network.name, "parameters": kind.weights, "sha256": kind.network.sha256},
        "clean_accuracy": clean.accuracy,
        "clean_loss": clean.loss,
        "metric": kind.network.task.metric,
        "test_images": len(kind.test),
        "trials": study.trials,
        "remarks": list(kind.remarks),
        "cards": [
            _card(of, time_s, at(results, place), clean.accuracy) for place, (of, time_s) in enumerate(kind.placed)
        ],
    }


def at(results: pl.DataFrame, place: int) -> pl.DataFrame:
    """The results on one card at one read time."""
    return results.filter(pl.col("place") == place).drop("place")


def _card(of: Planned, time_s: float, results: pl.DataFrame, clean: float) -> dict[str, Any]:
    first = of.plans[0]
    rows = [
        {**row, "share_of_codes": plan.share_of_codes(), "ledger_cells": plan.ledger}
        for row, plan in zip(results.to_dicts(), of.plans, strict=True)
    ]
    return {
        "card": first.card,
        "card_sha256": first.card_sha256,
        "read_time_s": time_s,
        "read_times_s": list(of.card.read_times_s),
        "over": of.card.over,
        "bits_per_cell": first.bits_per_cell,
        "bits_per_cell_bch": bits_bch(of.card),
        "ecc": first.ecc,
        "shrinkage_of_predictions": of.shrinkage,
        "results": rows,
        "rank_correlation": rank_correlation(results),
        "joint": joint_against_others(results, clean),
    }


def rank_correlation(results: pl.DataFrame) -> float | None:
    """Spearman's rank correlation of predicted and measured loss increases of plans; None for fewer than three."""
    plans = results.filter(pl.col("method") != TRAINED).unique("plan_sha256", keep="last", maintain_order=True)
    if len(plans) < 3:
        return None
    return float(spearmanr(plans["predicted_loss_increase"], plans["measured_loss_increase"]).statistic)


def joint_against_others(results: pl.DataFrame, clean: float) -> dict[str, Any]:
    """Compare the joint plans with the clean network, with the best other method and with 32-bit floats.

    Args:
        results: results on one card at one read time.
        clean: accuracy of the clean network.
    """
    joint = results.filter(pl.col("method") == JOINT)
    cheapest = joint.filter(clean - pl.col("accuracy_mean") <= POINTS)["cells_per_weight"].min()
    copies = results.filter(pl.col("method") == "uniform float32")["cells_per_weight"].to_list()
    return {
        "against_others": [against for plan in joint.to_dicts() if (against := _against(plan, results))],
        "points_lost": {
            short(budget): 100 * (clean - accuracy)
            for budget, accuracy in joint.select("budget_cells_per_weight", "accuracy_mean").iter_rows()
        },
        "cheapest_within_half_a_point": cheapest,
        "float32_over_cheapest": copies[0] / cheapest if copies and cheapest else None,
    }


def _against(joint: dict[str, Any], results: pl.DataFrame) -> dict[str, Any] | None:
    """Compare a joint plan with the best other method within its budget; None if there is none."""
    budget = joint["budget_cells_per_weight"]
    others = results.filter(~pl.col("method").is_in([JOINT, TRAINED]) & (pl.col("cells_per_weight") <= budget))
    if others.is_empty():
        return None
    best = others.sort("loss_mean", maintain_order=True).row(0, named=True)
    return {
        "budget_cells_per_weight": budget,
        "best_other": best["method"],
        "loss_ratio": joint["loss_mean"] / best["loss_mean"],
        "accuracy_minus_best_other": joint["accuracy_mean"] - max(others["accuracy_mean"]),
    }
