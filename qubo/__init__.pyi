# The names of this package; `__init__.py` loads each from its module on first use.
from .bounds.certificate import Certificate as Certificate
from .bounds.certificate import lower_bound as lower_bound
from .dwave.estimate import QpuEstimate as QpuEstimate
from .dwave.estimate import qpu_estimate as qpu_estimate
from .families import generate as generate
from .formats.binary import to_bqm as to_bqm
from .formats.binary import to_cqm as to_cqm
from .magnitude.hamiltonian import Compression as Compression
from .magnitude.hamiltonian import Magnitude as Magnitude
from .selection import Block as Block
from .selection import Selection as Selection
from .setups import Setup as Setup
from .solution import Solution as Solution
from .solvers import SOLVERS as SOLVERS
from .solvers import solve as solve
from .solvers.pareto import Frontier as Frontier
from .solvers.pareto import frontier as frontier
