"""The summary: goals, rank correlation, table and sentences from results made by hand."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from scipy.stats import spearmanr

import physcomp
from simulations.comparison import summary
from simulations.runs.engine import JOINT, UNCOUPLED

CLEAN = SimpleNamespace(clean=physcomp.Score(loss=0.25, accuracy=0.920))


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


def goals(results: list[dict[str, Any]]) -> dict[str, Any]:
    return summary._goals(CLEAN, results)  # type: ignore[arg-type]


def changed(method: str, budget: float | None, **values: float) -> list[dict[str, Any]]:
    """The results above with some values of one changed."""
    return [{**r, **values} if (r["method"], r["budget_cells_per_weight"]) == (method, budget) else r for r in MET]


def test_goals_that_are_met_are_called_met_with_their_numbers() -> None:
    found = goals(MET)
    first, second = found["joint_against_others"]
    assert (first["budget_cells_per_weight"], first["best_other"], first["holds"]) == (0.5, UNCOUPLED, True)
    assert first["loss_ratio"] == pytest.approx(0.300 / 0.310)
    assert second["best_other"] == "digital codes only"  # of less loss, at just the budget
    assert second["loss_ratio"] == pytest.approx(0.260 / 0.261)
    assert second["accuracy_minus_best_other"] == pytest.approx(0.918 - 0.9185)  # another than that of least loss
    assert second["holds"]
    assert found["points_lost_by_joint"] == pytest.approx({"0.5": 1.0, "1": 0.2})
    assert found["cheapest_joint_within_half_a_point"] == 0.999
    assert found["float32_over_cheapest_joint"] == pytest.approx(15.0 / 0.999)
    assert found["float32_goal_met"] is True


@pytest.mark.parametrize(
    ("values", "holds"),
    [
        ({"loss_mean": 0.261 * 1.0299}, True),
        ({"loss_mean": 0.261 * 1.0301}, False),
        ({"accuracy_mean": 0.9185 - 0.00299}, True),
        ({"accuracy_mean": 0.9185 - 0.00301}, False),
    ],
)
def test_the_joint_choice_may_lose_three_percent_of_loss_and_three_tenths_of_a_point(
    values: dict[str, float], holds: bool
) -> None:
    assert goals(changed(JOINT, 1.0, **values))["joint_against_others"][1]["holds"] is holds


def test_others_of_more_cells_than_the_budget_are_not_compared_with() -> None:
    cheaper = changed("uniform analog(1)", None, cells_per_weight=0.8)
    (_, second) = goals(cheaper)["joint_against_others"]
    assert (second["best_other"], second["holds"]) == ("uniform analog(1)", False)


def test_a_plan_of_exactly_half_a_point_less_is_within_half_a_point() -> None:
    found = goals(changed(JOINT, 0.5, accuracy_mean=0.920 - 0.00499))
    assert found["cheapest_joint_within_half_a_point"] == 0.499
    assert found["float32_over_cheapest_joint"] == pytest.approx(15.0 / 0.499)


def test_a_copy_of_less_than_fifteen_times_the_cells_misses_its_goal() -> None:
    assert goals(changed("uniform float32", None, cells_per_weight=14.98))["float32_goal_met"] is False


def test_without_a_close_plan_or_a_copy_the_ratio_is_left_open() -> None:
    far = goals(changed(JOINT, 1.0, accuracy_mean=0.9))
    assert far["cheapest_joint_within_half_a_point"] is None
    assert far["float32_goal_met"] is None
    no_copy = goals(MET[:-1])
    assert no_copy["float32_over_cheapest_joint"] is None
    assert no_copy["float32_goal_met"] is None


def test_rank_correlation_is_scipys_over_different_plans() -> None:
    predicted = [r["predicted_loss_increase"] for r in MET]
    measured = [r["measured_loss_increase"] for r in MET]
    expected = spearmanr(predicted, measured).statistic
    assert -1 < expected < 0.99  # by hand: ranks 6 2 7 3 4 5 1 against 6 3 7 5 4 1 2
    assert expected == pytest.approx(1 - 6 * (0 + 1 + 0 + 4 + 0 + 16 + 1) / (7 * 48))
    assert summary.rank_correlation(MET) == pytest.approx(expected)
    assert summary.rank_correlation([*MET, *MET[:3]]) == pytest.approx(expected)  # one plan under several methods


def test_rank_correlation_of_fewer_than_three_plans_is_left_open() -> None:
    assert summary.rank_correlation(MET[:2]) is None
    assert summary.rank_correlation([MET[0]] * 5) is None


def test_rank_correlation_is_one_where_order_agrees_and_minus_one_where_it_is_reversed() -> None:
    ordered = [result(f"m{n}", 1.0, 1.0, 0.25 + n, 0.9, predicted=n**3) for n in range(5)]
    assert summary.rank_correlation(ordered) == pytest.approx(1.0)
    reversed_ = [{**r, "predicted_loss_increase": -r["predicted_loss_increase"]} for r in ordered]
    assert summary.rank_correlation(reversed_) == pytest.approx(-1.0)


def test_the_table_lists_the_joint_choice_first_and_fixed_plans_last_by_cells() -> None:
    rows = summary.table_rows({"results": list(reversed(MET))})
    assert [(row[0], row[1]) for row in rows] == [(r["method"], f"{r['cells_per_weight']:.3f}") for r in MET]
    assert all(len(row) == len(summary.TABLE_COLUMNS) for row in rows)
    assert rows[0] == (JOINT, "0.499", "91.00 ± 0.10", "0.3000", "0.0500", "0.0500", "0.0500", "0.0450")
    assert rows[-1][-1] == ""  # nobody proved anything of a fixed plan


def said(results: list[dict[str, Any]]) -> str:
    card = {"results": results, "goals": goals(results), "rank_correlation": summary.rank_correlation(results)}
    return "\n".join(summary.findings(card, {"trials": 5}))


def test_findings_say_of_every_goal_that_it_is_met() -> None:
    text = said(MET)
    assert text.count("goal met.") == 3
    assert "MISSED" not in text
    assert "annealer (classical)" in text
    assert "fixed" not in text
    assert f"rank correlation {summary.rank_correlation(MET):.3f}" in text


def test_findings_say_of_a_missed_goal_by_how_much() -> None:
    text = said(changed(JOINT, 1.0, loss_mean=0.30, accuracy_mean=0.916))
    assert text.count("MISSED") == 1
    assert "1.149 × the loss of the best other method (digital codes only)" in text  # 0.300 / 0.261
    assert "-0.25 points" in text
    assert "MISSED (15 ×)" in said(changed("uniform float32", None, cells_per_weight=14.9))


def test_findings_say_when_no_joint_plan_comes_within_half_a_point() -> None:
    assert "half a point" in said(changed(JOINT, 1.0, accuracy_mean=0.9))


def test_a_saved_summary_is_the_same_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    content = {"results": MET, "goals": goals(MET)}
    summary.save(content, tmp_path)
    assert json.loads((tmp_path / "summary.json").read_text()) == content
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]


def test_the_summary_of_a_run_is_strict_json(tiny_run: Path) -> None:
    """No NaN or Infinity, which other readers of JSON refuse."""

    def refuse(word: str) -> None:
        raise AssertionError(word)

    json.loads((tiny_run / "summary.json").read_text(), parse_constant=refuse)
