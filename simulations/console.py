"""The consoles that every command prints to."""

import sys

from rich.console import Console

# A pipe has no width of its own: as wide as the tables need.
out = Console(width=None if sys.stdout.isatty() else 132)
err = Console(stderr=True)
