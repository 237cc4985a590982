"""The command `physcomp`. Errors of the user's come out as one line on standard error, with exit code 2."""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich import box
from rich.table import Table

import physcomp
import qubo
from physcomp.choice.joint import Search, choose
from physcomp.codes.base import Medium, Storage
from physcomp.networks import plain_training
from physcomp.networks.description import read_description
from physcomp.networks.plain_training import HELD_BACK
from simulations.calibration.figure import predicted_vs_measured
from simulations.calibration.study import findings, run_calibration
from simulations.commands import finetune
from simulations.commands.anneal import anneal, load_annealing, run_annealing
from simulations.commands.card import cards
from simulations.commands.console import err, help_of_group, out
from simulations.comparison import footprint, protection
from simulations.comparison import summary as summaries
from simulations.comparison.figures import accuracy_vs_cells
from simulations.runs.engine import JOINT, run_study, save_joint
from simulations.runs.progress import Progress
from simulations.runs.readback import read_back, spread
from simulations.runs.study import STUDIES, Study, load_study


class _OneBorder(typer.Typer):
    """The one place where errors become messages."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            code = super().__call__(*args, **{**kwargs, "standalone_mode": False})
            if code == 130:  # what typer makes of a KeyboardInterrupt
                _fail("interrupted; what was measured is kept, and the same command resumes", code=130)
            sys.exit(code if isinstance(code, int) else 0)
        except typer.TyperException as error:
            _fail(f"{error.format_message()}; 'physcomp --help' shows what there is")
        except ValueError as error:
            _fail(str(error))
        except OSError as error:
            _fail(f"{error.filename or 'file'}: {error.strerror or error}; check the path and the space left")


def _fail(message: str, code: int = 2) -> NoReturn:
    print(f"physcomp: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


app = _OneBorder(
    name="physcomp",
    callback=help_of_group,
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="How few noisy analog memory cells can a trained network take, and what accuracy is left?",
)
app.add_typer(cards, name="card")
app.command(name="finetune", epilog=finetune.EPILOG)(finetune.finetune)
app.command(epilog="Example: [cyan]physcomp anneal Q --solver annealer,ocean-sa,genetic --time-limit 5s[/]")(anneal)

OutFolder = Annotated[Path | None, typer.Option("--out", help="Folder of the results. Default: runs/NAME.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Forget the results of an earlier run in that folder.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bars.")]
NetworkFile = Annotated[Path, typer.Argument(help="Description of the network, such as data/fashion-cnn.toml.")]
ImageFolder = Annotated[Path, typer.Option("--images", help="Folder with IDX files, plain or gzipped.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of the chip or the search.")]


@app.command(epilog="Example: [cyan]physcomp demo[/]")
def demo(folder: OutFolder = None, fresh: Fresh = False, quiet: Quiet = False) -> None:
    """Run the demonstration: the embedded network at six budgets on two cards, by every method."""
    _run(STUDIES / "demo.toml", folder, fresh, quiet)


@app.command(epilog="Example: [cyan]physcomp run simulations/studies/demo.toml --out runs/demo[/]")
def run(
    study: Annotated[Path, typer.Argument(help="Study file (TOML).")],
    folder: OutFolder = None,
    quick: Annotated[bool, typer.Option("--quick", help="The study's quick variant: minutes, not hours.")] = False,
    fresh: Fresh = False,
    quiet: Quiet = False,
) -> None:
    """Run a study file, or resume one that was killed."""
    _run(study, folder, fresh, quiet, quick)


def _run(path: Path, folder: Path | None, fresh: bool, quiet: bool, quick: bool = False) -> None:
    annealing = load_annealing(path, quick=quick)
    if annealing is not None:
        run_annealing(annealing, folder, Progress(None if quiet else err), fresh=fresh)
        return
    study = load_study(path, quick=quick)
    folder = folder or Path("runs") / (f"{study.name}-quick" if quick else study.name)
    progress = Progress(None if quiet else err)
    if study.kind == "calibration":
        calibrated = run_calibration(study, folder, progress, fresh=fresh)
        paths = predicted_vs_measured(calibrated, folder)
        for line in findings(calibrated):
            out.print(line, soft_wrap=True, highlight=False)
        out.print(
            f"\nIn {folder}/: plans.csv, summary.json, " + ", ".join(path.name for path in paths), highlight=False
        )
        return
    finished = run_study(study, folder, progress, fresh=fresh)
    with progress.step("saving plans, chips and the figure"):
        save_joint(finished, folder)
        summary = summaries.summarize(finished)
        paths = _complete(study, summary, folder)
        summaries.save(summary, folder)
    for card in (summary, *summary["further_cards"]):
        match study.kind:
            case "protection":
                _print_card(card, summary, protection.report(card))
            case "footprint":
                _print_card(card, summary, footprint.report(card))
            case _:
                _print_card(card, summary, summaries.report(card, summary))
    counted = [f"{len(list(folder.glob(pattern)))} {pattern}" for pattern in ("plan-*.json", "chip-*.h5")]
    shown = [*sorted(path.name for path in paths), "summary.json", "trials.csv", *counted]
    out.print(f"\nIn {folder}/: " + ", ".join(shown), soft_wrap=True, highlight=False)


def _complete(study: Study, summary: dict[str, Any], folder: Path) -> list[Path]:
    """Add to the summary what its kind of study asks, and draw; the paths written."""
    match study.kind:
        case "protection":
            protection.complete(study, summary)
            return protection.save(summary, folder)
        case "footprint":
            footprint.complete(summary)
            return footprint.save(summary, folder)
        case _:
            return accuracy_vs_cells(summary, folder)


def _print_card(card: dict[str, Any], summary: dict[str, Any], report: summaries.Report) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(report.columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in report.rows:
        table.add_row(*row)
    chosen = ""
    if card["read_times_s"]:
        chosen = f", chosen for the {card['over']} over {', '.join(f'{time:g}' for time in card['read_times_s'])} s"
    out.print(
        f"\n[bold]{summary['network']['name']} on {card['card']}, read {card['read_time_s']:g} s after programming"
        f"{chosen}.[/] Clean network: {100 * summary['clean_accuracy']:.2f} %, loss {summary['clean_loss']:.4f}, on "
        f"{summary['test_images']:,} test images.",
        soft_wrap=True,
        highlight=False,
    )
    out.print(table)
    for line in report.lines:
        out.print(line, soft_wrap=True, highlight=False)


@app.command(epilog="Example: [cyan]physcomp train data/fashion-cnn.toml --images /usr/share/datasets[/]")
def train(
    description: NetworkFile,
    images: ImageFolder,
    target: Annotated[
        Path | None, typer.Option("--out", help="safetensors file to write. Default: beside the description.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Instead of the recipe's number of epochs.")] = None,
    quiet: Quiet = False,
) -> None:
    """Train the network of a description on the full set, but for the last 4,000 images, which plans are made on."""
    described = read_description(description)
    if epochs is not None:
        described = dataclasses.replace(described, recipe={**described.recipe, "epochs": epochs})
    if epochs is not None and epochs < 1:
        raise ValueError(f"--epochs: at least 1, got {epochs}; raise it")
    whole = physcomp.load_images(images, "train")
    if len(whole) <= HELD_BACK:
        raise ValueError(f"{images}: train has {len(whole)} images, more than {HELD_BACK} are needed; use the full set")
    test = physcomp.load_images(images, "t10k")
    with Progress(None if quiet else err).bar(f"training {described.name}") as bar:
        trained = plain_training.train(described, whole[: len(whole) - HELD_BACK], progress=bar)
    path = target or description.with_suffix(".safetensors")
    plain_training.save(trained, path)
    score = physcomp.evaluate(physcomp.prepare(trained.module), test)
    out.print(f"training loss of the last epoch {trained.losses[-1]:.4f}")
    out.print(f"test images: accuracy {100 * score.accuracy:.2f} %, loss {score.loss:.4f} ({len(test)} images)")
    out.print(f"{path}: {sum(p.numel() for p in trained.module.parameters()):,} parameters")


@app.command(
    name="choose",
    epilog="Example: [cyan]physcomp choose data/fashion-cnn.toml --images data/fashion-mnist "
    "--card pcm-zarcone --budget 1.0 --out plan.json[/]",
)
def choose_command(
    network: NetworkFile,
    images: ImageFolder,
    card: Annotated[str, typer.Option(help="Card: a name of 'physcomp card list', or a TOML file.")],
    budget: Annotated[float, typer.Option(help="Cells per weight, everything stored counted.")],
    target: Annotated[Path, typer.Option("--out", help="Plan file to write (JSON).")],
    time_s: Annotated[float, typer.Option("--time", help="Seconds from programming to reading.")] = 0.0,
    solver: Annotated[str, typer.Option(help=", ".join(qubo.SOLVERS) + ".")] = Search.solver,
    storage: Annotated[
        Storage, typer.Option(help="Count digital bits by the bound of any code, or a BCH code.")
    ] = "bound",
    seed: SeedOption = 0,
    quiet: Quiet = False,
) -> None:
    """Choose the code of every filter: least loss within a budget of cells, with a bound on what is possible."""
    loaded = physcomp.load_network(network)
    calibration = physcomp.load_images(images, "calibration")
    heldout = physcomp.load_images(images, "heldout")
    progress = Progress(None if quiet else err)
    with progress.bar("measuring what each code does to each filter") as bar:
        model = physcomp.build_model(
            loaded, calibration, card=card, read_time_s=time_s, storage=storage, seed=seed, progress=bar
        )
    with progress.bar("choosing codes") as bar:
        choices = choose(model, heldout, [budget], search=Search(solver=solver, effort=1.0, seed=seed), progress=bar)
    plan = choices.best(budget).named(JOINT)
    plan.save(target)
    proof = plan.proof
    out.print(f"{plan.cells_per_weight:.4f} cells/weight of {budget:g} allowed: " + _ledger(plan))
    kind = "at the bound of any code" if plan.storage == "bound" else "with a BCH code"
    out.print(f"{plan.bits_per_cell:.3f} digital bits a cell, {kind}")
    out.print("weights by code: " + ", ".join(f"{n} {100 * s:.0f} %" for n, s in plan.share_of_codes().items()))
    if plan.others:
        out.print("kept as bfloat16, whatever is chosen: " + ", ".join(n for n, _ in plan.others), soft_wrap=True)
    bound = "" if proof.lower_bound is None else f", no choice below {proof.lower_bound:.5f}"
    out.print(f"energy {proof.energy:.5f} nats by {proof.solver} ({proof.kind}){bound}; shrinkage {proof.shrinkage:g}")
    out.print(f"loss on {len(heldout)} held-out images after read-back {proof.heldout_loss:.4f}")
    out.print(str(target))


def _ledger(plan: physcomp.Plan) -> str:
    return ", ".join(f"{what} {cells:.0f}" for what, cells in plan.ledger.items() if cells)


@app.command(epilog="Example: [cyan]physcomp store data/fashion-cnn.toml plan.json --seed 7 --out chip.h5[/]")
def store(
    network: NetworkFile,
    plan: Annotated[Path, typer.Argument(help="Plan file that 'physcomp choose' wrote.")],
    target: Annotated[Path, typer.Option("--out", help="Chip file to write (HDF5).")],
    card: Annotated[str | None, typer.Option(help="Card file of the plan, if it is not a built-in one.")] = None,
    seed: SeedOption = 0,
) -> None:
    """Programme a chip: encode the network by the plan and write the cells."""
    chip = physcomp.store(physcomp.load_network(network), physcomp.Plan.load(plan), card=card, seed=seed)
    chip.save(target)
    cells = chip.cells.levels.size
    out.print(f"{target}: {cells:,} analog cells on {chip.card.name}, {len(chip.bits):,} bits stored digitally")


@app.command(
    epilog="Example: [cyan]physcomp readback chip.h5 data/fashion-cnn.toml --images data/fashion-mnist "
    "--times 0,3600,86400[/]"
)
def readback(
    chip: Annotated[Path, typer.Argument(help="Chip file that 'physcomp store' wrote.")],
    network: NetworkFile,
    images: ImageFolder,
    times: Annotated[
        str | None, typer.Option(help="Seconds since programming, by commas. Default: the plan's.")
    ] = None,
    reads: Annotated[int, typer.Option(help="Reads of the same cells at each time.")] = 1,
    part: Annotated[str, typer.Option(help="Which images: t10k, heldout or calibration.")] = "t10k",
) -> None:
    """Read a chip back at given times and measure the accuracy that is left."""
    loaded = physcomp.load_chip(chip)
    test = physcomp.load_images(images, part)
    when = None if times is None else [_seconds(word) for word in times.split(",")]
    trials = read_back(
        loaded, test.pixels, test.labels, network=physcomp.load_network(network), trials=reads, times_s=when
    )
    table = Table("time s", "accuracy ± sd %", "loss ± sd", "reads")
    for time_s in dict.fromkeys(trial.time_s for trial in trials):
        over = spread(trial for trial in trials if trial.time_s == time_s)
        table.add_row(
            f"{time_s:g}",
            f"{100 * over.accuracy_mean:.2f} ± {100 * over.accuracy_sd:.2f}",
            f"{over.loss_mean:.4f} ± {over.loss_sd:.4f}",
            str(over.trials),
        )
    out.print(table)
    latest = max(trial.time_s for trial in trials)
    holds = Medium(loaded.card, latest, storage=loaded.plan.storage).bits_per_cell
    if holds < loaded.plan.bits_per_cell:
        out.print(
            f"Digital bits are taken to read back without error. They were counted at {loaded.plan.bits_per_cell:.3f} "
            f"a cell; after {latest:g} s a cell holds {holds:.3f}: choose again with --time {latest:g}.",
            highlight=False,
        )


def _seconds(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise ValueError(f"--times: seconds separated by commas, got '{word}'; write for example 0,3600") from None


def main() -> None:
    """The entry point of `python -m simulations.cli`."""
    app()


if __name__ == "__main__":
    main()
