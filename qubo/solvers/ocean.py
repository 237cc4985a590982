"""The samplers of `dwave.samplers` that run here, without a token, on the sparse λ form.

Simulated annealing, tabu search and steepest descent are classical, path-integral annealing is quantum-inspired. All
share the loop of `qubo.solvers.penalty_loop`; without a time limit the same seed gives the same answer.
"""

from __future__ import annotations

import numpy as np

from qubo.bounds.certificate import Certificate
from qubo.search.arrays import Layout
from qubo.search.watch import Outcome, Watch
from qubo.selection import Selection
from qubo.solvers import penalty_loop
from qubo.solvers.penalty_loop import Draw, Task

COLDEST_BETA = 10.0
"""β of path-integral annealing, in units of 1 / (λ × mean cost step): world lines grow with it (our choice)."""
TRANSVERSE_FIELD = 2.0
"""Transverse field at the start, in the unit of energy (our choice)."""
TABU_VARIABLES = 10_000
"""Tabu search lays the problem out as a dense matrix: 800 MB at this many variables."""


def simulated_annealing(
    selection: Selection,
    layout: Layout,
    certificate: Certificate,
    *,
    seed: int,
    watch: Watch,
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

    work = sweeps * reads * int(layout.arrays.codes.sum())
    return penalty_loop.search(selection, layout, certificate, draw, seed=seed, watch=watch, rounds=rounds, work=work)


def tabu(
    selection: Selection,
    layout: Layout,
    certificate: Certificate,
    *,
    seed: int,
    watch: Watch,
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

    variables = int(selection.offered.sum())
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
    return penalty_loop.search(selection, layout, certificate, draw, seed=seed, watch=watch, rounds=rounds, work=work)


def path_integral(
    selection: Selection,
    layout: Layout,
    certificate: Certificate,
    *,
    seed: int,
    watch: Watch,
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
            task.model(), num_reads=reads, seed=task.seed, beta_schedule_type="custom",
            Hp_field=COLDEST_BETA * s / task.energy_unit, Hd_field=COLDEST_BETA * TRANSVERSE_FIELD * (1 - s),
            interrupt_function=watch.stopped,
        )  # fmt: skip
        return Draw.of(found, sweeps * found.record.sample.size)

    work = sweeps * reads * int(layout.arrays.codes.sum())
    return penalty_loop.search(selection, layout, certificate, draw, seed=seed, watch=watch, rounds=rounds, work=work)


def greedy(
    selection: Selection,
    layout: Layout,
    certificate: Certificate,
    *,
    seed: int,
    watch: Watch,
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
    work = max(1, restarts * int(layout.arrays.codes.sum()) // 2)
    return penalty_loop.search(selection, layout, certificate, draw, seed=seed, watch=watch, rounds=rounds, work=work)
