"""The distribution of a read: against nested quadrature, simulated cells, and the moments that it must have."""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import integrate, stats
from scipy.special import ndtr

from devices import Card, card_names, load_card, program, response
from devices.cards.curves import interpolate
from devices.cells.tables import ReadTables, programming_table, read_tables
from devices.channel.read_distribution import share_below
from devices.check import check_times

DAY = 86400.0
KS_LIMIT = 1.95  # of √n times the distance: exceeded once in 1,000
NOISY = [name for name in card_names() if name != "ideal"]


def below(name: Card | str, time_s: float, target: float) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """The distribution function of one cell's read."""
    seen = response(name, time_s)
    return lambda edges: share_below(seen, np.array([target]), np.asarray(edges, dtype=np.float64))[0]


def density(z: float) -> float:
    return math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)


def quadrature(name: str, time_s: float, x: float, edge: float) -> float:
    """P(read <= edge) of a card with programming, drift and relative read noise, by adaptive integration."""
    card = load_card(name)
    tables = read_tables(card, time_s) or ReadTables()
    at = np.array([x])
    sd, mean, spread, noise = (
        0.0 if table is None else float(interpolate(table, at)[0])
        for table in (programming_table(card), tables.drift_mean, tables.drift_sd, tables.noise)
    )

    def given_noise(z: float) -> float:
        factor = 1.0 + noise * z

        def given_drift(w: float) -> float:
            level = edge / (factor * math.exp2(-abs(mean + spread * w)))
            return density(w) * float(ndtr((level - x) / sd))

        kink = -mean / spread if spread > 0.0 else 0.0  # where the exponent folds
        parts = [-8.0, min(max(kink, -8.0), 8.0), 8.0]
        total = sum(integrate.quad(given_drift, a, b, epsabs=1e-12)[0] for a, b in pairwise(parts))
        return density(z) * total

    # far from 0 the factor stays positive: 1 + noise z > 0 for z > -1 / noise
    return float(integrate.quad(given_noise, max(-8.0, -0.99 / noise), 8.0, epsabs=1e-11)[0])


@pytest.mark.parametrize(("x", "share"), [(0.3, 0.9), (0.3, 1.0), (0.9, 0.8), (0.9, 1.02)])
def test_the_share_below_is_the_nested_integral(x: float, share: float) -> None:
    """Drift and 1/f noise of pcm-nandakumar after a day, at levels so high that clamping is 1e-16."""
    edge = share * float(response("pcm-nandakumar", DAY).mean(x))
    found = float(below("pcm-nandakumar", DAY, x)(np.array([edge]))[0])
    assert found == pytest.approx(quadrature("pcm-nandakumar", DAY, x, edge), abs=2e-6)


@pytest.mark.parametrize("name", NOISY)
def test_simulated_reads_follow_the_distribution(name: str) -> None:
    """Kolmogorov-Smirnov on 20,000 cells at the last time of each card, at a level that is not clamped."""
    card, n = load_card(name), 20_000
    time_s = check_times(card)[-1]
    x = card.written_levels[1] if card.written_levels else 0.6
    reads = np.sort(program(card, np.full(n, x), seed=31).read(time_s=time_s).astype(np.float64))
    grid = np.linspace(reads[0], reads[-1], 400)
    counted = np.searchsorted(reads, grid, side="right") / n
    assert np.abs(counted - below(card, time_s, x)(grid)).max() < KS_LIMIT / math.sqrt(n)


@pytest.mark.parametrize("name", NOISY)
def test_the_distribution_has_the_moments_of_the_closed_form(name: str) -> None:
    """E y = h - ∫ F and E (y - m)² = (h - m)² - 2 ∫ (y - m) F up to h, where F is 1; from l, where it is 0."""
    card = load_card(name)
    for time_s in {check_times(card)[0], check_times(card)[-1]}:
        seen = response(card, time_s)
        x = card.written_levels[1] if card.written_levels else 0.6
        mean, sd = float(seen.mean(x)), math.sqrt(float(seen.variance(x)))
        edges = np.linspace(mean - 9.0 * sd, mean + 9.0 * sd, 6001)
        share = below(card, time_s, x)(edges)
        assert share[0] == pytest.approx(0.0, abs=1e-6)
        assert share[-1] == pytest.approx(1.0, abs=1e-6)
        area = float(np.trapezoid(share, edges))
        assert edges[-1] - area == pytest.approx(mean, abs=1e-4 * sd)
        square = float(np.trapezoid((edges - mean) * share, edges))
        assert (edges[-1] - mean) ** 2 - 2.0 * square == pytest.approx(sd**2, rel=2e-3)


@pytest.mark.parametrize("name", NOISY)
def test_shares_rise_with_the_edge_and_fall_with_the_target(name: str) -> None:
    card = load_card(name)
    time_s = check_times(card)[-1]
    seen = response(card, time_s)
    targets = np.array(card.written_levels or (0.0, 0.2, 0.5, 0.8, 1.0))
    edges = np.linspace(0.02, 1.0, 60)
    shares = share_below(seen, targets, edges)
    assert shares.shape == (targets.size, edges.size)
    assert (shares >= 0.0).all()
    assert (shares <= 1.0 + 1e-12).all()
    assert (np.diff(shares, axis=1) >= -1e-12).all()
    middle = seen.mean(targets)
    beside = share_below(seen, targets, middle)
    upper = np.triu_indices(targets.size, 1)
    assert (beside[upper] > 0.5 - 0.2 * card.level.clamp_at_0).all()
    assert (beside[upper] > beside.T[upper]).all()  # a higher target is seldom read below a lower mean


def test_a_card_with_one_gaussian_has_its_distribution_function() -> None:
    card = load_card("pcm-zarcone:aligned")
    edges = np.linspace(0.2, 0.8, 13)
    sd = float(interpolate(programming_table(card), np.array([0.5]))[0])
    np.testing.assert_allclose(below(card, 0.0, 0.5)(edges), stats.norm.cdf(edges, 0.5, sd), atol=1e-12)


def test_no_read_of_a_clamped_level_is_below_0() -> None:
    """pcm-nandakumar, target 0: half of the cells are clamped to 0, and a read cannot make them negative."""
    found = below("pcm-nandakumar", DAY, 0.0)(np.array([-0.05, -1e-12, 1e-12]))
    # a read noise of 1.02 times the level turns the sign of one in six of the cells above 0
    negative = 0.5 * stats.norm.sf(
        1.0 / float((read_tables(load_card("pcm-nandakumar"), DAY) or ReadTables()).noise[0])
    )
    assert found[1] == pytest.approx(negative, abs=0.02)
    assert found[2] - found[1] == pytest.approx(0.5, abs=0.02)
    assert found[0] < found[1]


def test_a_read_that_adds_noise_is_the_sum_of_two_gaussians_where_nothing_is_clamped() -> None:
    card = load_card("sonos:at-once")
    seen = response(card, 0.0)
    x = 0.75**2  # a node of the tables, so that nothing is interpolated
    edges = np.linspace(0.51, 0.61, 9)
    expected = stats.norm.cdf(edges, float(seen.mean(x)), math.sqrt(float(seen.variance(x))))
    np.testing.assert_allclose(below(card, 0.0, x)(edges), expected, atol=1e-9)


def test_without_noise_every_read_is_the_target() -> None:
    found = below("ideal", 0.0, 0.5)(np.array([0.5 - 1e-6, 0.5 + 1e-6]))
    assert found.tolist() == [0.0, 1.0]
