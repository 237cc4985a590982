"""Weights outside of a module that its code reads are refused by name; constants and what it holds are not."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional
from zoo import CASES

from physcomp.networks.outside_weights import check_no_weights_outside
from physcomp.networks.plain_modules import plain

TABLE = torch.ones(6)
LAYER = nn.Linear(6, 6)
LIMIT = 3.0
scale = torch.ones(6)  # only a global of the name of an attribute below


def helper(x: torch.Tensor) -> torch.Tensor:
    return torch.stack([row * TABLE for row in x])


class ReadsGlobal(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.through(x)

    def through(self, x: torch.Tensor) -> torch.Tensor:
        return LAYER(x)


class ReadsByHelper(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return helper(x)


class ReadsByProperty(nn.Module):
    @property
    def table(self) -> torch.Tensor:
        return TABLE

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.table


class Fine(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale, self.inner = nn.Parameter(torch.ones(6)), nn.Linear(6, 6)
        extra = torch.ones(6)
        self.act = lambda x: functional.relu(x) + extra

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.inner(x) * self.scale).clamp(max=LIMIT)

    def example(self) -> torch.Tensor:
        return TABLE  # not called by forward


def around(value: torch.Tensor | nn.Module) -> nn.Module:
    class Inside(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return value(x) if isinstance(value, nn.Module) else x * value

    return Inside()


def hooked() -> nn.Module:
    module = nn.Linear(6, 6)
    module.register_forward_hook(lambda _module, _inputs, output: output * TABLE)
    return module


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "global": (ReadsGlobal, "the forward of ReadsGlobal reads the module 'LAYER' from outside"),
    "by a function": (ReadsByHelper, "the forward of ReadsByHelper reads the tensor 'TABLE' from outside"),
    "by a property": (ReadsByProperty, "the forward of ReadsByProperty reads the tensor 'TABLE'"),
    "around the class": (
        lambda: nn.Sequential(around(torch.ones(6))),
        "the forward of Inside reads the tensor 'value'",
    ),
    "module around the class": (lambda: around(nn.Linear(6, 6)), "the forward of Inside reads the module 'value'"),
    "hook": (hooked, "'_forward_hooks.0' reads the tensor 'TABLE'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_weights_that_are_read_from_outside_are_refused(case: str) -> None:
    make, text = REFUSED[case]
    with pytest.raises(ValueError, match=text) as caught:
        plain(make())
    assert "\n" not in str(caught.value)


def test_constants_attributes_and_held_functions_are_no_weights_outside() -> None:
    check_no_weights_outside(Fine())
    module = around(held := nn.Linear(6, 6))
    module.held = held  # registered too
    check_no_weights_outside(module)


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
def test_no_network_of_the_zoo_reads_weights_from_outside() -> None:
    for case in CASES.values():
        check_no_weights_outside(case.build())
