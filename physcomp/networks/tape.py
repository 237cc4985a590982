"""Gradients of a network's outputs in its weights, for each sample separately.

Most weights are used by an operator whose gradient is a product of its inputs and of gradients in its outputs; both are
recorded in one pass (`physcomp.networks.calls`). All other weights get theirs by torch.func for all samples of a pass
at a time or, where that fails, for one sample after the other.
"""

import copy
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from operator import itemgetter

import torch
from torch.func import functional_call, vjp, vmap

from physcomp.networks.calls import Call, Watched
from physcomp.networks.device import copy_on, inputs_on, running_on
from physcomp.networks.forward import forward
from physcomp.networks.layers import Layer, rows_of
from physcomp.networks.network import Network
from physcomp.networks.sample_gradients import Outer, of_call, outer_of
from physcomp.networks.samples import Inputs, changed

Columns = Callable[[torch.Tensor], torch.Tensor]
"""From outputs (samples, …) to the directions in which gradients are taken, (samples, …, probes)."""


class Tape:
    """A copy of a network that records the calls of the operators that use its layers, for each thread separately.

    Args:
        network: the network; it is not changed.
        layers: its layers; `Layer.adapter` says how gradients are taken.
    """

    def __init__(self, network: Network, layers: tuple[Layer, ...]) -> None:
        self.device = network.device
        self.module = copy_on(network.module, self.device).requires_grad_(False)
        self.output, self.layers = network.output, layers
        self.weights = [self.module.get_parameter(layer.weight) for layer in layers]
        self.numbers = {
            id(weight): index for index, weight in enumerate(self.weights) if layers[index].adapter == "calls"
        }
        self.indirect = [index for index, layer in enumerate(layers) if layer.adapter != "calls"]
        self.lock = threading.Lock()

    @cached_property
    def spare(self) -> torch.nn.Module:
        """A copy for what is not recorded: there weights are exchanged, which other threads must not see."""
        module = copy.deepcopy(self.module)
        for part in module.modules():
            if isinstance(part, torch.nn.Embedding | torch.nn.EmbeddingBag):
                part.padding_idx = None  # an error in the weights of padding counts as any other
        return module

    def record(self, inputs: Inputs) -> tuple[torch.Tensor, list[Call]]:
        """Outputs of a pass with gradients, and the calls that they can flow back through."""
        calls: list[Call] = []

        def see(call: Call) -> torch.Tensor | None:
            if not torch.is_grad_enabled():
                return None  # no gradient flows back through such a call
            # The gradient is taken in the output itself, even where nothing before it requires one.
            output = call.output if call.output.requires_grad else call.output.detach().requires_grad_()
            kept = Call(call.index, call.operator, call.given.detach(), output, call.weight, call.bias, call.settings)
            calls.append(kept)
            return output.clone()  # the next layer may change it in place

        with running_on(self.device), torch.enable_grad(), Watched(self.numbers, see):
            outputs = forward(self.module, inputs_on(inputs, self.device), self.output)
        return outputs, calls

    def gradients(self, inputs: Inputs, columns: Columns) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        """Gradients of the outputs along given directions, for each sample separately, layer by layer.

        Args:
            inputs: the inputs of some samples.
            columns: gives the directions.

        Yields:
            Number of the layer; gradients in its rows (samples · probes, groups, weights); and gradients in the
            biases of its groups (samples · probes, groups), zero where groups have no bias of their own. They are on
            the processor.
        """
        for index, weights, biases in self.products(inputs, columns):
            yield index, weights.whole() if isinstance(weights, Outer) else weights, biases

    def products(self, inputs: Inputs, columns: Columns) -> Iterator[tuple[int, torch.Tensor | Outer, torch.Tensor]]:
        """As `gradients`, but where each gradient is a product of two vectors, these are given instead."""
        inputs = inputs_on(inputs, self.device)
        outputs, calls = self.record(inputs)
        directions = columns(outputs.detach().cpu()).to(self.device)
        probes = directions.shape[-1]
        with running_on(self.device):
            back = [self._back(outputs, calls, directions[..., probe], probe < probes - 1) for probe in range(probes)]
            del outputs
            indirect = self._indirect(inputs, directions) if self.indirect else {}
        for index, layer in enumerate(self.layers):
            product = None
            with running_on(self.device):
                mine = [(call, [probe[n] for probe in back]) for n, call in enumerate(calls) if call.index == index]
                if index in indirect:
                    weights, biases = (each.flatten(0, 1) for each in indirect.pop(index))
                elif (product := outer_of(mine, layer, len(directions))) is None:
                    weights, biases = self._recorded(index, mine, inputs, directions)
            if product is not None:
                yield index, product, product.biases(layer)
                continue
            yield index, weights.cpu(), biases.cpu()
            del weights, biases

    def _recorded(
        self, index: int, mine: list[tuple[Call, list[torch.Tensor]]], inputs: Inputs, directions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Gradients of a layer from its calls, each with gradients in its output."""
        try:
            return _summed(mine, self.layers[index], len(directions), directions.shape[-1])
        except ValueError:  # only some of the samples come by here
            with self.lock:
                weights, biases = self._one_by_one([index], inputs, directions)[index]
            return weights.flatten(0, 1), biases.flatten(0, 1)

    def _back(
        self, outputs: torch.Tensor, calls: list[Call], direction: torch.Tensor, again: bool
    ) -> tuple[torch.Tensor, ...]:
        """Gradients along one direction in the output of each call."""
        if not calls or not outputs.requires_grad:
            return tuple(torch.zeros_like(call.output) for call in calls)
        return torch.autograd.grad(
            outputs,
            [call.output for call in calls],
            direction,
            retain_graph=again,
            allow_unused=True,
            materialize_grads=True,
        )

    def _indirect(self, inputs: Inputs, directions: torch.Tensor) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
        """Gradients of the layers that are not recorded, by number, as `_one_by_one` gives them."""
        with self.lock:
            found: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
            for adapter, work in (("mapped", self._mapped), ("each", self._one_by_one)):
                mine = [index for index in self.indirect if self.layers[index].adapter == adapter]
                if mine:
                    found.update(work(mine, inputs, directions))
            return found

    def _mapped(
        self, mine: list[int], inputs: Inputs, directions: torch.Tensor
    ) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
        layers = [self.layers[index] for index in mine]
        names = [layer.weight for layer in layers]
        names += [layer.bias_name for layer in layers if layer.bias_of_group]
        tensors = {name: self.spare.get_parameter(name).detach() for name in names}

        def of_one(sample: Inputs, direction: torch.Tensor) -> dict[str, torch.Tensor]:
            def outputs_of(given: dict[str, torch.Tensor]) -> torch.Tensor:
                alone = changed(sample, lambda tensor: tensor.unsqueeze(0))
                return forward(_Exchanged(self.spare, given), alone, self.output)[0]

            back = vjp(outputs_of, tensors)[1]
            found: dict[str, torch.Tensor] = vmap(lambda d: back(d)[0], in_dims=-1)(direction)
            return found

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that an operator is mapped slowly
            gradients = vmap(of_one)(changed(inputs, torch.clone), directions)
        return self._pairs(mine, [gradients[name].detach() for name in names], directions)

    def _one_by_one(
        self, mine: list[int], inputs: Inputs, directions: torch.Tensor
    ) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
        """Gradients (samples, probes, groups, weights) in weights and (samples, probes, groups) in biases."""
        layers = [self.layers[index] for index in mine]
        tensors = [self.spare.get_parameter(layer.weight) for layer in layers]
        tensors += [self.spare.get_parameter(layer.bias_name) for layer in layers if layer.bias_of_group]
        found: list[list[torch.Tensor]] = [[] for _ in tensors]
        for tensor in tensors:
            tensor.requires_grad_()
        try:
            for number, direction in enumerate(directions):
                alone = changed(inputs, itemgetter(slice(number, number + 1)))
                with torch.enable_grad():
                    outputs = forward(self.spare, alone, self.output)
                of_probes = [
                    _gradients(outputs, tensors, direction[..., probe].unsqueeze(0))
                    for probe in range(direction.shape[-1])
                ]
                for place, of_tensor in enumerate(found):
                    of_tensor.append(torch.stack([of_probe[place] for of_probe in of_probes]))
        finally:
            for tensor in tensors:
                tensor.requires_grad_(False)
        return self._pairs(mine, [torch.stack(parts) for parts in found], directions)

    def _pairs(
        self, mine: list[int], found: list[torch.Tensor], directions: torch.Tensor
    ) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
        """Gradients in weights and biases by number of the layer, from those of all weights and then of all biases."""
        biases = iter(found[len(mine) :])
        pairs = {}
        for index, of_weight in zip(mine, found, strict=False):
            layer = self.layers[index]
            none = torch.zeros(len(directions), directions.shape[-1], layer.groups)
            pairs[index] = rows_of_each(of_weight, layer), next(biases) if layer.bias_of_group else none
        return pairs


def _summed(
    mine: list[tuple[Call, list[torch.Tensor]]], layer: Layer, samples: int, probes: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The sum of the gradients of all calls of a layer, in its rows and biases; zeros if there are none."""
    if not mine:
        return torch.zeros(samples * probes, *layer.rows.shape), torch.zeros(samples * probes, layer.groups)
    weights, biases = of_call(mine[0][0], layer, mine[0][1], samples)
    for call, back in mine[1:]:
        more = of_call(call, layer, back, samples)
        weights, biases = weights + more[0], biases + more[1]
    return weights, biases


class _Exchanged(torch.nn.Module):
    """A module with some parameters exchanged for the time of a call."""

    def __init__(self, module: torch.nn.Module, given: dict[str, torch.Tensor]) -> None:
        super().__init__()
        object.__setattr__(self, "call", lambda *args, **kwargs: functional_call(module, given, args, kwargs))

    def forward(self, *args: torch.Tensor, **kwargs: torch.Tensor) -> object:
        call: Callable[..., object] = object.__getattribute__(self, "call")
        return call(*args, **kwargs)


def rows_of_each(gradients: torch.Tensor, layer: Layer) -> torch.Tensor:
    """Gradients (samples, probes, …) in a weight tensor as gradients in the layer's rows."""
    flat = gradients.flatten(0, 1)
    if layer.transposed:
        flat = torch.stack([rows_of(each, layer.transposed) for each in flat])
    return flat.reshape(*gradients.shape[:2], *layer.rows.shape)


def weights_at_once(layers: tuple[Layer, ...]) -> int:
    """The most weights whose gradients are in memory at a time, for one sample and probe."""
    recorded = [layer.rows.size for layer in layers if layer.adapter == "calls"]
    return max([sum(layer.rows.size for layer in layers if layer.adapter != "calls"), *recorded])


def _gradients(
    outputs: torch.Tensor, weights: Sequence[torch.Tensor], direction: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    if not outputs.requires_grad:
        return tuple(torch.zeros_like(weight) for weight in weights)
    return torch.autograd.grad(
        outputs, weights, direction, retain_graph=True, allow_unused=True, materialize_grads=True
    )
