"""The commands `physcomp run` and `physcomp demo`: run a study file, print its tables and write its files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from simulations.commands.console import err, out
from simulations.commands.options import Fresh, OutFolder, Quiet
from simulations.runs.progress import Progress

if TYPE_CHECKING:
    from simulations.runs.kind import Section
    from simulations.runs.study import Study

EXAMPLE = "physcomp run simulations/studies/demo.toml --out runs/demo"
EXAMPLE_OF_DEMO = "physcomp demo"


def demo(folder: OutFolder = None, fresh: Fresh = False, quiet: Quiet = False) -> None:
    """Run the demonstration: the embedded network at six budgets on two cards, by every method.

    Writes results, figures, plans and chips to runs/demo. Takes about 4 minutes; started again it goes on where it
    was stopped.
    """
    from simulations.runs.study import STUDIES

    _run(STUDIES / "demo.toml", folder, fresh, quiet)


def run(
    study: Annotated[Path, typer.Argument(help="Study file (TOML), such as those in simulations/studies.")],
    folder: OutFolder = None,
    quick: Annotated[bool, typer.Option("--quick", help="Run the study's smaller variant, for a first look.")] = False,
    fresh: Fresh = False,
    quiet: Quiet = False,
) -> None:
    """Run a study file: measure all that it lists, or what is left of it, then print its tables.

    Writes tables, summary.json and figures to runs/NAME. Takes minutes with --quick, otherwise up to hours;
    started again it goes on where it was stopped.
    """
    _run(study, folder, fresh, quiet, quick)


def _run(path: Path, folder: Path | None, fresh: bool, quiet: bool, quick: bool = False) -> None:
    from simulations.kinds import load_study

    run_and_show(load_study(path, quick=quick), folder, fresh, quiet)


def run_and_show(study: "Study", folder: Path | None, fresh: bool, quiet: bool) -> None:
    """Run a study, or resume it, write its files and print its report."""
    from simulations.kinds import run_study
    from simulations.runs.engine import report

    progress, folder = Progress(None if quiet else err), folder or study.folder
    run = run_study(study, folder, progress, fresh=fresh)
    with progress.step("saving results and drawing the figure"):
        shown = report(run)
    for section in shown.sections:
        _show(section)
    out.print(f"\nIn {folder}/: {', '.join(shown.files)}", soft_wrap=True, highlight=False)


def _show(section: "Section") -> None:
    if section.title:
        out.print(
            f"\n[bold]{escape(section.title)}[/] {escape(section.subtitle)}".rstrip(), soft_wrap=True, highlight=False
        )
    if section.columns:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0) if section.tight else (0, 1))
        for number, column in enumerate(section.columns):
            table.add_column(escape(column), justify="left" if number < section.names else "right", no_wrap=True)
        for row in section.rows:
            table.add_row(*map(escape, row))
        out.print(table)
    for line in section.lines:
        out.print(line, soft_wrap=True, highlight=False, markup=False)
