"""Passes of training: a private copy of a network on its device, run in the fastest way in which it works."""

from contextlib import nullcontext

import torch

from physcomp.networks.device import copy_on, inputs_on, running_on
from physcomp.networks.forward import forward, has_views
from physcomp.networks.network import SOME, Network
from physcomp.networks.samples import Inputs, Samples

# The largest relative difference of outputs (Euclidean norm) between two ways of computing the same; our choice. Small
# networks differ by 1e-6 with channels last and by about 0.5 % in bfloat16.
SAME, SAME_BFLOAT16 = 1e-3, 0.05


class Passes:
    """A copy of a network's module in evaluation mode, for passes with and without gradients.

    Images get their channels as the last axis in memory, which makes pooling several times as fast, and matrix
    products are computed in bfloat16. Both are tried on the first samples: each is left out if the module fails with
    it, or its outputs or gradients are not finite, or its outputs are not the same up to rounding. A module that fails
    in bfloat16 later, on other samples, is computed in float32 from then on.

    Args:
        network: the network; it is not changed.
        samples: a few of them are tried.
        bfloat16: whether to try bfloat16.
    """

    def __init__(self, network: Network, samples: Samples, *, bfloat16: bool) -> None:
        self.device = network.device
        self.module = copy_on(network.module, self.device)
        self.output, self.task = network.output, network.task
        self.channels_last = self.bfloat16 = False
        for parameter in self.module.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
        few = samples[:SOME]
        with torch.no_grad():
            usual = self(few.inputs)
        if isinstance(few.inputs, torch.Tensor) and few.inputs.dim() == 4 and not has_views(self.module):
            self._set_channels_last(True)
            if not self._works(few, usual, SAME):
                self._set_channels_last(False)
        if bfloat16:
            self.bfloat16 = True
            self.bfloat16 = self._works(few, usual, SAME_BFLOAT16)

    def __call__(self, inputs: Inputs) -> torch.Tensor:
        """The outputs, float32 (samples, ...), on the device."""
        try:
            return self._outputs(inputs)
        except ValueError:
            if not self.bfloat16:
                raise
            self.bfloat16 = False
            return self._outputs(inputs)

    def _outputs(self, inputs: Inputs) -> torch.Tensor:
        kind = torch.device(self.device).type
        with running_on(self.device), torch.autocast(kind, torch.bfloat16) if self.bfloat16 else nullcontext():
            given = inputs_on(inputs, self.device)
            return forward(self.module, given, self.output, channels_last=self.channels_last).float()

    def loss(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The task's mean loss of outputs, which are on the device."""
        with running_on(self.device):
            return self.task.loss(outputs, labels.to(self.device))

    def divergence(
        self, outputs: torch.Tensor, wanted: torch.Tensor, labels: torch.Tensor, temperature: float
    ) -> torch.Tensor:
        """How far outputs, which are on the device, are from those of a teacher."""
        with running_on(self.device):
            return self.task.divergence(outputs, wanted.to(self.device), labels.to(self.device), temperature)

    def _set_channels_last(self, wanted: bool) -> None:
        self.channels_last = wanted
        layout = torch.channels_last if wanted else torch.contiguous_format
        for parameter in self.module.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=layout)

    def _works(self, few: Samples, usual: torch.Tensor, close: float) -> bool:
        """Whether a pass and its gradients work, with the usual outputs."""
        parameters = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        try:
            with torch.no_grad():  # some modules take another way where no gradients flow
                self._outputs(few.inputs)
            with torch.enable_grad():
                outputs = self._outputs(few.inputs)
                loss = self.loss(outputs, few.labels)
                found = torch.autograd.grad(loss, parameters, allow_unused=True) if loss.requires_grad else ()
        except (ValueError, RuntimeError, NotImplementedError, TypeError):
            return False
        finite = all(bool(torch.isfinite(gradient).all()) for gradient in found if gradient is not None)
        outputs = outputs.detach()
        same = outputs.shape == usual.shape and float((outputs - usual).norm()) <= close * float(usual.norm())
        return finite and same
