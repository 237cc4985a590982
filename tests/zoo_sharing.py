"""Cases of the zoo: parameters that are shared, and layers that are called twice, sometimes or never."""

import torch
from torch import nn
from torch.nn import functional
from zoo_case import Case, in_order, numbers, vectors


class SharedParameter(nn.Module):
    """Two layers with one weight and a bias each."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.out = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.second.weight = self.first.weight

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return self.out(torch.tanh(self.second(torch.tanh(self.first(given)))))


class Alias(nn.Module):
    """One layer under two names, called by both."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.again, self.out = self.first, nn.Linear(6, 3)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return self.out(torch.tanh(self.again(torch.tanh(self.first(given)))))


class TransposedTie(nn.Module):
    """Decodes with the transposed weight of the encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Linear(6, 4)
        self.bias = nn.Parameter(torch.zeros(6))

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return functional.linear(torch.tanh(self.encode(given)), self.encode.weight.t(), self.bias)


class Siamese(nn.Module):
    """One trunk for both inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.out = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5)), nn.Linear(5, 3)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return self.out((self.trunk(left) - self.trunk(right)).abs())


class Pyramid(nn.Module):
    """One convolution on two sizes of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.out = nn.Conv2d(2, 4, 3), nn.Linear(8, 3)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        sizes = (given, functional.avg_pool2d(given, 2))
        return self.out(torch.cat([functional.relu(self.head(size)).mean((2, 3)) for size in sizes], 1))


class Routing(nn.Module):
    """Sends each sample to one of two experts."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        goes_left = given[:, 0] > 0
        outputs = given.new_zeros(len(given), 3)
        outputs[goes_left] = self.left(given[goes_left])
        outputs[~goes_left] = self.right(given[~goes_left])
        return outputs


class Experts(nn.Module):
    """A learned gate sends each step of each sample to one of three experts."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.experts = nn.Linear(4, 3), nn.ModuleList([nn.Linear(4, 5) for _ in range(3)])
        self.out = nn.Linear(5, 3)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        steps = given.flatten(0, 1)
        share, chosen = self.gate(steps).softmax(1).max(1)
        outputs = given.new_zeros(len(steps), 5)
        for number, expert in enumerate(self.experts):
            mine = chosen == number
            outputs[mine] = torch.tanh(expert(steps[mine])) * share[mine, None]
        return self.out(outputs.view(*given.shape[:2], 5).mean(1))


class Branch(nn.Module):
    """Calls a layer only where a sample of the batch asks for it, which torch.fx cannot trace."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.more, self.out = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        inner = torch.tanh(self.inner(given))
        large = inner.mean(1, keepdim=True) > 0.1
        if bool(large.any()):
            inner = torch.where(large, torch.tanh(self.more(inner)), inner)
        return self.out(inner)


class OneByOne(nn.Module):
    """Calls its layers for each sample alone."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return torch.stack([self.out(torch.tanh(self.inner(sample))) for sample in given])


class NeverCalled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.spare, self.table = nn.Linear(6, 3), nn.Linear(6, 5), nn.Parameter(torch.randn(2, 4))

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return self.used(given)


class NoGradients(nn.Module):
    """A frozen part that runs without gradients, but shapes the outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen, self.out = nn.Sequential(nn.Linear(6, 8), nn.ReLU()), nn.Linear(8, 3)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            inner = self.frozen(given)
        return self.out(inner)


class Detached(nn.Module):
    """A branch that gradients do not flow back through, but that shapes the outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.inner, self.out = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return self.out(functional.relu(self.inner(given)) * torch.sigmoid(self.gate(given)).detach())


class Cancelled(nn.Module):
    """A layer that is called, but whose outputs are not used."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = nn.Linear(6, 8), nn.Linear(6, 3)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        self.inner(given)
        return self.out(given)


def dead() -> nn.Module:
    """A channel that is never above 0, a filter of zeros, a constant filter, and a layer of zeros."""
    first, second = nn.Conv2d(2, 5, 3), nn.Conv2d(5, 4, 3)
    with torch.no_grad():
        first.bias[0] = -100
        first.weight[1], first.bias[1] = 0, 0
        first.weight[2], first.bias[2] = 0, 1
        second.weight[3] = 0.25
    out = nn.Linear(4, 3)
    inner = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), *inner, out)


def all_dead() -> nn.Module:
    """A first layer of zeros: the outputs do not depend on the inputs."""
    first, second = nn.Linear(6, 8), nn.Linear(8, 3)
    nn.init.zeros_(first.weight)
    return nn.Sequential(first, nn.ReLU(), second)


IMAGES = {"inputs": numbers(2, 8, 8)}
SPARE = ("spare.weight", "spare.bias", "table")
CASES: tuple[Case, ...] = (
    vectors("shared-parameter", SharedParameter, "one weight under two names"),
    vectors("alias", Alias, "one layer under two names"),
    vectors(
        *("transposed-tie", TransposedTie, "one weight used by a layer and by a function"),
        task={"task": "regression"},
        labels=numbers(6),
    ),
    vectors("siamese", Siamese, "a trunk that is called twice", inputs=in_order(numbers(6), numbers(6, seed=5))),
    vectors("pyramid", Pyramid, "a layer that is called with two sizes", **IMAGES),
    vectors("routing", Routing, "a layer sees only some of the samples"),
    vectors("experts", Experts, "errors of the gate change what the experts see", inputs=numbers(6, 4)),
    vectors("branch", Branch, "a layer is called for some batches; torch.fx cannot trace it"),
    vectors("one-by-one", OneByOne, "layers see no axis of samples"),
    vectors("never-called", NeverCalled, "parameters without use", unused=SPARE),
    vectors("no-gradients", NoGradients, "a layer is called without gradients"),
    vectors("detached", Detached, "gradients miss a layer that shapes the outputs"),
    vectors("output-not-used", Cancelled, "a layer is called for nothing", unused=("inner.weight", "inner.bias")),
    vectors("dead-channels", dead, "channels with constant outputs, filters of zeros", **IMAGES),
    vectors("dead-layer", all_dead, "a layer of zeros: the outputs do not depend on the inputs"),
)
