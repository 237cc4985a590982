"""Cases of the zoo: convolutions of every kind, and the blocks of usual networks of images."""

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from zoo_case import Case, images, numbers, seeded, whole


def pooled(*parts: nn.Module, channels: int, dimensions: int = 2) -> nn.Sequential:
    """Parts, then the mean of each channel, then three classes."""
    pool = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)[dimensions - 1]
    return nn.Sequential(*parts, pool(1), nn.Flatten(), nn.Linear(channels, 3))


def lenet() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(4, 8, 3), nn.Tanh(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(32, 20), nn.Tanh(), nn.Linear(20, 10)),
    )


def stack_1d() -> nn.Module:
    first, second = nn.Conv1d(2, 6, 5, stride=2), nn.Conv1d(6, 6, 3, padding=2, dilation=2, groups=3)
    return pooled(first, nn.BatchNorm1d(6), nn.ReLU(), second, nn.GELU(), channels=6, dimensions=1)


def stack_3d() -> nn.Module:
    first, second = nn.Conv3d(1, 4, (1, 3, 2), padding=(0, 1, 1)), nn.Conv3d(4, 4, 2, stride=2, groups=2)
    return pooled(first, nn.BatchNorm3d(4), nn.ReLU(), second, nn.ReLU(), channels=4, dimensions=3)


def padded(**settings: Any) -> nn.Module:
    return pooled(nn.Conv2d(2, 4, **settings), nn.ReLU(), nn.Conv2d(4, 4, **settings), nn.ReLU(), channels=4)


def transposed_1d() -> nn.Module:
    up = nn.ConvTranspose1d(6, 4, 3, stride=2, padding=1, output_padding=1, groups=2)
    return nn.Sequential(nn.Conv1d(2, 6, 3), nn.ReLU(), up, nn.ReLU(), nn.Flatten(), nn.Linear(96, 3))


def transposed_2d() -> nn.Module:
    up = nn.ConvTranspose2d(4, 6, (3, 2), stride=2, output_padding=(1, 0), groups=2, dilation=(1, 2), bias=False)
    return pooled(nn.Conv2d(2, 4, 3), nn.ReLU(), up, nn.BatchNorm2d(6), nn.ReLU(), channels=6)


def autoencoder() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.ConvTranspose2d(4, 4, 2, stride=2), nn.ReLU(), nn.ConvTranspose2d(4, 2, 2, stride=2)),
    )


class Viewing(nn.Module):
    """Flattens by `view`, which takes only some orders in memory; its first layer has a single filter."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.out = nn.Conv2d(2, 1, 1), nn.Conv2d(1, 4, 3), nn.Linear(144, 3)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return self.out(functional.relu(self.second(self.first(given))).view(len(given), -1))


class UNet(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.down, self.deep = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 8, 3, padding=1)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.norm, self.out = nn.BatchNorm2d(8), nn.Conv2d(8, classes, 1)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        fine = functional.relu(self.down(given))
        coarse = functional.relu(self.up(functional.relu(self.deep(functional.max_pool2d(fine, 2)))))
        return self.out(self.norm(torch.cat([fine, coarse], 1)))


def pixels_with_some_ignored(count: int) -> torch.Tensor:
    labels = whole(3, 8, 8)(count)
    labels[:, :2, 3:] = -100  # what torch's cross-entropy ignores
    return labels


class Residual(nn.Module):
    def __init__(self, channels: int, wide: int) -> None:
        super().__init__()
        self.first, self.norm1 = nn.Conv2d(channels, wide, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(wide)
        self.second, self.norm2 = nn.Conv2d(wide, wide, 3, padding=1, bias=False), nn.BatchNorm2d(wide)
        self.shortcut = nn.Sequential(nn.Conv2d(channels, wide, 1, stride=2, bias=False), nn.BatchNorm2d(wide))

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        inner = self.norm2(self.second(functional.relu(self.norm1(self.first(given)))))
        inner += self.shortcut(given)
        return functional.relu(inner)


class ConvSamePadding(nn.Conv2d):
    """Pads in `forward` by the size of its input, as the convolutions of EfficientNet do."""

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        sizes = zip(given.shape[2:], self.kernel_size, self.stride, self.dilation, strict=True)
        more = [max((math.ceil(n / s) - 1) * s + (k - 1) * d + 1 - n, 0) for n, k, s, d in sizes]
        sides = [more[1] // 2, more[1] - more[1] // 2, more[0] // 2, more[0] - more[0] // 2]
        padded = functional.pad(given, sides)
        return functional.conv2d(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class ConvStandardised(nn.Conv2d):
    """Standardises its weight in `forward`, as Big Transfer's networks do."""

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        sd = self.weight.std((1, 2, 3), keepdim=True)
        return functional.conv2d(given, (self.weight - mean) / (sd + 1e-5), self.bias, self.stride, self.padding)


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, 2, 1), nn.Conv2d(2, channels, 1)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return given * torch.sigmoid(self.up(functional.silu(self.down(given.mean((2, 3), keepdim=True)))))


class MobileBlock(nn.Module):
    def __init__(self, channels: int, wide: int) -> None:
        super().__init__()
        depthwise = nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False)
        self.inner = nn.Sequential(
            *(nn.Conv2d(channels, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6(inplace=True)),
            *(depthwise, nn.BatchNorm2d(wide), nn.ReLU6(inplace=True)),
            *(nn.Conv2d(wide, channels, 1, bias=False), nn.BatchNorm2d(channels)),
        )

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return given + self.inner(given)


class Shuffle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 6, 1, groups=2), nn.Conv2d(6, 6, 3, groups=3)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        inner = functional.relu(self.first(given))
        count, channels, height, width = inner.shape
        mixed = inner.view(count, 2, channels // 2, height, width).transpose(1, 2)
        return functional.relu(self.second(mixed.reshape(count, channels, height, width)))


REGRESSION = {"task": "regression"}
SEQUENCE_1D = {"inputs": numbers(2, 14)}
CASES = (
    Case("lenet", seeded(lenet), numbers(1, 12, 12), whole(10)),
    images("conv1d", stack_1d, "dilated and grouped, a batch norm to fold", **SEQUENCE_1D),
    images("conv3d", stack_3d, "kernels and padding differ by axis", inputs=numbers(1, 3, 5, 5)),
    images("grouped-conv", lambda: padded(kernel_size=3, groups=2)),
    images(
        "depthwise-conv", lambda: pooled(nn.Conv2d(2, 6, 3, groups=2), nn.ReLU(), channels=6), "two filters a group"
    ),
    images("dilated-conv", lambda: padded(kernel_size=3, dilation=2, padding=2)),
    images("strided-conv", lambda: padded(kernel_size=(3, 1), stride=(1, 2), padding=(1, 0)), "axes differ"),
    images("padding-reflect", lambda: padded(kernel_size=3, padding=1, padding_mode="reflect")),
    images("padding-circular", lambda: padded(kernel_size=(3, 5), padding=(1, 2), padding_mode="circular")),
    images("padding-replicate", lambda: padded(kernel_size=3, padding=2, padding_mode="replicate")),
    images("same-odd-kernel", lambda: padded(kernel_size=3, padding="same", dilation=2)),
    images("same-even-kernel", lambda: padded(kernel_size=(4, 2), padding="same"), "one side is padded more"),
    images("same-even-reflect", lambda: padded(kernel_size=2, padding="same", padding_mode="reflect")),
    images("padding-valid", lambda: padded(kernel_size=2, padding="valid", bias=False)),
    images("transposed-conv1d", transposed_1d, "groups and output padding", **SEQUENCE_1D),
    images("transposed-conv2d", transposed_2d, "rows of its weight are inputs, not filters; a batch norm to fold"),
    images("view-in-forward", Viewing, "asks for an order in memory; one filter"),
    images("autoencoder", autoencoder, labels=numbers(2, 8, 8), task=REGRESSION),
    images("u-net", lambda: UNet(3), "a label a pixel, some ignored", labels=pixels_with_some_ignored),
    images(
        *("u-net-one-logit", lambda: UNet(1), "a logit a pixel"),
        labels=lambda count: whole(2, 1, 8, 8)(count).float(),
        task={"task": "binary"},
    ),
    images("residual", lambda: pooled(Residual(2, 4), Residual(4, 4), channels=4), "adds in place after a norm"),
    images("conv-pads-in-forward", lambda: pooled(ConvSamePadding(2, 4, 3, stride=2), nn.ReLU(), channels=4)),
    images(
        "conv-standardised", lambda: pooled(ConvStandardised(2, 4, 3), nn.ReLU(), channels=4), "weight changed in use"
    ),
    images("squeeze-excite", lambda: pooled(nn.Conv2d(2, 6, 3), SqueezeExcite(6), channels=6)),
    images("mobile-block", lambda: pooled(nn.Conv2d(2, 4, 3), MobileBlock(4, 8), channels=4), "depthwise, in place"),
    images("channel-shuffle", lambda: pooled(Shuffle(), channels=6)),
)
