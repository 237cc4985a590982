"""The commands `physcomp run` and `physcomp demo`: run a study file, print its tables and write its files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table

from simulations.commands.console import err, out
from simulations.commands.options import Fresh, OutFolder, Quiet
from simulations.runs.progress import Progress

if TYPE_CHECKING:
    from simulations.comparison.summary import Report
    from simulations.runs.study import Study

EXAMPLE = "physcomp run simulations/studies/demo.toml --out runs/demo"
EXAMPLE_OF_DEMO = "physcomp demo"


def demo(folder: OutFolder = None, fresh: Fresh = False, quiet: Quiet = False) -> None:
    """Run the demonstration: the embedded network at six budgets on two cards, by every method."""
    from simulations.runs.study import STUDIES

    _run(STUDIES / "demo.toml", folder, fresh, quiet)


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
    from simulations.calibration.figure import predicted_vs_measured
    from simulations.calibration.study import findings, run_calibration
    from simulations.commands.anneal import load_annealing, run_annealing
    from simulations.comparison import footprint, protection
    from simulations.comparison import summary as summaries
    from simulations.runs.engine import run_study, save_joint
    from simulations.runs.study import load_study

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


def _complete(study: "Study", summary: dict[str, Any], folder: Path) -> list[Path]:
    """Add to the summary what its kind of study asks, and draw; the paths written."""
    from simulations.comparison import footprint, protection
    from simulations.comparison.figures import accuracy_vs_cells

    match study.kind:
        case "protection":
            protection.complete(study, summary)
            return protection.save(summary, folder)
        case "footprint":
            footprint.complete(summary)
            return footprint.save(summary, folder)
        case _:
            return accuracy_vs_cells(summary, folder)


def _print_card(card: dict[str, Any], summary: dict[str, Any], report: "Report") -> None:
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
