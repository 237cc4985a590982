"""The estimate: pieces, qubits and times counted by hand on chips of every topology; what does not fit is one line."""

import numpy as np
import pytest

import qubo
from qubo import Selection
from qubo.dwave import qpu
from qubo.dwave.estimate import DELAY_US, PROGRAMMING_US, READOUT_US, THERMALIZATION_US


def test_uncoupled_groups_lie_side_by_side_in_one_submission():
    """Three codes of a group are a native triangle of Zephyr, which the embedder nearly always finds."""
    estimate = qubo.qpu_estimate(qubo.generate("S", groups=30, codes=3), shape=(2, 4), reads=10, annealing_time_us=50.0)
    assert (estimate.variables, estimate.pieces, estimate.submissions) == (90, 30, 1)
    assert estimate.working_qubits == 160
    assert 1.0 <= estimate.chain_length_mean < 1.2
    assert estimate.qubits == pytest.approx(90 * estimate.chain_length_mean)
    once = PROGRAMMING_US + THERMALIZATION_US + 10 * (50.0 + READOUT_US + DELAY_US)
    assert estimate.access_time_s == pytest.approx(1e-6 * once)


def test_what_does_not_fit_at_once_is_submitted_in_turn():
    estimate = qubo.qpu_estimate(qubo.generate("S", groups=100, codes=3), shape=(2, 4), reads=10)
    assert estimate.qubits <= 160
    assert 300 / 160 <= estimate.submissions <= 4
    once = PROGRAMMING_US + THERMALIZATION_US + 10 * (20.0 + READOUT_US + DELAY_US)
    assert estimate.access_time_s == pytest.approx(1e-6 * estimate.submissions * once)


@pytest.mark.parametrize(
    ("topology", "shape", "qubits"), [("zephyr", (3, 4), 336), ("pegasus", (3,), 128), ("chimera", (4, 4, 4), 128)]
)
def test_every_topology_is_estimated(topology, shape, qubits):
    estimate = qubo.qpu_estimate(qubo.generate("D", groups=4, codes=3), topology, shape)
    assert estimate.working_qubits == qubits
    assert estimate.variables == 12
    assert 12 < estimate.qubits <= qubits
    assert estimate.chain_length_mean == estimate.qubits / 12


def test_groups_without_a_choice_take_no_qubits():
    fixed = Selection(loss=np.ones((3, 1)), cost=np.ones((3, 1)), budget=3.0)
    estimate = qubo.qpu_estimate(fixed, shape=(1, 4))
    assert (estimate.variables, estimate.submissions, estimate.qubits, estimate.access_time_s) == (0, 0, 0, 0.0)
    assert estimate.chain_length_mean == 0


def test_a_dense_block_too_large_is_cut_until_it_fits():
    estimate = qubo.qpu_estimate(qubo.generate("D", groups=16, codes=3), shape=(1, 4))
    assert estimate.pieces > 1
    assert estimate.variables == 48
    assert estimate.qubits <= 48  # those of a chip of one cell
    assert 1 < estimate.submissions <= estimate.pieces  # 48 variables in chains do not fit 48 qubits at once


@pytest.mark.parametrize("family", ["S", "D"])
def test_a_group_that_fits_no_chip_is_refused_in_one_line(family):
    with pytest.raises(ValueError, match="one group of 40 codes does not fit the processor's 48 qubits: offer fewer"):
        qubo.qpu_estimate(qubo.generate(family, groups=2, codes=40).with_budget(1e9), shape=(1, 4))


@pytest.mark.parametrize("reads", [True, 2.5, -1, "5"])
def test_reads_are_a_count(reads):
    with pytest.raises(ValueError, match="reads must be a whole number of at least 1, got"):
        qubo.qpu_estimate(qubo.generate("S", groups=2), reads=reads)


class Chip:
    """A processor's properties, for the scaling of a piece."""

    def __init__(self, **properties):
        self.properties = {"h_range": [-4.0, 4.0], "j_range": [-1.0, 1.0], **properties}


def factor(chip, linear, quadratic, groups=None):
    import dimod

    annealer = qpu._Annealer.__new__(qpu._Annealer)
    annealer.sampler, annealer.groups = chip, groups or {}
    target = dimod.BinaryQuadraticModel(linear, quadratic, 0.0, "SPIN")
    return annealer._factor(target)


@pytest.mark.parametrize(
    ("chip", "linear", "quadratic", "groups", "expected"),
    [
        (Chip(), {0: 8.0, 1: 0.0}, {(0, 1): 0.5}, None, 0.5),  # fields up to 4
        (Chip(), {0: 1.0, 1: 0.0}, {(0, 1): -5.0}, None, 0.2),  # couplings down to −1
        (Chip(extended_j_range=[-2.0, 1.0]), {0: 0.0, 1: 0.0}, {(0, 1): -5.0}, None, 0.4),
        (Chip(extended_j_range=[-2.0, 1.0]), {0: 0.0, 1: 0.0}, {(0, 1): 4.0}, None, 0.25),
        (Chip(per_qubit_coupling_range=[-3.0, 3.0]), {}, {(0, v): 1.0 for v in range(1, 7)}, None, 0.5),
        (Chip(per_group_coupling_range=[-1.0, 1.0]), {}, {(0, 1): 1.0, (0, 2): 1.0}, {0: [[1, 2]]}, 0.5),
        (Chip(per_group_coupling_range=[-1.0, 1.0]), {}, {(0, 1): 1.0, (0, 2): 1.0}, {0: [[1], [2]]}, 1.0),
        (Chip(), {0: 0.5, 1: 0.0}, {(0, 1): 0.25}, None, 4.0),  # small ones are brought up to the range
        (Chip(), {0: 0.0}, {}, None, 1.0),
    ],
)
def test_a_piece_is_scaled_just_into_the_processors_ranges(chip, linear, quadratic, groups, expected):
    assert factor(chip, linear, quadratic, groups) == pytest.approx(expected)


def test_a_report_of_nothing_submitted_says_so():
    report = qpu._Report()
    assert report.details() == {
        "annealed": "no: nothing came back from a quantum processor; this is the Lagrangian choice"
    }
    report.submissions, report.chains, report.strengths = 2, [1, 3], [0.5, 1.5]
    report.broken, report.clipped = [0.1, 0.3], [0.0]
    details = report.details()
    assert (details["chain_length_max"], details["chain_length_mean"], details["chain_strength_mean"]) == (3, 2.0, 1.0)
    assert details["chain_break_fraction"] == pytest.approx(0.2)


def test_a_sampler_without_a_lattice_is_taken_by_its_qubits_and_couplers():
    class Bare:
        nodelist, edgelist = [0, 1, 2], [(0, 1)]

        def to_networkx_graph(self):
            raise KeyError("topology")

    graph = qpu.working_graph(Bare())
    assert sorted(graph.nodes) == [0, 1, 2]
    assert list(graph.edges) == [(0, 1)]
