"""The samplers of `dwave.samplers` that run here, without a token, on the sparse λ form.

Simulated annealing, tabu search and steepest descent are classical, path-integral annealing is quantum-inspired. All
share the loop of `qubo.solvers.penalty_loop`; without a time limit the same seed gives the same answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qubo.magnitude.binary_model import COLDEST, BinaryModel, Read
from qubo.magnitude.hamiltonian import Magnitude
from qubo.search.watch import Outcome, Watch
from qubo.solvers import penalty_loop
from qubo.solvers.penalty_loop import Draw, Task
from qubo.solvers.solver import Prepared, Solver

COLDEST_BETA = 10.0
"""β of path-integral annealing, in units of 1 / (λ × mean cost step): world lines grow with it (our choice)."""
TRANSVERSE_FIELD = 2.0
"""Transverse field at the start, in the unit of energy (our choice)."""
ZERO_SEED = 2**31 - 1
"""Stands for seed 0, with which path-integral annealing would draw another seed each time (dwave-samplers 1.7)."""
TABU_VARIABLES = 10_000
"""Tabu search lays the problem out as a dense matrix: 800 MB at this many variables."""
READ_SWEEPS, PATH_SWEEPS, TABU_MS = 1000, 200, 100
"""Sweeps of a read of a magnitude Hamiltonian, and milliseconds of one of tabu search."""


def simulated_annealing(
    problem: Prepared,
    watch: Watch,
    *,
    sweeps: int = 1000,
    reads: int = 5,
    rounds: int = 8,
) -> Outcome:
    """`SimulatedAnnealingSampler`.

    Args:
        sweeps: sweeps per read, each visiting every variable.
        reads: reads a round.
        rounds: at most this many λ; with a time limit, as many as fit.
    """
    from dwave.samplers import SimulatedAnnealingSampler

    sampler = SimulatedAnnealingSampler()  # type: ignore[no-untyped-call]

    def draw(task: Task) -> Draw:
        found = sampler.sample(
            task.model(), num_reads=reads, num_sweeps=sweeps, beta_range=task.beta_range, seed=task.seed,
            interrupt_function=watch.stopped,
        )  # fmt: skip
        return Draw.of(found, sweeps * found.record.sample.size)

    work = sweeps * reads * int(problem.layout.arrays.codes.sum())
    return penalty_loop.search(problem, watch, draw, rounds=rounds, work=work)


def tabu(
    problem: Prepared,
    watch: Watch,
    *,
    updates: int = 500,
    reads: int = 3,
    rounds: int = 5,
) -> Outcome:
    """`TabuSampler`; with a time limit each read is also limited to its share of the time left.

    Args:
        updates: variables flipped per read, in multiples of the number of variables.
        reads: reads a round.
        rounds: at most this many λ; with a time limit, as many as fit.

    Raises:
        ValueError: more variables than fit a dense matrix.
    """
    from dwave.samplers import TabuSampler

    variables = int(problem.selection.offered.sum())
    if variables > TABU_VARIABLES:
        raise ValueError(
            f"ocean-tabu holds a dense matrix of at most {TABU_VARIABLES} variables, got {variables}: use ocean-sa"
        )
    sampler = TabuSampler()  # type: ignore[no-untyped-call]

    def draw(task: Task) -> Draw:
        left = watch.left_s
        found = sampler.sample(
            task.model(), num_reads=reads, num_restarts=0, seed=task.seed,
            timeout=None if left is None else max(1, int(1000 * left / reads)),  # type: ignore[arg-type]
            coefficient_z_first=updates, lower_bound_z=1,
        )  # fmt: skip
        return Draw.of(found, updates * found.record.sample.size)

    work = updates * reads * variables
    return penalty_loop.search(problem, watch, draw, rounds=rounds, work=work)


def path_integral(
    problem: Prepared,
    watch: Watch,
    *,
    sweeps: int = 100,
    reads: int = 3,
    rounds: int = 4,
) -> Outcome:
    """`PathIntegralAnnealingSampler`: Monte Carlo of the transverse-field Ising model (quantum-inspired).

    At a fixed low temperature the field falls linearly from `TRANSVERSE_FIELD` to nothing while the problem is
    turned on, as on an annealer; without a schedule the sampler has no transverse field at all.

    Args:
        sweeps: sweeps per read over the whole schedule.
        reads: reads a round.
        rounds: at most this many λ; with a time limit, as many as fit.
    """
    from dwave.samplers import PathIntegralAnnealingSampler

    sampler = PathIntegralAnnealingSampler()  # type: ignore[no-untyped-call]
    s = (np.arange(sweeps) + 1.0) / sweeps

    def draw(task: Task) -> Draw:
        found = sampler.sample(
            task.model(), num_reads=reads, seed=task.seed or ZERO_SEED, beta_schedule_type="custom",
            Hp_field=COLDEST_BETA * s / task.energy_unit, Hd_field=COLDEST_BETA * TRANSVERSE_FIELD * (1 - s),
            interrupt_function=watch.stopped,
        )  # fmt: skip
        return Draw.of(found, sweeps * found.record.sample.size)

    work = sweeps * reads * int(problem.layout.arrays.codes.sum())
    return penalty_loop.search(problem, watch, draw, rounds=rounds, work=work)


def greedy(
    problem: Prepared,
    watch: Watch,
    *,
    restarts: int = 100,
    rounds: int = 8,
) -> Outcome:
    """`SteepestDescentSampler` from random states: the floor that annealing has to beat.

    Args:
        restarts: descents a round.
        rounds: at most this many λ; with a time limit, as many as fit.
    """
    from dwave.samplers import SteepestDescentSampler

    sampler = SteepestDescentSampler()  # type: ignore[no-untyped-call]

    def draw(task: Task) -> Draw:
        found = sampler.sample(task.model(), num_reads=restarts, seed=task.seed, large_sparse_opt=True)
        return Draw.of(found, int(found.record.num_steps.sum()) + 1)

    # A descent from a random state takes about one step per two variables.
    work = max(1, restarts * int(problem.layout.arrays.codes.sum()) // 2)
    return penalty_loop.search(problem, watch, draw, rounds=rounds, work=work)


def _states(found: Any) -> NDArray[Any]:
    """The samples of a sample set, columns by variable."""
    return np.asarray(found.record.sample[:, np.argsort(np.asarray(list(found.variables), dtype=np.int64))])


def annealed_states(problem: Magnitude, seed: int) -> Iterator[Read]:
    """Reads of a magnitude Hamiltonian by simulated annealing."""
    from dwave.samplers import SimulatedAnnealingSampler

    model, sampler = BinaryModel.of(problem), SimulatedAnnealingSampler()  # type: ignore[no-untyped-call]
    betas = model.beta_range()

    def draw(seed: int) -> tuple[NDArray[Any], int]:
        found = sampler.sample(model.bqm, num_reads=1, num_sweeps=READ_SWEEPS, beta_range=betas, seed=seed)
        return _states(found), READ_SWEEPS

    return model.reads(draw, seed)


def tabu_states(problem: Magnitude, seed: int) -> Iterator[Read]:
    """Reads of a magnitude Hamiltonian by tabu search."""
    from dwave.samplers import TabuSampler

    model, sampler = BinaryModel.of(problem), TabuSampler()  # type: ignore[no-untyped-call]
    return model.reads(
        lambda seed: (_states(sampler.sample(model.bqm, num_reads=1, seed=seed, timeout=TABU_MS)), 1), seed
    )


def descended_states(problem: Magnitude, seed: int) -> Iterator[Read]:
    """Reads of a magnitude Hamiltonian by steepest descent, ten at a time."""
    from dwave.samplers import SteepestDescentSampler

    model, sampler = BinaryModel.of(problem), SteepestDescentSampler()  # type: ignore[no-untyped-call]
    return model.reads(lambda seed: (_states(sampler.sample(model.bqm, num_reads=10, seed=seed)), 10), seed)


def path_integral_states(problem: Magnitude, seed: int) -> Iterator[Read]:
    """Reads of a magnitude Hamiltonian by path-integral annealing (quantum-inspired)."""
    from dwave.samplers import PathIntegralAnnealingSampler

    model, sampler = BinaryModel.of(problem), PathIntegralAnnealingSampler()  # type: ignore[no-untyped-call]
    s = (np.arange(PATH_SWEEPS) + 1.0) / PATH_SWEEPS
    unit = COLDEST / model.beta_range()[1]

    def draw(seed: int) -> tuple[NDArray[Any], int]:
        found = sampler.sample(
            model.bqm, num_reads=1, seed=seed or ZERO_SEED, beta_schedule_type="custom",
            Hp_field=COLDEST_BETA * s / unit, Hd_field=COLDEST_BETA * TRANSVERSE_FIELD * (1 - s),
        )  # fmt: skip
        return _states(found), PATH_SWEEPS

    return model.reads(draw, seed)


SIMULATED_ANNEALING = Solver(
    "ocean-sa",
    "classical",
    simulated_annealing,
    reads=annealed_states,
    priced=True,
    anneals=True,
    colour="#E69F00",
    reference="Kirkpatrick, Gelatt and Vecchi 1983, doi 10.1126/science.220.4598.671",
)
TABU = Solver(
    "ocean-tabu",
    "classical",
    tabu,
    reads=tabu_states,
    priced=True,
    colour="#009E73",
    reference="Palubeckis 2004, doi 10.1023/B:ANOR.0000039522.58036.68",
)
GREEDY = Solver(
    "ocean-greedy",
    "classical",
    greedy,
    reads=descended_states,
    priced=True,
    compared_with={"restarts": 5},
    colour="#56B4E9",
)
PATH_INTEGRAL = Solver(
    "ocean-path-integral",
    "quantum-inspired",
    path_integral,
    reads=path_integral_states,
    priced=True,
    anneals=True,
    compared_with={"reads": 1},
    colour="#CC79A7",
    reference="Martoňák, Santoro and Tosatti 2002, doi 10.1103/PhysRevB.66.094203",
)
