"""The solution that a solver returns: a choice of codes, with a bound on how good it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["classical", "quantum-inspired", "quantum", "hybrid"]
"""What really ran; "hybrid" is a service that mixes processors and quantum annealing as it sees fit."""


@dataclass(frozen=True, eq=False)
class Solution:
    """A choice with its energy, a lower bound, and the work of the search.

    Attributes:
        choice: (G,) int64, one code per group.
        energy: energy of the choice, in the loss's unit.
        cost: cells taken by the choice.
        feasible: the budget is met and only offered codes are used.
        lower_bound: no feasible choice has less energy than this.
        multiplier: λ, the loss that one more cell of budget would save, at the bound.
        seconds: wall-clock time of the search, without the bound unless the solver computed it.
        solver: name of the solver.
        kind: what really ran: classical, quantum-inspired, quantum or hybrid.
        evaluations: moves proposed or variables visited by the search.
        seed: the seed given.
        feasible_before_repair: share of raw samples that met the budget with one code per group;
            None for solvers that never leave the feasible set.
        interrupted: the search was stopped from the keyboard and this is the best so far.
        details: further results of the solver, such as chain strength and broken chains; read-only.
    """

    choice: NDArray[np.int64]
    energy: float
    cost: float
    feasible: bool
    lower_bound: float
    multiplier: float
    seconds: float
    solver: str
    kind: Kind
    evaluations: int
    seed: int
    feasible_before_repair: float | None = None
    interrupted: bool = False
    details: Mapping[str, float | str] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        object.__setattr__(self, "details", MappingProxyType(dict(self.details)))

    @property
    def gap(self) -> float:
        """(energy − lower_bound) / |energy|: the largest possible improvement, as a share of the energy."""
        return (self.energy - self.lower_bound) / max(abs(self.energy), np.finfo(np.float64).tiny)
