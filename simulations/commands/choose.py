"""The command `physcomp choose`: the code of every filter, within budgets of cells."""

import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from simulations.commands import defaults
from simulations.commands.console import err, out
from simulations.commands.given import Cut, GivenNetwork, HeldoutSource, Source, expanded
from simulations.commands.options import CardName, Quiet, ReadTime, SeedOption
from simulations.runs.progress import Progress

if TYPE_CHECKING:
    import physcomp
    from physcomp.codes.medium import Medium
    from physcomp.networks.task import Task
    from physcomp.storage.plan import Plan
    from physcomp.threads import ShareDone

EXAMPLE = (
    "physcomp choose data/fashion-cnn.toml --data data/fashion-mnist --card pcm-zarcone --budget 0.5,1 --out plans"
)
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
LISTED = 20  # names that are listed
UNSEEN = 1e-3  # share of a rise below which the loss model is taken to see nothing; our choice
RISEN = (0.01, 3.0)  # a rise of the held-out loss that is remarked on: in nats, and over the predicted one; our choice


@expanded
def choose(
    network: GivenNetwork,
    data: Source,
    cut: Cut,
    card: CardName,
    budget: Annotated[
        str, typer.Option(help="Cells per weight, everything stored counted; several by commas, such as 0.5,1,2.")
    ],
    target: Annotated[
        Path,
        typer.Option("--out", help="Plan file to write (JSON); with several budgets, a folder of plan-BUDGET.json."),
    ],
    heldout: HeldoutSource = None,
    time_s: ReadTime = 0.0,
    solver: Annotated[
        str, typer.Option(help="Such as annealer, exact or ocean-sa; another name is answered with all.")
    ] = defaults.SOLVER,
    ecc: Annotated[
        Literal["bound", "bch"], typer.Option(help="Bits a cell holds: the bound of any code, or those of a BCH code.")
    ] = "bound",
    memory: Annotated[
        str, typer.Option(help="Memory for the loss model, such as 4GB, beside 6 times the bytes of the weights.")
    ] = defaults.MEMORY,
    model_file: Annotated[
        Path | None, typer.Option("--model", help="File of the loss model (HDF5): loaded if there, else written.")
    ] = None,
    seed: SeedOption = 0,
    quiet: Quiet = False,
) -> None:
    """Choose the code of every filter: least loss within a budget of cells, with a bound on what is possible.

    Writes a plan (JSON), which 'physcomp store' takes; for several budgets one each. With --model the loss model
    is kept, and another choice for the same network and data takes seconds. Takes about a minute for the embedded
    network of 100,000 weights.
    """
    budgets, room = budgets_of(budget), bytes_of(memory)
    paths = _paths(target, budgets)
    if model_file is not None and not model_file.exists():
        _check_folder("--model", model_file.parent)
    import devices
    import physcomp
    from physcomp.choice.joint import Search
    from physcomp.codes.medium import Medium
    from physcomp.networks.first_look import first_look
    from simulations.comparison.plans import JOINT

    _check(card, time_s, solver)
    parts = cut.of(data, heldout).parts(["calibration", "heldout"])
    calibration, held = parts["calibration"], parts["heldout"]
    loaded = network.open(calibration)
    progress = Progress(None if quiet else err)
    out.print(f"{loaded.name}: {loaded.parameters:,} parameters; {len(calibration):,} calibration samples and "
              f"{len(held):,} held-out ones, {calibration.shape} each", highlight=False, soft_wrap=True)  # fmt: skip
    look = first_look(loaded, held)
    _say_first_look(loaded.task, look.score, look.remarks)
    with progress.bar("measuring what each code does to each filter") as bar:
        if model_file is not None and model_file.exists():
            model = _kept_model(model_file, loaded, calibration, Medium(devices.load_card(card), time_s, ecc=ecc), seed,
                                bar)  # fmt: skip
        else:
            model = physcomp.build_model(
                loaded, calibration, card=card, read_time_s=time_s, ecc=ecc, seed=seed, memory_bytes=room, progress=bar
            )
            if model_file is not None:
                model.save(model_file)
    with progress.bar("choosing codes") as bar:
        choices = physcomp.choose(
            model, held, budgets, search=Search(solver=solver, effort=1.0, seed=seed), progress=bar
        )
    if len(budgets) > 1:
        target.mkdir(exist_ok=True)
    for value, path in zip(budgets, paths, strict=True):
        plan = choices.best(value).named(JOINT)
        plan.save(path)
        _say_plan(plan, loaded, len(calibration), held, look.score)
        out.print(str(path), highlight=False, soft_wrap=True)


def budgets_of(text: str) -> tuple[float, ...]:
    """Budgets by commas.

    >>> budgets_of("0.5,1")
    (0.5, 1.0)
    """
    found: list[float] = []
    for word in text.split(","):
        try:
            value = float(word)
        except ValueError:
            value = 0.0
        if not 0 < value < float("inf") or value in found:
            raise ValueError(
                f"--budget: cells per weight above 0, each once, by commas, got '{word}'; write for example 0.5,1,2"
            )
        found.append(value)
    return tuple(found)


def bytes_of(text: str) -> int:
    """Bytes of a text with a unit; units are powers of 1024.

    >>> bytes_of("4GB"), bytes_of("500 MB")
    (4294967296, 524288000)
    """
    found = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*([KMGT]?)i?B?", text.strip(), re.IGNORECASE)
    value = int(float(found[1]) * UNITS[found[2].upper()]) if found else 0
    if value < 1 << 20:
        raise ValueError(f"--memory: at least 1MB, with a unit, got '{text}'; write for example 500MB or 4GB")
    return value


def _paths(target: Path, budgets: tuple[float, ...]) -> list[Path]:
    """Where each plan goes; checked before the long work."""
    from simulations.runs.fields import short

    several = len(budgets) > 1
    if several and target.exists() and not target.is_dir():
        raise ValueError(f"--out: {target} is a file, and {len(budgets)} budgets need a folder; name another")
    if not several and target.is_dir():
        raise ValueError(f"--out: {target} is a folder, and a single budget gives one file; name a file such as "
                         f"{target / 'plan.json'}")  # fmt: skip
    folder = target if target.is_dir() else target.parent
    _check_folder("--out", folder)
    return [target / f"plan-{short(value)}.json" for value in budgets] if several else [target]


def _check_folder(option: str, folder: Path) -> None:
    if not folder.is_dir():
        raise ValueError(f"{option}: there is no folder {folder}; make it, or name another")
    if not os.access(folder, os.W_OK):
        raise ValueError(f"{option}: {folder} cannot be written to; name another folder")


def _kept_model(
    path: Path,
    network: "physcomp.Network",
    calibration: "physcomp.Samples",
    medium: "Medium",
    seed: int,
    progress: "ShareDone",
) -> "physcomp.LossModel":
    """The loss model of a file, for the card and time asked for."""
    import physcomp

    model = physcomp.load_model(path, network, calibration)
    if model.seed != seed:
        raise ValueError(f"--model: {path} was built with seed {model.seed}, got --seed {seed}; give the same seed")
    kept = model.medium
    if (kept.card.sha256, kept.written_for_s, kept.ecc, kept.span_s) == (
        medium.card.sha256, medium.written_for_s, medium.ecc, medium.span_s,
    ):  # fmt: skip
        return model
    return model.on(medium.card, read_time_s=medium.written_for_s, ecc=medium.ecc, progress=progress)


def _check(card: str, time_s: float, solver: str) -> None:
    """Check what would otherwise be found out after the long work."""
    import devices
    from qubo.solvers import SOLVERS

    devices.load_card(card).check_time(time_s)
    if solver not in SOLVERS:
        raise ValueError(f"--solver: one of {', '.join(SOLVERS)}, got '{solver}'; name one")


def _say_first_look(task: "Task", score: "physcomp.Score", remarks: tuple[str, ...]) -> None:
    from simulations.runs.quality import shown, unit_of_loss

    said = f"as trained, on held-out samples: {task.metric} {shown(task, score.accuracy)}, loss {score.loss:.4f}"
    out.print(said + unit_of_loss(task), highlight=False)
    for remark in remarks:
        out.print(f"warning: {remark}", highlight=False, soft_wrap=True, markup=False)


def _say_plan(
    plan: "Plan",
    network: "physcomp.Network",
    calibration: int,
    heldout: "physcomp.Samples",
    clean: "physcomp.Score",
) -> None:
    from simulations.runs.quality import unit_of_loss

    proof, unit = plan.proof, unit_of_loss(network.task)
    out.print(f"{plan.cells_per_weight:.4f} cells/weight of {plan.budget:g} allowed: " + _ledger(plan))
    kind = "at the bound of any code" if plan.ecc == "bound" else "with a BCH code"
    out.print(f"{plan.bits_per_cell:.3f} digital bits a cell, {kind}")
    out.print("weights by code: " + ", ".join(f"{n} {100 * s:.0f} %" for n, s in plan.share_of_codes().items()))
    if plan.others:
        out.print("kept digital, whatever is chosen: " + _listed([other.name for other in plan.others]), soft_wrap=True)
    if proof.lower_bound is not None:
        out.print(
            f"energy {proof.energy:.5f}{unit} by {proof.solver} ({proof.kind}), no choice below "
            f"{proof.lower_bound:.5f}; shrinkage {proof.shrinkage:g}"
        )
    out.print(f"least held-out loss: {_way_of(plan)}", highlight=False, soft_wrap=True)
    assert proof.heldout_loss is not None
    rise, predicted = proof.heldout_loss - clean.loss, max(proof.predicted_loss_increase, 0.0)
    low, high = proof.predicted_interval or (math.nan, math.nan)
    interval = f" ({low:.2g} to {high:.2g} by the scatter over calibration samples)" if proof.predicted_interval else ""
    out.print(
        f"loss on {len(heldout)} held-out samples {clean.loss:.4f}{unit} as trained, {proof.heldout_loss:.4f} after "
        f"read-back: a rise of {rise:.3g}, predicted {predicted:.2g}{interval}; the least of many plans on these "
        "samples, so that on others it may be more",
        soft_wrap=True,
        highlight=False,
    )
    said = ""
    if rise > max(RISEN[0], RISEN[1] * predicted):
        cause = _cause(rise, predicted, high - low, calibration)
        said = f"warning: the loss rises by {rise:.3g}{unit} where {predicted:.2g} was predicted: {cause}"
    elif predicted > max(RISEN[0], RISEN[1] * rise):
        said = "note: far less than predicted, since rounding in sequence and tuning make good what codes do wrong"
    if said:
        out.print(said, soft_wrap=True, highlight=False)


def _way_of(plan: "Plan") -> str:
    """How the plan that was kept came about."""
    from physcomp.choice.planning import FIXED

    chosen = plan.proof.solver != FIXED
    first = f"joint choice, menu '{plan.proof.part}'" if chosen else f"{plan.proof.part} for every filter"
    again = ["chosen again with the curvature near it"] if plan.proof.expansion else []
    return ", ".join([first, *again, *plan.proof.refined])


def _cause(rise: float, predicted: float, width: float, calibration: int) -> str:
    """What a rise far from the predicted one may come from, and what to do."""
    if predicted < UNSEEN * rise:
        return "the network is so sure of its outputs that the loss model sees no errors; are inputs scaled right?"
    if width > predicted:
        enough = math.ceil(calibration * (width / predicted) ** 2 / 100) * 100
        return f"it was estimated from {calibration:,} calibration samples; give about {enough:,}"
    return "errors are too large for the loss model at this budget; trust the measured rise, or raise --budget"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _ledger(plan: "Plan") -> str:
    return ", ".join(f"{what} {cells:.0f}" for what, cells in plan.ledger.items() if cells)
