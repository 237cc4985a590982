import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import devices
import physcomp
from physcomp.codes import Coded, Digital, Medium, entropy, fit_scales, parse


def gaussian_digits(count: int, groups: int, weights: int, width: float, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal((count - 1) / 2, width, (groups, weights))
    return np.rint(drawn).clip(0, count - 1).astype(np.int64)


@given(
    count=st.sampled_from([2, 3, 4, 15, 255, 1023]),
    groups=st.integers(1, 5),
    weights=st.integers(1, 40),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=60)
def test_any_digits_survive_writing_and_reading(count, groups, weights, seed):
    digits = np.random.default_rng(seed).integers(0, count, (groups, weights))
    bits = entropy.write(digits, count)
    assert set(np.unique(bits)) <= {0, 1}
    tail = np.random.default_rng(seed).integers(0, 2, 77, dtype=np.uint8)  # whatever is stored behind
    assert entropy.length(np.concatenate([bits, tail]), groups) == len(bits)
    np.testing.assert_array_equal(entropy.read(bits, count, groups, weights), digits)


@pytest.mark.parametrize(("count", "width"), [(3, 0.6), (15, 2.2), (255, 40.0), (255, 3.3)])
def test_bits_written_are_the_entropy_of_a_gaussian_source(count, width):
    groups, weights = 20, 2000
    bits = len(entropy.write(gaussian_digits(count, groups, weights, width), count))
    edges = (np.arange(1, count) - 0.5 - (count - 1) / 2) / width
    shares = np.diff([0.0, *(0.5 * (1 + math.erf(edge / math.sqrt(2))) for edge in edges), 1.0])
    expected = -float(shares[shares > 0] @ np.log2(shares[shares > 0])) * groups * weights
    # 40,000 digits: their information has an sd of about 1 bit each, 0.5 % at most of 50,000 bits; widths that are 8 %
    # apart cost at most 0.003 bits a digit, and six bits a group are for the widths.
    assert bits == pytest.approx(expected, rel=0.015)


def test_probabilities_are_whole_and_none_is_missing():
    for count in (2, 3, 16, 255, 1024):
        shares = entropy.frequencies(count)
        assert shares.min() >= 1
        assert (shares.sum(axis=1) == 2**20).all()


@pytest.mark.parametrize(("count", "width"), [(2, 0.5), (3, 0.2), (15, 2.0), (255, 0.3), (255, 40.0)])
def test_information_bounds_what_a_stream_takes(count, width):
    for seed, (groups, weights) in enumerate([(1, 1), (1, 9), (10, 64), (64, 576), (3, 20000)]):
        digits = gaussian_digits(count, groups, weights, width, seed)
        total = entropy.information(digits, count).sum()
        assert total < len(entropy.write(digits, count)) <= total + entropy.STREAM_BITS


def entropy_bits(digits: np.ndarray) -> float:
    """What a coder of independent digits could reach that knew their distribution without storing it."""
    shares = np.bincount(digits.ravel()) / digits.size
    used = shares[shares > 0]
    return -digits.size * float(used @ np.log2(used))


def test_a_stream_is_close_to_the_empirical_entropy_of_its_digits():
    for seed in range(3):
        digits = gaussian_digits(255, 64, 576, 40.0, seed)
        assert entropy_bits(digits) < len(entropy.write(digits, 255)) < 1.01 * entropy_bits(digits)


@pytest.mark.parametrize("bits", [1.58, 2.32, 3.91, 4, 8])
def test_the_embedded_network_takes_its_entropy_and_less_than_a_percent_more(bits, data_dir):
    code, medium = Coded(bits), Medium(devices.load_card("ideal"), 0.0)
    digits, written = [], 0
    for layer in physcomp.layers_of(physcomp.load_network(data_dir / "fashion-cnn.toml").module):
        scales = fit_scales(code, layer.rows, np.ones(layer.rows.shape), medium)
        digits.append(code._digits(layer.rows, scales))
        written += code.written_bits(layer.rows, scales)
    least = sum(entropy_bits(of_layer) for of_layer in digits)
    taken = sum(len(entropy.write(of_layer, code.count)) for of_layer in digits)
    assert sum(of_layer.size for of_layer in digits) == 97552
    assert taken == written  # what chips hold is what is measured
    # Three levels have so little information that the 250 widths of six bits are a percent of it by themselves.
    widths = 250 * entropy.WIDTH_BITS if bits < 2 else 0
    assert taken - widths < 1.01 * least
    assert taken < 1.015 * least


def test_a_stream_cut_short_is_refused():
    bits = entropy.write(gaussian_digits(15, 4, 50, 2.0), 15)
    with pytest.raises(ValueError, match="are no stream of 4 groups"):
        entropy.read(bits[:-1], 15, 4, 50)


def test_coded_reads_back_what_digital_reads_back(rows):
    medium = Medium(devices.load_card("pcm-zarcone"), 0.0)
    for bits in (1, 1.58, 2, 4, 8):
        coded, digital = Coded(bits), Digital(bits)
        scales = fit_scales(digital, rows, np.ones(rows.shape), medium)
        stored = coded.encode(rows, scales, medium)
        assert stored.bits.size == coded.written_bits(rows, scales)
        back = coded.decode(stored, scales, rows.shape[1], medium)
        np.testing.assert_array_equal(
            back, digital.decode(digital.encode(rows, scales, medium), scales, rows.shape[1], medium)
        )


def test_coded_is_a_code_of_its_own_name_and_stands_alone():
    assert parse("coded(4)") == Coded(4)
    assert parse("coded(1.58)").name == "coded(1.58)"
    assert parse("coded(4)") != parse("digital(4)")
    for name in ("sparse(50,coded(4))", "mixed(coded(4),analog(1),25%)"):
        with pytest.raises(ValueError, match=r"coded\(4\) stores whole groups only; write digital\(4\) inside"):
            parse(name)
    with pytest.raises(ValueError, match="2 to 1024 levels, got 4095"):
        parse("coded(12)")


@pytest.fixture(scope="module")
def model(tiny, tiny_images):
    menu = ("pruned", "coded(2)", "coded(4)", "digital(4)", "analog(1)")
    return physcomp.build_model(tiny, tiny_images, card="pcm-zarcone:one-device", menu=menu)


def test_the_cost_of_a_coded_group_is_its_information(model):
    code = model.menu.index(Coded(4))
    for number, start in enumerate(model.starts):
        rows, scales = model.rows_for(number, Coded(4)), model.scales[number][:, code]
        bits = Coded(4).bits_of(rows, scales) + 16
        found = model.cost[start : start + len(rows), code] * model.medium.bits_per_cell
        np.testing.assert_allclose(found, bits)


def test_the_ledger_counts_the_stream_really_written_and_the_chip_reads_it(model, tiny, tmp_path):
    choice = np.arange(len(model.loss)) % len(model.menu)
    plan = physcomp.plan_of(model, choice, method="mixed", shrinkage=0.0)
    chip = physcomp.store(tiny, plan, seed=1)
    parts = ("digits", "signs", "masks", "scales", "setup", "biases", "others")
    bits = sum(plan.ledger[name] for name in parts) * plan.bits_per_cell
    assert len(chip.bits) == pytest.approx(bits)
    chip.save(tmp_path / "chip.h5")
    loaded = physcomp.load_chip(tmp_path / "chip.h5").read_back()
    for name, tensor in chip.read_back().items():
        assert (tensor == loaded[name]).all()
    for number, layer in enumerate(plan.layers):
        for group, index in enumerate(layer.codes):
            if isinstance(model.menu[index], Digital):
                written = model.rows_for(number, model.menu[index])[group]
                read = loaded[f"{layer.name}.weight"].numpy().reshape(len(layer.codes), -1)[group]
                np.testing.assert_allclose(read, written, atol=1e-6)


def test_a_choice_with_streams_stays_within_its_budget(model, tiny_images):
    for budget in (2.5, 4.0):
        search = physcomp.Search(shrinkages=(0.0,), parts=("all", "digital"))
        for plan in physcomp.choose(model, tiny_images, [budget], search=search).plans:
            assert plan.cells_per_weight <= budget


def test_uniform_coded_loses_as_much_as_digital(model):
    coded, digital = (physcomp.uniform_plan(model, name, shrinkage=0.0) for name in ("coded(4)", "digital(4)"))
    predicted = [plan.proof.predicted_loss_increase for plan in (coded, digital)]
    assert predicted[0] == pytest.approx(predicted[1], rel=1e-4)
    states = [physcomp.store(model.network, plan).read_back() for plan in (coded, digital)]
    assert all((states[0][name] == states[1][name]).all() for name in states[0])


def test_ecc_by_a_bch_code_divides_every_digital_cost(tiny, tiny_images, model):
    card = "pcm-zarcone:one-device"
    practical = physcomp.build_model(tiny, tiny_images, card=card, menu=("digital(4)", "analog(1)"), ecc="bch")
    assert practical.medium.bits_per_cell == devices.practical_bits(card, 0.0).bits_per_cell
    bound = physcomp.uniform_plan(model, "digital(4)", shrinkage=0.0)
    plan = physcomp.uniform_plan(practical, "digital(4)", shrinkage=0.0)
    assert (bound.ecc, plan.ecc) == ("bound", "bch")
    ratio = devices.reliable_bits(card, 0.0) / practical.medium.bits_per_cell
    assert ratio > 1.3
    for name in ("digits", "scales", "biases"):
        assert plan.ledger[name] == pytest.approx(bound.ledger[name] * ratio)
    again = physcomp.Plan.from_json(plan.to_json())
    assert again == plan
    assert again.sha256 != bound.sha256


def test_a_plan_from_before_ecc_was_a_choice_still_loads(model):
    plan = physcomp.uniform_plan(model, "digital(4)", shrinkage=0.0)
    fields = json.loads(plan.to_json())
    del fields["ecc"]
    assert physcomp.Plan.from_json(json.dumps(fields)) == plan


def test_an_unknown_ecc_is_refused(tiny, tiny_images):
    with pytest.raises(ValueError, match="ecc: one of bound, bch, got 'ldpc'"):
        physcomp.build_model(tiny, tiny_images, card="pcm-zarcone", ecc="ldpc")
