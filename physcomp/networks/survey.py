"""What can be stored on cells: finds out on samples how each tensor of a network is used.

A weight tensor goes on cells only if the cost of its errors can be valued. Its gradients for each sample must agree
with plain automatic differentiation, and differences of outputs with these gradients. Everything else stays digital,
and the survey says why.
"""

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from physcomp.networks.calls import Call, Watched
from physcomp.networks.forward import forward
from physcomp.networks.large_errors import LargeErrors
from physcomp.networks.layers import (
    NORMS,
    Adapter,
    Granularity,
    Layer,
    aliases_of,
    layers_of,
    other_tensors,
    rows_of,
)
from physcomp.networks.network import SOME, Network
from physcomp.networks.samples import Inputs, Samples, changed
from physcomp.networks.small_errors import untrue
from physcomp.networks.tape import Tape

PROBED = 10  # samples per pass that finds out which layers are used; mostly the first pass uses all
AGREE = 2e-3  # the largest relative difference of gradients that are taken as equal; rounding alone is about 1e-5
# The largest relative change of outputs by rounding all tensors outside layers to bfloat16, and a tenth of it by one of
# them: our choice. Beyond, those that change more are stored as float32.
ROUNDED = 0.01
WORK = 2e8  # multiplications in a pass by which large errors are tried, where more than two samples fit; our choice
BY_SAMPLE: tuple[tuple[Adapter, int], ...] = (("mapped", 0), ("each", 0))
WAYS: tuple[tuple[Adapter, int], ...] = (("calls", 0), ("calls", 1), *BY_SAMPLE)


@dataclass(frozen=True, eq=False)
class Survey:
    """What becomes of each tensor of a network.

    Args:
        network: the network, with the names of tensors that bfloat16 would change too much.
        layers: the layers that cells may hold, in the order of the network's parameters.
        operators: for each layer the operators that use it and the multiplications of one sample, by layer name;
            layers used by no operator that is known are missing.
        digital: name of each other tensor that is stored, and why it stays digital.
        left_out: name of each tensor that is not stored, and why.
        batched: whether a sample's outputs depend on the other samples of its batch.
    """

    network: Network
    layers: tuple[Layer, ...]
    operators: dict[str, tuple[str, float]]
    digital: tuple[tuple[str, str], ...]
    left_out: tuple[tuple[str, str], ...]
    batched: bool


def survey(network: Network, samples: Samples, granularity: Granularity = "filter") -> Survey:
    """Find out which weight tensors of a network cells may hold, and why the other tensors stay digital.

    Args:
        network: from `physcomp.wrap` or `physcomp.load_network`.
        samples: calibration samples; all are passed only if the first ones do not use all weights.
        granularity: which weights form a group.

    Raises:
        ValueError: the network does not take the samples, or no weight tensor can be stored on cells.
    """
    network.check(samples)
    candidates = layers_of(network.module, "filter")
    tried = _Tried(network, candidates)
    tried.pass_over(samples)
    reasons = {layer.name: tried.why_not(number, len(samples)) for number, layer in enumerate(candidates)}
    layers = [layer for layer in tried.layers if not reasons[layer.name]]
    for layer in untrue(network, layers, samples[:SOME].inputs):
        reasons[layer.name] = "its gradients do not say what its errors do (detached, rounded or switched by them)"
    layers = [layer for layer in layers if not reasons[layer.name]]
    few = samples[: max(SOME, min(PROBED, int(WORK // (1 + sum(work for _, work in tried.operators().values())))))]
    large = LargeErrors(network, few.inputs)
    for number, layer in enumerate(layers):
        if large.of_random(layer):
            reasons[layer.name] = "errors of usual size change outputs far more than its gradients say"
        elif large.of_all(layer):
            layers[number] = replace(layer, scale_free=True)
    layers = [layer for layer in layers if not reasons[layer.name]]
    if not layers:
        first = next(f"'{name}': {why}" for name, why in reasons.items() if why)
        raise ValueError(f"network: none of the weights of {network.name} can be stored on cells ({first})")
    of_name = {layer.weight: reasons[layer.name] for layer in candidates}
    kept = tuple(layer.grouped(granularity) for layer in layers)
    digital = tuple(
        (name, of_name.get(name) or _why_digital(network.module, name)) for name in other_tensors(network.module, kept)
    )
    return Survey(
        replace(network, exact=_too_fine(network, kept, samples[:PROBED].inputs)),
        kept,
        tried.operators(),
        digital,
        (*(each[:2] for each in network.left_out), *_unsaved(network.module)),
        tried.batched,
    )


class _Tried:
    """The layers of a network as they are tried on samples, pass by pass."""

    def __init__(self, network: Network, candidates: tuple[Layer, ...]) -> None:
        self.network, self.layers = network, list(candidates)
        self.module = copy.deepcopy(network.module)
        self.weights = [self.module.get_parameter(layer.weight) for layer in candidates]
        self.reached = [False] * len(candidates)
        self.settled = [False] * len(candidates)
        self.work: dict[int, tuple[str, float]] = {}
        self.positions: dict[int, set[tuple[int, float]]] = {}
        self.batched = False

    def pass_over(self, samples: Samples) -> None:
        """Pass samples until each layer was used by some, and settle how its gradients are taken."""
        first = samples[:SOME]
        self.batched = len(first) > 1 and self._depends_on_batch(first.inputs)
        self._settle(samples, set(range(len(self.layers))), WAYS)
        uneven = self._uneven(samples[:PROBED]) | self._uneven(samples[-SOME - 1 :])
        for number in uneven:
            self.settled[number] = False
        self._settle(samples, uneven, BY_SAMPLE)

    def _settle(self, samples: Samples, numbers: set[int], ways: tuple[tuple[Adapter, int], ...]) -> None:
        parts = [samples[:SOME], *(samples[at : at + PROBED] for at in range(SOME, len(samples), PROBED))]
        for part in parts:
            left = [number for number in sorted(numbers) if not self.settled[number]]
            if left:
                self._try(part.inputs, left, len(part), ways)

    @torch.no_grad()
    def _uneven(self, part: Samples) -> set[int]:
        """Layers that see more of some samples than of others, as behind a gate: their calls do not tell samples."""
        found: set[int] = set()

        def see(call: Call) -> None:
            layer, before = self.layers[call.index], self.positions.get(call.index, set())
            now = {(axis, size) for axis, size in call.positions(len(part)) if axis == layer.axis}
            if layer.adapter == "calls" and not now <= before:
                found.add(call.index)

        with Watched({id(weight): number for number, weight in enumerate(self.weights)}, see):
            forward(self.module, part.inputs, self.network.output)
        return {number for number in found if self.settled[number]}

    def why_not(self, number: int, samples: int) -> str:
        """Why a layer cannot be on cells, or nothing."""
        if not self.reached[number]:
            return f"no output on the {samples} samples has a gradient in it"
        return "" if self.settled[number] else "its gradients for each sample cannot be told apart"

    def operators(self) -> dict[str, tuple[str, float]]:
        """The operator and the multiplications of one sample, by name of the layer."""
        return {self.layers[number].name: work for number, work in sorted(self.work.items())}

    @torch.no_grad()
    def _depends_on_batch(self, inputs: Inputs) -> bool:
        whole = self.network.outputs(inputs)
        try:
            alone = self.network.outputs(changed(inputs, lambda tensor: tensor[:1]))
        except ValueError:
            return True  # it takes statistics of a batch, which one sample has not
        if alone.shape[1:] != whole.shape[1:]:
            raise ValueError(
                "network: the shape of a sample's output depends on the batch; pad the samples to one size"
            )
        return float((whole[:1] - alone).norm()) > AGREE * float(whole.norm())

    def _try(self, inputs: Inputs, numbers: list[int], count: int, ways: tuple[tuple[Adapter, int], ...]) -> None:
        """Settle the layers that these samples use."""
        outputs = self._watched(inputs, numbers, count)
        gradients = self._true(outputs, numbers, torch.ones_like(outputs))
        used = [number for number, gradient in zip(numbers, gradients, strict=True) if gradient is not None]
        if not used:
            return
        generator = torch.Generator().manual_seed(0)
        direction = torch.randn(outputs.shape, generator=generator)
        wanted = self._wanted(outputs, used, direction, count)
        for number in used:
            self.reached[number] = True
        left = used
        for adapter, axis in ways:
            trial = [replace(self.layers[number], adapter=adapter, axis=axis) for number in left]
            found = self._found(inputs, tuple(trial), direction)
            still = []
            for place, number in enumerate(left):
                if self._agrees(found[place], wanted[number]):
                    looked_up = replace(trial[place], looked_up=self._is_table(trial[place], number))
                    self.layers[number], self.settled[number] = looked_up, True
                else:
                    still.append(number)
            left = still
            if not left:
                return

    def _is_table(self, layer: Layer, number: int) -> bool:
        bag = isinstance(self.module.get_submodule(layer.weight.rpartition(".")[0]), nn.EmbeddingBag)
        return bag or self.work.get(number, ("", 0.0))[0] == "lookup"

    def _watched(self, inputs: Inputs, numbers: list[int], count: int) -> torch.Tensor:
        """Outputs with gradients in the weights; notes which operators use them, and with which bias."""
        biases: dict[int, set[str | None]] = {}
        names = {id(parameter): name for name, parameter in self.module.named_parameters()}
        users: dict[str, set[int]] = {}

        def see(call: Call) -> None:
            name = names.get(id(call.bias)) if call.bias is not None else None
            biases.setdefault(call.index, set()).add(name)
            if name is not None:
                users.setdefault(name, set()).add(call.index)
            if call.index not in numbers:
                return
            self.positions[call.index] = self.positions.get(call.index, set()) | call.positions(count)
            operator, before = self.work.get(call.index, ("", 0.0))
            # A table that also multiplies is more than a table.
            operator = operator if operator and call.operator == "lookup" else call.operator
            self.work[call.index] = (operator, before + call.multiplications / count)

        for number in numbers:
            self.work.pop(number, None)
            self.positions.pop(number, None)
            self.weights[number].requires_grad_()
        with torch.enable_grad(), Watched({id(w): n for n, w in enumerate(self.weights)}, see):
            outputs = forward(self.module, inputs, self.network.output)
        for number in numbers:
            self.layers[number] = _with_bias(self.module, self.layers[number], biases.get(number, {None}), users)
        return outputs

    def _true(
        self, outputs: torch.Tensor, numbers: list[int], direction: torch.Tensor
    ) -> Sequence[torch.Tensor | None]:
        """Gradients by plain automatic differentiation, None where the outputs do not depend on the weights."""
        weights = [self.weights[number] for number in numbers]
        if not outputs.requires_grad:
            return [None] * len(numbers)
        return torch.autograd.grad(outputs, weights, direction, retain_graph=True, allow_unused=True)

    def _wanted(
        self, outputs: torch.Tensor, used: list[int], direction: torch.Tensor, count: int
    ) -> dict[int, torch.Tensor]:
        """Rows of gradients of each sample alone, (samples, groups, weights); of all together if they depend on the
        batch."""
        masks = [torch.ones(count)] if self.batched else list(torch.eye(count))
        found: dict[int, list[torch.Tensor]] = {number: [] for number in used}
        for mask in masks:
            along = direction * mask.reshape(-1, *[1] * (direction.dim() - 1))
            for number, gradient in zip(used, self._true(outputs, used, along), strict=True):
                given = torch.zeros_like(self.weights[number]) if gradient is None else gradient
                layer = self.layers[number]
                found[number].append(rows_of(given, layer.transposed).reshape(layer.rows.shape))
        return {number: torch.stack(rows) for number, rows in found.items()}

    def _found(self, inputs: Inputs, trial: tuple[Layer, ...], direction: torch.Tensor) -> list[torch.Tensor | None]:
        """Gradients of each sample in the rows of each layer; None for layers where it fails this way."""
        try:
            tape = Tape(self.network, trial)
            return [rows for _, rows, _ in tape.gradients(inputs, lambda outputs: direction.unsqueeze(-1))]
        except (ValueError, RuntimeError, NotImplementedError, TypeError, IndexError):
            if len(trial) == 1:
                return [None]
            return [self._found(inputs, (layer,), direction)[0] for layer in trial]

    def _agrees(self, found: torch.Tensor | None, wanted: torch.Tensor) -> bool:
        if found is None:
            return False
        if self.batched:
            found = found.sum(0, keepdim=True)
        if found.shape != wanted.shape or not bool(torch.isfinite(found).all()):
            return False
        return float((found - wanted).norm()) <= AGREE * float(wanted.norm()) + 1e-12


def _with_bias(module: nn.Module, layer: Layer, names: set[str | None], users: dict[str, set[int]]) -> Layer:
    """The layer with the bias that the operator adds to its outputs, if it is a parameter that serves nothing else."""
    name = next(iter(names))
    if len(names) > 1 or name is None or len(users[name]) > 1:
        return replace(layer, bias=None)
    bias = module.get_parameter(name).detach()
    if bias.shape != (layer.groups,):
        return replace(layer, bias=None)
    return replace(layer, bias=bias.float().cpu().numpy().copy(), bias_name=name)


@torch.no_grad()
def _too_fine(network: Network, layers: tuple[Layer, ...], inputs: Inputs) -> frozenset[str]:
    """Tensors outside the layers whose rounding to bfloat16 changes the outputs too much, such as large offsets."""
    module = copy.deepcopy(network.module)
    tried, clean = replace(network, module=module), network.outputs(inputs)
    state = {name: tensor for name, tensor in module.state_dict().items() if tensor.is_floating_point()}
    rounded = {name: state[name].bfloat16().float() for name in other_tensors(module, layers) if name in state}

    def change(names: Iterable[str]) -> float:
        kept = {name: state[name].clone() for name in names}
        for name in kept:
            state[name].copy_(rounded[name])
        found = float((tried.outputs(inputs) - clean).norm())
        for name, tensor in kept.items():
            state[name].copy_(tensor)
        return found / max(float(clean.norm()), 1e-30)

    if not rounded or change(rounded) <= ROUNDED:
        return frozenset()
    return frozenset(name for name in rounded if not change([name]) <= ROUNDED / 10)


def _why_digital(module: nn.Module, name: str) -> str:
    owner = module.get_submodule(name.rpartition(".")[0])
    tensor = module.state_dict()[name]
    if isinstance(owner, NORMS):
        return "of a norm that could not be folded"
    if not tensor.is_floating_point():
        return "complex numbers" if tensor.is_complex() else "whole numbers, stored exactly"
    return (
        "one number a channel"
        if isinstance(getattr(owner, name.rpartition(".")[2], None), nn.Parameter)
        else "a buffer"
    )


def _unsaved(module: nn.Module) -> Iterator[tuple[str, str]]:
    """Tensors that are not stored: further names of a parameter, and buffers that the network's code builds."""
    for name, first in aliases_of(module):
        yield name, f"the same tensor as {first}"
    saved = module.state_dict()
    for name, _ in module.named_buffers():
        if name not in saved:
            yield name, "built by the network's code (a buffer that is not saved)"
        elif name.rpartition(".")[2] == "num_batches_tracked":
            yield name, "a counter without effect in evaluation"
