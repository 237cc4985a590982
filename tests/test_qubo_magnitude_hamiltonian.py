"""Wang et al.'s Hamiltonian: its terms in plain loops, its sizes as published, its optimum against brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qubo
from qubo.magnitude.hamiltonian import Magnitude


def random_layers(seed, sizes, *, equal=True, beta=None, gamma=None):
    """Layers of `sizes` filters with weights that make pruning, keeping and every bit-width worth while somewhere."""
    rng = np.random.default_rng(seed)
    means = [np.abs(rng.normal(size=size)) * 10.0 ** rng.uniform(-2, 0) for size in sizes]
    counts = [rng.integers(1, 40, size if not equal else 1) * np.ones(size) for size in sizes]
    beta = 10.0 ** rng.uniform(-3, 1) if beta is None else beta
    gamma = 10.0 ** rng.uniform(-2, 1) if gamma is None else gamma
    return Magnitude(means, counts, beta, gamma)


def plain_energy(model, p, q):
    """The definition, term by term in plain loops; p and q are flat lists by layer."""
    total = sum(float(c) for count in model.weights for c in count)
    energy, reduction = 0.0, 0.0
    for mean, count, flags, bits in zip(model.means, model.weights, p, q, strict=True):
        removed = sum(2**k * bit for k, bit in enumerate(bits))
        energy += sum(a * f for a, f in zip(mean, flags, strict=True)) ** 2
        size = sum(count)
        mean_of_layer = sum(a * n for a, n in zip(mean, count, strict=True)) / size
        energy += model.beta * size / total * mean_of_layer * removed**2
        for n, flag in zip(count, flags, strict=True):
            reduction += n * (8 if flag else removed)  # bits a filter no longer stores
    return energy - model.gamma * reduction / (8 * total)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_energy_bqm_and_plain_loops_agree_on_every_state(seed, equal):
    model = random_layers(seed, (3, 1, 4), equal=equal)
    rng = np.random.default_rng(seed)
    p, q = rng.integers(0, 2, 8), rng.integers(0, 2, (3, 3))
    by_layer = np.split(p, [3, 4])
    plain = plain_energy(model, by_layer, q)
    sample = np.concatenate([part for pair in zip(by_layer, q, strict=True) for part in pair])
    assert model.energy(p, q) == pytest.approx(plain, rel=1e-12, abs=1e-12)
    assert model.to_bqm().energy(dict(enumerate(sample))) == pytest.approx(plain, rel=1e-11, abs=1e-11)
    decoded = model.decode(sample)
    assert decoded.energy == model.energy(p, q)
    assert [flags.tolist() for flags in decoded.pruned] == [part.astype(bool).tolist() for part in by_layer]
    assert decoded.bits == tuple(8 - row @ [1, 2, 4] for row in q)


def brute_force_of_one_layer(model):
    """Least H over all 2^(F + 3) states of a single layer, in closed form over arrays."""
    (mean,), (count,) = model.means, model.weights
    states = np.array(list(itertools.product((0, 1), repeat=mean.size)))
    removed = np.arange(8)[:, None]
    pruned_weights = states @ count
    value = (states @ mean) ** 2 + model.beta * model.quantization_weights[0] * removed**2
    value = value - model.gamma * (8 * pruned_weights + removed * (count.sum() - pruned_weights)) / (8 * count.sum())
    return value.min()


@pytest.mark.parametrize("filters", [1, 2, 5, 8, 10])
def test_the_optimum_by_sorting_is_that_of_brute_force_on_blocks(filters):
    several = set()
    for seed in range(60):  # 300 random blocks in all
        model = random_layers(seed, (filters,))
        best = model.optimum()
        least = brute_force_of_one_layer(model)
        assert best.energy == pytest.approx(least, rel=1e-12, abs=1e-13)
        several.add((int(best.pruned[0].sum()), best.bits))
    assert len(several) > 4  # optima of many kinds, not one corner


def test_the_optimum_of_several_layers_is_that_of_exhaustive_search():
    import dimod

    for seed in range(4):
        model = random_layers(seed, (3, 4))
        found = dimod.ExactSolver().sample(model.to_bqm()).first
        assert model.optimum().energy == pytest.approx(found.energy, rel=1e-9, abs=1e-12)
        sample = np.array([found.sample[v] for v in range(model.variables)])
        assert model.decode(sample).energy == pytest.approx(found.energy, rel=1e-9, abs=1e-12)


# Filters of the convolutions by layer; the published variable counts at three bits a layer.
RESNET20 = (16,) * 7 + (32,) * 6 + (64,) * 6
VGG16 = (64, 64, 128, 128, *(256,) * 3, *(512,) * 6)
RESNET18 = (64,) * 5 + (128,) * 5 + (256,) * 5 + (512,) * 5


@pytest.mark.parametrize(
    ("filters", "variables"),
    [((6, 16), 28), (RESNET20, 745), (RESNET20[:7] + (16,) * 12 + (32,) * 18 + (64,) * 18, 2197), (VGG16, 4263),
     (RESNET18, 4860)],
    ids=["LeNet-5", "ResNet-20", "ResNet-56", "VGG-16", "ResNet-18"],
)  # fmt: skip
def test_variables_are_as_many_as_published(filters, variables):
    assert random_layers(0, filters).variables == variables


def test_a_network_of_published_size_is_built_and_solved_at_once():
    model = random_layers(1, RESNET18, beta=0.1, gamma=10.0)
    bqm = model.to_bqm()
    assert bqm.num_variables == 4860
    # Layers do not couple: dense blocks of 64 to 512 filters and three bits.
    assert bqm.num_interactions == sum((f + 3) * (f + 2) // 2 for f in RESNET18)
    best = model.optimum()
    state = np.concatenate(
        [np.append(flags, (8 - b) // np.array([1, 2, 4]) % 2) for flags, b in zip(best.pruned, best.bits, strict=True)]
    )
    energies = []
    for flip in np.random.default_rng(0).integers(0, 4860, 300):
        other = state.copy()
        other[flip] = 1 - other[flip]
        energies.append(model.decode(other).energy)
    assert model.decode(state).energy == best.energy <= min(energies)


def test_no_reward_removes_nothing_and_a_large_one_everything():
    kept, gone = (random_layers(3, (4, 5), gamma=gamma).optimum() for gamma in (0.0, 1e6))
    assert not any(flags.any() for flags in kept.pruned)
    assert kept.bits == (8, 8)
    assert kept.energy == 0.0
    assert all(flags.all() for flags in gone.pruned)


def test_the_reduction_is_the_share_of_bits_removed():
    model = random_layers(5, (4,), equal=False)
    none, half, whole = np.zeros((1, 3)), np.array([[0, 0, 1]]), np.ones((1, 3))
    assert model.terms(np.zeros(4), none)[2] == 0
    assert model.terms(np.zeros(4), half)[2] == pytest.approx(4 / 8)
    assert model.terms(np.zeros(4), whole)[2] == pytest.approx(7 / 8)
    assert model.terms(np.ones(4), whole)[2] == pytest.approx(1.0)  # bits of pruned weights are removed once


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_the_optimum_does_not_depend_on_the_unit_of_the_weights(scale):
    model = random_layers(7, (9,), beta=0.1, gamma=1.0)
    # H in other units: L_p grows by scale², L_q by scale.
    other = Magnitude([m * scale for m in model.means], model.weights, 0.1 * scale, scale**2)
    assert np.array_equal(other.optimum().pruned[0], model.optimum().pruned[0])
    assert other.optimum().bits == model.optimum().bits
    assert other.optimum().energy == pytest.approx(model.optimum().energy * scale**2, rel=1e-9)


GOOD = {"means": [[1.0, 2.0]], "weights": [[3, 3]], "beta": 1.0, "gamma": 1.0}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"means": []}, "means and weights must name the same layers, got 0 and 1"),
        ({"means": [[]], "weights": [[]]}, "layer 0: means and weights must be rows of one length"),
        ({"weights": [[3]]}, "layer 0: means and weights must be rows of one length, got shapes (2,) and (1,)"),
        ({"means": [[1.0, np.nan]]}, "layer 0: means of |w| must be finite and at least 0"),
        ({"means": [[1.0, -1.0]]}, "layer 0: means of |w| must be finite and at least 0"),
        ({"weights": [[3, 0]]}, "layer 0: filters must have at least 1 weight"),
        ({"beta": -1.0}, "beta must be at least 0, got -1.0"),
        ({"gamma": float("nan")}, "gamma must be at least 0, got nan"),
    ],
)
def test_bad_layers_are_refused_in_one_line(change, line):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        Magnitude(**(GOOD | change))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda m: m.energy([0], [[0, 0, 0]]), "a state is p (2,) and q (1, 3), got (1,) and (1, 3)"),
        (lambda m: m.energy([0, 2], [[0, 0, 0]]), "p and q must be 0 or 1"),
        (lambda m: m.decode([0, 1]), "a sample has shape (5,), got (2,)"),
        (lambda m: Magnitude([[1.0, 2.0]], [[3, 4]], 1, 1).optimum(), "filters of one size in a layer, got 3 to 4"),
    ],
)
def test_a_bad_call_is_refused_in_one_line(call, line):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        call(Magnitude(**GOOD))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_hamiltonian_is_exported():
    assert qubo.Magnitude is Magnitude
