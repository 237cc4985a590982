"""Embeddings: shapes counted in closed form, copies valid and disjoint, what is remembered, what does not fit."""

import dwave.graphs as lattices
import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from minorminer.utils.diagnostic import is_valid_embedding

from qubo.dwave import embedding
from qubo.dwave.embedding import PieceShape, fingerprint, place


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "_FOUND", {})


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 8), st.integers(1, 5), st.integers(0, 8))
def test_a_shape_couples_codes_of_a_group_and_groups_within_reach(groups: int, codes: int, reach: int) -> None:
    shape = PieceShape(groups, codes, reach)
    graph = shape.graph()
    pairs = sum(1 for g in range(groups) for h in range(g) if g - h <= reach)
    assert shape.variables == graph.number_of_nodes() == groups * codes
    assert graph.number_of_edges() == groups * codes * (codes - 1) // 2 + pairs * codes**2
    assert all(abs(i // codes - j // codes) <= reach for i, j in graph.edges)


def test_dense_shapes_are_those_that_couple_half_of_all_pairs() -> None:
    assert PieceShape(16, 6, 15).dense
    assert PieceShape(3, 3, 2).dense
    assert not PieceShape(16, 6, 2).dense
    assert not PieceShape(2, 4, 1).dense  # eight variables: busclique never ends on cliques this small


@pytest.mark.parametrize(
    "graph",
    [
        lattices.zephyr_graph(2, 4),
        lattices.pegasus_graph(3),
        lattices.chimera_graph(4, t=4),
        nx.convert_node_labels_to_integers(nx.grid_2d_graph(8, 8)),
    ],
    ids=["zephyr", "pegasus", "chimera", "grid"],
)
@pytest.mark.parametrize("shape", [PieceShape(1, 3, 0), PieceShape(4, 3, 3), PieceShape(4, 2, 1)])
def test_copies_are_valid_and_disjoint_on_every_lattice(graph: nx.Graph, shape: PieceShape) -> None:
    found = place(shape, graph, 2)
    if graph.graph.get("family"):
        assert len(found.embeddings) >= 1
    for one in found.embeddings:
        assert is_valid_embedding(one, shape.graph(), graph)
    qubits = [qubit for one in found.embeddings for chain in one.values() for qubit in chain]
    assert len(qubits) == len(set(qubits)) == sum(found.chain_lengths)
    assert len(found.chain_lengths) == len(found.embeddings) * shape.variables


def test_what_does_not_fit_has_no_place() -> None:
    assert place(PieceShape(6, 6, 5), lattices.zephyr_graph(1, 4), 1).embeddings == ()
    assert place(PieceShape(1, 3, 0), nx.path_graph(2), 1).embeddings == ()
    assert place(PieceShape(6, 6, 5), lattices.zephyr_graph(1, 4), 1).seconds == 0.0  # and that is remembered


def test_more_copies_are_added_to_those_remembered() -> None:
    graph = lattices.zephyr_graph(3, 4)
    shape = PieceShape(4, 3, 3)
    one, three, two = (place(shape, graph, copies) for copies in (1, 3, 2))
    assert [len(found.embeddings) for found in (one, three, two)] == [1, 3, 2]
    assert three.embeddings[0] == one.embeddings[0]
    assert two.embeddings == three.embeddings[:2]
    assert two.seconds == 0.0


def test_another_working_graph_is_not_the_one_remembered() -> None:
    whole, broken = lattices.zephyr_graph(2, 4), lattices.zephyr_graph(2, 4)
    (first,) = place(PieceShape(1, 4, 0), whole, 1).embeddings
    used = {qubit for chain in first.values() for qubit in chain}
    broken.remove_nodes_from(used)
    (second,) = place(PieceShape(1, 4, 0), broken, 1).embeddings
    assert not used & {qubit for chain in second.values() for qubit in chain}
    assert fingerprint(whole) == fingerprint(lattices.zephyr_graph(2, 4))
    edgeless = lattices.zephyr_graph(2, 4)
    edgeless.remove_edge(*next(iter(edgeless.edges)))
    assert len({fingerprint(whole), fingerprint(broken), fingerprint(edgeless)}) == 3


def test_without_time_a_clique_is_placed_once_and_a_later_call_may_find_more() -> None:
    graph, shape = lattices.zephyr_graph(3, 4), PieceShape(4, 3, 3)
    assert len(place(shape, graph, 3, time_limit_s=0.0).embeddings) == 1
    assert len(place(shape, graph, 3).embeddings) == 3


def test_the_same_graph_and_shape_have_the_same_embeddings(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, shape = lattices.zephyr_graph(2, 4), PieceShape(5, 2, 1)
    first = place(shape, graph, 2).embeddings
    monkeypatch.setattr(embedding, "_FOUND", {})
    assert place(shape, graph, 2).embeddings == first


@pytest.mark.parametrize(
    ("graph", "side"),
    [(lattices.zephyr_graph(4, 4), 160), (lattices.pegasus_graph(4), 40), (lattices.chimera_graph(4, t=4), 8)],
    ids=["zephyr", "pegasus", "chimera"],
)
def test_windows_slide_over_the_lattice_and_end_with_the_whole_of_it(graph: nx.Graph, side: int) -> None:
    *windows, whole = embedding._windows(graph, side)
    assert sorted(whole) == sorted(graph)
    assert len(windows) > 1
    sizes = {len(window) for window in windows}
    assert len(sizes) == 1
    assert side <= sizes.pop() < len(graph)
    assert {node for window in windows for node in window} == set(graph)


def test_a_graph_of_no_known_lattice_has_one_window() -> None:
    assert [sorted(window) for window in embedding._windows(nx.path_graph(3), 2)] == [[0, 1, 2]]
    coordinates = lattices.zephyr_graph(2, 4, coordinates=True)
    assert len(list(embedding._windows(coordinates, 20))) == 1
