"""D-Wave's quantum processors (quantum): pieces of the λ form embedded side by side, read many times.

Blocks are independent at a given λ, so all pieces that fit are placed on the chip side by side and annealed together;
the others are submitted next. Each piece keeps its own range of coefficients. λ, repair and the share
of feasible reads are those of every sampler here (`qubo.solvers.penalty_loop`); the seed only moves the cuts, for a
quantum processor takes none. Where nothing could be annealed the Lagrangian choice is kept, and the kind says
classical.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qubo.dwave import cloud
from qubo.dwave.embedding import Embedding, PieceShape, Placement, place
from qubo.dwave.pieces import Model, Modeller, Piece, cut, shapes
from qubo.search.arrays import Arrays
from qubo.search.watch import Outcome, Watch
from qubo.solvers import penalty_loop
from qubo.solvers.penalty_loop import Draw, GaveUpError, Task
from qubo.solvers.solver import Prepared, Solver

EMBEDDING_SHARE = 0.3
"""Share of the time left that may go into finding more copies of an embedding (our choice)."""
EMBEDDING_S = 60.0
"""The same without a time limit (our choice)."""


def search(
    problem: Prepared,
    watch: Watch,
    *,
    reads: int = 200,
    rounds: int = 3,
    annealing_time_us: float | None = None,
    chain_prefactor: float = 1.414,
) -> Outcome:
    """Rounds of λ on the QPU that Ocean's configuration selects.

    Args:
        reads: anneals of every submission.
        rounds: at most this many λ; with a time limit, as many as fit.
        annealing_time_us: time of one anneal; the processor's default without it.
        chain_prefactor: factor of Ocean's uniform torque compensation for chain strength (1.414 is Ocean's).

    Raises:
        ValueError: a token that is refused, or no QPU for it.
    """
    anneal = _Annealer(watch, problem.seed, reads, annealing_time_us, chain_prefactor)
    work = reads * int(problem.layout.arrays.codes.sum())
    try:
        outcome = penalty_loop.search(problem, watch, anneal.draw, rounds=rounds, work=work)
    finally:
        cloud.close(anneal.sampler)
    stopped = {"stopped": anneal.silent} if anneal.silent else {}
    details = {**anneal.report.details(), **stopped, **outcome.details}
    return replace(outcome, kind=None if anneal.report.submissions else "classical", details=details)


@dataclass
class _Report:
    """Collects the numbers for `Solution.details`."""

    processor: str = ""
    submissions: int = 0
    access_time_s: float = 0.0
    embedding_s: float = 0.0
    qubits: int = 0
    chains: list[int] = field(default_factory=list)
    strengths: list[float] = field(default_factory=list)
    broken: list[float] = field(default_factory=list)
    clipped: list[float] = field(default_factory=list)

    def details(self) -> dict[str, float | str]:
        """The report as plain numbers."""
        if not self.submissions:
            return {"annealed": "no: nothing came back from a quantum processor; this is the Lagrangian choice"}
        return {
            "annealed": "yes",
            "processor": self.processor,
            "submissions": self.submissions,
            "qpu_access_time_s": self.access_time_s,
            "embedding_s": self.embedding_s,
            "qubits": self.qubits,
            "chain_length_max": max(self.chains),
            "chain_length_mean": float(np.mean(self.chains)),
            "chain_strength_mean": float(np.mean(self.strengths)),
            "chain_break_fraction": float(np.mean(self.broken)),
            "coefficients_clipped": float(np.mean(self.clipped)),
        }


@dataclass
class _Seated:
    """A piece in its place on the chip: its model, and the model of its qubits scaled to the processor's range."""

    piece: Piece
    model: Model
    embedding: Any
    target: Any
    samples: NDArray[np.int8] | None = None
    energies: NDArray[np.float64] | None = None

    @property
    def answered(self) -> bool:
        """Whether reads came back."""
        return self.samples is not None


class _Annealer:
    """Answers the rounds of the loop with anneals; connects when first asked."""

    def __init__(self, watch: Watch, seed: int, reads: int, annealing_time_us: float | None, prefactor: float) -> None:
        self.watch, self.seed, self.reads = watch, seed, reads
        self.annealing_time_us, self.prefactor = annealing_time_us, prefactor
        self.silent = ""  # why the service answered a round only in part
        self.sampler: Any = None
        self.graph: Any = None
        self.groups: dict[int, list[list[int]]] = {}
        self.first_weights: NDArray[np.float64] | None = None
        self.report = _Report()

    def connect(self) -> None:
        """The configured processor and its working graph."""
        from dwave.system import DWaveSampler

        defaults = cloud.request_defaults(self.watch)
        self.sampler = cloud.within(lambda: DWaveSampler(defaults=defaults), self.watch, "connecting to the QPU")
        self.graph = working_graph(self.sampler)
        if "per_group_coupling_range" in self.sampler.properties:
            self.groups = _coupling_groups(self.graph)
        self.report.processor = str(self.sampler.properties.get("chip_id", type(self.sampler).__name__))

    def draw(self, task: Task) -> Draw:
        """One round: cut, embed, submit everything, put the reads of all pieces together.

        If the service falls silent, pieces without an answer keep the best choice so far and the next round gives up.
        """
        if self.silent:
            raise GaveUpError(self.silent)
        if self.watch.stopped():
            raise GaveUpError("the time limit passed before anything was submitted")
        if self.sampler is None:
            self.connect()
        if self.first_weights is None:
            self.first_weights = task.weights
        a, number = task.layout.arrays, task.number + self.seed
        limit = EMBEDDING_S if self.watch.left_s is None else EMBEDDING_SHARE * self.watch.left_s
        limit = limit if task.number == 0 else 0.0  # later rounds take the places that the first one found
        modeller = Modeller(task, self.first_weights)
        submitted: list[tuple[Any, list[_Seated]]] = []
        try:
            for pieces, placement in seating(a, self.graph, number, limit):
                self.report.embedding_s += placement.seconds
                copies = len(placement.embeddings)
                for i in range(0, len(pieces), copies):
                    seated = [
                        self._seat(piece, modeller.model(piece), embedding)
                        for piece, embedding in zip(pieces[i : i + copies], placement.embeddings, strict=False)
                    ]
                    submitted.append((self._submit(seated), seated))
            for future, seated in submitted:
                self._receive(future, seated)
        except (GaveUpError, KeyboardInterrupt) as reason:
            for future, _ in submitted:
                _cancel(future)
            if isinstance(reason, KeyboardInterrupt) or not any(seated[0].answered for _, seated in submitted):
                raise
            self.silent = str(reason)
        return self._together(task, [seat for _, seated in submitted for seat in seated if seat.answered])

    def _seat(self, piece: Piece, model: Model, embedding: Embedding) -> _Seated:
        from dwave.embedding import EmbeddedStructure
        from dwave.embedding.chain_strength import uniform_torque_compensation

        spins = model.bqm.spin.copy()
        chains = {v: embedding[v] for v in spins.variables}
        edges = self.graph.subgraph([qubit for chain in chains.values() for qubit in chain]).edges
        structure = EmbeddedStructure(list(edges), chains)
        target = structure.embed_bqm(
            spins, chain_strength=partial(uniform_torque_compensation, prefactor=self.prefactor)
        )
        factor = self._factor(target)
        target.scale(factor)
        self.report.chains += [len(chain) for chain in chains.values()]
        self.report.strengths.append(factor * float(structure.chain_strength or 0.0))
        self.report.clipped.append(model.clipped)
        return _Seated(piece, model, structure, target)

    def _factor(self, target: Any) -> float:
        """The factor that brings a piece just into the processor's ranges: its own scaling, nobody else's."""
        properties = self.sampler.properties
        fields = np.fromiter(target.linear.values(), dtype=float)
        couplings = np.fromiter(target.quadratic.values(), dtype=float)
        ratios = [_ratio(fields, properties["h_range"])]
        ratios.append(_ratio(couplings, properties.get("extended_j_range", properties["j_range"])))
        if "per_qubit_coupling_range" in properties:
            totals = np.array([sum(target.adj[qubit].values()) for qubit in target.variables])
            ratios.append(_ratio(totals, properties["per_qubit_coupling_range"]))
        sums = [
            sum(row.get(neighbour, 0.0) for neighbour in group)
            for qubit, row in ((qubit, dict(target.adj[qubit])) for qubit in target.variables)
            for group in self.groups.get(qubit, ())
        ]
        if sums:
            ratios.append(_ratio(np.array(sums), properties["per_group_coupling_range"]))
        return 1.0 / (max(ratios) or 1.0)

    def _submit(self, seated: list[_Seated]) -> Any:
        """All pieces as one problem of the chip; the answer is a future inside the sample set."""
        import dimod

        whole = dimod.BinaryQuadraticModel.empty(dimod.SPIN)  # type: ignore[no-untyped-call]
        for seat in seated:
            whole.update(seat.target)
        asked: dict[str, Any] = {"num_reads": self.reads, "answer_mode": "raw", "auto_scale": False}
        if self.annealing_time_us is not None:
            asked["annealing_time"] = self.annealing_time_us
        known = {name: value for name, value in asked.items() if name in self.sampler.parameters}
        self.report.qubits = max(self.report.qubits, whole.num_variables)
        return cloud.within(lambda: self.sampler.sample(whole, **known), self.watch, "submitting to the QPU")

    def _receive(self, future: Any, seated: list[_Seated]) -> None:
        """Reads of every piece, with broken chains repaired by majority."""
        from dwave.embedding import unembed_sampleset

        def resolve() -> Any:
            future.resolve()
            return future

        found = cloud.within(resolve, self.watch, "waiting for the QPU")
        self.report.submissions += 1
        self.report.access_time_s += 1e-6 * float(found.info.get("timing", {}).get("qpu_access_time", 0.0))
        for seat in seated:
            # A plain dict: for chains of one qubit Ocean's structure takes a path that wants this piece's qubits alone.
            own = unembed_sampleset(found, dict(seat.embedding), seat.model.bqm.spin, chain_break_fraction=True)
            order = [own.variables.index(v) for v in seat.model.bqm.variables]
            bits = (own.record.sample[:, order] > 0).astype(np.int8)
            seat.samples = np.repeat(bits, own.record.num_occurrences, axis=0)
            seat.energies = np.repeat(own.record.energy, own.record.num_occurrences)
            self.report.broken.append(float(np.mean(own.record.chain_break_fraction)))

    def _together(self, task: Task, seats: list[_Seated]) -> Draw:
        """Whole samples: row 0 the best read of every piece, then read after read as they came."""
        a, layout = task.layout.arrays, task.layout
        G, C = a.loss.shape
        reads = min([len(seat.samples) for seat in seats if seat.samples is not None], default=0)
        table = np.zeros((reads + 1, G, C), dtype=np.int8)
        table[:, np.arange(G), task.best] = 1
        for seat in seats:
            assert seat.samples is not None
            assert seat.energies is not None
            numbers = np.array(list(seat.model.bqm.variables))
            groups, places = seat.piece.groups[numbers // C], numbers % C
            table[:, seat.piece.groups] = 0
            table[0, groups, places] = seat.samples[int(np.argmin(seat.energies))]
            table[1:, groups, places] = seat.samples[:reads]
        kept = layout.kept()
        labels = (np.arange(G)[:, None] * task.selection.codes + layout.code)[kept]
        return Draw(table[:, kept], labels.tolist(), 0, reads * int(a.codes.sum()))


def working_graph(sampler: Any) -> Any:
    """The qubits and couplers that work, as a lattice where the topology is known."""
    import networkx as nx  # type: ignore[import-untyped]

    try:
        return sampler.to_networkx_graph()
    except (KeyError, ValueError, AttributeError):
        graph = nx.Graph()
        graph.add_nodes_from(sampler.nodelist)
        graph.add_edges_from(sampler.edgelist)
        return graph


def seating(a: Arrays, graph: Any, number: int, time_limit_s: float) -> list[tuple[list[Piece], Placement]]:
    """The pieces of round `number` with places for as many at once as fit; blocks are halved until one fits.

    Raises:
        GaveUpError: a single group does not fit the processor.
    """
    block, alone = shapes(a)
    seats: list[tuple[list[Piece], Placement]] = []
    if block is not None:
        groups = block.groups
        while True:
            shape = PieceShape(groups, block.codes, min(block.reach, groups - 1))
            pieces, _ = cut(a, groups, number)
            placement = place(shape, graph, len(pieces), time_limit_s=time_limit_s)
            if placement.embeddings:
                break
            if groups == 1:
                raise GaveUpError(f"one group of {block.codes} codes does not fit the processor's {len(graph)} qubits")
            groups = (groups + 1) // 2
        seats.append((pieces, placement))
    if alone is not None:
        singles = cut(a, 1, number)[1]
        placement = place(alone, graph, len(singles), time_limit_s=time_limit_s)
        if not placement.embeddings:
            raise GaveUpError(f"one group of {alone.codes} codes does not fit the processor's {len(graph)} qubits")
        seats.append((singles, placement))
    return seats


def _ratio(values: NDArray[np.float64], allowed: Any) -> float:
    """How many times the values exceed an allowed range around zero."""
    if values.size == 0:
        return 0.0
    return float(max(values.max() / allowed[1], values.min() / allowed[0], 0.0))


def _coupling_groups(graph: Any) -> dict[int, list[list[int]]]:
    """The neighbours of each qubit whose couplings an Advantage2 limits in sum, group by group."""
    from dwave.system.coupling_groups import coupling_groups

    found: dict[int, list[list[int]]] = {}
    for group in coupling_groups(graph):
        if group:
            found.setdefault(group[0][1], []).append([neighbour for neighbour, _ in group])
    return found


def _cancel(future: Any) -> None:
    """Ask the service to cancel a problem, if it still can."""
    inner = getattr(future, "_future", None)
    if inner is not None and hasattr(inner, "cancel"):
        inner.cancel()


SOLVER = Solver(
    "qpu",
    "quantum",
    search,
    priced=True,
    anneals=True,
    client="qpu",
    colour="#CC79A7",
    dashes=(0, (1, 1)),
    reference="Johnson et al. 2011, doi 10.1038/nature10012",
)
