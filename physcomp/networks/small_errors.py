"""Compares what small errors of layers do to the outputs with what their gradients say of them."""

import copy
import math
from collections.abc import Iterator

import torch

from physcomp.networks.calls import Watched
from physcomp.networks.forward import forward
from physcomp.networks.layers import Layer, rows_of, tensor_of
from physcomp.networks.network import Network
from physcomp.networks.samples import Inputs, changed

# Relative size of the errors by which gradients are checked against differences of outputs, and the largest difference
# over the size that gradients say. In float32 errors must be larger, and the outputs are then less linear in them.
STEP, TRUE = 1e-5, 0.05
STEP_FLOAT32, TRUE_FLOAT32 = 1e-2, 0.3
LARGE = 3.0  # relative size of errors that must change nothing where gradients are zero
SAME = 2e-3  # the largest relative change of outputs that counts as none


def untrue(network: Network, layers: list[Layer], inputs: Inputs) -> Iterator[Layer]:
    """Layers whose errors change the outputs otherwise than their gradients say.

    Small errors are compared with the gradients; where these are zero, taking the weights away must change nothing.
    """
    if not layers:
        return
    checked = _Differences(network, layers, inputs)
    flat = [number for number in range(len(layers)) if checked.matters_in_spite(number)]
    yield from (layers[number] for number in flat)
    left = [[number for number in range(len(layers)) if number not in flat]]
    while left:
        part = left.pop()
        if not part or checked.agree(part):
            continue
        if len(part) == 1:
            yield layers[part[0]]
        else:
            left += [part[: len(part) // 2], part[len(part) // 2 :]]


def _used(weight: torch.Tensor, transposed: int) -> torch.Tensor:
    """Ones, but zeros for filters of zeros: a pruned filter may sit where a ReLU bends, and stays as it is."""
    rows = rows_of(weight, transposed)
    return tensor_of(rows.any(1, keepdim=True).expand_as(rows).to(weight.dtype), tuple(weight.shape), transposed)


class _Differences:
    """Compares differences of outputs, by small random errors of some layers, with what gradients say of them."""

    def __init__(self, network: Network, layers: list[Layer], inputs: Inputs) -> None:
        self.output, self.double = network.output, True
        self.weights: list[torch.Tensor] = []
        self.module = copy.deepcopy(network.module).double()
        self.inputs = changed(inputs, lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)
        try:
            with torch.no_grad():
                self._outputs()
        except ValueError:  # it asks for float32 somewhere
            self.module, self.inputs, self.double = copy.deepcopy(network.module), inputs, False
        self.step = STEP if self.double else STEP_FLOAT32
        generator = torch.Generator().manual_seed(0)
        self.weights = [self.module.get_parameter(layer.weight).requires_grad_() for layer in layers]
        self.errors = [
            self.step
            * weight.detach().square().mean().sqrt().clamp(min=1e-6)
            * torch.randn(weight.shape, generator=generator).to(weight.dtype)
            * _used(weight.detach(), layer.transposed)
            for weight, layer in zip(self.weights, layers, strict=True)
        ]
        with torch.enable_grad():
            outputs = self._outputs()
        self.direction = torch.randn(outputs.shape, generator=generator).to(outputs.dtype)
        gradients = (
            torch.autograd.grad(outputs, self.weights, self.direction, allow_unused=True, materialize_grads=True)
            if outputs.requires_grad
            else [torch.zeros_like(weight) for weight in self.weights]
        )
        self.said = [float((g * e).sum()) for g, e in zip(gradients, self.errors, strict=True)]
        self.flat = [not bool(gradient.any()) for gradient in gradients]
        self.outputs = outputs.detach()
        self.rounding = (1e-12 if self.double else 1e-5) * float((self.direction * self.outputs).norm())

    def _outputs(self) -> torch.Tensor:
        numbers = {id(weight): number for number, weight in enumerate(self.weights)}
        with Watched(numbers, lambda call: None):  # lookups of padding then have gradients too
            return forward(self.module, self.inputs, self.output)

    @torch.no_grad()
    def matters_in_spite(self, number: int) -> bool:
        """Whether the outputs depend on a layer although all its gradients are zero."""
        if not self.flat[number]:
            return False
        weight, kept = self.weights[number], self.weights[number].clone()
        changed_by = 0.0
        for factor in (0.0, 1.0):  # without the weights, and with errors several times as large as they are
            weight.copy_(factor * (kept + LARGE / self.step * self.errors[number]))
            changed_by = max(changed_by, float((self._outputs() - self.outputs).norm()))
        weight.copy_(kept)
        return changed_by > SAME * float(self.outputs.norm())

    @torch.no_grad()
    def agree(self, part: list[int]) -> bool:
        """Whether errors of these layers do what their gradients say."""
        ends = []
        for sign in (1, -1):
            for number in part:
                self.weights[number].add_(self.errors[number], alpha=sign)
            ends.append(float((self.direction * self._outputs()).double().sum()))
            for number in part:
                self.weights[number].sub_(self.errors[number], alpha=sign)
        said = [self.said[number] for number in part]
        size = math.sqrt(sum(each * each for each in said))
        allowed = (TRUE if self.double else TRUE_FLOAT32) * size + self.rounding
        return abs((ends[0] - ends[1]) / 2 - sum(said)) <= allowed
