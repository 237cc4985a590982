"""The types of fields in study files: numbers with their rules, paths relative to the file, names that are known."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationInfo

from physcomp.codes import parse
from physcomp.codes.menu import read_menu
from qubo.solvers import SOLVERS


def beside(path: Path, info: ValidationInfo) -> Path:
    """A path that a study file names, relative to the file; as it is where no file was read."""
    return (info.context["folder"] / path).resolve() if info.context else path


def _card(card: str, info: ValidationInfo) -> str:
    return str(beside(Path(card), info)) if ".toml" in card else card


def _source(source: str, info: ValidationInfo) -> str:
    """A network or data: a path beside the file, or a reference in Python, of which only a file's path is changed."""
    place, colon, name = source.rpartition(":")
    if not colon or not all(word.isidentifier() for word in name.split(".")):
        return str(beside(Path(source), info))
    return f"{beside(Path(place), info)}:{name}" if place.endswith(".py") else source


def _task(task: str, info: ValidationInfo) -> str:
    return _source(task, info) if ":" in task else task


def one_of(names: Collection[str]) -> AfterValidator:
    """The rule that a text is one of some names; they are looked at when a study is read."""

    def known(name: str) -> str:
        if name not in names:
            raise ValueError(f"one of {', '.join(names)}, got '{name}'; correct it")
        return name

    return AfterValidator(known)


def short(value: float) -> str:
    """A number in few characters that read back as just it, for names of files: different numbers, different names.

    >>> short(3.0), short(2592000.0), short(0.1 + 0.2)
    ('3', '2.592e+06', '0.30000000000000004')
    """
    return text if float(text := f"{value:g}") == value else repr(float(value))


def _plain(name: str) -> str:
    if not re.fullmatch(r"\w[\w .,+()-]{0,99}", name) or ".." in name or name[-1] in " .":
        raise ValueError(
            f"a name of at most 100 letters, digits and -_.,+() that names a folder, got {name!r}; correct it"
        )
    return name


def _once(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise ValueError(f"holds the same twice ({', '.join(map(str, values))}); remove one")
    return values


Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Positive = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0)]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]
Count = Annotated[int, Field(strict=True, ge=1)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**62)]  # chips have the seeds above it, in 64 bits with a sign
PlainName = Annotated[str, AfterValidator(_plain)]
FilePath = Annotated[Path, AfterValidator(beside)]
Source = Annotated[str, AfterValidator(_source)]
TaskName = Annotated[str, AfterValidator(_task)]
CardName = Annotated[str, AfterValidator(_card)]
SolverName = Annotated[str, one_of(SOLVERS)]
CodeName = Annotated[str, AfterValidator(lambda name: parse(name).name)]
"""A code under its own name, in which options have one order."""
Menu = Annotated[tuple[CodeName, ...], AfterValidator(lambda names: tuple(code.name for code in read_menu(names)))]
Once = AfterValidator(_once)
AtLeastOne = Field(min_length=1)
Budgets = Annotated[tuple[Positive, ...], AtLeastOne, Once]
