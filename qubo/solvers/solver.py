"""The interface of solvers: the problem that a search gets, and the record that describes a solver.

A solver is one file: a search and a record `SOLVER = Solver(name=…, kind=…, search=search, …)` beside it, with one line
in `qubo.solvers.registry`. A search takes a `Prepared` problem and a watch, and its own options as keywords:

    def search(problem: Prepared, watch: Watch, *, samples: int = 100) -> Outcome:
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from qubo.bounds.certificate import Certificate, lower_bound
from qubo.checks import check_callable, check_whole, is_number, shown
from qubo.magnitude.binary_model import Read
from qubo.magnitude.hamiltonian import Magnitude
from qubo.search.arrays import Layout, lay_out
from qubo.search.watch import Outcome
from qubo.selection import Selection, check_selection
from qubo.solution import Kind

Dashes = str | tuple[int, tuple[int, ...]]
"""A line style of matplotlib's."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A selection prepared for a search: with its bound, its arrays for kernels, and a seed.

    Attributes:
        selection: the problem.
        layout: the kernels' view of it: usable codes only, scaled.
        certificate: the lower bound, and λ, the price of a cell at the bound.
        seed: seed of everything random.
    """

    selection: Selection
    layout: Layout
    certificate: Certificate
    seed: int = 0

    @classmethod
    def of(cls, selection: Selection, *, seed: int = 0, certificate: Certificate | None = None) -> Prepared:
        """Prepare a selection: compute its bound, unless it is given, and its arrays.

        Raises:
            ValueError: no selection, or the certificate is none or another selection's.
        """
        cls.check(selection, certificate)
        if certificate is None:
            certificate = lower_bound(selection)
        return cls(selection, lay_out(selection), certificate, seed)

    @staticmethod
    def check(selection: Any, certificate: Any = None) -> None:
        """Check, before anything is computed, that these can be prepared.

        Raises:
            ValueError: no selection, or the certificate is none or another selection's.
        """
        check_selection(selection)
        cure = "pass qubo.lower_bound(selection)"
        if certificate is None:
            return
        if not isinstance(certificate, Certificate):
            raise ValueError(f"certificate must be a qubo.Certificate, got {shown(certificate)}: {cure}")
        if certificate.selection is not selection:
            raise ValueError(f"the certificate is about another selection: {cure}")


@dataclass(frozen=True)
class Option:
    """An option of a solver: a keyword of its search.

    Attributes:
        name: the keyword.
        values: a "count" is a whole number of at least 1, a "number" is finite and above 0.
        default: None leaves the choice to the solver, and may be passed where it is the default only.
        help: what it does, from the search's docstring.
    """

    name: str
    values: Literal["count", "number", "function"]
    default: Any
    help: str

    def check(self, value: Any) -> None:
        """Check a value of the option.

        Raises:
            ValueError: the option cannot have this value.
        """
        if value is None and self.default is None:
            return
        if self.values == "function":
            check_callable(self.name, value)
        elif self.values == "count":
            check_whole(self.name, value, least=1)
        elif not is_number(value) or not 0 < value < float("inf"):
            raise ValueError(f"{self.name} must be a number above 0, got {shown(value)}: pass a finite one")


@dataclass(frozen=True, eq=False)
class Solver:
    """The record of a solver: its properties and its search.

    Attributes:
        name: its name for users.
        kind: what really runs: classical, quantum-inspired, quantum or hybrid.
        search: (problem, watch, **options) → what was found; None if it takes no selections. Its keywords are the
            options: `float` in the annotation makes a number, `Callable` a function, anything else a count.
        reads: endless reads of a magnitude Hamiltonian by a seed; None if it takes none.
        priced: whether the search starts from λ of the certificate; the time of the bound is then added to its own.
        anneals: whether it searches by annealing, simulated or real.
        client: Ocean's client ("qpu", "hybrid") for which a D-Wave token must be configured; None if it runs here.
        compared_with: options in comparisons of solvers: one thread, and few reads per round where reads may exceed a
            time limit.
        colour: colour in figures.
        dashes: line style in figures; None for that of its kind.
        reference: publication of the method.
    """

    name: str
    kind: Kind
    search: Callable[..., Outcome] | None = None
    reads: Callable[[Magnitude, int], Iterator[Read]] | None = None
    priced: bool = False
    anneals: bool = False
    client: str | None = None
    compared_with: Mapping[str, Any] = field(default_factory=dict)
    colour: str = "0.4"
    dashes: Dashes | None = None
    reference: str = ""

    @cached_property
    def options(self) -> Mapping[str, Option]:
        """The options by name, read off the search's keywords."""
        if self.search is None:
            return {}
        keywords = [p for p in inspect.signature(self.search).parameters.values() if p.kind is p.KEYWORD_ONLY]
        help_of = _documented(self.search)
        return {
            p.name: Option(p.name, _values(str(p.annotation)), p.default, help_of.get(p.name, "")) for p in keywords
        }

    def check(self, options: Mapping[str, Any]) -> None:
        """Check options and their values.

        Raises:
            ValueError: naming the option, the rule and the value.
        """
        for name, value in options.items():
            if name not in self.options:
                known = ", ".join(self.options) or "none"
                raise ValueError(f"solver {self.name!r} has no option {name!r}: it has {known}")
            self.options[name].check(value)


def _values(annotation: str) -> Literal["count", "number", "function"]:
    """The kind of values an annotation allows."""
    return "function" if "Callable" in annotation else "number" if "float" in annotation else "count"


def _documented(function: Callable[..., Any]) -> dict[str, str]:
    """The description of each argument in the section "Args" of a docstring."""
    found: dict[str, str] = {}
    name = ""
    for line in (inspect.getdoc(function) or "").partition("Args:\n")[2].splitlines():
        if not line.strip():
            break
        begins = re.match(r" {4}(\w+): (.*)", line)
        name = begins[1] if begins else name
        found[name] = begins[2] if begins else f"{found[name]} {line.strip()}"
    return found
