"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

OutFolder = Annotated[Path | None, typer.Option("--out", help="Folder of the results. Default: runs/NAME.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Forget the results of an earlier run in that folder.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bars.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of the chip or the search.")]
CardName = Annotated[str, typer.Option("--card", help="Card: a name of 'physcomp card list', or a TOML file.")]
ReadTime = Annotated[float, typer.Option("--time", help="Seconds from programming to reading.")]
