"""dwave-hybrid's decomposition workflow (classical) with local samplers only: no token.

Each iteration two branches improve the state side by side: simulated annealing of the whole λ form, and a
subproblem of the variables that matter most (by energy impact, gathered along couplings) solved by tabu search and put
back; the better state goes on. Branches all finish and are seeded, instead of racing and interrupting one another as
in dwave-hybrid's Kerberos, so that the same seed gives the same answer.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from qubo.search.watch import Outcome, Watch
from qubo.solvers import penalty_loop
from qubo.solvers.penalty_loop import Draw, Task
from qubo.solvers.solver import Prepared, Solver

TABU_UPDATES = 500
"""Variables flipped per subproblem, in multiples of its size (our choice)."""


def search(
    problem: Prepared,
    watch: Watch,
    *,
    subproblem: int = 100,
    sweeps: int = 200,
    iterations: int = 10,
    rounds: int = 5,
) -> Outcome:
    """Rounds of λ, each a workflow of `iterations` from the state the round before ended in.

    Args:
        subproblem: variables of the subproblems.
        sweeps: sweeps of simulated annealing over the whole problem, per iteration.
        iterations: iterations a round.
        rounds: at most this many λ; with a time limit, as many as fit.
    """
    last: dict[int, int] = {}

    def draw(task: Task) -> Draw:
        import dimod
        import hybrid

        bqm = task.model()
        rng = np.random.default_rng(task.seed)
        start = last or dict(zip(bqm.variables, rng.integers(0, 2, bqm.num_variables).tolist(), strict=True))
        flow = _workflow(task, rng, min(subproblem, bqm.num_variables), sweeps, iterations, watch.left_s)
        running = flow.run(hybrid.State.from_sample(start, bqm))
        try:
            found = running.result().samples
        except KeyboardInterrupt:
            flow.stop()
            raise
        last.update({int(v): int(bit) for v, bit in found.first.sample.items()})
        kept = dimod.SampleSet.from_samples_bqm(dict(last), bqm)  # type: ignore[no-untyped-call]
        return Draw.of(kept, iterations * (sweeps * bqm.num_variables + TABU_UPDATES * subproblem))

    work = iterations * (sweeps * int(problem.selection.offered.sum()) + TABU_UPDATES * subproblem)
    return penalty_loop.search(problem, watch, draw, rounds=rounds, work=work)


def _workflow(
    task: Task, rng: np.random.Generator, size: int, sweeps: int, iterations: int, limit_s: float | None
) -> Any:
    """Two branches, the better of them kept, repeated."""
    import hybrid
    from dwave.samplers import SimulatedAnnealingSampler, TabuSampler

    # Two generators, because branches may run at the same time.
    whole_rng, part_rng = (np.random.default_rng(rng.integers(2**63)) for _ in range(2))
    annealing, tabu = SimulatedAnnealingSampler(), TabuSampler()  # type: ignore[no-untyped-call]
    beta = [0.1 / task.energy_unit, task.beta_range[1]]

    def anneal(_: Any, state: Any) -> Any:
        found = annealing.sample(
            state.problem, num_reads=1, num_sweeps=sweeps, beta_range=beta, seed=int(whole_rng.integers(2**31)),
            initial_states=state.samples.first.sample,
        )  # fmt: skip
        return state.updated(samples=found)

    def solve(_: Any, state: Any) -> Any:
        found = tabu.sample(
            state.subproblem, num_reads=1, num_restarts=0, seed=int(part_rng.integers(2**31)), timeout=None,  # type: ignore[arg-type]
            coefficient_z_first=TABU_UPDATES, lower_bound_z=1,
        )  # fmt: skip
        return state.updated(subsamples=found)

    decomposed = (
        hybrid.EnergyImpactDecomposer(size=size, rolling=True, rolling_history=0.5, traversal="bfs")
        | hybrid.Lambda(solve)
        | hybrid.SplatComposer()
    )
    iteration = hybrid.ParallelBranches(hybrid.Identity(), hybrid.Lambda(anneal), decomposed) | hybrid.ArgMin()
    return hybrid.Loop(iteration, max_iter=iterations, max_time=limit_s)


SOLVER = Solver(
    "ocean-decompose",
    "classical",
    search,
    priced=True,
    anneals=True,
    colour="#8C6D1F",
    reference="dwave-hybrid, github.com/dwavesystems/dwave-hybrid",
)
