import dataclasses

import numpy as np
import pytest
import torch
from compensated import round_rows
from hypothesis import given, settings
from hypothesis import strategies as st

import physcomp
import qubo
from physcomp.choice.joint import Search, choose
from physcomp.choice.refining import SEQUENCE, TUNED
from physcomp.curvature.blocks import Curvature
from physcomp.storage.measure import HELDOUT_SEED


@pytest.fixture(scope="module")
def model(tiny, tiny_images):
    return physcomp.build_model(tiny, tiny_images, card="pcm-nandakumar", read_time_s=3600.0)


def test_energy_of_the_selection_is_the_models_prediction(model):
    generator = np.random.default_rng(0)
    selection = model.selection(3.0, shrinkage=0.4)
    for _ in range(20):
        choice = generator.integers(0, len(model.menu), len(model.loss))
        assert selection.energy(choice) == pytest.approx(model.predict(choice, 0.4), rel=1e-6)


def test_a_chosen_plan_keeps_its_budget_with_everything_counted(model, tiny_images):
    choices = choose(model, tiny_images, [1.0, 2.5], search=Search(shrinkages=(0.0, 0.5)))
    for plan in choices.plans:
        assert plan.cells_per_weight <= plan.budget * (1 + 1e-9)
        if plan.proof.solver != "fixed":
            assert plan.proof.lower_bound <= plan.proof.energy * (1 + 1e-9)
    chosen = [plan for plan in choices.plans if plan.proof.solver != "fixed" and not plan.proof.expansion]
    assert len([plan for plan in chosen if plan.proof.refined == (SEQUENCE,)]) == 2 * 2 * 2


def test_a_model_around_the_trained_network_itself_is_the_model(model, tiny):
    same = model.around(tiny.module.state_dict(), 0.7)
    np.testing.assert_array_equal(same.loss, model.loss[:, : model.offered])
    for ours, theirs in zip(same.couplings, model.couplings, strict=True):
        np.testing.assert_array_equal(ours.grams[0], theirs.grams[0][:, : model.offered, :, : model.offered])


def test_a_distrusted_plan_is_chosen_again_with_the_curvature_on_the_way_to_it(model, tiny_images, monkeypatch):
    search = Search(shrinkages=(0.0, 0.5))
    monkeypatch.setattr("physcomp.choice.joint.DISTRUST", np.inf)
    plain = choose(model, tiny_images, [1.0], search=search)
    assert not any(plan.proof.expansion for plan in plain.plans)
    monkeypatch.setattr("physcomp.choice.joint.DISTRUST", -np.inf)
    monkeypatch.setattr("physcomp.choice.joint.WORTH", -np.inf)
    choices = choose(model, tiny_images, [1.0], search=search)
    again = [plan for plan in choices.plans if plan.proof.expansion]
    assert sum(plan.proof.refined == (SEQUENCE,) for plan in again) == 2
    assert sum(TUNED in plan.proof.refined for plan in again) == 1
    state = physcomp.store(model.network, plain.best(1.0), seed=HELDOUT_SEED).read_back()
    closer = model.around(state, again[0].proof.expansion)
    for plan in again:
        choice = np.array([code for layer in plan.layers for code in layer.codes])
        shrinkage = plan.proof.shrinkage
        assert plan.proof.energy == pytest.approx(closer.selection(1.0, shrinkage=shrinkage).energy(choice))
        assert plan.proof.lower_bound <= plan.proof.energy * (1 + 1e-9)
    assert choices.best(1.0, part="all").sha256 == plain.best(1.0, part="all").sha256
    assert choices.best(1.0).proof.heldout_loss <= plain.best(1.0).proof.heldout_loss


def test_the_best_plan_is_the_one_of_least_measured_held_out_loss(model, tiny_images):
    choices = choose(
        model, tiny_images, [1.5], search=Search(shrinkages=(0.0, 0.5), parts=("all", "digital", "analog"))
    )
    best = choices.best(1.5)
    assert best.proof.heldout_loss == min(plan.proof.heldout_loss for plan in choices.plans)
    for part in ("digital", "analog"):
        assert best.proof.heldout_loss <= choices.best(1.5, part=part).proof.heldout_loss


def test_the_whole_menu_never_has_more_energy_than_a_part_of_it(model):
    # The parts name fewer codes in the plan, which costs fewer bits: give the whole menu the same cells for codes.
    for part in ("digital", "analog"):
        offered = model.selection(2.0, shrinkage=0.5, part=part)
        whole = model.selection(2.0, shrinkage=0.5).with_budget(offered.budget)
        assert qubo.solve(whole, seed=1).energy <= qubo.solve(offered, seed=1).energy * (1 + 1e-3)


def test_the_same_seed_gives_the_same_plans(model, tiny_images):
    search = Search(shrinkages=(0.5,), parts=("all",))
    first, second = (choose(model, tiny_images, [1.5], search=search).best(1.5) for _ in range(2))
    assert first.sha256 == second.sha256
    assert dataclasses.replace(first.proof, seconds=0.0) == dataclasses.replace(second.proof, seconds=0.0)


def test_a_budget_below_the_smallest_feasible_one_is_refused_with_that_one(model):
    with pytest.raises(ValueError, match=r"takes at least 0\.\d+ cells/weight, got 0\.01"):
        model.selection(0.01)


def test_nan_weights_are_refused(tiny):
    module = torch.nn.Linear(3, 2)
    with torch.no_grad():
        module.weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match="'weight' holds NaN"):
        physcomp.wrap(module)


def test_an_unknown_card_lists_the_near_names(tiny, tiny_images):
    with pytest.raises(ValueError, match="pcm-nandakumar"):
        physcomp.build_model(tiny, tiny_images, card="pcm-nandakuma")


@pytest.mark.parametrize("granularity", ["layer", "kernel"])
def test_other_granularities_plan_and_read_back(tiny, tiny_images, granularity):
    model = physcomp.build_model(tiny, tiny_images, card="ideal", granularity=granularity)
    plan = choose(model, tiny_images, [8.0], search=Search(shrinkages=(0.0,), parts=("all",))).best(8.0)
    state = physcomp.store(tiny, plan).read_back()
    score = physcomp.evaluate_state(tiny, state, tiny_images)
    assert score.loss == pytest.approx(physcomp.evaluate(tiny.module, tiny_images).loss, rel=0.02)


def test_compensated_rounding_loses_less_than_plain_rounding_and_stays_on_levels():
    generator = np.random.default_rng(1)
    rows = generator.standard_normal((4, 30)).astype(np.float32)
    factors = generator.standard_normal((4, 200, 30)) @ (np.eye(30) + 0.5)  # strongly correlated inputs
    blocks = (np.einsum("gni,gnj->gij", factors, factors) / 200)[:, None].astype(np.float32)
    curvature = Curvature(np.einsum("gbii->gi", blocks).astype(np.float64), blocks)
    rounded, scales = round_rows(rows, curvature, (3, 7))
    for index, count in enumerate((3, 7)):
        losses = []
        for g in range(4):
            levels = (2 * np.arange(count) / (count - 1) - 1) * scales[g, index]
            assert np.abs(rounded[g, :, index, None] - levels).min(axis=1).max() < 1e-6
            nearest = levels[np.abs(rows[g][:, None] - levels).argmin(axis=1)]
            losses.append([d @ blocks[g, 0] @ d for d in (rounded[g, :, index] - rows[g], nearest - rows[g])])
        compensated, plain = np.sum(losses, axis=0)
        assert compensated < 0.5 * plain


def test_rounding_in_blocks_handles_a_last_partial_block_and_a_row_of_zeros():
    rows = np.random.default_rng(2).standard_normal((3, 10)).astype(np.float32)
    rows[1] = 0
    blocks = np.tile(np.eye(4, dtype=np.float32), (3, 3, 1, 1))
    rounded, scales = round_rows(rows, Curvature(np.ones((3, 10)), blocks), (255,))
    assert np.all(rounded[1] == 0)
    assert scales[1, 0] == 0
    # With no correlation compensation does nothing: 255 levels are within half a step, but for what clips.
    inside = np.abs(rows) <= scales
    assert np.abs(rounded[:, :, 0] - rows)[inside].max() <= scales.max() / 254 * 1.01


@given(share=st.floats(0.0, 1.0), seed=st.integers(0, 5))
@settings(max_examples=8, deadline=None, derandomize=True)
def test_no_candidate_of_no_more_cells_has_less_held_out_loss_than_the_plan_returned(choices_of_tiny, share, seed):
    least, most = choices_of_tiny[0].plans[0].budget, 6.0
    budget = least + share * (most - least)
    for choices in choices_of_tiny:
        best = choices.best(budget)
        assert best.cells_per_weight <= budget * (1 + 1e-9)
        for plan in choices.plans:
            if plan.cells_per_weight <= budget:
                assert plan.proof.heldout_loss >= best.proof.heldout_loss


@pytest.fixture(scope="module")
def choices_of_tiny(model, tiny_images):
    search = Search(shrinkages=(0.5,), parts=("all",))
    return [choose(model, tiny_images[:40], [1.0, 3.0, 6.0], search=search)]


def test_uniform_plans_are_candidates_as_they_are_and_rounded_in_sequence_and_tuned(choices_of_tiny):
    (choices,) = choices_of_tiny
    fixed = [plan for plan in choices.plans if plan.proof.solver == "fixed"]
    ways = {plan.proof.refined for plan in fixed}
    assert {(), (SEQUENCE,), (SEQUENCE, TUNED)} <= ways
    assert all(plan.proof.part.startswith("coded(") and plan.proof.clean_loss == choices.clean_loss for plan in fixed)


def test_a_uniform_plan_that_does_best_is_returned(choices_of_tiny):
    (choices,) = choices_of_tiny
    fixed = next(plan for plan in choices.plans if plan.proof.solver == "fixed")
    lucky = dataclasses.replace(fixed, proof=dataclasses.replace(fixed.proof, heldout_loss=-1.0))
    assert dataclasses.replace(choices, plans=(*choices.plans, lucky)).best(6.0) == lucky


def test_the_proof_of_a_plan_states_its_measured_rise_and_the_interval_of_the_predicted_one(model, choices_of_tiny):
    (choices,) = choices_of_tiny
    for plan in choices.plans:
        proof = plan.proof
        assert proof.measured_increase == pytest.approx(proof.heldout_loss - choices.clean_loss)
        if proof.solver != "fixed":
            low, high = proof.predicted_interval
            assert low <= proof.predicted_loss_increase <= high


def test_a_menu_or_part_without_digital_codes_has_no_digital_candidates(tiny, tiny_images):
    menu = ("pruned", "analog(1)", "analog(2,pair)", "digital(8)")
    whole = physcomp.build_model(tiny, tiny_images, card="ideal", menu=menu)
    alone = physcomp.build_model(tiny, tiny_images, card="ideal", menu=menu[:-1])
    for model, parts in ((whole, ("analog",)), (alone, ("all",))):
        choices = choose(model, tiny_images, [4.0], search=Search(shrinkages=(0.0,), parts=parts))
        for plan in choices.plans:
            assert set(plan.share_of_codes()) <= {"pruned", "analog(1)", "analog(2,pair)"}


def test_chosen_plans_are_measured_as_they_were_and_rounded_in_sequence(choices_of_tiny):
    (choices,) = choices_of_tiny
    for budget in (1.0, 3.0):
        mine = [plan for plan in choices.plans if plan.budget == budget and plan.proof.solver != "fixed"]
        assert {plan.proof.refined for plan in mine} >= {(), (SEQUENCE,)}
        assert all(plan.proof.heldout_loss is not None for plan in mine)
