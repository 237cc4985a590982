"""`stepped(ratio)`: multiples of a step of each group, in a stream for each layer."""

import numpy as np
import pytest
import torch

import devices
import physcomp
from physcomp.codes import Medium, Stepped, adaptive, fit_scales, parse
from physcomp.codes.base import to_bfloat16
from physcomp.codes.stepped import REACH
from physcomp.compensation.rows import rows_for_codes
from physcomp.curvature.blocks import Curvature
from physcomp.training.stored_layer import stored_layers

MEDIUM = Medium(devices.load_card("ideal"), 0.0)
RATIOS = (0.02, 0.125, 0.5, 1.0, 2.82, 4.0, 16.0)


def rows_of(groups: int, weights: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return (generator.standard_t(5, (groups, weights)) * generator.uniform(0.01, 2, (groups, 1))).astype(np.float32)


def root(rows: np.ndarray) -> np.ndarray:
    return np.sqrt(np.mean(np.square(rows, dtype=np.float64), axis=1))


@pytest.mark.parametrize("ratio", RATIOS)
def test_weights_read_back_are_the_nearest_multiples_of_the_step(ratio):
    code, rows = Stepped(ratio), rows_of(6, 200)
    steps = code.fit(rows, np.ones(rows.shape), MEDIUM)
    np.testing.assert_allclose(steps, ratio * root(rows), rtol=2**-8)
    assert (steps == to_bfloat16(steps)).all()
    encoded = code.encode(rows, steps, MEDIUM)
    assert encoded.bits.shape == (1, code.written_bits(rows, steps))
    back = parse(code.name).decode(encoded, steps, 200, MEDIUM)
    assert np.abs(back - rows).max() <= steps.max() / 2 * (1 + 1e-6)
    digits = back / steps[:, None].astype(np.float64)
    np.testing.assert_allclose(digits, np.rint(digits), atol=1e-6)
    mean, variance = code.error(rows, steps, MEDIUM)
    np.testing.assert_allclose(rows + mean, back, atol=1e-6)
    assert not variance.any()
    np.testing.assert_array_equal(code.decode(code.encode(back, steps, MEDIUM), steps, 200, MEDIUM), back)


def test_finer_steps_take_more_bits_and_make_smaller_errors():
    rows = rows_of(20, 300)
    found = []
    for ratio in RATIOS:
        code = Stepped(ratio)
        steps = code.fit(rows, np.ones(rows.shape), MEDIUM)
        error = float(np.square(code.error(rows, steps, MEDIUM)[0]).sum())
        found.append((code.bits_of(rows, steps).sum(), -error, code.written_bits(rows, steps), code.digital_bits(300)))
    for numbers in zip(*found, strict=True):
        assert list(numbers) == sorted(numbers, reverse=True)


def test_any_steps_serve_and_far_weights_are_clipped():
    code, rows = Stepped(1.0), rows_of(3, 40)
    steps = to_bfloat16(np.array([0.01, 0.3, 5.0]))
    back = code.decode(code.encode(rows, steps, MEDIUM), steps, 40, MEDIUM)
    np.testing.assert_allclose(back, np.rint(rows / steps[:, None]) * steps[:, None], atol=1e-5)
    tiny = to_bfloat16(np.full(3, 1e-6))
    back = code.decode(code.encode(rows, tiny, MEDIUM), tiny, 40, MEDIUM)
    assert np.abs(back).max() == pytest.approx(code.span * tiny[0])


def test_rows_of_zeros_take_next_to_nothing():
    code = Stepped(2.0)
    rows = np.concatenate([rows_of(2, 100), np.zeros((3, 100), np.float32)])
    steps = code.fit(rows, np.ones(rows.shape), MEDIUM)
    assert steps[2:].tolist() == [0, 0, 0]
    bits = code.bits_of(rows, steps)
    assert bits[2:].sum() < 0.3 * bits[:2].sum()
    assert (code.decode(code.encode(rows, steps, MEDIUM), steps, 100, MEDIUM)[2:] == 0).all()
    steps[2:] = 1.0  # zero digits under a step above 0, as rounding may leave them
    assert (code.decode(code.encode(rows, steps, MEDIUM), steps, 100, MEDIUM)[2:] == 0).all()
    nothing = np.zeros((4, 500), np.float32)
    assert code.written_bits(nothing, np.zeros(4, np.float32)) < 100


def test_prices_of_groups_add_up_to_the_stream():
    code, rows = Stepped(1.0), rows_of(40, 300)
    steps = code.fit(rows, np.ones(rows.shape), MEDIUM)
    prices = code.bits_of(rows, steps)
    assert prices.sum() - adaptive.STREAM_BITS < code.written_bits(rows, steps) <= prices.sum()
    some = np.random.default_rng(0).permutation(40)[:20]
    some.sort()
    assert code.written_bits(rows[some], steps[some]) == pytest.approx(prices[some].sum(), rel=0.015)


def test_names():
    assert parse("stepped(0.5)") == Stepped(0.5)
    assert Stepped(2).name == "stepped(2)"
    assert parse(Stepped(1 / 3).name) == Stepped(1 / 3)
    for ratio in (0.01, 17, float("nan")):
        with pytest.raises(ValueError, match=r"stepped: the ratio is 0\.02 to 16, got .*; correct the menu"):
            Stepped(ratio)
    with pytest.raises(ValueError, match=r"code 'stepped\(1,2\)': not a code"):
        parse("stepped(1,2)")
    for name in ("sparse(50,stepped(1))", "mixed(stepped(1),analog(1),25%)"):
        with pytest.raises(ValueError, match=r"stepped\(1\) stores whole groups only; write digital\(bits\) inside"):
            parse(name)


def test_a_stream_cut_short_is_refused():
    code, rows = Stepped(0.5), rows_of(3, 50)
    steps = code.fit(rows, np.ones(rows.shape), MEDIUM)
    encoded = code.encode(rows, steps, MEDIUM)
    with pytest.raises(ValueError, match="are no stream of 3 groups; store the plan again"):
        code.decode(type(encoded)(encoded.bits[:, :-3], encoded.levels), steps, 50, MEDIUM)


def curvature_of(groups: int, weights: int, seed: int) -> Curvature:
    generator = np.random.default_rng(seed)
    gradients = generator.standard_normal((groups, 3 * weights, weights)) * np.exp(generator.normal(0, 1, weights))
    gradients += generator.standard_normal((groups, 3 * weights, 1))
    blocks = (gradients.transpose(0, 2, 1) @ gradients / (3 * weights)).astype(np.float32)
    return Curvature(np.ones((groups, weights)), blocks[:, None])


def test_rows_with_compensation_lie_on_multiples_of_the_step_and_lose_less():
    rows, curvature = rows_of(8, 30), curvature_of(8, 30, seed=1)
    menu = (*map(Stepped, (0.02, 0.25, 1.0, 2.0)), parse("digital(3)"))
    to_write = rows_for_codes(rows, curvature, menu)
    digital = rows_for_codes(rows, curvature, menu[-1:])
    np.testing.assert_array_equal(to_write["digital(3)"].rows, digital["digital(3)"].rows)
    for code in menu[:-1]:
        assert isinstance(code, Stepped)
        found = to_write[code.name]
        assert found.scales is not None
        np.testing.assert_allclose(found.scales, code.ratio * root(rows), rtol=2**-8)
        assert code.error(found.rows, found.scales, MEDIUM)[0] == pytest.approx(0, abs=1e-6)
        plain = code.error(rows, found.scales, MEDIUM)[0]
        losses = [
            float(np.einsum("gi,gij,gj->", error, curvature.blocks[:, 0], error))
            for error in (found.rows - rows, plain)
        ]
        assert losses[0] < losses[1]


def test_one_large_weight_makes_the_step_larger_instead_of_being_clipped():
    rows = np.zeros((1, 5000), np.float32)
    rows[0, 7] = 3.0
    code = Stepped(0.25)
    assert 3.0 / root(rows)[0] > REACH
    eye = np.broadcast_to(np.eye(50, dtype=np.float32), (1, 100, 50, 50))
    found = rows_for_codes(rows, Curvature(np.ones(rows.shape), eye), (code,))[code.name]
    assert found.scales is not None
    assert found.rows[0, 7] == pytest.approx(3.0, rel=2**-7)
    assert fit_scales(code, rows, np.ones(rows.shape), MEDIUM).shape == (1,)
    assert code.fit(rows, np.ones(rows.shape), MEDIUM) == found.scales


@pytest.fixture(scope="module")
def model(tiny, tiny_images):
    menu = ("pruned", "stepped(0.5)", "stepped(2)", "digital(4)", "analog(1)")
    return physcomp.build_model(tiny, tiny_images, card="pcm-zarcone:one-device", menu=menu)


def test_plan_chip_and_loss_model_files_hold_it(model, tiny, tiny_images, tmp_path):
    choice = np.arange(len(model.loss)) % len(model.menu)
    plan = physcomp.plan_of(model, choice, method="mixed", shrinkage=0.0)
    chip = physcomp.store(tiny, plan, seed=1)
    parts = ("digits", "signs", "masks", "scales", "setup", "biases", "others")
    assert len(chip.bits) == pytest.approx(sum(plan.ledger[name] for name in parts) * plan.bits_per_cell)
    assert physcomp.Plan.from_json(plan.to_json()) == plan
    chip.save(tmp_path / "chip.h5")
    loaded = physcomp.load_chip(tmp_path / "chip.h5").read_back()
    for number, layer in enumerate(plan.layers):
        for group, index in enumerate(layer.codes):
            if isinstance(model.menu[index], Stepped):
                read = loaded[f"{layer.name}.weight"].numpy().reshape(len(layer.codes), -1)[group]
                np.testing.assert_array_equal(read, model.rows_for(number, model.menu[index])[group])
    model.save(tmp_path / "model.h5")
    again = physcomp.load_model(tmp_path / "model.h5", tiny, tiny_images)
    assert physcomp.plan_of(again, choice, method="mixed", shrinkage=0.0) == plan


def test_gradients_go_through_weights_and_steps(model, tiny):
    """Straight-through in the weights; in the step s, as of weights s·Q(w/s)."""
    plan = physcomp.uniform_plan(model, "stepped(2)", shrinkage=0.0)
    layer = next(iter(stored_layers(tiny, plan, devices.load_card("pcm-zarcone:one-device")).values()))
    value = layer()
    weighting = torch.randn(value.shape, generator=torch.Generator().manual_seed(0))
    (value * weighting).sum().backward()
    assert layer.share.grad is not None
    assert layer.log_scale.grad is not None
    unit = layer.unit[:, None]
    torch.testing.assert_close(layer.share.grad, weighting.reshape(len(unit), -1) * unit)
    rows, read = torch.from_numpy(layer.latent()), torch.from_numpy(layer.read_back())
    torch.testing.assert_close(rows, torch.from_numpy(plan.layers_in(tiny)[0].rows))  # none is clipped
    expected = (weighting.reshape(len(unit), -1) * (read - rows)).sum(1)  # in log s
    torch.testing.assert_close(layer.log_scale.grad, expected, atol=1e-5, rtol=1e-4)
