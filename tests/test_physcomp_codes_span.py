"""Choices for several read times: the model over a span against the models of its times."""

import dataclasses

import numpy as np
import pytest

import devices
import physcomp
from physcomp.codes import Medium, fit_scales, parse
from physcomp.codes.medium import GRID, _between
from physcomp.curvature.couplings import couplings
from physcomp.storage.measure import HELDOUT_SEED

TIMES = (0.0, 86400.0, 2.6e6)
MENU = ("pruned", "digital(2)", "analog(1)", "analog(2,plain)", "analog(1.5,sensitive)", "analog(1,split)")


def model_over(tiny, tiny_images, *times: float, over: str = "mean") -> physcomp.LossModel:
    return physcomp.build_model(tiny, tiny_images, card="pcm-nandakumar", menu=MENU, read_times_s=times, over=over)


@pytest.fixture(scope="module")
def models(tiny, tiny_images):
    return {over: model_over(tiny, tiny_images, *TIMES, over=over) for over in ("mean", "worst")}


def errors_at(model, number: int, index: int, time_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean error and variance of one code on one layer when read at a time, with the model's scales."""
    code, rows = model.menu[index], model.rows_for(number, model.menu[index])
    scales = model.scales[number][:, index]
    medium = Medium(model.medium.card, 0.0, time_s)
    writer = code.given(model.fits[number].allocations.get(code.name))
    mean, variance = writer.error(rows, scales, medium)
    return mean + rows - model.layers[number].rows, variance


def test_a_span_of_the_time_written_for_is_that_time(tiny, tiny_images):
    plain = physcomp.build_model(tiny, tiny_images, card="pcm-nandakumar", menu=MENU)
    for over in ("mean", "worst"):
        same = model_over(tiny, tiny_images, 0.0, over=over)
        np.testing.assert_array_equal(same.loss, plain.loss)
        np.testing.assert_array_equal(same.cost, plain.cost)


def test_the_mean_model_is_the_mean_of_the_quadratic_forms_of_its_times(models, tiny, tiny_images):
    # Couplings of each time measured one by one, with the same perturbations and without biases that compensate:
    # the network's last layer has biases, so its columns are compared where the model left them, after mending. The
    # bias is one for all times, so what is left is at least the mean of what each time leaves with its own.
    model = models["mean"]
    at = []
    for time_s in TIMES:
        parts = [
            np.stack([errors_at(model, n, i, time_s)[0] for i in range(len(MENU))], axis=2).astype(np.float32)
            for n in range(len(model.layers))
        ]
        at.append((parts, couplings(tiny, model.layers, tiny_images, parts)))
    for number, coupling in enumerate(model.couplings):
        separate = np.mean([measured[number].alone for _, measured in at], axis=0)
        assert np.all(coupling.alone >= separate * (1 - 1e-4) - 1e-9)
        shifts = np.stack([measured[number].shift for _, measured in at])
        np.testing.assert_allclose(coupling.shift, shifts.mean(axis=0), rtol=1e-3, atol=1e-6)
        # ‖a + s̄ b‖² averaged exceeds the average of ‖a + s b‖² by the variance of s times ‖b‖², never by less.
        same = np.ptp(shifts, axis=0) < 1e-9
        np.testing.assert_allclose(coupling.alone[same], separate[same], rtol=1e-3, atol=1e-9)


def importances(model):
    """The diagonal of the Gauss-Newton matrix that a model's losses are made with, for each layer."""
    nothing = [np.zeros((*layer.rows.shape, 1), np.float32) for layer in model.layers]
    return [found.importance for found in couplings(model.network, model.layers, model.images, nothing)]


def test_without_couplings_no_time_loses_more_than_the_worst_model_says(models):
    model = models["worst"]
    measured = importances(model)
    for number, (start, layer) in enumerate(zip(model.starts, model.layers, strict=True)):
        importance = measured[number]
        for index in range(len(MENU)):
            stated = model.loss[start : start + layer.groups, index]
            noise = [np.einsum("gw,gw->g", importance, errors_at(model, number, index, t)[1]) / 2 for t in TIMES]
            alone = model.couplings[number].alone[:, index] / 2
            # The stated loss is that of one of the times: its spread is one of theirs, or the least of them is below.
            assert np.all(stated - alone <= np.max(noise, axis=0) * (1 + 1e-4) + 1e-12)
            assert np.all(stated - alone >= np.min(noise, axis=0) * (1 - 1e-4) - 1e-12)


def test_the_worst_time_loses_at_least_as_much_as_the_mean(models):
    analog = [index for index, name in enumerate(MENU) if name.startswith("analog")]
    assert models["worst"].loss[:, analog].sum() > models["mean"].loss[:, analog].sum()
    np.testing.assert_allclose(models["worst"].loss[:, :2], models["mean"].loss[:, :2], rtol=1e-4, atol=1e-9)


def test_bits_have_to_hold_at_every_time_of_a_span(models):
    each = [devices.reliable_bits("pcm-nandakumar", time_s) for time_s in TIMES]
    assert models["mean"].medium.bits_per_cell == min(each)
    plan = physcomp.uniform_plan(models["mean"], "digital(2)", shrinkage=0.7)
    assert plan.bits_per_cell == min(each)


def test_a_scale_for_the_worst_time_loses_no_more_there_than_any_other_scale(rows):
    card = devices.load_card("pcm-nandakumar")
    span = Medium(card, 0.0, span_s=TIMES, over="worst")
    code, importance = parse("analog(1)"), np.ones(rows.shape)

    def worst(scales):
        errors = [code.error(rows, scales, Medium(card, 0.0, time_s)) for time_s in TIMES]
        return np.max([(mean**2 + variance).sum(axis=1) for mean, variance in errors], axis=0)

    best = worst(fit_scales(code, rows, importance, span))
    for medium in (Medium(card, 0.0), Medium(card, 0.0, 2.6e6), dataclasses.replace(span, over="mean")):
        assert np.all(best <= worst(fit_scales(code, rows, importance, medium)) + 1e-12)


def test_a_plan_says_for_which_times_it_was_chosen(models):
    plan = physcomp.uniform_plan(models["worst"], "analog(1)", shrinkage=0.7)
    assert (plan.read_times_s, plan.over) == (TIMES, "worst")
    assert physcomp.Plan.from_json(plan.to_json()) == plan
    assert dataclasses.replace(plan, over="mean").sha256 != plan.sha256


def test_held_out_loss_over_a_span_counts_every_time(models, tiny_images):
    search = physcomp.Search(shrinkages=(0.0,), parts=("analog",), chips=1)
    plan = physcomp.choose(models["worst"], tiny_images, [6.0], search=search).best(6.0)
    assert plan.proof.heldout_loss is not None
    chip = physcomp.store(models["worst"].network, plan, seed=HELDOUT_SEED)
    losses = [
        physcomp.evaluate_state(models["worst"].network, chip.read_back(time_s=time_s), tiny_images).loss
        for time_s in TIMES
    ]
    assert plan.proof.heldout_loss == pytest.approx(max(losses), abs=1e-9)


def test_an_unknown_way_of_counting_times_is_refused(tiny, tiny_images):
    with pytest.raises(ValueError, match="over: one of mean, worst, got 'best'"):
        model_over(tiny, tiny_images, 0.0, over="best")


def test_moments_between_the_places_of_their_table_are_those_of_numpy():
    generator = np.random.default_rng(8)
    grid, at = np.linspace(0, 1, GRID + 1) ** 2, generator.standard_normal(GRID + 1)
    values = np.concatenate([generator.random(5000) ** 4, grid, [0.0, 1.0, 1.5, -0.5]]).astype(np.float32)
    np.testing.assert_allclose(_between(values, grid, at), np.interp(values, grid, at), atol=1e-9)
