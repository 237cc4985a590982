"""A Hamiltonian's coefficients against dimod, temperatures by their definition, reads that repeat with their seed."""

from itertools import islice

import numpy as np
import pytest
from test_qubo_magnitude_hamiltonian import random_layers

from qubo.magnitude.binary_model import BinaryModel
from qubo.magnitude.hamiltonian import Magnitude
from qubo.solvers.ground_state import ground_state
from qubo.solvers.registry import SAMPLERS


@pytest.mark.parametrize("seed", range(3))
def test_energies_and_flips_are_those_of_the_binary_model(seed):
    problem = random_layers(seed, (3, 4), equal=False)
    model = BinaryModel.of(problem)
    states = np.random.default_rng(seed).integers(0, 2, (30, problem.variables))
    bqm = problem.to_bqm()
    assert model.energies(states) == pytest.approx(bqm.energies((states, range(problem.variables))), abs=1e-12)
    assert np.array_equal(model.Q, np.triu(model.Q, 1))
    state = states[0]
    for v, change in enumerate(model.flips(state)):
        flipped = state.copy()
        flipped[v] = 1 - flipped[v]
        assert change == pytest.approx(abs(float(np.diff(model.energies(np.array([state, flipped])))[0])), abs=1e-12)


def test_temperatures_make_every_flip_likely_first_and_hardly_any_last():
    model = BinaryModel.of(random_layers(4, (4, 5)))
    hot, cold = model.beta_range()
    rng = np.random.default_rng(0)
    flips = np.concatenate([model.flips(state) for state in rng.integers(0, 2, (300, model.linear.size))])
    assert np.exp(-hot * flips.max()) >= 0.5 - 1e-12
    assert hot < cold
    # The least of H: the smallest flip there is taken once in a hundred tries at most, but for rare tiny ones.
    least = ground_state(random_layers(4, (4, 5)), "sorting").state
    assert np.median(np.exp(-cold * model.flips(least))) <= 0.01


def test_a_hamiltonian_of_nothing_has_temperatures_too():
    hot, cold = BinaryModel.of(Magnitude([[0.0, 0.0]], [[1, 1]], 0.0, 0.0)).beta_range()
    assert 0 < hot < cold < np.inf


@pytest.mark.parametrize("name", sorted(set(SAMPLERS) - {"sorting"}))
def test_reads_are_states_with_their_energies_and_go_on(name):
    problem = random_layers(1, (3, 2))
    reads = SAMPLERS[name].reads
    assert reads is not None
    for read in islice(reads(problem, 3), 3):
        assert read.states.shape[1] == problem.variables
        assert np.isin(read.states, (0, 1)).all()
        assert read.energies == pytest.approx([problem.decode(state).energy for state in read.states], abs=1e-12)
        assert read.evaluations > 0


@pytest.mark.parametrize("name", ["ocean-sa", "ocean-greedy", "ocean-path-integral", "genetic", "random"])
def test_a_seed_gives_the_same_reads_and_another_seed_others(name, monkeypatch):
    # Few sweeps and hot, else all end in the optimum whatever the seed.
    monkeypatch.setattr("qubo.solvers.ocean.READ_SWEEPS", 2)
    monkeypatch.setattr("qubo.solvers.ocean.PATH_SWEEPS", 1)
    monkeypatch.setattr(BinaryModel, "beta_range", lambda self: [1e-3, 2e-3])
    problem = random_layers(2, (12, 12))
    reads = SAMPLERS[name].reads
    assert reads is not None
    one, again, other = (list(islice(reads(problem, seed), 2)) for seed in (5, 5, 6))
    assert all(np.array_equal(a.states, b.states) for a, b in zip(one, again, strict=True))
    assert any(not np.array_equal(a.states, b.states) for a, b in zip(one, other, strict=True))
    assert not np.array_equal(one[0].states, one[1].states)  # each read has a seed of its own


def test_sorting_reads_the_optimum_once():
    problem = random_layers(3, (5, 4, 6))
    (read,) = SAMPLERS["sorting"].reads(problem, 0)
    best = problem.optimum()
    assert read.energies.tolist() == [best.energy]
    decoded = problem.decode(read.states[0])
    assert decoded.bits == best.bits
    assert [flags.tolist() for flags in decoded.pruned] == [flags.tolist() for flags in best.pruned]


def test_energies_reported_fall_and_end_at_the_one_returned():
    problem, seen = random_layers(6, (8, 8)), []
    found = ground_state(problem, "random", seed=1, time_limit_s=0.05, report=seen.append)
    assert seen == sorted(seen, reverse=True)
    assert len(set(seen)) == len(seen)
    assert found.energy == pytest.approx(seen[-1], abs=1e-12)
    assert problem.decode(found.state).energy == found.energy
    assert found.seconds >= 0.05


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"sampler": "annealer"}, "sampler 'annealer' is unknown: pass one of sorting, ocean-sa"),
        ({"sampler": "random", "time_limit_s": float("nan")}, "time_limit_s must be above 0, got nan: pass seconds"),
    ],
)
def test_a_bad_search_is_refused_in_one_line(arguments, line):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        ground_state(random_layers(0, (2,)), **arguments)
    assert line in str(caught.value)


def test_a_sampler_of_selections_alone_is_refused_in_one_line(monkeypatch):
    from qubo.solvers.registry import SOLVERS

    monkeypatch.setitem(SAMPLERS, "annealer", SOLVERS["annealer"])
    with pytest.raises(ValueError, match="sampler 'annealer' takes selections only"):
        ground_state(random_layers(0, (2,)), "annealer")
