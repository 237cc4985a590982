"""Residual networks for images of 32 x 32 pixels (He, Zhang, Ren and Sun, CVPR 2016, arXiv 1512.03385)."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from simulations.networks.images import CIFAR10, standardise


class Block(nn.Module):
    """Two convolutions of 3 x 3 with norms, added to their input.

    Args:
        inside: channels of the input.
        out: channels of the output.
        stride: of the first convolution.
        projected: whether an input of another shape passes a convolution of 1 x 1 with a norm (option B of the paper);
            otherwise it is subsampled, and channels of zeros are added on both sides (option A, no weights).
    """

    def __init__(self, inside: int, out: int, stride: int, *, projected: bool) -> None:
        super().__init__()
        self.first, self.first_norm = nn.Conv2d(inside, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.second, self.second_norm = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        self.stride, self.more = stride, out - inside
        self.shortcut: nn.Module | None = None
        if projected and (stride != 1 or self.more):
            self.shortcut = nn.Sequential(nn.Conv2d(inside, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (N, inside, H, W) → (N, out, H / stride, W / stride)."""
        found = functional.relu(self.first_norm(self.first(images)))
        found = self.second_norm(self.second(found))
        if self.shortcut is not None:
            images = self.shortcut(images)
        elif self.stride != 1 or self.more:
            half = self.more // 2
            images = functional.pad(images[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, self.more - half))
        return functional.relu(found + images)


class ResNet(nn.Module):
    """A residual network: a convolution of 3 x 3, stages of blocks, the mean over the image, and a linear layer.

    Args:
        channels: of each stage; each but the first halves height and width.
        blocks: in each stage.
        classes: of the output.
        projected: see `Block`.
    """

    def __init__(self, channels: Sequence[int], blocks: int, classes: int, *, projected: bool) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, channels[0], 3, 1, 1, bias=False), nn.BatchNorm2d(channels[0])
        inside, stages = channels[0], []
        for stage, out in enumerate(channels):
            for number in range(blocks):
                stride = 2 if stage and not number else 1
                stages.append(Block(inside, out, stride, projected=projected))
                inside = out
        self.blocks = nn.Sequential(*stages)
        self.last = nn.Linear(inside, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (N, 3, H, W) with pixels in [0, 1] → logits (N, classes)."""
        found = functional.relu(self.norm(self.first(standardise(images, CIFAR10))))
        logits: torch.Tensor = self.last(self.blocks(found).mean((2, 3)))
        return logits


def resnet20(classes: int = 10) -> nn.Module:
    """ResNet-20 of section 4.2: 16, 32 and 64 channels, three blocks each, shortcuts of option A; 0.27 M parameters."""
    return ResNet((16, 32, 64), 3, classes, projected=False)


def resnet18(classes: int = 10) -> nn.Module:
    """ResNet-18 of table 1 with shortcuts of option B, and for the stem the convolution of 3 x 3 of section 4.2.

    This form for 32 x 32 pixels is usual, though not in the paper; 11.2 M parameters.
    """
    return ResNet((64, 128, 256, 512), 2, classes, projected=True)
