"""Plain modules that are checked by a run: caches are told from state, and outputs that change are refused."""

import functools
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn

from physcomp.networks.plain_modules import plain

X = torch.linspace(-1, 1, 24).reshape(4, 6)


def run(module: nn.Module) -> torch.Tensor:
    found: torch.Tensor = module(X)
    return found


class Keeps(nn.Module):
    """Keeps what it computed, as attribute and in a dict, beside tensors that are state."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.scale = nn.Linear(6, 6), torch.full((6,), 2.0)
        self.seen: dict[str, torch.Tensor] = {}
        self.shifts = [torch.ones(6)]
        self.loss: object = torch.zeros(())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.loss = 0
        self.last = self.inner(x) * self.scale
        self.seen["last"] = self.last + self.shifts[0]
        return self.seen["last"]


def test_what_a_run_replaces_is_no_state() -> None:
    module = Keeps().eval()
    wanted = run(module).detach()
    module.loss = torch.zeros(())
    assert {"last", "seen_last", "loss"} <= set(plain(module).state_dict())  # nothing tells them from state
    copied = plain(module, run)
    assert set(copied.state_dict()) == {"inner.weight", "inner.bias", "scale", "shifts_0"}
    assert torch.equal(run(copied), wanted)
    assert copied(X[:2]).shape == (2, 6)


class CallsItsChildren(nn.Module):
    """Would call a submodule more if one were registered."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.others = nn.Linear(6, 6), [nn.Linear(6, 6)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for child in self.children():
            x = child(x)
        return self.others[0](x)


def hooked(container: nn.Module) -> nn.Module:
    other = nn.Linear(6, 6)
    container.register_forward_hook(lambda _module, _inputs, output: other(output))
    return container


class Cached(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((6,), 3.0))
        self.scale = functools.lru_cache(self.compute)

    def compute(self, power: int) -> torch.Tensor:
        return self.weight**power

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale(2)


class Sparse(nn.Module):
    def __init__(self, layout: torch.layout) -> None:
        super().__init__()
        self.register_buffer("edges", torch.eye(4, dtype=torch.float64).to_sparse(layout=layout))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sparse.mm(self.edges.to(x.dtype), x)


ACCEPTED: dict[str, Callable[[], nn.Module]] = {
    "hook on a plain module": lambda: hooked(nn.Linear(6, 6)),
    "cached function": Cached,
    "sparse": lambda: Sparse(torch.sparse_coo),
    "sparse rows": lambda: Sparse(torch.sparse_csr),
    "exported": lambda: torch.export.export(nn.Linear(6, 3), (X,)).module(),
    "trained for quantisation": lambda: quantisation_aware(),
    "random": lambda: nn.Sequential(nn.Linear(6, 6), Noise()),
    "functions of others": lambda: Functions(),
}


def quantisation_aware() -> nn.Module:
    with warnings.catch_warnings(action="ignore"):  # that it is deprecated
        module = nn.Sequential(torch.ao.quantization.QuantStub(), nn.Linear(6, 6), torch.ao.quantization.DeQuantStub())
        module.qconfig = torch.ao.quantization.get_default_qat_qconfig("x86")
        prepared = torch.ao.quantization.prepare_qat(module)
        prepared(X)
        return prepared.eval()


class Noise(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.randn_like(x)


class Functions(nn.Module):
    """Holds what cannot be copied and need not be."""

    def __init__(self) -> None:
        super().__init__()
        self.torch, self.limits, self.act = torch, torch.finfo(torch.float32), torch.nn.functional.relu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.torch.maximum(self.act(x), torch.tensor(self.limits.eps))


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize("case", ACCEPTED)
def test_outputs_stay_and_nothing_is_shared(case: str) -> None:
    module = ACCEPTED[case]()
    copied = plain(module, run)
    with torch.no_grad(), torch.random.fork_rng(devices=()):
        torch.manual_seed(1)
        wanted = run(module)
        torch.manual_seed(1)
        assert torch.allclose(run(copied), wanted, atol=1e-6)
        for tensor in (*copied.parameters(), *copied.buffers()):
            (tensor if tensor.layout == torch.strided else tensor.values()).zero_()
        torch.manual_seed(1)
        assert torch.equal(run(module), wanted) or case == "cached function"
    assert case != "sparse" or {tensor.dtype for tensor in copied.buffers()} == {torch.float32}


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "children": (CallsItsChildren, r"its outputs change \(by [\d.]+\) when its weights are made plain"),
    "hook on a sequence": (
        lambda: nn.Sequential(hooked(nn.Sequential(nn.Linear(6, 6)))),
        r"the module '0\._forward_hooks\.0\.other' is not registered, and '0' would call it",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_copy_that_would_compute_something_else_is_refused(case: str) -> None:
    make, text = REFUSED[case]
    with pytest.raises(ValueError, match=text) as caught:
        plain(make(), run)
    assert "\n" not in str(caught.value)


def test_what_hooks_hold_has_the_same_name_in_every_process() -> None:
    names = [list(plain(hooked(nn.Linear(6, 6)), run).state_dict()) for _ in range(2)]
    assert names[0] == names[1] == ["weight", "bias", "_forward_hooks_0_other.weight", "_forward_hooks_0_other.bias"]


def test_a_module_that_fails_in_eval_is_named() -> None:
    class Stubborn(nn.Linear):
        def train(self, mode: bool = True) -> "Stubborn":
            raise RuntimeError("never")

    with pytest.raises(ValueError, match=r"network: '0' fails in eval\(\) \(never\); correct it"):
        plain(nn.ModuleList([Stubborn(2, 2)]))
    with pytest.raises(ValueError, match="network: the module itself fails in eval"):
        plain(Stubborn(2, 2))
