"""The command `physcomp anneal`: solvers against each other, on problems of ours or of the user's."""

import dataclasses
import math
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from rich import box
from rich.table import Table

from simulations.commands import defaults
from simulations.commands.console import err, out
from simulations.commands.options import Fresh, Quiet, ReadTime
from simulations.runs.progress import Progress

if TYPE_CHECKING:
    from simulations.annealing.study import Experiment, Findings

EXAMPLE = "physcomp anneal Q --solver annealer,ocean-sa,genetic --time-limit 5s"


def anneal(
    problem: Annotated[
        str, typer.Argument(help="Families such as Q or Q,R,D; a network's description; a .cqm or .coo file.")
    ],
    solver: Annotated[str, typer.Option(help="Solvers, by commas; 'all' for all that run here.")] = ",".join(
        defaults.COMPARED_SOLVERS
    ),
    repeats: Annotated[int, typer.Option(help="Runs of each solver on each problem.")] = 10,
    time_limit: Annotated[str, typer.Option(help="Time of a run: 30, 30s or 2m.")] = "30s",
    groups: Annotated[str, typer.Option(help="Groups of a family's problems, by commas.")] = "200",
    codes: Annotated[int, typer.Option(help="Codes a group of a family's problems.")] = 6,
    model: Annotated[str, typer.Option(help="Of a network: selection, magnitude or both.")] = "selection",
    budget: Annotated[float, typer.Option(help="Cells per weight of a network.")] = defaults.BUDGET,
    shrinkage: Annotated[float, typer.Option(help="Factor on a network's couplings.")] = defaults.SHRINKAGE,
    card: Annotated[str, typer.Option(help="Card a network is stored on.")] = defaults.CARD,
    time_s: ReadTime = 0.0,
    images: Annotated[Path | None, typer.Option(help="Folder with a network's IDX files.")] = None,
    test_images: Annotated[int, typer.Option(help="Test images for a network's accuracy.")] = defaults.TEST_IMAGES,
    target: Annotated[str, typer.Option(help="Gap that counts as reached, such as 1%.")] = "1%",
    seed: Annotated[int, typer.Option(help="Seed of problems and runs.")] = 0,
    folder: Annotated[Path | None, typer.Option("--out", help="Folder of the results. Default: runs/anneal-….")] = None,
    save: Annotated[Path | None, typer.Option(help="Only write the problem: .cqm, .bqm or .coo.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what a quantum processor would need.")] = False,
    fresh: Fresh = False,
    quiet: Quiet = False,
) -> None:
    """Compare solvers: energy over time, time to target, gap to a proven bound, accuracy."""
    from simulations.annealing.study import Experiment
    from simulations.annealing.trials import check_solvers

    names, network = _problems(problem, groups, model)
    experiment = Experiment(
        problems=names, solvers=_solvers(solver), repeats=repeats, time_limit_s=seconds(time_limit),
        target=_share(target), codes=codes, network=network, images=_images(network, images), card=card,
        read_time_s=time_s, budget=budget, shrinkage=shrinkage, test_images=test_images, seed=seed,
        name=f"anneal-{Path(problem).stem.replace(',', '')}",
    )  # fmt: skip
    progress = Progress(None if quiet else err)
    if save is not None:
        _save(experiment, save, progress)
    elif dry_run:
        _dry_run(experiment, progress)
    else:
        check_solvers(experiment.solvers)
        run_annealing(experiment, folder, progress, fresh=fresh)


def run_annealing(experiment: "Experiment", folder: Path | None, progress: Progress, *, fresh: bool = False) -> None:
    """Run an experiment, print its tables and findings, and write its files."""
    from simulations.annealing import report as summaries
    from simulations.annealing.study import run_experiment

    folder = folder or Path("runs") / (f"{experiment.name}-quick" if experiment.quick else experiment.name)
    findings = run_experiment(experiment, folder, progress, fresh=fresh)
    found = summaries.score(findings)
    with progress.step("drawing figures"):
        paths = summaries.save(findings, found, folder)
    _print(findings, found)
    shown = [path.name for path in paths if path.suffix != ".svg"]
    out.print(f"\nIn {folder}/: runs.csv, {', '.join(shown)}; figures also as .svg", soft_wrap=True, highlight=False)


def _print(findings: "Findings", found: list[Any]) -> None:
    from simulations.annealing import report as summaries

    for problem in findings.problems:
        if not findings.of(problem.name):
            continue
        out.print(f"\n[bold]{summaries.heading(found, problem.name)}[/]", soft_wrap=True, highlight=False)
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        for number, column in enumerate(summaries.columns(found, problem.name)):
            table.add_column(column, justify="right" if number > 1 else "left", no_wrap=True)
        for row in summaries.rows(found, problem.name):
            table.add_row(*row)
        out.print(table)
    for line in summaries.sentences(findings, found):
        out.print(line, soft_wrap=True, highlight=False, markup=False)


def load_annealing(path: Path, *, quick: bool = False) -> "Experiment | None":
    """The experiment of a study file of kind "annealing"; None for studies of another kind.

    Args:
        path: the file; paths within it are relative to it.
        quick: with what its table `[quick]` changes.

    Raises:
        ValueError: a field is missing, unknown or out of range, or `quick` is asked of a study without it.
    """
    try:
        content = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return None  # whoever reads the study next says what is wrong
    if content.get("kind") != "annealing":
        return None
    from simulations.annealing.study import Experiment

    fields = {field.name for field in dataclasses.fields(Experiment)} - {"time_limit_s", "quick"} | {"time_limit"}
    changes = content.pop("quick", {})
    del content["kind"]
    if quick and not changes:
        raise ValueError(f"{path}: the study has no table [quick]; run it without --quick")
    values = {**content, **(changes if quick else {})}
    unknown = sorted((set(content) | set(changes)) - fields)
    if unknown or "problems" not in values or "name" not in values:
        what = f"has the unknown field {unknown[0]}" if unknown else "lacks problems or name"
        raise ValueError(f"{path}: the study {what}; its fields are {', '.join(sorted(fields))}")
    try:
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        for name in ("network", "images"):
            if name in values:
                values[name] = (path.parent / values[name]).resolve()
        limit = seconds(str(values.pop("time_limit", "30s")))
        return Experiment(**values, time_limit_s=limit, quick=quick)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None


def seconds(text: str) -> float:
    """Seconds of "30", "30s", "2m" or "1h".

    >>> seconds("2m"), seconds("0.5s"), seconds("30")
    (120.0, 0.5, 30.0)
    """
    found = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*([smh]?)", text.strip())
    value = float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]] if found else 0.0
    if not 0 < value < math.inf:
        raise ValueError(f"time limit: a time above 0 such as 30, 30s or 2m, got '{text}'; correct it")
    return value


def _share(text: str) -> float:
    """A share from "1%" or "0.01"."""
    found = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*(%?)", text.strip())
    value = float(found[1]) / (100 if found[2] else 1) if found else 0.0
    if not 0 < value < 1:
        raise ValueError(f"--target: a gap above 0 such as 1% or 0.01, got '{text}'; correct it")
    return value


def _problems(problem: str, groups: str, model: str) -> tuple[tuple[str, ...], Path | None]:
    """Names of the problems, and the network's description if it is one."""
    from qubo import files
    from qubo.families import Family
    from simulations.annealing.study import MAGNITUDE, NETWORK

    path = Path(problem)
    if path.suffix == ".toml":
        kinds = {"selection": (NETWORK,), "magnitude": (MAGNITUDE,), "both": (NETWORK, MAGNITUDE)}
        if model not in kinds:
            raise ValueError(f"--model is selection, magnitude or both, got '{model}'; name one of these")
        return kinds[model], path
    if path.suffix in files.SUFFIXES:
        return (problem,), None
    families = problem.split(",")
    wrong = [word for word in families if word not in get_args(Family)]
    if wrong:
        raise ValueError(
            f"problem '{wrong[0]}': no family ({', '.join(get_args(Family))}), no description of a network (.toml), no "
            f"file of {', '.join(files.SUFFIXES)}; name one of these"
        )
    sizes = groups.split(",")
    if not all(size.strip().isdigit() and int(size) > 0 for size in sizes):
        raise ValueError(f"--groups: whole numbers above 0 by commas, got '{groups}'; write for example 50,200,1000")
    return tuple(f"{family}-{int(size)}" for family in families for size in sizes), None


def _images(network: Path | None, images: Path | None) -> Path | None:
    if network is not None and images is None:
        raise ValueError("--images: a network's loss model needs images; name the folder of its IDX files")
    return images


def _solvers(text: str) -> tuple[str, ...]:
    import qubo

    if text == "all":
        return tuple(name for name, entry in qubo.SOLVERS.items() if entry.client is None)
    return tuple(word.strip() for word in text.split(","))


def _save(experiment: "Experiment", path: Path, progress: Progress) -> None:
    from qubo import files
    from simulations.annealing.study import selections

    if len(experiment.problems) > 1:
        raise ValueError(f"--save writes one problem, got {', '.join(experiment.problems)}; name one")
    ((name, problem),) = selections(experiment, progress)[0].items()
    files.save(problem, path)
    out.print(f"{path}: {name}, {_size(problem)}", highlight=False)


def _size(problem: Any) -> str:
    import qubo

    if isinstance(problem, qubo.Magnitude):
        return f"{problem.variables} variables"
    offered = int(problem.offered.sum())
    return f"{problem.groups} groups, {offered:,} binary variables, budget {problem.budget:g} cells"


def _dry_run(experiment: "Experiment", progress: Progress) -> None:
    import qubo
    from simulations.annealing.study import selections

    for name, problem in selections(experiment, progress)[0].items():
        if isinstance(problem, qubo.Magnitude):
            out.print(f"{name}: {_size(problem)}; the solver 'qpu' takes selections only", highlight=False)
            continue
        with progress.step(f"embedding {name}"):
            needed = qubo.qpu_estimate(problem)
        out.print(
            f"{name}: {_size(problem)}. One round on an Advantage2: {needed.pieces} pieces in {needed.submissions} "
            f"submissions, at most {needed.qubits:,} of {needed.working_qubits:,} qubits, chains of "
            f"{needed.chain_length_mean:.1f} qubits on average and {needed.chain_length_max} at most, embedding "
            f"{needed.embedding_s:.1f} s, QPU access time {needed.access_time_s:.2f} s (estimated). Nothing was sent.",
            soft_wrap=True,
            highlight=False,
        )
