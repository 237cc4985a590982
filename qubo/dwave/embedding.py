"""Embeddings of blocks of groups on a quantum annealer: as many disjoint copies for each shape as fit.

A QPU couples each qubit to some twenty others, so a variable becomes a chain of qubits. All pieces of one shape
(groups, codes, how far couplings reach) share a `PieceShape`, and `place` finds as many disjoint embeddings of it as
fit: dense shapes by `minorminer.busclique`, whose clique embeddings take milliseconds, sparse or tiny ones by
`minorminer`. Embeddings are cached in the process, by working graph and shape.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import networkx as nx  # type: ignore[import-untyped]
import numpy as np

Embedding = dict[int, tuple[int, ...]]

SMALLEST_BUSCLIQUE = 9
"""busclique without its file cache never ends on cliques of 5 to 8 (minorminer 0.2.22, measured)."""
DENSE = 0.5
"""Share of pairs coupled from which a clique embedding is used: at a third it takes 2× the qubits (measured)."""
ATTEMPT_S = 10.0
"""minorminer gives up an embedding after this time; 16 groups × 6 codes in a band take it 2–5 s (measured)."""
FILL = 1.6
"""Qubits of a window over those expected of an embedding in it (our choice)."""
WINDOWED = 100
"""Sparse shapes are searched in windows up to this many expected qubits; beyond, minorminer needs more room."""


@dataclass(frozen=True)
class PieceShape:
    """The shape of a piece; its variable g·codes + k is code k of its g-th group.

    Attributes:
        groups: groups in the piece.
        codes: codes per group; those of one group are all coupled by its one-hot term.
        reach: groups up to this many places apart are coupled; groups − 1 couples all.
    """

    groups: int
    codes: int
    reach: int

    @property
    def variables(self) -> int:
        """Number of variables."""
        return self.groups * self.codes

    def graph(self) -> nx.Graph:
        """The couplings, nodes 0..variables − 1."""
        graph = nx.Graph()
        graph.add_nodes_from(range(self.variables))
        for i in range(self.variables):
            last = min(self.groups, i // self.codes + self.reach + 1) * self.codes
            graph.add_edges_from((i, j) for j in range(i + 1, last))
        return graph

    @property
    def dense(self) -> bool:
        """Whether a clique embedding suits the shape."""
        pairs = self.variables * (self.variables - 1) / 2
        return self.variables >= SMALLEST_BUSCLIQUE and self.graph().number_of_edges() >= DENSE * pairs


@dataclass(frozen=True)
class Placement:
    """Disjoint embeddings of a shape.

    Attributes:
        shape: what is embedded.
        embeddings: one per copy, a chain of qubits per variable.
        seconds: wall-clock time it took to find them (0 if remembered).
    """

    shape: PieceShape
    embeddings: tuple[Embedding, ...]
    seconds: float

    @property
    def chain_lengths(self) -> list[int]:
        """Qubits per variable, over all copies."""
        return [len(chain) for embedding in self.embeddings for chain in embedding.values()]


_FOUND: dict[tuple[str, PieceShape], tuple[int, tuple[Embedding, ...]]] = {}


def fingerprint(graph: nx.Graph) -> str:
    """A name for a working graph: its family and exactly its qubits and couplers."""
    text = repr((graph.graph.get("family"), sorted(graph.nodes), sorted(tuple(sorted(edge)) for edge in graph.edges)))
    return hashlib.sha256(text.encode()).hexdigest()


def place(shape: PieceShape, graph: nx.Graph, copies: int, *, time_limit_s: float | None = None) -> Placement:
    """At most `copies` disjoint embeddings of `shape` in `graph`; none if it does not fit at all.

    Args:
        shape: what to embed.
        graph: a working graph made by `dwave.graphs` (or any networkx graph, then without windows).
        copies: copies wanted.
        time_limit_s: stop looking for more copies after this time; a clique embedding is always tried.

    >>> import dwave.graphs
    >>> placement = place(PieceShape(groups=1, codes=4, reach=0), dwave.graphs.zephyr_graph(2, 4), copies=3)
    >>> len(placement.embeddings), len(placement.chain_lengths), max(placement.chain_lengths) <= 2
    (3, 12, True)
    """
    key = (fingerprint(graph), shape)
    asked, found = _FOUND.get(key, (0, ()))
    if len(found) >= copies or asked >= copies:
        return Placement(shape, found[:copies], 0.0)
    started = time.perf_counter()
    limit = None if time_limit_s is None else started + time_limit_s
    free = graph.copy()
    free.remove_nodes_from([qubit for embedding in found for chain in embedding.values() for qubit in chain])
    searches = [_Search(shape, free, clique, limit) for clique in ((True,) if shape.dense else (False, True))]
    for search in searches:
        for embedding in search.embeddings():
            found = (*found, embedding)
            if len(found) >= copies or search.late():
                break
        if found:
            break
    complete = limit is None or time.perf_counter() < limit
    _FOUND[key] = (copies if complete else len(found), found)
    return Placement(shape, found[:copies], time.perf_counter() - started)


@dataclass(frozen=True)
class _Search:
    """Finds embeddings of a shape one after the other, each in the qubits that are still free."""

    shape: PieceShape
    free: nx.Graph
    clique: bool
    limit: float | None

    def late(self) -> bool:
        """Whether the time for more copies is over."""
        return self.limit is not None and time.perf_counter() >= self.limit

    def embeddings(self) -> Iterator[Embedding]:
        """In all that is left; first, for small sparse shapes, in windows that slide over the lattice."""
        expected = self._expected()
        room = FILL * expected if not self.clique and expected < WINDOWED else np.inf
        first = self.clique  # takes milliseconds, so one is tried even when it is late
        for nodes in _windows(self.free, room):
            inside = [node for node in nodes if node in self.free]
            while len(inside) >= expected and (first or not self.late()):
                first = False
                whole = len(inside) == len(self.free)
                found = self._embed(self.free if whole else self.free.subgraph(inside).copy())
                if not found:
                    break
                embedding = {int(v): tuple(int(q) for q in chain) for v, chain in found.items()}
                self.free.remove_nodes_from([qubit for chain in embedding.values() for qubit in chain])
                yield embedding
                inside = [node for node in inside if node in self.free]

    def _expected(self) -> float:
        """Qubits an embedding takes: measured on Zephyr, 720 for a clique of 96, 350 for a band of 96."""
        n = self.shape.variables
        if self.clique:
            return n * (n / 16 + 1.5)
        degree = 2 * self.shape.graph().number_of_edges() / max(1, n)
        return float(1.3 * n * (1 + degree / 16))

    def _embed(self, target: nx.Graph) -> dict[Any, Any]:
        """One embedding in `target`, the same for the same graphs, or {}."""
        from minorminer import busclique, find_embedding  # type: ignore[import-untyped]

        n = self.shape.variables
        if self.clique and n >= SMALLEST_BUSCLIQUE and _family(target):
            found = dict(busclique.find_clique_embedding(n, target, use_cache=False, seed=0))
        elif n == 1:
            found = {0: [min(target)]}
        else:
            source = nx.complete_graph(n) if self.clique else self.shape.graph()
            patience = ATTEMPT_S if self.limit is None else min(ATTEMPT_S, self.limit - time.perf_counter())
            found = find_embedding(source, target, random_seed=1, timeout=max(0.1, patience))
        return found if len(found) == n else {}


def _family(graph: nx.Graph) -> str | None:
    """The lattice a working graph belongs to, if it is one that Ocean knows and labelled by integers."""
    family = graph.graph.get("family")
    known = family in ("zephyr", "pegasus", "chimera") and graph.graph.get("labels", "int") == "int"
    return str(family) if known else None


def _windows(graph: nx.Graph, qubits: float) -> Iterator[list[int]]:
    """Nodes of square windows of at least `qubits` qubits, overlaps included, and last those of the whole graph."""
    import dwave.graphs as lattices

    everything = list(graph)
    family, shore = _family(graph), graph.graph.get("tile", 4)
    for m in range(2 if family == "pegasus" else 1, int(graph.graph.get("rows", 0)) if family else 0):
        if family == "zephyr":
            tile, mappings = lattices.zephyr_graph(m, shore), lattices.zephyr_sublattice_mappings
        elif family == "pegasus":
            tile, mappings = lattices.pegasus_graph(m), lattices.pegasus_sublattice_mappings
        else:
            tile, mappings = lattices.chimera_graph(m, t=shore), lattices.chimera_sublattice_mappings
        if len(tile) >= qubits:
            for move in mappings(tile, graph):
                yield [move(node) for node in tile]
            break
    yield everything
