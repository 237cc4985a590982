"""The types of fields in study files: numbers with their rules, paths relative to the file, names that are known."""

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


def one_of(names: Collection[str]) -> AfterValidator:
    """The rule that a text is one of some names; they are looked at when a study is read."""

    def known(name: str) -> str:
        if name not in names:
            raise ValueError(f"one of {', '.join(names)}, got '{name}'; correct it")
        return name

    return AfterValidator(known)


def _once(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise ValueError(f"holds the same twice ({', '.join(map(str, values))}); remove one")
    return values


Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Positive = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0)]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]
Count = Annotated[int, Field(strict=True, ge=1)]
Seed = Annotated[int, Field(strict=True, ge=0)]
FilePath = Annotated[Path, AfterValidator(beside)]
CardName = Annotated[str, AfterValidator(_card)]
SolverName = Annotated[str, one_of(SOLVERS)]
CodeName = Annotated[str, AfterValidator(lambda name: parse(name).name)]
"""A code under its own name, in which options have one order."""
Menu = Annotated[tuple[CodeName, ...], AfterValidator(lambda names: tuple(code.name for code in read_menu(names)))]
Once = AfterValidator(_once)
AtLeastOne = Field(min_length=1)
Budgets = Annotated[tuple[Positive, ...], AtLeastOne, Once]
