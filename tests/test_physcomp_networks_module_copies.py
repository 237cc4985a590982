"""Private copies of modules: all that they hold is copied once, and nothing of the copy reaches the original."""

import functools
import threading
import types
import weakref
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from physcomp.networks.module_copies import walk
from physcomp.networks.plain_modules import plain

X = torch.linspace(-1, 1, 24).reshape(4, 6)


def state_of(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def outputs(module: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = module(X)
    return found


def test_parameters_on_one_memory_are_one_if_alike_and_copied_apart_if_they_overlap() -> None:
    memory = torch.arange(12.0)
    module = nn.Module()
    module.a, module.b = nn.Parameter(memory[:6]), nn.Parameter(memory[:6])
    module.c, module.d = nn.Parameter(memory[3:9]), nn.Parameter(memory[:6].reshape(2, 3))
    copied = plain(module)
    assert copied.a is copied.b
    assert len([*copied.parameters()]) == 3
    with torch.no_grad():
        copied.a.zero_()
    assert copied.c.tolist() == [3, 4, 5, 6, 7, 8]
    assert copied.d.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert memory.tolist() == list(range(12))


class Odd(nn.Module):
    """Holds its weights in every way that is not registered, and things that cannot be copied as they are."""

    shift = torch.tensor(0.5)

    def __init__(self) -> None:
        super().__init__()
        self.layers = [nn.Linear(6, 6), nn.Dropout(0.9)]
        self.heads = {"main": nn.Linear(6, 6)}
        self.scale = torch.full((6,), 2.0)
        self.history = (self.layers[0].weight * 3).sum()
        self.gains = [nn.Parameter(torch.full((6,), 0.5)), torch.ones(6)]
        self.register_buffer("table", torch.arange(6.0), persistent=False)
        factor, ones = torch.full((6,), 3.0), torch.ones(6)
        self.act = lambda x, more=ones: functional.relu(x) * factor + more * self.scale
        self.norm = functools.partial(functional.layer_norm, normalized_shape=(6,))
        self.lock, self.reentrant, self.local = threading.Lock(), threading.RLock(), threading.local()
        self.local.count = 3
        self.generator = torch.Generator().manual_seed(3)
        self.inner = nn.Linear(6, 6)
        self.inner.parent = weakref.ref(self)
        self.inner.__dict__["upward"] = self
        self.handle = self.inner.register_forward_hook(self.hook)
        self.calls: list[int] = []
        self.inner.register_forward_hook(lambda *_: self.calls.append(1))

    def hook(self, _module: nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        return output + self.scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with self.lock, self.reentrant:
            x = self.heads["main"](self.layers[1](self.layers[0](x))) * self.gains[0] + self.gains[1]
        return self.act(self.norm(self.inner(x))) + self.shift + self.history + self.table


def odd() -> Odd:
    torch.manual_seed(0)
    module = Odd().eval()
    module.layers[1].eval()
    return module


HELD = ("layers_0.weight", "heads_main.bias", "scale", "history", "gains_0", "gains_1", "act_factor", "shift_")


def test_all_that_a_module_holds_becomes_its_state() -> None:
    module = odd()
    wanted = outputs(module)
    copied = plain(module)
    state = copied.state_dict()
    assert set(HELD) <= set(state), sorted(state)
    assert "table" in dict(copied.named_buffers())
    assert "table" not in state
    assert isinstance(copied.gains_0, nn.Parameter)
    assert torch.equal(outputs(copied), wanted)
    assert len(set(map(id, copied.buffers()))) == len([*copied.buffers()])


@pytest.mark.parametrize("name", HELD)
def test_state_that_is_loaded_is_what_computes(name: str) -> None:
    copied = plain(odd())
    wanted = outputs(copied)
    copied.load_state_dict({name: copied.state_dict()[name] + 0.5}, strict=False)
    assert not torch.allclose(outputs(copied), wanted, atol=1e-3)


def test_nothing_of_the_copy_reaches_the_callers_module() -> None:
    module = odd()
    module.inner.train()
    before, wanted, random = state_of(module), outputs(module), torch.get_rng_state()
    mode = [part.training for part in module.modules()]
    calls, drawn = len(module.calls), module.generator.get_state()
    copied = plain(module)
    assert torch.equal(torch.get_rng_state(), random)
    with torch.no_grad():
        for tensor in (*copied.parameters(), *copied.buffers()):
            tensor.zero_()
    outputs(copied)
    torch.rand(3, generator=copied.generator)
    copied.handle.remove()
    assert copied.local.count == 3
    assert copied.inner.parent() is copied
    assert copied.inner.upward is copied
    assert len(module.calls) == calls
    assert len(copied.calls) == calls + 1
    assert torch.equal(module.generator.get_state(), drawn)
    assert [part.training for part in module.modules()] == mode
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert torch.equal(outputs(module), wanted)


def test_a_forward_that_was_put_in_place_of_the_old_one_uses_the_copy() -> None:
    module, extra = nn.Linear(6, 5), nn.Linear(5, 5)
    old = module.forward
    module.forward = types.MethodType(lambda self, x: extra(old(x)), module)
    copied = plain(module)
    assert torch.equal(outputs(copied), outputs(module))
    with torch.no_grad():
        copied.weight.zero_()
    assert torch.equal(outputs(copied)[0], outputs(copied)[1])
    assert not torch.equal(outputs(module)[0], outputs(module)[1])


def test_everything_held_is_found_once_by_its_name() -> None:
    module = odd()
    found = [held.name for held in walk(module) if isinstance(held.value, torch.Tensor)]
    assert set(found) >= {"inner.weight", "layers.0.weight", "heads.main.bias", "gains.1", "act.factor", "table"}
    assert len(found) == len(set(found))


def test_functions_that_share_a_variable_share_it_in_the_copy_too() -> None:
    module = nn.Linear(6, 5)

    def shared() -> None:
        count = 0

        def step(*_: Any) -> None:
            nonlocal count
            count += 1

        def read() -> int:
            return count if count else read_again()

        def read_again() -> int:
            return -1 if unset is None else count

        unset = None
        module.read = read
        module.register_forward_hook(step)

    shared()
    copied = plain(module)
    assert copied.read() == -1
    outputs(copied)
    outputs(copied)
    assert (copied.read(), module.read()) == (2, -1)
