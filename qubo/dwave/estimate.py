"""What a quantum processor would need for a selection, found without submitting anything and without a token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qubo.dwave.qpu import EMBEDDING_S, seating, working_graph
from qubo.search.arrays import lay_out
from qubo.selection import Selection
from qubo.solvers.penalty_loop import GaveUpError

PROGRAMMING_US = 33_600.0
THERMALIZATION_US = 1_000.0
READOUT_US = 101.0
DELAY_US = 60.6
ANNEALING_US = 20.0
SOURCE = "Advantage2_system1.10 as in Ocean's documentation, Per-QPU Solver Properties; readout at its upper end"
"""Times of the Advantage2 with shape [12, 4]: programming about 33,600 µs, readout 17.0 to 101.0 µs, delay 60.6 µs a
sample (D-Wave Ocean documentation, "Per-QPU Solver Properties and Schedules"); thermalization typically 1 ms and
T = T_programming + reads · (T_anneal + T_readout + T_delay) ("Operation and Timing"). 20 µs is the default anneal."""


@dataclass(frozen=True)
class QpuEstimate:
    """What one round on a quantum processor takes.

    Attributes:
        variables: binary variables that are embedded.
        pieces: parts solved on their own, blocks and uncoupled groups.
        submissions: programmings of the chip for all of them.
        qubits: qubits used by the largest submission.
        working_qubits: qubits there are.
        chain_length_max: qubits of the longest chain.
        chain_length_mean: mean qubits per variable.
        embedding_s: wall-clock seconds that finding the embeddings took here (0 if remembered).
        access_time_s: QPU time of the round, which is what is charged.
        timing: where the times come from.
    """

    variables: int
    pieces: int
    submissions: int
    qubits: int
    working_qubits: int
    chain_length_max: int
    chain_length_mean: float
    embedding_s: float
    access_time_s: float
    timing: str


def qpu_estimate(
    selection: Selection,
    topology: str = "zephyr",
    shape: Sequence[int] = (12, 4),
    *,
    reads: int = 200,
    annealing_time_us: float = ANNEALING_US,
    sampler: Any = None,
) -> QpuEstimate:
    """Qubits, chains and access time of one round of the solver "qpu"; nothing is submitted.

    Args:
        selection: the problem.
        topology: "zephyr", "pegasus" or "chimera".
        shape: the topology's parameters; (12, 4) is Advantage2, every qubit working.
        reads: anneals per submission.
        annealing_time_us: time of one anneal.
        sampler: a connected `DWaveSampler`, whose working graph and timing model are used instead.

    Raises:
        ValueError: an unknown topology or shape, or a group too large for the processor.

    >>> from qubo import generate
    >>> estimate = qpu_estimate(generate("S", groups=5), shape=(2, 4), reads=100)
    >>> estimate.variables, estimate.submissions, estimate.qubits <= 160, round(estimate.access_time_s, 4)
    (30, 1, True, 0.0528)
    """
    import dwave.graphs as lattices

    builders = {"zephyr": lattices.zephyr_graph, "pegasus": lattices.pegasus_graph, "chimera": lattices.chimera_graph}
    if topology not in builders:
        raise ValueError(f"topology must be zephyr, pegasus or chimera, got {topology!r}: pass one of these")
    if isinstance(reads, bool) or not isinstance(reads, int) or reads < 1:
        raise ValueError(f"reads must be a whole number of at least 1, got {reads!r}: pass a count")
    if sampler is not None:
        graph = working_graph(sampler)
    else:
        try:
            graph = builders[topology](*shape)
        except (TypeError, ValueError) as error:
            raise ValueError(f"shape {tuple(shape)} is none of {topology}: {error}; Advantage2 is (12, 4)") from None
    a = lay_out(selection).arrays
    try:
        seats = seating(a, graph, 0, EMBEDDING_S)
    except GaveUpError as reason:
        raise ValueError(f"{reason}: offer fewer codes") from None
    lengths, submissions, qubits, access_us, variables = [0], 0, 0, 0.0, 0
    for pieces, placement in seats:
        copies = len(placement.embeddings)
        per_copy = [_chains(placement.embeddings[i % copies], piece.groups.size * a.loss.shape[1])
                    for i, piece in enumerate(pieces)]  # fmt: skip
        for i in range(0, len(pieces), copies):
            used = sum(sum(chains) for chains in per_copy[i : i + copies])
            qubits, submissions = max(qubits, used), submissions + 1
            access_us += _access_us(used, reads, annealing_time_us, sampler)
        lengths += [length for chains in per_copy for length in chains]
        variables += sum(len(chains) for chains in per_copy)
    return QpuEstimate(
        variables=variables,
        pieces=sum(len(pieces) for pieces, _ in seats),
        submissions=submissions,
        qubits=qubits,
        working_qubits=len(graph),
        chain_length_max=max(lengths),
        chain_length_mean=sum(lengths) / max(1, variables),
        embedding_s=sum(placement.seconds for _, placement in seats),
        access_time_s=1e-6 * access_us,
        timing=SOURCE if sampler is None else "the solver's own timing model",
    )


def _chains(embedding: dict[int, tuple[int, ...]], variables: int) -> list[int]:
    """Qubits of each of a piece's variables, which are the first of the shape's."""
    return [len(embedding[v]) for v in range(variables)]


def _access_us(qubits: int, reads: int, annealing_time_us: float, sampler: Any) -> float:
    """QPU access time of one submission, in µs."""
    if sampler is not None:
        return float(sampler.solver.estimate_qpu_access_time(qubits, num_reads=reads, annealing_time=annealing_time_us))
    return PROGRAMMING_US + THERMALIZATION_US + reads * (annealing_time_us + READOUT_US + DELAY_US)
