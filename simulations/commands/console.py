"""The consoles that every command prints to."""

import sys

import typer
from rich.console import Console

# A pipe or a file has no width: tables take what they need, so that no number is cut.
out = Console(width=None if sys.stdout.isatty() else 100_000)
err = Console(stderr=True)


def help_of_group(context: typer.Context) -> None:
    """Callback of a group of commands: without a command it shows the help and exits with code 2."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)
