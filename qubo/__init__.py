"""Choose one code per group within a budget of cells, and prove how good the choice is.

>>> import qubo
>>> problem = qubo.generate("Q", groups=40)
>>> solution = qubo.solve(problem, "annealer", seed=0)
>>> solution.feasible, solution.lower_bound <= solution.energy
(True, True)
"""

from qubo.bounds.certificate import Certificate, lower_bound
from qubo.dwave.estimate import QpuEstimate, qpu_estimate
from qubo.families import generate
from qubo.formats.binary import to_bqm, to_cqm
from qubo.magnitude.hamiltonian import Compression, Magnitude
from qubo.selection import Block, Selection
from qubo.setups import Setup
from qubo.solution import Solution
from qubo.solvers import SOLVERS, solve
from qubo.solvers.pareto import Frontier, frontier

__all__ = [
    "SOLVERS",
    "Block",
    "Certificate",
    "Compression",
    "Frontier",
    "Magnitude",
    "QpuEstimate",
    "Selection",
    "Setup",
    "Solution",
    "frontier",
    "generate",
    "lower_bound",
    "qpu_estimate",
    "solve",
    "to_bqm",
    "to_cqm",
]
