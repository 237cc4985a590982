"""Adaptive mapping, outliers, sensitivity, quantized analog and raw writing: what they state against what they do."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import devices
import physcomp
import qubo
from physcomp.codes import Medium, fit_scales, parse
from physcomp.codes.base import SCALE_BITS, to_bfloat16
from physcomp.codes.menu import STRATEGIES, part_of, read_menu
from physcomp.codes.sensitive import MOST_CELLS, _decode_cells, _encode_cells, allocate_cells

NAMES = (
    "analog(1,raw)",
    "analog(2,plain,raw)",
    "analog(1,levels=4)",
    "analog(2,pair,levels=3)",
    "analog(1,plain,levels=16)",
    "analog(1,levels=5,raw)",
    "analog(1,split)",
    "analog(2,plain,split=10%)",
    "analog(1,pair,split)",
    "analog(1,clip)",
    "analog(1,plain,clip=4%)",
    "analog(1,split,clip=4%)",
    "analog(1.5,sensitive)",
    "analog(3,sensitive=10%)",
    "analog(2,pair,sensitive=10%)",
    "analog(4,plain,levels=4,sensitive=10%,split=40%)",
    "analog(2,plain,sensitive)",
    "analog(1.25,pair,sensitive)",
    "analog(1.5,levels=4,sensitive)",
    "analog(2,sensitive,split,clip)",
    "hybrid(2,1,split)",
    "hybrid(3,1,clip=6%)",
    "mixed(digital(4),analog(1),25%)",
    "mixed(analog(2),digital(1.58),40%)",
    "mixed(hybrid(2,1),analog(1,plain),20%)",
)
CARDS = [("pcm-zarcone", 0.0), ("pcm-nandakumar", 86400.0), ("rram-multilevel:8-levels", 0.0)]


def medium_of(card: str, written_for_s: float = 0.0, read_time_s: float | None = None) -> Medium:
    return Medium(devices.load_card(card), written_for_s, read_time_s)


def importance_of(rows: np.ndarray) -> np.ndarray:
    return np.exp(np.random.default_rng(7).normal(0, 1.5, rows.shape))


def prepared(name: str, rows: np.ndarray, medium: Medium):
    """The code with its allocation, and its scales."""
    code, importance = parse(name), importance_of(rows)
    scales = fit_scales(code, rows, importance, medium)
    return code.given(code.allocate(rows, importance, scales, medium)), scales


def copies_of(code, rows: np.ndarray, chips: int):
    """The code for so many copies of the rows."""
    allocation = getattr(code, "allocation", None)
    return code.given(None if allocation is None else np.tile(allocation, (chips, 1))), np.tile(rows, (chips, 1))


def read_back(code, rows: np.ndarray, scales: np.ndarray, medium: Medium, seed: int = 0) -> np.ndarray:
    encoded = code.encode(rows, scales, medium)
    cells = devices.program(medium.card, encoded.levels, seed=seed)
    time_s = medium.written_for_s if medium.read_time_s is None else medium.read_time_s
    reader = parse(code.name)  # a reader knows the name alone, no allocation
    return reader.decode(type(encoded)(encoded.bits, cells.read(time_s=time_s)), scales, rows.shape[1], medium)


@pytest.mark.parametrize("name", NAMES)
def test_a_round_trip_on_ideal_cells_gives_the_stated_mean_exactly(name, rows):
    medium = medium_of("ideal")
    code, scales = prepared(name, rows, medium)
    mean, variance = code.error(rows, scales, medium)
    assert np.all(variance == 0)
    # Levels and results are float32, each rounded by at most 2^-24 of the scale, doubled by `plain`.
    np.testing.assert_allclose(
        read_back(code, rows, scales, medium), rows + mean, atol=float(4 * 2**-24 * max(1, np.abs(rows).max()))
    )


@pytest.mark.parametrize("name", NAMES)
def test_bits_and_cells_written_are_those_counted_and_the_scale_is_a_bfloat16(name, rows):
    medium = medium_of("pcm-zarcone")
    code, scales = prepared(name, rows, medium)
    encoded = code.encode(rows, scales, medium)
    assert encoded.bits.shape == (len(rows), code.digital_bits(50))
    assert encoded.levels.shape == (len(rows), code.analog_cells(50))
    assert set(np.unique(encoded.bits)) <= {0, 1}
    digital = (encoded.bits.shape[1] + SCALE_BITS) / medium.bits_per_cell
    assert code.cost(50, medium) == pytest.approx(digital + encoded.levels.shape[1])
    np.testing.assert_array_equal(to_bfloat16(scales), scales)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("card", "time_s"), CARDS)
def test_mean_and_variance_of_read_back_are_the_stated_ones(name, card, time_s, rows):
    medium, chips = medium_of(card, time_s), 400
    code, scales = prepared(name, rows, medium)
    mean, variance = code.error(rows, scales, medium)
    writer, copies = copies_of(code, rows, chips)
    error = read_back(writer, copies, np.tile(scales, chips), medium).astype(np.float64) - copies
    error = error.reshape(chips, *rows.shape)
    # A rarely wrong decision has a mean far from normal: only spreads seen at least ten times are held to it weight by
    # weight. The mean of 400 chips then has sd √(variance / 400); 350 weights stay within 5 sd but for 2e-4, 5.5 with
    # the skew of drift.
    seen = variance > 0
    if "levels" not in name:
        z = (error.mean(axis=0) - mean)[seen] / np.sqrt(variance[seen] / chips)
        assert np.abs(z).max() < 5.5
        # 350 weights times 400 chips: sd √(2/140000) = 0.4 % when normal, 3 % is seven of it (tails of 1/f noise).
        assert (error.var(axis=0)[seen] / variance[seen]).mean() == pytest.approx(1, abs=0.03)
    total = variance.sum()
    spread = math.sqrt(total / chips)  # of the sum over weights of mean errors, each independent
    assert abs((error.mean(axis=0) - mean).sum()) < 5 * spread + 1e-6
    # The sum over weights of the variance: its sd from the fourth moments found, and what 2^22 counted cells leave.
    fourth = ((error - error.mean(axis=0)) ** 4).mean(axis=0).sum()
    assert abs(error.var(axis=0).sum() - total) < 6 * math.sqrt(fourth / chips) + 0.01 * total + 1e-12


@pytest.mark.parametrize("name", ["analog(1,raw)", "analog(1,split)", "analog(1,levels=4)", "analog(1.5,sensitive)"])
def test_reading_at_another_time_than_written_for_has_the_stated_moments(name, rows):
    medium, chips = medium_of("pcm-nandakumar", 0.0, 2.6e6), 400
    code, scales = prepared(name, rows, medium)
    mean, variance = code.error(rows, scales, medium)
    writer, copies = copies_of(code, rows, chips)
    error = read_back(writer, copies, np.tile(scales, chips), medium) - copies
    bias = error.reshape(chips, *rows.shape).mean(axis=0) - mean
    assert math.sqrt((bias**2).sum()) < 1.2 * math.sqrt(variance.sum() / chips)  # 350 independent: 1 ± 0.04 if right


@pytest.mark.parametrize("name", NAMES)
def test_a_code_is_called_by_its_name(name):
    assert parse(name).name == name
    assert parse(parse(name).name) == parse(name)


def test_what_goes_without_saying_may_be_said():
    assert parse("analog(2,protected,split)").name == "analog(2,split)"
    assert parse("analog(1, clip=1%, split=25%)") == parse("analog(1,split,clip)")


@pytest.mark.parametrize(
    "name",
    [
        "analog(1.5)",
        "analog(1,sensitive)",
        "analog(40,sensitive)",
        "analog(1.5,sensitive=5%)",
        "analog(2,sensitive=0%)",
        "analog(1,levels=1)",
        "analog(1,levels=900)",
        "analog(1,split,split)",
        "analog(1,split=0%)",
        "analog(1,clip=100%)",
        "analog(1,split=half)",
        "analog(1,plain,pair)",
        "hybrid(2,1,plain)",
        "mixed(digital(4),analog(1))",
        "mixed(digital(4),cells(1),25%)",
        "mixed(digital(4),analog(1),0.25)",
    ],
)
def test_what_is_no_code_is_refused_in_one_line(name):
    with pytest.raises(ValueError, match=r"code '.*': [^\n]+$"):
        parse(name)


def test_a_split_costs_its_mask_one_scale_and_nothing_more():
    # C(8, 2) = 28 masks take 5 bits; the small weights' scale 16; signs and cells as without.
    assert parse("analog(1,split)").digital_bits(8) == 5 + 16 + 8
    assert parse("analog(1,split)").analog_cells(8) == 8


def test_an_outlier_costs_its_place_and_sixteen_bits():
    # One of 100 weights: 7 bits say which, 16 what; 99 signs and cells are left.
    assert parse("analog(1,clip)").digital_bits(100) == 7 + 16 + 99
    assert parse("analog(1,clip)").analog_cells(100) == 99


def test_an_allocation_costs_the_mask_of_first_cells():
    # 6 cells for 4 weights: the first cells of three weights among five places, C(5, 3) = 10, 4 bits; and 4 signs.
    assert parse("analog(1.5,sensitive)").digital_bits(4) == 4 + 4
    assert parse("analog(1.5,sensitive)").analog_cells(4) == 6


def test_two_classes_of_cells_cost_a_mask():
    # 2 of 8 weights with three cells: C(8, 2) = 28, 5 bits; 8 signs; 8 + 2 · 2 cells.
    assert parse("analog(3,sensitive=25%)").digital_bits(8) == 5 + 8
    assert parse("analog(3,sensitive=25%)").analog_cells(8) == 12


def test_the_weights_with_more_cells_are_those_any_other_choice_would_lose_more_by(rows):
    medium, code = medium_of("pcm-nandakumar", 86400.0), parse("analog(3,sensitive=30%)")
    few, importance = rows[:, :8], importance_of(rows)[:, :8]
    scales = np.abs(few).max(axis=1)
    costs = importance * parse("analog(1)").error(few, scales, medium)[1]
    cells = code.allocate(few, importance, scales, medium)
    assert np.all(np.sort(cells, axis=1) == [1] * 6 + [3] * 2)
    for row, mine in zip(costs, cells, strict=True):
        others = [
            sum(c / (3 if place in many else 1) for place, c in enumerate(row))
            for many in itertools.combinations(range(8), 2)
        ]
        assert (row / mine).sum() == pytest.approx(min(others), rel=1e-12)


def test_outliers_come_back_as_bfloat16_numbers_whatever_the_cells_do(rows):
    medium = medium_of("pcm-zarcone")
    code, scales = prepared("analog(1,clip=4%)", rows[:-1], medium)
    back = read_back(code, rows[:-1], scales, medium)
    largest = np.abs(rows[:-1]).argsort(axis=1)[:, -2:]
    expected = to_bfloat16(np.take_along_axis(rows[:-1], largest, axis=1))
    np.testing.assert_array_equal(np.take_along_axis(back, largest, axis=1), expected)


def test_the_scale_of_what_outliers_leave_reaches_the_largest_of_the_rest(rows):
    code = parse("analog(1,clip=4%)")
    np.testing.assert_array_equal(code.reach(rows), np.sort(np.abs(rows), axis=1)[:, -3])


@settings(max_examples=60, deadline=None)
@given(costs=st.lists(st.floats(0, 100).map(lambda c: round(c, 2)), min_size=2, max_size=4), further=st.integers(0, 6))
def test_allocated_cells_lose_no_more_than_any_other_allocation(costs, further):
    row, total = np.array(costs), len(costs) + further
    found = allocate_cells(row[None], total)[0].astype(int)
    assert found.sum() == total
    assert found.min() >= 1
    every = (cells for cells in itertools.product(range(1, total + 1), repeat=len(costs)) if sum(cells) == total)
    best = min(float((row / np.array(cells)).sum()) for cells in every)
    assert float((row / found).sum()) <= best * (1 + 1e-12) + 1e-12


def test_allocated_cells_follow_the_root_of_the_cost():
    costs = np.geomspace(1, 100, 40)[None]
    cells = allocate_cells(costs, 200)[0]
    ideal = 200 * np.sqrt(costs[0]) / np.sqrt(costs[0]).sum()
    assert np.abs(cells - ideal).max() <= 1  # whole numbers next to r ∝ √cost


def test_cells_allocated_a_few_groups_at_a_time_are_the_same(monkeypatch):
    costs = np.random.default_rng(5).lognormal(0, 2, (9, 30))
    whole = allocate_cells(costs, 50)
    monkeypatch.setattr("physcomp.codes.sensitive.GAINS_AT_ONCE", 900)  # two groups
    np.testing.assert_array_equal(allocate_cells(costs, 50), whole)


@pytest.mark.parametrize(("weights", "total"), [(1, 4), (5, 5), (5, 9), (40, 70), (3, 3 * MOST_CELLS)])
def test_stored_cells_of_each_weight_come_back(weights, total):
    cells = allocate_cells(np.random.default_rng(weights).random((6, weights)), total)
    np.testing.assert_array_equal(_decode_cells(_encode_cells(cells), weights, total), cells)


def test_cells_that_cannot_be_allocated_are_refused():
    with pytest.raises(ValueError, match="4 for 5 weights"):
        allocate_cells(np.ones((1, 5)), 4)


def test_more_cells_where_they_matter_lose_less_than_the_same_cells_spread_evenly(rows):
    medium, importance = medium_of("pcm-nandakumar", 86400.0), importance_of(rows)
    scales = np.abs(rows).max(axis=1)
    code = parse("analog(2,sensitive)")
    aware = code.given(code.allocate(rows, importance, scales, medium))
    even = parse("analog(2)")
    losses = [float((importance * each.error(rows, scales, medium)[1]).sum()) for each in (aware, even)]
    assert losses[0] < 0.8 * losses[1]


def test_undoing_the_mean_response_takes_the_mean_error_away(rows):
    medium = medium_of("pcm-nandakumar", 86400.0)
    scales = np.abs(rows).max(axis=1)
    raw, mapped = (parse(name).error(rows, scales, medium)[0] for name in ("analog(1,raw)", "analog(1)"))
    assert np.abs(mapped).max() < 1e-6 * np.abs(rows).max()
    assert np.abs(raw).max() > 0.1 * np.abs(rows).max()  # a day of drift takes a third of a level


def test_decisions_of_a_stated_level_follow_the_cards_gaussians_where_errors_are_common():
    # Sixteen levels of pcm-zarcone: errors are so common that clamping and tails do not matter (no drift in the card).
    medium = medium_of("pcm-zarcone").seen(raw=False, steps=16)
    values = np.linspace(0, 1, 16)
    response = devices.response(medium.card, 0.0)
    mean, sd = response.mean(medium.levels(values)), np.sqrt(response.variance(medium.levels(values)))
    edges = np.concatenate([[-np.inf], medium._thresholds, [np.inf]])
    gaussian = [
        [
            0.5 * (math.erf((high - m) / s / math.sqrt(2)) - math.erf((low - m) / s / math.sqrt(2)))
            for low, high in itertools.pairwise(edges)
        ]
        for m, s in zip(mean, sd, strict=True)
    ]
    expected = np.array(gaussian) @ values
    np.testing.assert_allclose(medium.mean(values), expected, atol=0.002)  # 2^18 cells a level: sd below 0.0005


def test_cards_with_few_levels_state_the_step_their_cells_take():
    medium = medium_of("rram-multilevel:4-levels")
    written = np.array([0.0, 0.2, 0.5, 0.6, 1.0])
    stored = medium.levels(written)
    np.testing.assert_array_equal(np.isin(stored.round(5), np.float32([0, 0.38464, 0.72166, 1])), True)
    np.testing.assert_allclose(medium.mean(written), medium.values(devices.response(medium.card, 0.0).mean(stored)))


def test_strategies_are_menus_and_parts_of_menus():
    for name, codes in STRATEGIES.items():
        menu = read_menu(("pruned", "digital(2)", *codes))
        flags = part_of(menu, f"strategy:{name}", 2)
        assert [code.name for code, flag in zip(menu, flags, strict=True) if flag] == ["pruned", *codes]
    assert [code.name for code in read_menu(STRATEGIES["sign"])][:2] == ["analog(1)", "analog(2)"]
    with pytest.raises(ValueError, match="no strategy 'luck'"):
        part_of(read_menu(), "strategy:luck")
    with pytest.raises(ValueError, match="'strategy:mixed' is no part"):
        part_of(read_menu(), "strategy:mixed")


@pytest.fixture(scope="module")
def protected(tiny, tiny_images):
    menu = ["pruned", "digital(2)", "hybrid(2,1)"]
    for strategy in ("none", "sign", "sign+adaptive", "sign+sensitive", "mixed"):
        menu += [name for name in STRATEGIES[strategy] if name not in menu][:5]
    return physcomp.build_model(tiny, tiny_images, card="pcm-nandakumar", read_time_s=86400.0, menu=tuple(menu))


@pytest.mark.parametrize("budget", [6.0, 9.0])
def test_the_joint_choice_has_no_more_energy_than_any_single_strategy(protected, budget):
    # The exact solver proves its optimum, and every part of a menu is a subset of it.
    energies = {}
    for part in ("all", "strategy:none", "strategy:sign", "strategy:sign+adaptive", "strategy:sign+sensitive"):
        selection = protected.selection(budget, shrinkage=0.7, part=part)
        energies[part] = qubo.solve(selection, "exact", seed=0).energy
        assert qubo.solve(selection, "annealer", seed=0).energy == pytest.approx(energies[part], rel=0.02)
    assert energies["all"] == min(energies.values())


def test_a_plan_keeps_the_allocation_and_a_chip_is_read_back_without_it(protected, tmp_path):
    plan = physcomp.uniform_plan(protected, "analog(1.5,sensitive)", shrinkage=0.7)
    loaded = physcomp.Plan.from_json(plan.to_json())
    assert loaded == plan
    chip = physcomp.store(protected.network, loaded, seed=0)
    assert len(chip.bits) / plan.bits_per_cell + chip.cells.levels.size == pytest.approx(
        plan.cells - plan.ledger["plan"]
    )
    chip.save(tmp_path / "chip.h5")
    state = physcomp.load_chip(tmp_path / "chip.h5").read_back()
    index = [code.name for code in protected.menu].index("analog(1.5,sensitive)")
    for number, layer in enumerate(protected.layers):
        code = protected.menu[index].given(protected.fits[number].allocations["analog(1.5,sensitive)"])
        mean, variance = code.error(layer.rows, protected.scales[number][:, index], protected.medium)
        error = state[f"{layer.name}.weight"].numpy().reshape(layer.rows.shape) - layer.rows - mean
        # The sum over at least 18 weights of squares whose mean is the variance: sd below 0.5 of it.
        assert (error**2).sum() < 3 * variance.sum()


def test_chips_of_every_protection_come_back_with_the_stated_spread(protected):
    for name in ("analog(1,split)", "analog(1.5,sensitive)", "mixed(hybrid(2,1),analog(1),25%)"):
        plan = physcomp.uniform_plan(protected, name, shrinkage=0.7)
        index = [code.name for code in protected.menu].index(name)
        states = [physcomp.store(protected.network, plan, seed=seed).read_back() for seed in range(60)]
        for number, layer in enumerate(protected.layers):
            read = np.stack([state[f"{layer.name}.weight"].numpy().reshape(layer.rows.shape) for state in states])
            code = protected.menu[index].given(protected.fits[number].allocations.get(name))
            variance = code.error(layer.rows, protected.scales[number][:, index], protected.medium)[1]
            # At least 18 weights times 60 chips: sd √(2 / 1080) = 4 % were they alike, twice that as they are.
            assert read.var(axis=0, ddof=1).sum() == pytest.approx(variance.sum(), rel=0.35)
