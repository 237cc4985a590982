"""Progress on the terminal: a bar or a spinner for work of over a second, nothing if it is to be quiet."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress


class Progress:
    """Shows what is being done.

    Args:
        console: the console to print to; None: print nothing.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console

    @contextmanager
    def bar(self, what: str) -> Iterator[Callable[[float], None]]:
        """Show a bar; yields a function to be called with the share done, 0 to 1."""
        if self.console is None:
            yield lambda share: None
            return
        started = time.monotonic()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with RichProgress(*columns, console=self.console, transient=True) as shown:
            task = shown.add_task(what, total=1.0)
            yield lambda share: shown.update(task, completed=share)
        self._done(what, started)

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Show a spinner, for work whose progress is unknown."""
        if self.console is None:
            yield
            return
        started = time.monotonic()
        with self.console.status(what):
            yield
        self._done(what, started)

    def _done(self, what: str, started: float) -> None:
        if self.console is not None:
            self.console.print(f"[dim]{time.monotonic() - started:6.1f} s[/]  {what}")
