"""Look-up tables of a card at one time: what each holds, and that a part a card does not have costs nothing."""

import math

import numpy as np
import pytest

from devices import card_names, load_card
from devices.cards.curves import INTERVALS, interpolate, sqrt_grid, tabulate
from devices.cells.tables import ReadTables, level_thresholds, programming_table, read_tables
from devices.check import check_times

DAY = 86400.0
CASES = [(name, time_s) for name in card_names() for time_s in check_times(load_card(name))]
PARTS = ("shift", "spread", "drift_mean", "drift_sd", "noise", "added")


def tables_at(name: str, time_s: float) -> ReadTables:
    found = read_tables(load_card(name), time_s)
    assert found is not None
    return found


@pytest.mark.parametrize(("name", "time_s"), CASES)
def test_a_card_has_the_tables_of_its_parts_and_no_others(name: str, time_s: float) -> None:
    card, found = load_card(name), read_tables(load_card(name), time_s)
    parts = (card.relaxation, card.drift, card.read_noise, card.rereads)
    assert (found is None) == all(part is None for part in parts)
    found = found or ReadTables()
    late = time_s > card.first_s
    assert (found.drift_mean is not None) == (card.drift is not None and time_s > 0.0)
    if card.relaxation is None or (not late and name != "rram-cmo"):
        assert found.shift is None
    assert (found.kept is None) == (card.rereads is None)
    for part in PARTS:
        table = getattr(found, part)
        if table is not None:
            assert (table.shape, table.dtype) == ((INTERVALS + 1,), np.float32)
            assert table.any()  # one that is zero everywhere is None
            assert not table.flags.writeable
    for spread in (found.spread, found.drift_sd, found.noise, found.added):
        assert spread is None or (spread >= 0.0).all()


@pytest.mark.parametrize("time_s", [60.0, DAY, 31_536_000.0])
def test_drift_tables_are_binary_orders_of_magnitude_lost(time_s: float) -> None:
    """(t / t0)^-ν = 2^-(ν log2(t / t0))."""
    card, found = load_card("pcm-nandakumar"), tables_at("pcm-nandakumar", time_s)
    assert card.drift is not None
    for table, curve in ((found.drift_mean, card.drift.exponent_mean), (found.drift_sd, card.drift.exponent_sd)):
        assert table is not None
        lost = 2.0 ** -table.astype(np.float64)
        np.testing.assert_allclose(lost, ((time_s + 20.0) / 20.0) ** -curve(sqrt_grid()), rtol=3e-6)


def test_read_noise_tables_grow_as_the_card_says() -> None:
    card = load_card("pcm-nandakumar")
    assert card.read_noise is not None
    early, late = tables_at("pcm-nandakumar", 0.0), tables_at("pcm-nandakumar", DAY)
    assert early.noise is not None
    assert late.noise is not None
    ratio = math.sqrt(math.log((DAY + 20.0) / 5e-7) / math.log(20.0 / 5e-7))  # √ln(t / 2 t_read)
    np.testing.assert_allclose(late.noise / early.noise, ratio, rtol=1e-6)
    assert (early.common, late.common) == (card.read_noise.common(20.0), card.read_noise.common(DAY + 20.0))
    assert early.added is None  # this card's noise is a share of the level


def test_relaxation_tables_are_the_relaxation_at_the_time_since_programming() -> None:
    """rram-cmo counts its logarithm from programming: t = time_s + 1 s."""
    card, found = load_card("rram-cmo"), tables_at("rram-cmo", 3600.0)
    assert card.relaxation is not None
    for table, law in ((found.shift, card.relaxation.shift), (found.spread, card.relaxation.spread)):
        assert table is not None
        np.testing.assert_allclose(table, law(sqrt_grid(), 3601.0), rtol=1e-6)
    assert tables_at("rram-cmo", 0.0).shift is None  # ln 1 = 0


@pytest.mark.parametrize("name", card_names())
def test_the_programming_table_is_the_curve_at_its_nodes_and_made_once(name: str) -> None:
    card = load_card(name)
    table = programming_table(card)
    np.testing.assert_array_equal(table, tabulate(card.programming_sd))
    np.testing.assert_allclose(table, card.programming_sd(sqrt_grid()), rtol=1e-6, atol=1e-12)
    assert programming_table(card) is table
    assert not table.flags.writeable


def test_tables_are_kept_for_the_next_read_at_the_same_time() -> None:
    card = load_card("pcm-nandakumar")
    assert read_tables(card, DAY) is read_tables(card, DAY)
    assert read_tables(card, DAY) is not read_tables(card, DAY + 1.0)


def test_a_time_that_the_card_does_not_hold_at_has_no_tables() -> None:
    with pytest.raises(ValueError, match=r"^card 'pcm-zarcone:one-device' holds from time_s = 0 to 60 s[^\n]*$"):
        read_tables(load_card("pcm-zarcone"), DAY)


@pytest.mark.parametrize("levels", [2, 4, 8])
def test_thresholds_between_finite_levels_lie_half_way(levels: int) -> None:
    card = load_card(f"rram-multilevel:{levels}-levels")
    thresholds = level_thresholds(card)
    assert thresholds.size == levels - 1
    at = np.array(card.written_levels)
    for threshold, low, high in zip(thresholds, at, at[1:], strict=False):
        assert threshold - low == pytest.approx(high - threshold, abs=1e-6)


@pytest.mark.parametrize("name", ["pcm-nandakumar", "sonos:five-days", "rram-cmo"])
def test_a_table_between_its_nodes_is_within_a_thousandth_of_the_curve(name: str) -> None:
    card = load_card(name)
    x = (np.arange(2000) + 0.37) / 2000.37
    found = interpolate(programming_table(card), x)
    np.testing.assert_allclose(found, card.programming_sd(x), rtol=1e-3, atol=1e-6)
