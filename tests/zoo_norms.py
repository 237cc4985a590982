"""Cases of the zoo: dense networks, norms of every kind, and parameters that are used without a module."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from zoo_case import images, numbers, vectors


def mlp(*between: nn.Module, width: int = 8) -> nn.Module:
    return nn.Sequential(nn.Linear(6, width), *between, nn.ReLU(), nn.Linear(width, 3))


class LinearNormTrap(nn.Module):
    """A norm of axis 1 after a layer that gives axis 2: both have one size, so that a wrong fold raises nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm, self.out = nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(25, 3)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return self.out(functional.relu(self.norm(self.layer(given))).flatten(1))


class NormTwice(nn.Module):
    """One norm after two layers: it cannot be folded into either alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.norm, self.out = (
            nn.Linear(6, 6),
            nn.Linear(6, 6),
            nn.BatchNorm1d(6),
            nn.Linear(6, 3),
        )

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        inner = functional.relu(self.norm(self.first(given)))
        return self.out(functional.relu(self.norm(self.second(inner))))


class OutputUsedTwice(nn.Module):
    """What a norm takes is used besides: folding the norm would change the other use."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm, self.out = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 3)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        inner = self.layer(given)
        return self.out((functional.relu(self.norm(inner)) + inner).mean((2, 3)))


class RMSNorm(nn.Module):
    """A norm of one's own, whose only parameter has one dimension."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(size) + 0.5)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return self.weight * given * torch.rsqrt(given.square().mean(-1, keepdim=True) + 1e-6)


class ScaledLinear(nn.Linear):
    """Scales its weight in `forward`, as networks with an equalised learning rate do."""

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return functional.linear(given, self.weight * (2 / self.in_features) ** 0.5, self.bias)


class Functional(nn.Module):
    """Weights that are parameters of the network itself."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(8, 6) * 0.4), nn.Parameter(torch.randn(8) * 0.1)
        self.out = nn.ParameterList([torch.randn(3, 8) * 0.4, torch.randn(3) * 0.1])

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return functional.linear(functional.relu(functional.linear(given, self.weight, self.bias)), *self.out)


class Cosine(nn.Module):
    """Compares directions; the temperature is a parameter without axes."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.classes = nn.Linear(6, 8), nn.Parameter(torch.randn(3, 8))
        self.temperature = nn.Parameter(torch.tensor(3.0))

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        inner = functional.normalize(self.inner(given))
        return self.temperature * functional.linear(inner, functional.normalize(self.classes))


class Sign(torch.autograd.Function):
    """The sign, whose gradient is taken to be that of the identity."""

    @staticmethod
    def forward(ctx: Any, given: torch.Tensor) -> torch.Tensor:
        return given.sign()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return gradients[0]


class Binarised(nn.Module):
    """Computes with the signs of its weights: gradients do not say what errors do."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return self.out(torch.tanh(functional.linear(given, Sign.apply(self.inner.weight), self.inner.bias)))


class Einsum(nn.Module):
    """A weight of three dimensions, as of several heads, and a factor for each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.scale = nn.Parameter(torch.randn(2, 6, 4) * 0.4), nn.Parameter(torch.rand(4))
        self.out = nn.Linear(8, 3)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return self.out(torch.tanh(torch.einsum("nf,hfo->nho", given, self.heads) * self.scale).flatten(1))


class TransposedLinear(nn.Module):
    """A dense layer whose weight is (inputs, outputs), as GPT-2's are."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(inputs, outputs) * 0.4), nn.Parameter(torch.zeros(outputs))

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return torch.addmm(self.bias, given, self.weight)


class Bilinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pairs, self.out = nn.Bilinear(3, 3, 5), nn.Linear(5, 3)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return self.out(torch.tanh(self.pairs(given[:, :3], given[:, 3:])))


class Fourier(nn.Module):
    """Complex weights on the frequencies of a signal."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 3, 5, dtype=torch.complex64) * 0.4)
        self.out = nn.Linear(24, 3)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        spectrum = torch.einsum("nif,iof->nof", torch.fft.rfft(given), self.weight)
        return self.out(torch.fft.irfft(spectrum, n=8).flatten(1))


def convolved(norm: nn.Module) -> nn.Module:
    parts = (nn.Conv2d(2, 4, 3), norm, nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU())
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(64, 3))


def instance_norm(**settings: Any) -> nn.Module:
    return convolved(nn.InstanceNorm2d(4, affine=True, **settings))


CASES = (
    vectors("mlp", mlp),
    vectors("mlp-batch-norm", lambda: mlp(nn.BatchNorm1d(8)), "a norm to fold"),
    vectors("linear-norm-trap", LinearNormTrap, "a fold would change the outputs", inputs=numbers(5, 4)),
    vectors("norm-twice", NormTwice, "no layer may take the norm in"),
    images("output-used-twice", OutputUsedTwice, "a fold would change the outputs"),
    images("two-norms", lambda: convolved(nn.Sequential(nn.BatchNorm2d(4), nn.BatchNorm2d(4))), "both can be folded"),
    vectors("norm-first", lambda: nn.Sequential(nn.BatchNorm1d(6), *mlp()), "no layer before it"),
    vectors("layer-norm", lambda: mlp(nn.LayerNorm(8))),
    vectors("rms-norm", lambda: mlp(RMSNorm(8))),
    images("group-norm", lambda: convolved(nn.GroupNorm(2, 4))),
    images("instance-norm", instance_norm, "statistics of each sample"),
    images("instance-norm-statistics", lambda: instance_norm(track_running_stats=True), "statistics kept"),
    images(
        *("batch-statistics", lambda: convolved(nn.BatchNorm2d(4, track_running_stats=False))),
        note="without running statistics a sample's outputs depend on the others of its batch",
    ),
    images("prelu", lambda: convolved(nn.PReLU(4))),
    vectors("scaled-linear", lambda: nn.Sequential(ScaledLinear(6, 8), nn.ReLU(), nn.Linear(8, 3))),
    vectors("functional-linear", Functional, "no layer but the network itself"),
    vectors("einsum", Einsum),
    vectors("cosine", Cosine, "a parameter without axes"),
    vectors("binarised", Binarised, "weights that are rounded in use"),
    vectors("addmm", lambda: nn.Sequential(TransposedLinear(6, 8), nn.GELU(), TransposedLinear(8, 3)), "GPT-2's"),
    vectors("bilinear", Bilinear),
    vectors("complex", Fourier, "complex weights", inputs=numbers(2, 8)),
    vectors("no-bias-single-output-row", lambda: nn.Sequential(nn.Linear(6, 1, bias=False), nn.Linear(1, 3))),
)
