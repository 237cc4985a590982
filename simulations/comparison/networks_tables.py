"""Tables of studies of several networks: results and costs of each network over draws of calibration samples."""

import math
import platform
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import polars as pl

from simulations.comparison.draws import STAGES
from simulations.comparison.plans import JOINT, TRAINED, UNIFORM
from simulations.runs.kind import Section
from simulations.runs.metrics import mean_sd

LOST = (0.5, 1.0)  # points lost, or percent of perplexity gained, within which the fewest cells are named
OFF = 3.0  # a measured rise over the predicted one that is called out; our choice
SEEN = 1e-3  # nats; smaller rises are not called out: they are within what test samples tell; our choice
COLUMNS = ("method", "cells/weight", "BCH", "bits/weight")
RISES = ("predicted rise", "90 % interval", "measured rise")


def summarize(name: str, sha256: str, networks: dict[str, dict[str, Any]], trials: pl.DataFrame) -> dict[str, Any]:
    """The content of `summary.json`: for each network the results of its plans over draws, and what stages took.

    Args:
        name: of the study.
        sha256: of the study.
        networks: what is said of each network.
        trials: one row a trial.
    """
    return {
        "study": name,
        "kind": "networks",
        "study_sha256": sha256,
        "physcomp": version("physcomp"),
        "python": platform.python_version(),
        "networks": {
            each: {**facts, **_network(facts["metric"], trials.filter(pl.col("network") == each))}
            for each, facts in networks.items()
        },
    }


def _network(metric: str, trials: pl.DataFrame) -> dict[str, Any]:
    if trials.is_empty():
        return {"draws": 0, "results": [], "costs": []}
    groups = trials.partition_by("method", "budget", as_dict=True, maintain_order=True)
    rows = [{"method": method, "budget": budget, **_result(metric, of)} for (method, budget), of in groups.items()]
    first = trials.row(0, named=True)
    return {
        "draws": trials["draw"].n_unique(),
        "clean": _quality(metric, first["clean_accuracy"], first["clean_loss"]),
        "clean_loss": first["clean_loss"],
        "results": sorted(rows, key=_rank),
        "costs": _costs(trials),
        "off": _off(trials),
        "covered": _covered(trials),
    }


def _quality(metric: str, accuracy: float, loss: float) -> float:
    """The metric as it is reported: perplexity, or in hundredths."""
    return math.exp(loss) if metric == "perplexity" else 100 * accuracy


def _lost(metric: str, quality: float, clean: float) -> float:
    """What was lost: points of the metric, or percent of perplexity gained."""
    return 100 * (quality / clean - 1) if metric == "perplexity" else clean - quality


def _rank(row: dict[str, Any]) -> tuple[Any, ...]:
    order = [JOINT, TRAINED]
    return (order.index(row["method"]) if row["method"] in order else len(order)), row["cells_per_weight"]


def _result(metric: str, of: pl.DataFrame) -> dict[str, Any]:
    """Means over the draws of one plan, with standard deviations where there are several."""
    rows = of.to_dicts()
    quality = [_quality(metric, row["accuracy"], row["loss"]) for row in rows]
    clean = [_quality(metric, row["clean_accuracy"], row["clean_loss"]) for row in rows]
    lost = [_lost(metric, each, base) for each, base in zip(quality, clean, strict=True)]
    found: dict[str, Any] = {"draws": len(rows), "quality": _mean(quality), "quality_sd": _sd(quality)}
    found |= {"lost": _mean(lost), "lost_sd": _sd(lost), "measured": _mean(of["measured"].to_list())}
    found["measured_sd"] = _sd(of["measured"].to_list())
    found["ways"] = sorted(of["way"].unique().to_list())
    names = ("cells_per_weight", "cells_per_weight_bch", "bits_per_weight", "predicted", "predicted_low")
    for name in (*names, "predicted_high"):
        values = of[name].to_list()
        found[name] = None if None in values else _mean(values)
    return found


def _mean(values: Sequence[float]) -> float:
    return mean_sd(values)[0]


def _sd(values: Sequence[float]) -> float | None:
    """The sample standard deviation; None for one value."""
    return mean_sd(values)[1] if len(values) > 1 else None


def _costs(trials: pl.DataFrame) -> list[dict[str, Any]]:
    """Seconds and peak memory of every stage: of a loss model each draw, of the others each plan."""
    found = []
    for stage in STAGES:
        for method in (JOINT, TRAINED, UNIFORM) if stage == "choice" else (None,):
            of = trials if method is None else trials.filter(pl.col("method").str.split(" ").list.first() == method)
            if method in (JOINT, TRAINED):
                of = trials.filter(pl.col("method") == method)
            if stage == "model":
                of = of.unique("draw", keep="first", maintain_order=True)
            if of.is_empty():
                continue
            seconds = of[f"{stage}_seconds"].to_list()
            found.append(
                {
                    "stage": stage,
                    "method": method,
                    "count": len(of),
                    "seconds": _mean(seconds),
                    "seconds_sd": _sd(seconds),
                    "bytes": of[f"{stage}_bytes"].max(),
                }
            )
    return found


def _predicted(trials: pl.DataFrame) -> pl.DataFrame:
    return trials.filter(pl.col("method") != TRAINED)


def _off(trials: pl.DataFrame) -> dict[str, int]:
    """How many plans lost more than `OFF` times what was predicted."""
    of = _predicted(trials)
    wrong = of.filter((pl.col("measured") > SEEN) & (pl.col("measured") > OFF * pl.col("predicted")))
    return {"plans": len(of), "off": len(wrong), "off_joint": len(wrong.filter(pl.col("method") == JOINT))}


def _covered(trials: pl.DataFrame) -> dict[str, int]:
    """How many measured rises lie within the interval of the predicted one."""
    of = _predicted(trials).drop_nulls(["predicted_low", "predicted_high"])
    inside = of.filter(pl.col("measured").is_between(pl.col("predicted_low"), pl.col("predicted_high")))
    return {"plans": len(of), "inside": len(inside)}


def sections(summary: dict[str, Any], remarks: Sequence[str]) -> list[Section]:
    """The sections to print: results and costs of each network, then what was left out."""
    found = []
    for name, of in summary["networks"].items():
        if not of["results"]:
            continue
        unit = "perplexity" if of["metric"] == "perplexity" else f"{of['metric']} %"
        lost = "% more" if of["metric"] == "perplexity" else "points lost"
        when = f", read {of['read_time_s']:g} s after programming" if of["read_time_s"] else ""
        found.append(
            Section(
                title=f"{name} on {of['card']}{when}.",
                subtitle=f"{of['parameters']:,} parameters; clean: {unit} {of['clean']:.3f}, loss "
                f"{of['clean_loss']:.4f}; {of['draws']} draw{'s' if of['draws'] > 1 else ''} of calibration samples.",
                columns=(*COLUMNS, unit, lost, *RISES),
                rows=[_row(row) for row in of["results"]],
                lines=_findings(of),
            )
        )
        found.append(
            Section(
                columns=("stage", "times", "seconds of the processor", "peak memory MB"),
                rows=[_cost_row(row) for row in of["costs"]],
            )
        )
    if remarks:
        found.append(Section(lines=[f"Warning: {remark}." for remark in remarks]))
    return found


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    bounds = row["predicted_low"], row["predicted_high"]
    name = row["method"] if row["budget"] is None else f"{row['method']} at {row['budget']:g}"
    return (
        name,
        f"{row['cells_per_weight']:.3f}",
        _or_dash(row["cells_per_weight_bch"]),
        _or_dash(row["bits_per_weight"]),
        _spread(row["quality"], row["quality_sd"], 2),
        _spread(row["lost"], row["lost_sd"], 2),
        "–" if row["method"] == TRAINED else f"{row['predicted']:.4f}",
        "–" if None in bounds else f"{bounds[0]:.4f} to {bounds[1]:.4f}",
        _spread(row["measured"], row["measured_sd"], 4),
    )


def _cost_row(row: dict[str, Any]) -> tuple[str, ...]:
    named = {"model": "loss model", "choice": "choice", "store": "storing", "read": "read-back"}[row["stage"]]
    return (
        named if row["method"] is None else f"{named}, {row['method']}",
        f"{row['count']}",
        _spread(row["seconds"], row["seconds_sd"], 2),
        "–" if row["bytes"] is None else f"{row['bytes'] / 1e6:.0f}",
    )


def _or_dash(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _spread(mean: float, sd: float | None, digits: int) -> str:
    return f"{mean:.{digits}f}" + ("" if sd is None else f" ± {sd:.{digits}f}")


def _findings(of: dict[str, Any]) -> list[str]:
    """The fewest cells within what may be lost, and how predictions compare."""
    lines = []
    what = "more perplexity" if of["metric"] == "perplexity" else "lost"
    unit = "%" if of["metric"] == "perplexity" else "points"
    for most in LOST:
        said = []
        for method in (JOINT, TRAINED, UNIFORM):
            rows = [row for row in of["results"] if _family(row["method"]) == method and row["lost"] <= most]
            least = min(rows, key=lambda row: row["cells_per_weight"], default=None)
            if least is not None:
                bits = least["bits_per_weight"]
                more = "" if bits is None else f" ({bits:.2f} bits)"
                said.append(f"{least['method']} {least['cells_per_weight']:.3f} cells/weight{more}")
        lines.append(f"At most {most:g} {unit} {what}, means over draws: {'; '.join(said) or 'no plan'}.")
    lines += [
        f"Kept by the joint choice at {row['budget']:g} cells/weight: {'; '.join(row['ways'])}."
        for row in of["results"]
        if row["method"] == JOINT
    ]
    off, covered = of["off"], of["covered"]
    lines.append(
        f"Measured rises above {OFF:g} times the predicted ones (and {SEEN:g} nats): {off['off']} of {off['plans']} "
        f"plans, {off['off_joint']} of them joint; within their interval: {covered['inside']} of {covered['plans']}."
    )
    return lines


def _family(method: str) -> str:
    return UNIFORM if method.startswith(UNIFORM) else method
