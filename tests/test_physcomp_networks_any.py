"""Any network, end to end: each of the zoo is wrapped, chosen for, stored, read back and measured, or refused."""

import copy
import dataclasses
import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import zoo
from test_zoo import OF_THE_BATCH, tensors
from torch import nn
from torch.nn import functional
from zoo_case import Case

import physcomp
from physcomp.choice.planning import plan_of
from physcomp.networks.evaluation import outputs_of, outputs_of_state
from physcomp.networks.layers import rows_of
from physcomp.networks.survey import survey
from physcomp.networks.tape import Tape

pytestmark = [pytest.mark.filterwarnings(f"ignore:{text}") for text in zoo.WARNINGS]
CALIBRATION, HELDOUT = 24, 12  # samples
MENU = ("pruned", "digital(2)", "digital(4)")
COMPARED = ("digital(8)", "float32")
SEARCH = physcomp.Search(shrinkages=(0.0,), parts=("all",))
STORED = [case for case in zoo.CASES.values() if not case.refused]
REFUSED = [case for case in zoo.CASES.values() if case.refused]
# The networks that choices are made for in every run of the tests; the others are among the longer checks.
CHOSEN = {
    "residual", "mobile-block", "transposed-conv2d", "u-net", "autoencoder", "embedding", "tied-embedding", "attention",
    "lstm", "gru", "einsum", "dead-channels", "regression", "multilabel", "binary", "routing", "cosine", "detached",
    "shared-parameter", "dict", "tuple", "batch-statistics",
}  # fmt: skip
EVERY = pytest.mark.parametrize("case", STORED, ids=lambda case: case.name)


def slow(case: Case) -> Any:
    """The case, where it takes long as one of the longer checks."""
    return case if case.name in CHOSEN else pytest.param(case, marks=pytest.mark.slow)


@dataclass(frozen=True, eq=False)
class Stored:
    """A case's network with its loss model, and samples for picking plans."""

    network: physcomp.Network
    model: physcomp.LossModel
    heldout: physcomp.Samples

    def uniform(self, code: str) -> physcomp.Plan:
        return physcomp.uniform_plan(self.model, code, shrinkage=0.0)


def samples_of(case: Case) -> tuple[physcomp.Samples, physcomp.Samples]:
    """Calibration and held-out samples."""
    samples = physcomp.Samples(case.inputs(CALIBRATION + HELDOUT), case.labels(CALIBRATION + HELDOUT))
    return samples[:CALIBRATION], samples[CALIBRATION:]


@functools.cache
def stored(name: str) -> Stored:
    case = zoo.CASES[name]
    calibration, heldout = samples_of(case)
    network = physcomp.wrap(case.build(), case.name, samples=calibration, **case.task)
    model = physcomp.build_model(network, calibration, card="ideal", menu=MENU, compared=COMPARED)
    return Stored(network, model, heldout)


def as_bytes(given: Iterable[torch.Tensor]) -> list[bytes]:
    """Tensors as bytes, so that NaN equals NaN and -0 does not equal 0."""
    return [tensor.detach().clone().reshape(-1).view(torch.uint8).numpy().tobytes() for tensor in given]


def belongings(module: nn.Module) -> list[object]:
    """What a module holds besides its numbers."""
    return [
        (name, part.training, sorted(vars(part)), len(part._forward_hooks), len(part._forward_pre_hooks))
        for name, part in module.named_modules()
    ]


@EVERY
def test_neither_the_module_nor_the_data_of_the_caller_change(case: Case) -> None:
    module, inputs, labels = case.build(), case.inputs(HELDOUT), case.labels(HELDOUT)

    def all_of_it() -> list[object]:
        every = [*module.state_dict().values(), *tensors(inputs), labels, torch.get_rng_state()]
        return [*as_bytes(every), *belongings(module)]

    before = all_of_it()
    samples = physcomp.Samples(inputs, labels)
    network = physcomp.wrap(module, case.name, samples=samples, **case.task)
    physcomp.build_model(network, samples, card="ideal", menu=("digital(4)",))
    physcomp.evaluate(network, samples)
    assert all_of_it() == before
    assert all(parameter.requires_grad and parameter.grad is None for parameter in module.parameters())
    theirs = {tensor.data_ptr() for tensor in (*module.parameters(), *module.buffers()) if tensor.numel()}
    assert not theirs & {tensor.data_ptr() for tensor in network.module.state_dict().values()}


@EVERY
def test_outputs_are_those_of_the_module(case: Case) -> None:
    """To rounding: norms are folded, and networks of 16 bits compute with 32."""
    given, found = stored(case.name), case.build().eval()
    with torch.no_grad():
        parts = case.inputs(CALIBRATION)
        wanted = found(**parts) if isinstance(parts, dict) else found(*(part.clone() for part in tensors(parts)))
    if not isinstance(wanted, torch.Tensor):
        wanted = wanted[case.task["output"]] if isinstance(wanted, dict) else getattr(wanted, case.task["output"])
    tolerance = {torch.float16: 2e-3, torch.bfloat16: 1e-2}.get(wanted.dtype, 1e-5)
    outputs = outputs_of(given.network, physcomp.Samples(parts, case.labels(CALIBRATION)))
    torch.testing.assert_close(outputs, wanted.float(), rtol=tolerance, atol=tolerance * float(wanted.abs().max()))


@EVERY
def test_every_tensor_is_accounted_for_once(case: Case) -> None:
    given = stored(case.name)
    module, plan = given.network.module, given.uniform("digital(4)")
    found = survey(given.network, given.heldout)
    assert found.batched == (case.name in OF_THE_BATCH)
    on_cells = [name for layer in plan.layers for name in (layer.weight, *([layer.bias] if len(layer.biases) else []))]
    digital = [other.name for other in plan.others]
    assert len({*on_cells, *digital}) == len(on_cells) + len(digital)
    assert digital == [name for name, _ in found.digital]
    assert all(why for _, why in (*found.digital, *found.left_out))
    left_out = {name for name, _ in found.left_out}
    assert not left_out & {*on_cells, *digital}
    named = dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers(remove_duplicate=False))
    once = {name: id(named[name]) for name in (*on_cells, *digital)}
    assert len(set(once.values())) == len(once)
    # Any other tensor is another name of one of these, or left out with a reason.
    assert {name for name in named if id(named[name]) not in once.values()} <= left_out
    # And every tensor that the caller gave is there, but for those that the survey says why not.
    wanted = set(case.build().state_dict())
    if case.name not in ("data-parallel", "parametrised", "orthogonal", "old-weight-norm", "pruned"):
        assert wanted <= {*on_cells, *digital} | left_out
        assert given.network.parameters == sum(parameter.numel() for parameter in case.build().parameters())


@EVERY
def test_cells_are_the_bits_on_the_chip(case: Case) -> None:
    given = stored(case.name)
    for code in ("digital(4)", "digital(8)", "float32"):
        plan = given.uniform(code)
        chip = physcomp.store(given.network, plan)
        assert not chip.cells.levels.size
        assert plan.ledger["plan"] == 0  # one code only: nothing is to be said
        assert plan.cells * plan.bits_per_cell == pytest.approx(len(chip.bits), rel=1e-12)
        assert plan.cells_per_weight * given.network.parameters == pytest.approx(plan.cells, rel=1e-12)


def unlike(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of a module's state by name, each once."""
    seen = set()
    for name, tensor in module.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            yield name, tensor
        seen.add(id(tensor))


@torch.no_grad()
def spoilt(module: nn.Module) -> nn.Module:
    """A copy whose numbers are all others: what was not stored will be missed."""
    copied = copy.deepcopy(module)
    for _, tensor in unlike(copied):
        if tensor.is_floating_point() or tensor.is_complex():
            tensor.fill_(torch.nan)
        else:
            tensor.zero_()
    return copied


@torch.no_grad()
def rounded(module: nn.Module, exact: set[str]) -> nn.Module:
    """A copy with all numbers as bfloat16 but for those of some weights."""
    copied = copy.deepcopy(module)
    for name, tensor in unlike(copied):
        if name not in exact and (tensor.is_floating_point() or tensor.is_complex()):
            real = torch.view_as_real(tensor) if tensor.is_complex() else tensor
            real.copy_(real.bfloat16())
    return copied


@EVERY
def test_32_bit_floats_give_back_the_whole_network(case: Case) -> None:
    given = stored(case.name)
    plan = given.uniform("float32")
    state = physcomp.store(given.network, plan).read_back()
    other = dataclasses.replace(given.network, module=spoilt(given.network.module))
    found = outputs_of_state(other, state, given.heldout)
    same = rounded(given.network.module, {layer.weight for layer in plan.layers})
    wanted = outputs_of(dataclasses.replace(given.network, module=same), given.heldout)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


@EVERY
def test_8_bits_give_nearly_the_trained_outputs(case: Case) -> None:
    given = stored(case.name)
    state = physcomp.store(given.network, given.uniform("digital(8)")).read_back()
    wanted = outputs_of(given.network, given.heldout)
    assert float((outputs_of_state(given.network, state, given.heldout) - wanted).norm() / wanted.norm()) < 0.02


@pytest.mark.parametrize("case", [slow(case) for case in STORED], ids=lambda case: case.name)
def test_chosen_plans_keep_their_budgets_and_are_measured(case: Case) -> None:
    given = stored(case.name)
    least, most = (given.uniform(code).cells_per_weight for code in ("pruned", "digital(4)"))
    names = len(given.model.loss) * 2 / given.uniform("pruned").bits_per_cell / given.network.parameters
    budgets = [names + least + share * (most - least) for share in (0.5, 1.0)]
    choices = physcomp.choose(given.model, given.heldout, budgets, search=SEARCH)
    for budget in budgets:
        plan = choices.best(budget)
        assert plan.cells_per_weight <= budget * (1 + 1e-9)
        assert plan.proof.solver == "fixed" or plan.proof.lower_bound <= plan.proof.energy + 1e-9
        state = physcomp.store(given.network, plan, seed=1).read_back()
        loss = physcomp.evaluate_state(given.network, state, given.heldout).loss
        assert loss == pytest.approx(plan.proof.heldout_loss, rel=1e-5)  # measured in other numbers of threads
        again = physcomp.Plan.from_json(plan.to_json())
        assert again == plan


@EVERY
def test_gradients_for_each_sample_are_those_of_automatic_differentiation(case: Case) -> None:
    given = stored(case.name)
    samples = given.heldout
    if case.name in OF_THE_BATCH:
        return  # a sample alone has other outputs
    with torch.no_grad():
        shape = given.network.outputs(samples.inputs).shape
    directions = torch.randn(*shape, 2, generator=torch.Generator().manual_seed(3))
    network = dataclasses.replace(given.network, module=with_padding_counted(given.network.module))
    found = Tape(given.network, given.model.layers).gradients(samples.inputs, lambda outputs: directions)
    for number, rows, biases in found:
        layer = given.model.layers[number]
        weight = network.module.get_parameter(layer.weight)
        bias = network.module.get_parameter(layer.bias_name) if layer.bias_of_group else weight
        wanted = [
            torch.autograd.grad(outputs, (weight, bias), direction, retain_graph=True, materialize_grads=True)
            for outputs, direction in alone(network, samples, directions)
        ]
        of_weight = torch.stack(
            [rows_of(gradient, layer.transposed).reshape(layer.rows.shape) for gradient, _ in wanted]
        )
        size, tolerance = float(of_weight.abs().max()), 0.03 if case.name == "autocast" else 1e-4
        torch.testing.assert_close(rows, of_weight, rtol=tolerance, atol=0.1 * tolerance * size)
        if layer.bias_of_group:
            torch.testing.assert_close(
                biases, torch.stack([g for _, g in wanted]), rtol=tolerance, atol=0.1 * tolerance * size
            )
        else:
            assert not biases.any()


def with_padding_counted(module: nn.Module) -> nn.Module:
    """A copy with gradients everywhere, also in the words of padding, whose errors count as any other's."""
    copied = copy.deepcopy(module).requires_grad_()
    for part in copied.modules():
        if isinstance(part, nn.Embedding | nn.EmbeddingBag):
            part.padding_idx = None
    return copied


def alone(
    network: physcomp.Network, samples: physcomp.Samples, directions: torch.Tensor
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The outputs of each sample alone, with each of its directions."""
    for number in range(len(samples)):
        outputs = network.outputs(samples[number : number + 1].inputs)
        for probe in range(directions.shape[-1]):
            yield outputs, directions[number : number + 1, ..., probe]


def risen(network: physcomp.Network, outputs: torch.Tensor, clean: torch.Tensor, labels: torch.Tensor) -> float:
    """How far outputs are from clean ones, in the task's loss; written out here, since it is to judge."""
    if network.task.name == "regression":
        return float((outputs - clean).square().mean())
    if network.task.name in ("binary", "multilabel"):
        shares = clean.sigmoid()
        losses = [functional.binary_cross_entropy_with_logits(each, shares) for each in (outputs, clean)]
        return float(losses[0] - losses[1])
    axis = 1 if outputs.shape[2:] == labels.shape[1:] else -1
    ours, theirs = (each.log_softmax(axis).double() for each in (outputs, clean))
    divergences = (theirs.exp() * (theirs - ours)).sum(axis)
    return float(divergences[labels != -100].mean())


@EVERY
def test_errors_of_a_layer_raise_the_loss_as_predicted(case: Case) -> None:
    """Layer by layer at 4 bits: the rise that the loss model predicts, and the one on the same samples.

    With more than four outputs directions are random, errors are not small everywhere, and biases are rounded besides.
    """
    given = stored(case.name)
    samples, network, model = given.model.images, given.network, given.model
    codes = [code.name for code in model.menu]
    clean = outputs_of_state(network, physcomp.store(network, given.uniform("float32")).read_back(), samples)
    for start, layer in zip(model.starts, model.layers, strict=True):
        choice = np.full(len(model.loss), codes.index("float32"))
        choice[start : start + layer.groups] = codes.index("digital(4)")
        plan = plan_of(model, choice, method="one layer", shrinkage=1.0)
        outputs = outputs_of_state(network, physcomp.store(network, plan).read_back(), samples)
        measured = risen(network, outputs, clean, samples.labels)
        if measured > 2e-5 and layer.name != "gate":  # errors of a gate switch experts: its gradient does not tell
            assert 0.45 < model.predict(choice, 1.0) / measured < 2.2, layer.name


@pytest.mark.parametrize("name", ["transposed-conv2d", "u-net", "attention", "experts", "one-by-one", "tied-embedding"])
def test_recalibration_takes_any_network(name: str) -> None:
    """On what was read back without errors it changes next to nothing."""
    given = stored(name)
    state = physcomp.store(given.network, given.uniform("float32")).read_back()
    again = physcomp.recalibrate(given.network, state, given.model.images, bits_per_cell=2.0)
    assert (again.extra_bits > 0) == (name != "one-by-one")  # whose layers have no axis of samples
    before, after = (outputs_of_state(given.network, each, given.heldout) for each in (state, again.state))
    assert float((after - before).norm() / before.norm()) < 0.02


@pytest.mark.parametrize("name", ["embedding", "embedding-bag"])
def test_words_that_no_sample_has_are_not_worthless(name: str) -> None:
    case = zoo.CASES[name]
    calibration, _ = samples_of(case)
    assert isinstance(calibration.inputs, torch.Tensor)
    samples = physcomp.Samples(torch.where(calibration.inputs == 7, 8, calibration.inputs), calibration.labels)
    network = physcomp.wrap(case.build(), samples=samples)
    model = physcomp.build_model(network, samples, card="ideal", menu=MENU)
    assert model.layers[0].looked_up
    assert (model.loss[:11, 0] > 0).all() == (name == "embedding-bag")  # a row of padding is zero already
    assert model.loss[7, 0] > 0


def test_norms_in_a_row_are_all_folded() -> None:
    given = stored("two-norms").network
    assert {each.name for each in given.left_out if "folded" in each.why} >= {
        *("1.0.bias", "1.0.weight", "1.1.bias", "1.1.weight")
    }
    assert not [name for name in given.module.state_dict() if "running" in name]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_what_cannot_be_stored_is_refused_in_one_line(case: Case) -> None:
    calibration, _ = samples_of(case)
    with pytest.raises(ValueError, match=case.refused) as refusal:
        physcomp.wrap(case.build(), case.name, samples=calibration, **case.task)
    assert "\n" not in str(refusal.value)


def test_analog_cells_and_drift_are_for_any_network() -> None:
    """A network of several kinds of layers on noisy cells, read later."""
    case = zoo.CASES["transformer"]
    calibration, heldout = samples_of(case)
    network = physcomp.wrap(case.build(), samples=calibration)
    model = physcomp.build_model(
        network, calibration, card="pcm-nandakumar", menu=("analog(2,pair)",), read_time_s=60.0
    )
    chip = physcomp.store(network, physcomp.uniform_plan(model, "analog(2,pair)", shrinkage=0.0), seed=3)
    assert len(chip.cells.levels[0] if chip.cells.levels.ndim > 1 else chip.cells.levels) == 4 * model.weights
    wanted = outputs_of(network, heldout)
    early, late = (
        outputs_of_state(network, chip.read_back(time_s=time, drift="left"), heldout) for time in (60.0, 1e6)
    )
    near = lambda outputs: float((outputs - wanted).norm() / wanted.norm())  # noqa: E731
    assert near(early) < near(late)
    assert np.isfinite(near(late))
