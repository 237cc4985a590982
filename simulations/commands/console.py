"""The consoles that every command prints to."""

import sys

import typer
from rich.console import Console

# A pipe has no width: take what the tables need.
out = Console(width=None if sys.stdout.isatty() else 132)
err = Console(stderr=True)


def help_of_group(context: typer.Context) -> None:
    """Callback of a group of commands: without a command it shows the help and exits with code 2."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)
