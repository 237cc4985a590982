"""The comparison of methods: joint choice against others, rank correlation, table and sentences, from made results."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from scipy.stats import spearmanr

from simulations.bench import goals
from simulations.comparison.plans import JOINT, UNCOUPLED
from simulations.comparison.results import joint_against_others, rank_correlation
from simulations.comparison.storage import COLUMNS, findings, table_rows

CLEAN = 0.920


def result(
    method: str, budget: float | None, cells: float, loss: float, accuracy: float, predicted: float = 0.01
) -> dict[str, Any]:
    return {
        "method": method,
        "budget_cells_per_weight": budget,
        "cells_per_weight": cells,
        "accuracy_mean": accuracy,
        "accuracy_sd": 0.001,
        "loss_mean": loss,
        "loss_sd": 0.002,
        "predicted_loss_increase": predicted,
        "measured_loss_increase": loss - 0.25,
        "energy": predicted,
        "lower_bound": None if budget is None else 0.9 * predicted,
        "solver": "annealer" if budget else "fixed",
        "solver_kind": "classical" if budget else "none",
        "plan_sha256": f"{method} {budget}",
    }


MET = [
    result(JOINT, 0.5, 0.499, 0.300, 0.910, 0.05),
    result(JOINT, 1.0, 0.999, 0.260, 0.918, 0.01),
    result(UNCOUPLED, 0.5, 0.498, 0.310, 0.909, 0.06),
    result(UNCOUPLED, 1.0, 0.990, 0.262, 0.9185, 0.012),
    result("digital codes only", 1.0, 1.0, 0.261, 0.917, 0.02),
    result("uniform analog(1)", None, 1.6, 0.200, 0.950, 0.03),  # too many cells to be compared with
    result("uniform float32", None, 15.0, 0.250, 0.920, 0.0),
]


def frame(results: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(results, infer_schema_length=None)


def compared(results: list[dict[str, Any]]) -> dict[str, Any]:
    return joint_against_others(frame(results), CLEAN)


def changed(method: str, budget: float | None, **values: float) -> list[dict[str, Any]]:
    """The results above with some values of one changed."""
    return [{**r, **values} if (r["method"], r["budget_cells_per_weight"]) == (method, budget) else r for r in MET]


def test_the_joint_choice_is_held_against_the_best_other_of_as_many_cells() -> None:
    found = compared(MET)
    first, second = found["against_others"]
    assert (first["budget_cells_per_weight"], first["best_other"]) == (0.5, UNCOUPLED)
    assert first["loss_ratio"] == pytest.approx(0.300 / 0.310)
    assert second["best_other"] == "digital codes only"  # of less loss, at just the budget
    assert second["loss_ratio"] == pytest.approx(0.260 / 0.261)
    assert second["accuracy_minus_best_other"] == pytest.approx(0.918 - 0.9185)  # another than that of least loss
    assert found["points_lost"] == pytest.approx({"0.5": 1.0, "1": 0.2})
    assert found["cheapest_within_half_a_point"] == 0.999
    assert found["float32_over_cheapest"] == pytest.approx(15.0 / 0.999)


def test_others_of_more_cells_than_the_budget_are_not_compared_with() -> None:
    cheaper = changed("uniform analog(1)", None, cells_per_weight=0.8)
    (_, second) = compared(cheaper)["against_others"]
    assert second["best_other"] == "uniform analog(1)"


def test_a_plan_of_exactly_half_a_point_less_is_within_half_a_point() -> None:
    found = compared(changed(JOINT, 0.5, accuracy_mean=CLEAN - 0.00499))
    assert found["cheapest_within_half_a_point"] == 0.499
    assert found["float32_over_cheapest"] == pytest.approx(15.0 / 0.499)


def test_without_a_close_plan_or_a_copy_the_ratio_is_left_open() -> None:
    far = compared(changed(JOINT, 1.0, accuracy_mean=0.9))
    assert far["cheapest_within_half_a_point"] is far["float32_over_cheapest"] is None
    assert compared(MET[:-1])["float32_over_cheapest"] is None


def test_rank_correlation_is_scipys_over_different_plans() -> None:
    predicted = [r["predicted_loss_increase"] for r in MET]
    measured = [r["measured_loss_increase"] for r in MET]
    expected = spearmanr(predicted, measured).statistic
    assert -1 < expected < 0.99  # by hand: ranks 6 2 7 3 4 5 1 against 6 3 7 5 4 1 2
    assert expected == pytest.approx(1 - 6 * (0 + 1 + 0 + 4 + 0 + 16 + 1) / (7 * 48))
    assert rank_correlation(frame(MET)) == pytest.approx(expected)
    assert rank_correlation(frame([*MET, *MET[:3]])) == pytest.approx(expected)  # one plan under several methods


def test_rank_correlation_of_fewer_than_three_plans_is_left_open() -> None:
    assert rank_correlation(frame(MET[:2])) is None
    assert rank_correlation(frame([MET[0]] * 5)) is None


def test_rank_correlation_is_one_where_order_agrees_and_minus_one_where_it_is_reversed() -> None:
    ordered = [result(f"m{n}", 1.0, 1.0, 0.25 + n, 0.9, predicted=n**3) for n in range(5)]
    assert rank_correlation(frame(ordered)) == pytest.approx(1.0)
    reversed_ = [{**r, "predicted_loss_increase": -r["predicted_loss_increase"]} for r in ordered]
    assert rank_correlation(frame(reversed_)) == pytest.approx(-1.0)


def test_the_table_lists_the_joint_choice_first_and_fixed_plans_last_by_cells() -> None:
    rows = table_rows(frame(list(reversed(MET))))
    assert [(row[0], row[1]) for row in rows] == [(r["method"], f"{r['cells_per_weight']:.3f}") for r in MET]
    assert all(len(row) == len(COLUMNS) for row in rows)
    assert rows[0] == (JOINT, "0.499", "91.00 ± 0.10", "0.3000", "0.0500", "0.0500", "0.0500", "0.0450")
    assert rows[-1][-1] == ""  # nobody proved anything of a fixed plan


def said(results: list[dict[str, Any]]) -> str:
    card = {"results": results, "joint": compared(results), "rank_correlation": rank_correlation(frame(results))}
    return "\n".join(findings(card, 5))


def test_findings_give_ratios_and_no_verdicts() -> None:
    text = said(MET)
    assert "annealer (classical)" in text
    assert "fixed" not in text
    assert f"rank correlation {rank_correlation(frame(MET)):.3f}" in text
    worse = said(changed(JOINT, 1.0, loss_mean=0.30, accuracy_mean=0.916))
    assert "1.149 × the loss of the best other method (digital codes only) and -0.25 points" in worse  # 0.300 / 0.261
    assert "costs 15.0 × the cells" in text
    assert "goal" not in text + worse


def test_findings_say_when_no_joint_plan_comes_within_half_a_point() -> None:
    assert "No joint plan is within half a point" in said(changed(JOINT, 1.0, accuracy_mean=0.9))


@pytest.mark.parametrize(
    ("values", "missed"),
    [
        ({"loss_mean": 0.261 * 1.0299}, 0),
        ({"loss_mean": 0.261 * 1.0301}, 1),
        ({"accuracy_mean": 0.9185 - 0.00299}, 0),
        ({"accuracy_mean": 0.9185 - 0.00301}, 1),
    ],
)
def test_the_goals_allow_the_joint_choice_three_percent_of_loss_and_three_tenths_of_a_point(
    values: dict[str, float], missed: int
) -> None:
    summary = {"cards": [{"card": "A", "joint": compared(changed(JOINT, 1.0, **values))}]}
    assert sum("MISSED" in line for line in goals.lines(summary)) == missed


def test_the_goal_of_floats_is_fifteen_times_the_cells() -> None:
    summary = {"cards": [{"card": "A", "joint": compared(changed("uniform float32", None, cells_per_weight=14.98))}]}
    (line,) = [line for line in goals.lines(summary) if "MISSED" in line]
    assert "32-bit floats take 14.99 ×" in line


def test_the_summary_of_a_run_is_strict_json(tiny_run: Path) -> None:
    """No NaN or Infinity, which other readers of JSON refuse."""

    def refuse(word: str) -> None:
        raise AssertionError(word)

    json.loads((tiny_run / "summary.json").read_text(), parse_constant=refuse)
