"""The solvers by name. A new solver is a file of its own and one line here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module

from qubo.solvers.solver import Solver


class Registry(MutableMapping[str, Solver]):
    """Solvers by name; a solver's module is imported when its record is first asked for, names alone import nothing.

    A place is "module:name of the record". Records themselves may be set too: `SOLVERS["mine"] = Solver("mine", …)`.
    """

    def __init__(self, places: Mapping[str, str]) -> None:
        self._held: dict[str, Solver | str] = dict(places)

    def __getitem__(self, name: str) -> Solver:
        held = self._held[name]
        if isinstance(held, str):
            module, _, record = held.partition(":")
            held = getattr(import_module(module), record)
            self[name] = held
        return held

    def __setitem__(self, name: str, solver: Solver | str) -> None:
        if isinstance(solver, Solver) and solver.name != name:
            raise ValueError(f"the solver says its name is {solver.name!r}, got {name!r}: use one name")
        self._held[name] = solver

    def __delitem__(self, name: str) -> None:
        del self._held[name]

    def __contains__(self, name: object) -> bool:
        return name in self._held

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)


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
