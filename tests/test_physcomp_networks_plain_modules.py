"""Plain modules: wrappers, parametrisations, dtypes, sharing, what is held outside the state, and what is refused."""

import math
import types
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from physcomp.networks.plain_modules import checked_module, plain

X = torch.linspace(-1, 1, 24).reshape(4, 6)


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(6, 5)


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))


def quiet(make: Callable[[], Any]) -> Any:
    """Make a module by what torch calls deprecated: networks of others still do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


def state_of(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def outputs(module: nn.Module, inputs: torch.Tensor = X) -> torch.Tensor:
    with torch.no_grad():
        found = module(inputs)
    return found[0] if isinstance(found, tuple) else found


class Doubled(nn.Module):
    """A parametrisation by two steps without an inverse."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return 2 * weight + 0.1


class LowRank(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.full((5, 2), 0.3)), nn.Parameter(torch.full((2, 6), 0.2))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + self.a @ self.b


def parametrised(*kinds: type[nn.Module]) -> nn.Module:
    module = linear()
    for kind in kinds:
        parametrize.register_parametrization(module, "weight", kind())
    return module


def pruned_twice() -> nn.Module:
    module = prune.random_unstructured(linear(), "weight", 0.3)
    return prune.ln_structured(prune.l1_unstructured(module, "bias", 2), "weight", 1, n=2, dim=0)


def pruned_under_weight_norm() -> nn.Module:
    return prune.random_unstructured(nn.utils.weight_norm(linear()), "weight_v", 0.3)


def trained_once(make: Callable[[], nn.Module]) -> nn.Module:
    """After a backward pass and a step, so that computed weights have a history and are behind their sources."""
    module = make().train()
    module(X).sum().backward()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.sub_(0.01)
    outputs(module.train())
    return module


def normalised_lstm(norm: Callable[..., nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return norm(nn.LSTM(6, 4), "weight_hh_l0")


BAKED: dict[str, Callable[[], nn.Module]] = {
    "weight_norm": lambda: parametrizations.weight_norm(linear()),
    "weight_norm of all": lambda: parametrizations.weight_norm(linear(), dim=None),
    "spectral_norm": lambda: parametrizations.spectral_norm(linear()),
    "orthogonal": lambda: parametrizations.orthogonal(linear()),
    "own": lambda: parametrised(Doubled),
    "own, stacked": lambda: parametrised(Doubled, LowRank),
    "lstm": lambda: normalised_lstm(parametrizations.weight_norm),
    "old weight_norm": lambda: nn.utils.weight_norm(linear()),
    "old weight_norm of all": lambda: nn.utils.weight_norm(linear(), dim=None),
    "old spectral_norm": lambda: nn.utils.spectral_norm(linear()),
    "old lstm": lambda: normalised_lstm(nn.utils.weight_norm),
    "pruned": lambda: prune.random_unstructured(linear(), "weight", 0.5),
    "pruned twice": pruned_twice,
    "pruned under weight_norm": pruned_under_weight_norm,
}


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("case", BAKED)
def test_computed_weights_are_baked_in(case: str, trained: bool) -> None:
    def make() -> nn.Module:
        module = BAKED[case]()
        return trained_once(lambda: module) if trained and "lstm" not in case else module

    module = quiet(make).eval()
    names = {name for name, _ in (nn.LSTM(6, 4) if "lstm" in case else linear()).named_parameters()}
    before, wanted = state_of(module), outputs(module)
    copied = plain(module)
    assert {name for name, _ in copied.named_parameters()} == set(copied.state_dict()) == names
    assert type(copied) in (nn.Linear, nn.LSTM)
    assert torch.allclose(outputs(copied), wanted, atol=1e-6)
    with torch.no_grad():  # the parameter is what computes, and nothing computes it again
        copied.get_parameter("weight_hh_l0" if "lstm" in case else "weight").zero_()
    assert not torch.allclose(outputs(copied), wanted, atol=1e-6)
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert torch.equal(outputs(module), wanted)  # the caller's module still computes its weights


def test_a_weight_norm_in_a_network_leaves_norms_and_dropout_in_evaluation_mode() -> None:
    module = small()
    module[0] = parametrizations.weight_norm(module[0])
    assert module.training
    copied = plain(module)
    assert not any(part.training for part in copied.modules())
    assert all(part.training for part in module.modules())
    assert torch.allclose(outputs(copied), outputs(module.eval()), atol=1e-6)


def test_tied_weights_stay_tied_and_a_parametrisation_of_one_of_them_does_not_reach_the_other() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
            self.b.weight = self.c.weight = self.a.weight
            parametrize.register_parametrization(self.c, "weight", Doubled())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.c(self.b(self.a(x)))

    module = Tied().eval()
    copied = plain(module)
    assert copied.a.weight is copied.b.weight
    assert copied.a.weight is not copied.c.weight
    assert torch.allclose(outputs(copied), outputs(module), atol=1e-6)


def test_weights_that_are_normalised_alike_from_the_same_tensors_are_one_parameter() -> None:
    a, b = parametrizations.weight_norm(linear()), parametrizations.weight_norm(linear())
    for name in ("original0", "original1"):
        setattr(b.parametrizations.weight, name, getattr(a.parametrizations.weight, name))
    copied = plain(nn.ModuleList([a, b]))
    assert copied[0].weight is copied[1].weight
    kept = prune.custom_from_mask(linear(), "weight", torch.ones(5, 6))
    tied = nn.Linear(6, 5)
    tied.weight = kept.weight_orig
    copied = plain(nn.ModuleList([kept, tied]))
    assert copied[0].weight is copied[1].weight


def bare_ddp(module: nn.Module) -> nn.Module:
    """What `DistributedDataParallel` holds, without the processes it wants."""
    wrapper = nn.parallel.DistributedDataParallel.__new__(nn.parallel.DistributedDataParallel)
    nn.Module.__init__(wrapper)
    wrapper.module = module
    return wrapper


WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "DataParallel": nn.DataParallel,
    "DistributedDataParallel": bare_ddp,
    "compiled": lambda module: torch.compile(module, backend="eager"),
    "compiled in DataParallel": lambda module: nn.DataParallel(torch.compile(module, backend="eager")),
    "DataParallel compiled": lambda module: torch.compile(nn.DataParallel(module), backend="eager"),
}


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("case", WRAPPERS)
def test_wrappers_are_taken_away(case: str, nested: bool) -> None:
    module = small().eval()
    wanted = outputs(module)
    wrapped = nn.Sequential(WRAPPERS[case](module), nn.Identity()) if nested else WRAPPERS[case](module)
    copied = plain(wrapped)
    expected = nn.Sequential(module, nn.Identity()) if nested else module
    assert [*copied.state_dict()] == [*expected.state_dict()]
    assert [type(part) for part in copied.modules()] == [type(part) for part in expected.modules()]
    assert torch.equal(outputs(copied), wanted)


def test_a_module_or_forward_compiled_in_place_computes_with_its_own_weights() -> None:
    in_place, patched = linear(), linear()
    in_place.compile(backend="eager")
    patched.forward = torch.compile(patched.forward, backend="eager")
    for module in (in_place, patched):
        copied = plain(module)
        with torch.no_grad():
            copied.weight.zero_()
        assert torch.equal(outputs(copied), copied.bias.detach().expand(4, 5))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_floating_point_becomes_float32_and_integers_stay(dtype: torch.dtype) -> None:
    module = small().to(dtype).eval()
    module.dtype, module.wave = dtype, torch.ones(2, dtype=torch.complex128)
    module.register_buffer("mask", torch.tensor([True, False]))
    copied = plain(module)
    assert {parameter.dtype for parameter in copied.parameters()} == {torch.float32}
    kinds = {name: buffer.dtype for name, buffer in copied.named_buffers()}
    assert kinds["1.running_var"] == torch.float32
    assert (kinds["1.num_batches_tracked"], kinds["mask"], kinds["wave"]) == (torch.int64, torch.bool, torch.complex64)
    assert copied.dtype == torch.float32
    exact = outputs(module.double(), X.double()).float()
    assert torch.allclose(outputs(copied), exact, atol=1e-6)


def test_traced_graphs_and_frozen_parameters_are_kept() -> None:
    module = small().eval()
    module[0].requires_grad_(False)
    copied = plain(torch.fx.symbolic_trace(module))
    assert isinstance(copied, torch.fx.GraphModule)
    assert torch.equal(outputs(copied), outputs(module))
    assert [parameter.requires_grad for parameter in plain(module).parameters()] == [False] * 2 + [True] * 4
    with torch.inference_mode():
        made = small()
        assert torch.equal(plain(made)[0].weight, made[0].weight)
    assert [parameter.requires_grad for parameter in plain(made).parameters()] == [True] * 6


def with_buffer(value: float, name: str = "mask") -> nn.Module:
    module = linear()
    module.register_buffer(name, torch.tensor([0.0, value]))
    return module


def with_weight(value: float) -> nn.Module:
    module = small()
    with torch.no_grad():
        module[4].weight[0, 0] = value
    return module


def with_attribute(value: Any) -> nn.Module:
    module = small()
    module[1].thing = [value]
    return module


def too_large() -> nn.Module:
    module = small().double()
    module[4].weight.data[0, 0] = 1e300
    return module


class Failing(nn.Module):
    fails = False

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        if self.fails:
            raise RuntimeError("no")
        return weight


def failing() -> nn.Module:
    module = nn.Sequential(parametrised(Failing))
    module[0].parametrizations.weight[0].fails = True
    return module


def quantised() -> nn.Module:
    return quiet(lambda: torch.ao.quantization.quantize_dynamic(small().eval(), {nn.Linear}))


def scripted() -> nn.Module:
    return quiet(lambda: torch.jit.script(linear()))


def hooked_wrapper() -> nn.Module:
    wrapper = nn.DataParallel(linear())
    wrapper.register_forward_hook(lambda *_: None)
    return wrapper


class Selfish(nn.Linear):
    def __deepcopy__(self, memo: Any) -> "Selfish":
        return self


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "nothing": (lambda: None, "got a NoneType; pass the trained module"),
    "text": (lambda: "net.pt", "got a str; build the module and load its weights"),
    "path": (lambda: Path("net.pt"), "Path; build the module and load its weights"),
    "class": (lambda: nn.Linear, r"got a class; pass an object of it, Linear\(…\)"),
    "state": (lambda: linear().state_dict(), "got a OrderedDict; build the module, call its load_state_dict"),
    "function": (lambda: small, "got a function; pass the module that it returns"),
    "holder": (lambda: types.SimpleNamespace(module=linear()), r"got a SimpleNamespace; pass its \.module"),
    "exported": (lambda: torch.export.export(linear(), (X,)), r"got a ExportedProgram; pass what its \.module\(\)"),
    "scripted": (scripted, "RecursiveScriptModule; pass the nn.Module that it was made from"),
    "scripted inside": (lambda: nn.Sequential(scripted()), "'0' is a TorchScript module; pass the nn.Module"),
    "quantised": (quantised, r"'0' is quantised \(Linear\); pass the float network"),
    "quantised tensor": (
        lambda: with_attribute(quiet(lambda: torch.quantize_per_tensor(X, 0.1, 0, torch.qint8))),
        r"'1\.thing\.0' is a quantised tensor; pass the float network",
    ),
    "lazy": (lambda: nn.Sequential(nn.LazyLinear(3)), r"'0\.weight' has no shape yet \(a lazy layer\); run the module"),
    "meta": (lambda: nn.Linear(2, 2, device="meta"), "'weight' is on the meta device and has no values; load"),
    "NaN": (lambda: with_weight(math.nan), r"'4\.weight' holds NaN or infinite values; train it again"),
    "infinite": (lambda: with_weight(-math.inf), r"'4\.weight' holds NaN or infinite values; train it again"),
    "too large": (too_large, r"'4\.weight' holds NaN or infinite values"),
    "NaN in a buffer": (lambda: with_buffer(math.nan), "'mask' holds NaN or infinite values"),
    "infinite statistics": (lambda: with_buffer(math.inf, "running_var"), "'running_var' holds NaN or infinite"),
    "a generator": (lambda: with_attribute(n for n in ()), r"'1\.thing\.0' \(generator\) cannot be copied \(.*\); set"),
    "a view": (lambda: with_attribute({}.keys()), r"'1\.thing\.0' \(dict_keys\) cannot be copied"),
    "a parametrisation that fails": (failing, r"parametrised weights of '0' \(ParametrizedLinear\) .* \(no\); remove"),
    "wrapper with hooks": (lambda: nn.Sequential(hooked_wrapper()), r"'0' \(DataParallel\) has hooks; register them"),
    "not copied": (lambda: nn.Sequential(Selfish(6, 5)), r"'0\.weight' stays shared with your module"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_weights_that_can_be_read_is_refused_in_one_line(case: str) -> None:
    make, text = REFUSED[case]
    with pytest.raises(ValueError, match=text) as caught:
        plain(make())
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("network: ")


def test_infinite_values_in_masks_and_float_parts_of_quantised_packages_are_legal() -> None:
    module = with_buffer(-math.inf)
    module.add = torch.ao.nn.quantized.FloatFunctional()
    assert plain(module).mask.tolist() == [0.0, -math.inf]


def test_the_subject_of_a_refusal_can_be_named() -> None:
    with pytest.raises(ValueError, match=r"^net\.py:build: must be a torch\.nn\.Module, got a OrderedDict"):
        checked_module(OrderedDict(), "net.py:build")
