"""The QPU solver: the real DWaveSampler against a local server, and Ocean's mock at Advantage2's size."""

import socket
import time
from pathlib import Path

import dimod
import numpy as np
import pytest
from dwave.samplers import SimulatedAnnealingSampler
from dwave.system.testing import MockDWaveSampler
from loopback_sapi import connected, isolated, qpu_solver, serving

import qubo
from qubo import Block, Selection
from qubo.dwave import pieces, qpu
from qubo.dwave.embedding import PieceShape, place
from qubo.search.arrays import lay_out

__all__ = ["isolated"]  # a fixture used by every test of this file


def small(family: str = "D", groups: int = 5) -> Selection:
    """A problem that a processor of shape [3, 4] holds."""
    return qubo.generate(family, groups=groups, codes=3, seed=4)


def best(selection: Selection) -> float:
    choices = (np.array(c) for c in np.ndindex(*[selection.codes] * selection.groups))
    return min(selection.energy(c) for c in choices if selection.feasible(c))


@pytest.mark.parametrize("family", ["S", "D"])
def test_the_real_sampler_solves_a_small_problem_through_the_service(isolated: Path, family: str) -> None:
    selection = small(family)
    with serving(qpu_solver()) as service:
        connected(isolated, service.url)
        found = qubo.solve(selection, "qpu", reads=50, rounds=2)
    assert service.tokens == {"loopback"}
    assert len(service.asked) == 2
    assert service.asked[0]["params"] == {"num_reads": 50, "answer_mode": "raw", "auto_scale": False}
    assert found.kind == "quantum"
    assert found.feasible
    assert found.energy == pytest.approx(best(selection), rel=0.05)
    assert found.feasible_before_repair is not None
    details = found.details
    assert details["annealed"] == "yes"
    assert details["processor"] == "loopback_zephyr"
    assert details["submissions"] == 2
    assert details["qpu_access_time_s"] == pytest.approx(2 * 0.045)
    assert 0 <= details["chain_break_fraction"] < 0.5
    # In units of the processor's couplings; three codes of one group are a native triangle, without chains.
    assert (0 < details["chain_strength_mean"] <= 2) == (details["chain_length_max"] > 1)
    assert (details["chain_length_max"] > 1) == (family == "D")
    assert details["qubits"] >= 15


def test_the_configuration_alone_names_endpoint_and_solver(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_one, large_one = qpu_solver((2, 4)), qpu_solver((3, 4))
    with serving(small_one, large_one) as service:
        monkeypatch.setenv("DWAVE_API_ENDPOINT", service.url)
        monkeypatch.setenv("DWAVE_API_TOKEN", "from the environment")
        monkeypatch.setenv("DWAVE_API_SOLVER", small_one["identity"]["name"])
        qubo.solve(small(groups=3), "qpu", reads=5, rounds=1, annealing_time_us=50.0)
    assert service.tokens == {"from the environment"}
    assert service.asked[0]["solver"]["name"] == small_one["identity"]["name"]
    assert service.asked[0]["params"]["annealing_time"] == 50.0


def test_without_a_token_one_line_says_what_to_set() -> None:
    with pytest.raises(ValueError, match=r"`dwave config create` or set DWAVE_API_TOKEN") as caught:
        qubo.solve(small(), "qpu")
    assert "\n" not in str(caught.value)


def test_a_refused_token_is_one_line(isolated: Path) -> None:
    with serving(qpu_solver()) as service:
        connected(isolated, service.url, token="refused")
        with pytest.raises(ValueError, match="refused the token") as caught:
            qubo.solve(small(), "qpu")
    assert "\n" not in str(caught.value)


def test_an_unreadable_configuration_is_one_line(isolated: Path) -> None:
    isolated.write_text("no section\n")
    with pytest.raises(ValueError, match="cannot read D-Wave's configuration"):
        qubo.solve(small(), "qpu")


def test_a_service_without_a_qpu_is_one_line(isolated: Path) -> None:
    with serving() as service:
        connected(isolated, service.url)
        with pytest.raises(ValueError, match="dwave solvers --list"):
            qubo.solve(small(), "qpu")


def test_an_endpoint_that_never_answers_is_given_up_within_the_time_limit(isolated: Path) -> None:
    selection = small()
    certificate = qubo.lower_bound(selection)
    expected = qubo.solve(selection, "lagrangian", certificate=certificate)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        connected(isolated, f"http://127.0.0.1:{deaf.getsockname()[1]}/sapi/v2/")
        started = time.perf_counter()
        found = qubo.solve(selection, "qpu", time_limit_s=1.0, certificate=certificate)
        assert time.perf_counter() - started < 3.0  # imports of Ocean included
    assert found.feasible
    assert found.kind == "classical"
    assert str(found.details["annealed"]).startswith("no")
    assert "no answer within the time limit" in str(found.details["stopped"])
    assert found.feasible_before_repair is None
    assert found.energy <= expected.energy * 1.5


@pytest.mark.parametrize("answered", [0, 1])
def test_a_service_that_falls_silent_is_given_up_and_what_it_answered_is_kept(isolated: Path, answered: int) -> None:
    selection = small()
    certificate = qubo.lower_bound(selection)
    with serving(qpu_solver()) as service:
        service.answers = answered
        connected(isolated, service.url)
        started = time.perf_counter()
        found = qubo.solve(selection, "qpu", reads=20, time_limit_s=1.5, certificate=certificate)
        assert time.perf_counter() - started < 4.0
    assert found.feasible
    assert found.kind == ("quantum" if answered else "classical")
    assert found.details["stopped"] == "waiting for the QPU: no answer within the time limit"
    assert found.details.get("submissions", 0) == answered


def test_the_pieces_that_were_answered_count_when_the_rest_is_not(isolated: Path) -> None:
    selection = qubo.generate("D", groups=32, codes=3, seed=4)  # two blocks, one after the other on a small chip
    certificate = qubo.lower_bound(selection)
    with serving(qpu_solver()) as service:
        service.answers = 1
        connected(isolated, service.url)
        found = qubo.solve(selection, "qpu", reads=20, time_limit_s=3.0, certificate=certificate)
    assert found.kind == "quantum"
    assert found.feasible
    assert found.details["submissions"] == 1
    assert found.feasible_before_repair is not None
    assert "no answer within the time limit" in str(found.details["stopped"])


def test_an_endpoint_that_is_not_there_leaves_the_lagrangian_choice(isolated: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/sapi/v2/"
    connected(isolated, url)
    found = qubo.solve(small(), "qpu", time_limit_s=5.0)
    assert found.kind == "classical"
    assert found.feasible


class Local(SimulatedAnnealingSampler):
    """Stands in for the processor behind Ocean's mock, which hands on every parameter it was given."""

    def sample(self, bqm: dimod.BQM, num_reads: int = 1, **_: object) -> dimod.SampleSet:
        return super().sample(bqm, num_reads=num_reads, num_sweeps=60, beta_range=[0.5, 50.0], seed=2)


@pytest.fixture(scope="module")
def advantage2() -> MockDWaveSampler:
    """Ocean's mock with as many broken qubits as an Advantage2 has: 4,589 of 4,800 work."""
    broken = np.random.default_rng(0).choice(4800, 211, replace=False).tolist()
    return MockDWaveSampler(
        topology_type="zephyr", topology_shape=[12, 4], broken_nodes=broken,
        substitute_sampler=Local(), parameter_warnings=False,
    )  # fmt: skip


def test_blocks_lie_side_by_side_on_an_advantage2(
    advantage2: MockDWaveSampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DWAVE_API_TOKEN", "mock")
    monkeypatch.setattr("dwave.system.DWaveSampler", lambda **_: advantage2)
    selection = qubo.generate("D", groups=32, codes=3, seed=1)  # two blocks of 48 variables
    found = qubo.solve(selection, "qpu", reads=20, rounds=2)
    assert found.kind == "quantum"
    assert found.feasible
    assert found.details["submissions"] == 2  # both blocks in one, two rounds
    assert 96 < found.details["qubits"] <= 4589
    # The stand-in anneals for 60 sweeps: good enough to tell a decoded answer from noise, no measure of a QPU.
    assert found.energy <= 2 * qubo.solve(selection).energy


@pytest.mark.slow
def test_banded_blocks_take_fewer_qubits_than_cliques_would(advantage2: MockDWaveSampler) -> None:
    """16 groups × 6 codes with neighbours up to two apart, as in family Q; minorminer takes seconds."""
    graph = advantage2.to_networkx_graph()
    band, clique = place(PieceShape(16, 6, 2), graph, 1), place(PieceShape(16, 6, 15), graph, 1)
    assert sum(band.chain_lengths) < 0.75 * sum(clique.chain_lengths)
    assert max(band.chain_lengths) <= 22


def test_progress_and_interruption_return_the_best_so_far(
    advantage2: MockDWaveSampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DWAVE_API_TOKEN", "mock")
    monkeypatch.setattr("dwave.system.DWaveSampler", lambda **_: advantage2)
    seen: list[float] = []

    def interrupt(share: float, energy: float) -> None:
        seen.append(share)
        raise KeyboardInterrupt

    found = qubo.solve(small("S"), "qpu", reads=5, rounds=3, progress=interrupt)
    assert found.interrupted
    assert found.feasible
    assert len(seen) == 1
    assert found.details["submissions"] == 1


def test_a_block_too_large_is_cut_and_the_cuts_move() -> None:
    a = lay_out(qubo.generate("D", groups=16, codes=3)).arrays
    first, second = (pieces.cut(a, 6, number)[0] for number in (0, 1))
    assert [piece.groups.size for piece in first] == [6, 6, 4]
    assert [piece.groups.size for piece in second] == [3, 6, 6, 1]
    for cuts in (first, second):
        assert np.concatenate([piece.groups for piece in cuts]).tolist() == a.members.tolist()


def test_a_piece_that_does_not_fit_is_halved_until_it_does() -> None:
    import dwave.graphs

    a = lay_out(qubo.generate("D", groups=16, codes=3)).arrays
    ((cuts, placement),) = qpu.seating(a, dwave.graphs.zephyr_graph(1, 4), 0, 5.0)
    assert placement.embeddings
    assert max(piece.groups.size for piece in cuts) == placement.shape.groups < 16


@pytest.mark.parametrize("most", [5, 2])
@pytest.mark.parametrize("factors", [False, True])
def test_pieces_have_the_energies_of_the_selection(monkeypatch: pytest.MonkeyPatch, most: int, factors: bool) -> None:
    """With nothing clipped, a piece's QUBO follows energy + λ·cost as its own groups change and the others stay."""
    if factors:
        monkeypatch.setattr("qubo.search.arrays.GRAM_ENTRIES", 0)
        rng = np.random.default_rng(3)
        block = Block.from_factors(np.arange(5), rng.normal(size=(5, 3, 2)))
        selection = Selection(loss=rng.random((5, 3)) + 3, cost=rng.random((5, 3)), budget=9.0, blocks=(block,))
    else:
        selection = small()
    monkeypatch.setattr(pieces, "CLIP", 1e9)
    layout, lam = lay_out(selection), 0.3
    weights, x = np.ones(5), np.array([1, 0, 2, 1, 0])
    task = qpu.Task(selection, layout, lam, weights, 0.1, 0, 0, x)
    modeller = pieces.Modeller(task, weights)

    def value(choice: np.ndarray) -> float:
        energy = selection.energy(layout.decode(choice)) / layout.scale
        return energy + lam * selection.total_cost(layout.decode(choice)) / layout.cells

    for piece in pieces.cut(layout.arrays, most, 0)[0]:
        model = modeller.model(piece)
        assert model.clipped == 0
        for codes in np.ndindex(*[3] * piece.groups.size):
            choice = x.copy()
            choice[piece.groups] = codes
            on = {i * 3 + k for i, k in enumerate(codes)}
            ours = model.bqm.energy({v: int(v in on) for v in model.bqm.variables})
            there = model.bqm.energy({v: int(v in {i * 3 + k for i, k in enumerate(x[piece.groups])})
                                      for v in model.bqm.variables})  # fmt: skip
            assert ours - there == pytest.approx(value(choice) - value(x), abs=1e-9)


def test_a_piece_is_written_in_few_bits_whatever_the_range_of_losses() -> None:
    """A hopeless code per group, 1e5 times dearer than the others and coupled as strongly, is clipped to four bits."""
    rng = np.random.default_rng(1)
    loss = rng.random((4, 5)) + 1
    loss[:, 0] = 1e5
    root = rng.normal(size=(20, 3)) * np.sqrt(loss.reshape(-1, 1))
    gram = 0.05 * (root @ root.T).reshape(4, 5, 4, 5)
    selection = Selection(loss=loss, cost=rng.random((4, 5)), budget=3.0, blocks=(Block.from_gram(range(4), gram),))
    layout = lay_out(selection)
    task = qpu.Task(selection, layout, 0.1, np.ones(4), 0.1, 0, 0, np.argmin(layout.arrays.loss, axis=1))
    modeller = pieces.Modeller(task, np.ones(4))
    (piece,), _ = pieces.cut(layout.arrays, 4, 0)
    model = modeller.model(piece)
    assert 0 < model.clipped < 1
    couplings, outside = modeller.fields(piece)
    assert (outside == 0).all()
    spread = max(np.abs(list(terms.values())).max() for terms in (model.bqm.linear, model.bqm.quadratic))
    assert np.abs(couplings).max() > 1e3 * np.abs(couplings[:, 1:, :, 1:]).max()
    # Linear terms carry the couplings to the best choice and the one-hot weight besides.
    assert spread < 4 * pieces.CLIP * np.median(np.abs(np.diff(np.sort(modeller.value, axis=1)[:, :2])))


@pytest.mark.parametrize("shape", [PieceShape(1, 1, 0), PieceShape(1, 6, 0), PieceShape(3, 4, 2), PieceShape(6, 3, 1)])
def test_embeddings_are_valid_and_disjoint(shape: PieceShape) -> None:
    import dwave.graphs
    from minorminer.utils.diagnostic import is_valid_embedding

    graph = dwave.graphs.zephyr_graph(4, 4)
    graph.remove_nodes_from(range(0, len(graph), 23))
    found = place(shape, graph, 4)
    assert len(found.embeddings) == 4
    for embedding in found.embeddings:
        assert is_valid_embedding(embedding, shape.graph(), graph)
    qubits = [q for embedding in found.embeddings for chain in embedding.values() for q in chain]
    assert len(qubits) == len(set(qubits))
    again = place(shape, graph, 4)
    assert again.seconds == 0
    assert again.embeddings == found.embeddings


def test_the_estimate_is_that_of_an_advantage2_and_submits_nothing() -> None:
    estimate = qubo.qpu_estimate(qubo.generate("D", groups=40), reads=100)  # blocks of 16, 16 and 8 groups
    assert estimate.variables == 240
    assert estimate.pieces == 3
    assert estimate.working_qubits == 4800
    assert estimate.variables < estimate.qubits <= 4800
    assert estimate.chain_length_max >= estimate.chain_length_mean > 1
    # Advantage2_system1.10: programming 33,600 + 1,000 µs, then 20 + 101 + 60.6 µs a read.
    assert estimate.access_time_s == pytest.approx(estimate.submissions * (34_600 + 100 * 181.6) * 1e-6)


def test_the_estimate_uses_the_timing_model_of_a_solver_at_hand(isolated: Path) -> None:
    from dwave.system import DWaveSampler

    with serving(qpu_solver()) as service:
        connected(isolated, service.url)
        with DWaveSampler() as sampler:
            estimate = qubo.qpu_estimate(small(), reads=100, sampler=sampler)
            expected = sampler.solver.estimate_qpu_access_time(estimate.qubits, num_reads=100, annealing_time=20.0)
    assert not service.asked
    assert estimate.access_time_s == pytest.approx(1e-6 * expected)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"topology": "ring"}, "topology must be zephyr, pegasus or chimera, got 'ring'"),
        ({"shape": (1, 2, 3, 4, 5, 6, 7, 8, 9)}, "is none of zephyr"),
        ({"reads": 0}, "reads must be a whole number of at least 1, got 0"),
    ],
)
def test_a_bad_estimate_is_refused_in_one_line(arguments: dict[str, object], line: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        qubo.qpu_estimate(small(), **arguments)  # type: ignore[arg-type]
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), "fast", True])
def test_a_bad_option_is_refused_in_one_line(value: object) -> None:
    with pytest.raises(ValueError, match="annealing_time_us must be a number above 0"):
        qubo.solve(small(), "qpu", annealing_time_us=value)
