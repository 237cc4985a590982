"""The coefficients of a magnitude Hamiltonian for samplers of binary variables, and the reads that these return."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qubo.magnitude.hamiltonian import Magnitude

Vector = NDArray[np.float64]

HOTTEST, COLDEST = np.log(2), np.log(100)
"""β × largest field at the start and β × smallest flip at the end, as in Ocean's own default."""
COLDEST_QUANTILE = 0.01
"""The smallest flip is this quantile of flips at the best state of a descent (our choice)."""


class Read(NamedTuple):
    """What one read or generation of a sampler gives.

    Attributes:
        states: (N, variables) zeros and ones, in the numbering of `Magnitude.to_bqm`.
        energies: (N,) their H.
        evaluations: variables visited, or states evaluated.
    """

    states: NDArray[Any]
    energies: Vector
    evaluations: int


@dataclass(frozen=True, eq=False)
class BinaryModel:
    """H as xᵀQx + linear·x, and Ocean's form of it.

    Attributes:
        linear: (n,) coefficients.
        Q: (n, n), upper triangular.
        bqm: the same as a `dimod.BinaryQuadraticModel`.
    """

    linear: Vector
    Q: Vector
    bqm: Any

    @classmethod
    def of(cls, problem: Magnitude) -> BinaryModel:
        """The Hamiltonian's coefficients."""
        bqm = problem.to_bqm()
        n = problem.variables
        vectors = bqm.to_numpy_vectors(variable_order=range(n))
        linear, (row, column, value) = vectors[0], vectors[1]
        Q = np.zeros((n, n))
        np.add.at(Q, (np.minimum(row, column), np.maximum(row, column)), value)
        return cls(np.asarray(linear, dtype=np.float64), Q, bqm)

    def energies(self, X: NDArray[Any]) -> Vector:
        """H of states (N, n)."""
        Y = np.asarray(X, dtype=np.float64)
        return np.asarray(((Y @ self.Q) * Y).sum(axis=1) + Y @ self.linear)

    def flips(self, x: NDArray[Any]) -> Vector:
        """(n,) |change of H| by flipping each variable."""
        slope = self.linear + (self.Q + self.Q.T) @ np.asarray(x, dtype=np.float64)
        return np.asarray(np.abs(slope))

    def beta_range(self) -> list[float]:
        """Inverse temperatures: every flip is likely at the start, hardly any at the end."""
        largest = float((np.abs(self.linear) + np.abs(self.Q + self.Q.T).sum(axis=1)).max())
        x = np.zeros(self.linear.size)
        for _ in range(20 * x.size):  # steepest descent
            change = (self.linear + (self.Q + self.Q.T) @ x) * (1 - 2 * x)
            if change.min() >= 0:
                break
            x[change.argmin()] = 1 - x[change.argmin()]
        flips = self.flips(x)
        smallest = float(np.quantile(flips[flips > 0], COLDEST_QUANTILE)) if (flips > 0).any() else 1.0
        return [HOTTEST / (largest or 1.0), COLDEST / min(smallest, largest or 1.0)]

    def reads(self, draw: Callable[[int], tuple[NDArray[Any], int]], seed: int) -> Iterator[Read]:
        """Endless reads with new seeds of a sampler: seed below 2^31 → states (N, n) and sweeps over all variables."""
        for number in count():
            states, sweeps = draw((seed * 1_000_003 + number) % 2**31)
            yield Read(states, self.energies(states), sweeps * self.linear.size)
