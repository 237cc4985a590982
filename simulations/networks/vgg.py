"""Small VGG networks for images of 32 x 32 pixels."""

import torch
from torch import nn

from simulations.networks.images import CIFAR10, standardise


class VGG(nn.Module):
    """Convolutions of 3 x 3 with norms, pooling by the maximum after every second, and a linear layer.

    Args:
        width: channels of the first two convolutions; the next two have twice as many, and so on.
        classes: of the output.
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inside = 3
        for out in (width, 2 * width, 4 * width):
            for _ in range(2):
                layers += [nn.Conv2d(inside, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
                inside = out
            layers.append(nn.MaxPool2d(2))
        self.layers = nn.Sequential(*layers)
        self.last = nn.Linear(16 * inside, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (N, 3, 32, 32) with pixels in [0, 1] → logits (N, classes)."""
        logits: torch.Tensor = self.last(self.layers(standardise(images, CIFAR10)).flatten(1))
        return logits


def vgg_small(width: int = 64, classes: int = 10) -> nn.Module:
    """VGG-Small of the compression literature, by default half as wide.

    With width 128 it is the network of Zhang et al. (LQ-Nets, ECCV 2018, arXiv 1807.10029) and 4.7 M parameters: VGG-7
    of Li et al. (Ternary weight networks, arXiv 1605.04711) without its hidden linear layer. 1.2 M with width 64.
    """
    return VGG(width, classes)
