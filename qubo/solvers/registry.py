"""The solvers by name. A new solver is a file of its own and one line here."""

from __future__ import annotations

import warnings
from collections.abc import ItemsView, Iterator, Mapping, MutableMapping, ValuesView
from importlib import import_module
from typing import Any

from qubo.checks import shown
from qubo.solvers.solver import Solver
from qubo.solvers.token import one_line


class Registry(MutableMapping[str, Solver]):
    """Solvers by name; a solver's module is imported when its record is first asked for, names alone import nothing.

    A place is "module:name of the record". Records themselves may be set too: `SOLVERS["mine"] = Solver("mine", …)`.
    A place where no record is raises a ValueError when that solver is asked for; `items` and `values` warn of it and
    leave it out.
    """

    def __init__(self, places: Mapping[str, str]) -> None:
        self._held: dict[str, Solver | str] = {}
        for name, place in places.items():
            self[name] = place

    def __getitem__(self, name: str) -> Solver:
        held = self._held[name]
        if isinstance(held, str):
            held = _load(name, held)
            self[name] = held
        return held

    def __setitem__(self, name: str, solver: Solver | str) -> None:
        if not isinstance(name, str):
            raise ValueError(f"a solver's name must be a text, got {shown(name)}: use one such as 'mine'")
        if isinstance(solver, Solver):
            if solver.name != name:
                raise ValueError(f"the solver says its name is {solver.name!r}, got {name!r}: use one name")
        elif not _is_place(solver):
            raise ValueError(
                f"solver {name!r} must be a Solver, or its place as 'module:name of the record', got {shown(solver)}: "
                f"pass one of these, a search as Solver({name!r}, kind, search)"
            )
        self._held[name] = solver

    def __delitem__(self, name: str) -> None:
        del self._held[name]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._held

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def items(self) -> ItemsView[str, Solver]:
        """The names with their records, of solvers that can be loaded."""
        return self._loaded().items()

    def values(self) -> ValuesView[Solver]:
        """The records of solvers that can be loaded."""
        return self._loaded().values()

    def _loaded(self) -> dict[str, Solver]:
        found: dict[str, Solver] = {}
        for name in self:
            try:
                found[name] = self[name]
            except ValueError as error:
                warnings.warn(f"{error}; it is left out here", stacklevel=3)
        return found


def _is_place(place: Any) -> bool:
    """Whether a value is written as a place; nothing is imported."""
    if not isinstance(place, str):
        return False
    module, _, record = place.partition(":")
    return all(part.isidentifier() for part in (*module.split("."), record))


def _load(name: str, place: str) -> Solver:
    """The record at a place, whose module is imported.

    Raises:
        ValueError: the module cannot be imported, or holds no such record.
    """
    module, _, record = place.partition(":")
    try:
        found = getattr(import_module(module), record)
    except Exception as error:  # whatever a module of somebody else's raises while it is imported
        told = f"solver {name!r} cannot be loaded from {place!r} ({one_line(error)})"
        raise ValueError(f"{told}: correct the place, or the module") from error
    if not isinstance(found, Solver):
        raise ValueError(f"solver {name!r} must be a Solver, got {shown(found)} at {place!r}: correct the place")
    return found


SOLVERS = Registry(
    {
        "annealer": "qubo.solvers.annealer:SOLVER",
        "exact": "qubo.solvers.exact:SOLVER",
        "genetic": "qubo.solvers.genetic:SOLVER",
        "lagrangian": "qubo.solvers.lagrangian:SOLVER",
        "ocean-sa": "qubo.solvers.ocean:SIMULATED_ANNEALING",
        "ocean-tabu": "qubo.solvers.ocean:TABU",
        "ocean-greedy": "qubo.solvers.ocean:GREEDY",
        "ocean-path-integral": "qubo.solvers.ocean:PATH_INTEGRAL",
        "ocean-decompose": "qubo.solvers.decompose:SOLVER",
        "random": "qubo.solvers.random:SOLVER",
        "reinforce": "qubo.solvers.reinforce:SOLVER",
        "qpu": "qubo.dwave.qpu:SOLVER",
        "leap-cqm": "qubo.dwave.leap:CONSTRAINED",
        "leap-nl": "qubo.dwave.leap:NONLINEAR",
    }
)
"""Solvers of selections."""
SAMPLERS = Registry(
    {
        "sorting": "qubo.solvers.sorting:SOLVER",
        "ocean-sa": "qubo.solvers.ocean:SIMULATED_ANNEALING",
        "ocean-tabu": "qubo.solvers.ocean:TABU",
        "ocean-greedy": "qubo.solvers.ocean:GREEDY",
        "ocean-path-integral": "qubo.solvers.ocean:PATH_INTEGRAL",
        "genetic": "qubo.solvers.genetic:SOLVER",
        "random": "qubo.solvers.random:SOLVER",
    }
)
"""Solvers of magnitude Hamiltonians: those whose record has `reads`."""


def find(name: str) -> Solver:
    """The record of a solver of either kind of problem.

    Raises:
        KeyError: there is none of that name.
    """
    return SOLVERS[name] if name in SOLVERS else SAMPLERS[name]
