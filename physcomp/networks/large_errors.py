"""Compares what large errors of a layer do to the outputs with what its gradients say of them.

Gradients say what small errors cost. Two kinds of weights are cheap by them and dear in truth: those that decide by
comparison, such as the gate of a mixture of experts, whose errors switch outputs over; and those that the network
divides by their own size, which may be scaled at no cost but not taken away.
"""

import copy

import torch

from physcomp.networks.forward import forward
from physcomp.networks.layers import Layer
from physcomp.networks.network import Network
from physcomp.networks.samples import Inputs

# All of these are our choice.
USUAL = 0.5  # size of the random errors, over that of the weights: about that of two bits
STEP = 1e-3  # the part of an error by which its gradient is taken
DRAWS = 3
FACTOR = 10.0  # how many times more than its gradient says an error does, so that the gradient is not believed
NOTICED = 0.05  # the least change of outputs that counts, over their size


class LargeErrors:
    """A copy of a network whose weights get large errors, on some inputs."""

    @torch.no_grad()
    def __init__(self, network: Network, inputs: Inputs) -> None:
        self.module, self.inputs, self.output = copy.deepcopy(network.module), inputs, network.output
        self.clean = self._outputs()

    def _outputs(self) -> torch.Tensor:
        return forward(self.module, self.inputs, self.output)

    def of_random(self, layer: Layer) -> bool:
        """Whether random errors do far more than the gradients say, in one of `DRAWS` draws.

        A small step may switch outputs over too, and then its difference says more than any gradient.
        """
        weight = self.module.get_parameter(layer.weight).detach()
        size, generator = USUAL * weight.square().mean().sqrt(), torch.Generator().manual_seed(0)
        draws = (size * torch.randn(weight.shape, generator=generator) for _ in range(DRAWS))
        return any(self._far_more(layer, error) for error in draws)

    def of_all(self, layer: Layer) -> bool:
        """Whether taking all weights away does far more than the gradients say."""
        return self._far_more(layer, -self.module.get_parameter(layer.weight).detach())

    @torch.no_grad()
    def _far_more(self, layer: Layer, error: torch.Tensor) -> bool:
        weight = self.module.get_parameter(layer.weight)
        kept = weight.clone()

        def moved(share: float) -> torch.Tensor:
            weight.copy_(kept + share * error)
            return self._outputs()

        found = float((moved(1.0) - self.clean).norm())
        far = found > NOTICED * float(self.clean.norm())
        if far:  # only then is it worth two more passes to know what the gradients say
            far = found > FACTOR * float((moved(STEP) - moved(-STEP)).norm()) / (2 * STEP)
        weight.copy_(kept)
        return far
