"""The command `physcomp anneal`: solvers against each other, on problems of ours or of the user's."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from simulations.commands import defaults
from simulations.commands.console import err, out
from simulations.commands.given import Cut, NetworkOptions, OptionalSource, expanded
from simulations.commands.options import Fresh, Quiet, ReadTime
from simulations.commands.run import run_and_show
from simulations.runs.progress import Progress

if TYPE_CHECKING:
    from simulations.annealing.problems import AnnealingStudy

EXAMPLE = "physcomp anneal Q --solver annealer,ocean-sa,genetic --time-limit 5s"


@expanded
def anneal(
    problem: Annotated[
        str,
        typer.Argument(help="Families such as Q or Q,R,D; a .cqm or .coo file; a network (.toml, file.py:name, …)."),
    ],
    options: NetworkOptions,
    cut: Cut,
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
    data: OptionalSource = None,
    test_images: Annotated[
        int | None, typer.Option(help="Test samples for a network's accuracy. Default: 2,000, or as many as there are.")
    ] = None,
    target: Annotated[str, typer.Option(help="Gap that counts as reached, such as 1%.")] = "1%",
    seed: Annotated[int, typer.Option(help="Seed of problems and runs.")] = 0,
    folder: Annotated[Path | None, typer.Option("--out", help="Folder of the results. Default: runs/anneal-….")] = None,
    save: Annotated[Path | None, typer.Option(help="Only write the problem: .cqm, .bqm or .coo.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what a quantum processor would need.")] = False,
    fresh: Fresh = False,
    quiet: Quiet = False,
) -> None:
    """Compare solvers on the same problems: energy over time, time to target, gap to a proven bound, accuracy.

    Writes tables, summary.json and figures to runs/anneal-NAME. Takes up to solvers x repeats x time limit: 35 minutes
    a problem unless told otherwise.
    """
    from simulations.annealing.problems import AnnealingStudy
    from simulations.runs.given import name_of
    from simulations.runs.study import make_study

    names, network = _problems(problem, groups, model)
    short = name_of(problem) if network and ":" in network else Path(problem).stem
    given: dict[str, Any] = {}
    if network is not None:
        opened = cut.of(_data(data))
        given = {
            "network": network, "data": opened.source, "args": options.arguments, "weights": options.weights,
            "task": options.task, "output": options.pick, "torch_device": options.device,
            "split": opened.split, "split_seed": opened.seed,
            "mean": opened.mean, "sd": opened.sd, "size": opened.size, "calibration": opened.limit,
            "test_images": test_images or opened.limit,
        }  # fmt: skip
    study = make_study(
        AnnealingStudy, name="anneal-" + re.sub(r"[^\w-]", "", short)[:80], problems=names, solvers=_solvers(solver),
        repeats=repeats, time_limit=time_limit, target=_share(target), codes=codes, card=card, read_time_s=time_s,
        budget=budget, shrinkage=shrinkage, seed=seed,
        **{name: value for name, value in given.items() if value is not None},
    )  # fmt: skip
    if save is not None:
        _save(study, save, Progress(None if quiet else err))
    elif dry_run:
        _dry_run(study, Progress(None if quiet else err))
    else:
        run_and_show(study, folder, fresh, quiet)


def _share(text: str) -> float:
    """A share from "1%" or "0.01"."""
    found = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*(%?)", text.strip())
    value = float(found[1]) / (100 if found[2] else 1) if found else 0.0
    if not 0 < value < 1:
        raise ValueError(f"--target: a gap above 0 such as 1% or 0.01, got '{text}'; correct it")
    return value


def _problems(problem: str, groups: str, model: str) -> tuple[tuple[str, ...], str | None]:
    """Names of the problems, and the network if it is one."""
    from qubo import files
    from qubo.families import Family
    from simulations.annealing.problems import MAGNITUDE, NETWORK

    path = Path(problem)
    if path.suffix in (".toml", ".py") or ":" in problem:
        kinds = {"selection": (NETWORK,), "magnitude": (MAGNITUDE,), "both": (NETWORK, MAGNITUDE)}
        if model not in kinds:
            raise ValueError(f"--model is selection, magnitude or both, got '{model}'; name one of these")
        return kinds[model], problem
    if path.suffix in files.SUFFIXES:
        return (problem,), None
    families = problem.split(",")
    wrong = [word for word in families if word not in get_args(Family)]
    if wrong:
        raise ValueError(
            f"problem '{wrong[0]}': no family ({', '.join(get_args(Family))}), no network (.toml or "
            f"file.py:function), no file of {', '.join(files.SUFFIXES)}; name one of these"
        )
    sizes = groups.split(",")
    if not all(size.strip().isdigit() and int(size) > 0 for size in sizes):
        raise ValueError(f"--groups: whole numbers above 0 by commas, got '{groups}'; write for example 50,200,1000")
    return tuple(f"{family}-{int(size)}" for family in families for size in sizes), None


def _data(data: str | None) -> str:
    if data is None:
        raise ValueError("--data: a network's loss model needs data; name its file, its folder or a function")
    return data


def _solvers(text: str) -> tuple[str, ...]:
    import qubo

    if text == "all":
        return tuple(name for name, entry in qubo.SOLVERS.items() if entry.client is None)
    return tuple(word.strip() for word in text.split(","))


def _save(study: "AnnealingStudy", path: Path, progress: Progress) -> None:
    from qubo import files
    from simulations.annealing.problems import Bench

    if len(study.problems) > 1:
        raise ValueError(f"--save writes one problem, got {', '.join(study.problems)}; name one")
    ((name, problem),) = Bench(study, progress).problems.items()
    files.save(problem, path)
    out.print(f"{path}: {name}, {_size(problem)}", highlight=False)


def _size(problem: Any) -> str:
    import qubo

    if isinstance(problem, qubo.Magnitude):
        return f"{problem.variables} variables"
    offered = int(problem.offered.sum())
    return f"{problem.groups} groups, {offered:,} binary variables, budget {problem.budget:g} cells"


def _dry_run(study: "AnnealingStudy", progress: Progress) -> None:
    import qubo
    from simulations.annealing.problems import Bench

    for name, problem in Bench(study, progress).problems.items():
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
