"""Gradients of every image apart: a copy of a network that remembers what its layers were given and gave."""

import copy
import threading
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from physcomp.networks.images import Images
from physcomp.networks.layers import Granularity, Layer, layers_of

# Up to so many classes every column of L is used; beyond, random signs mix them into PROBES columns. Our choice: with
# ten classes, 2,000 images and two probes the error against 2,000 other images is that of all ten columns (0.16 against
# 0.17 in the median on the diagonal, 1.36 against 1.19 beside it), since which images are taken matters far more.
EXACT_CLASSES = 4
PROBES = 2
PASS = 50  # images of one pass, where the memory allows it; more were no faster
PROBED = 10  # images asked at a time which layers they call; mostly the first few call all
SIGNED = 100  # images whose random signs are drawn together
MEMORY_BYTES = 1 << 30  # our choice
Progress = Callable[[float], None]
Call = tuple[int, torch.Tensor, torch.Tensor]


def _hessian_columns(probabilities: torch.Tensor, mixing: torch.Tensor) -> torch.Tensor:
    """L = diag(√p) - p √pᵀ of each image, L Lᵀ = diag(p) - p pᵀ, times (images, classes, n): of the same shape."""
    root = probabilities.sqrt().unsqueeze(2) * mixing
    return root - probabilities.unsqueeze(2) * root.sum(1, keepdim=True)


class Tape:
    """A copy of a network that keeps inputs and outputs of its grouped layers, for each thread its own."""

    def __init__(self, module: nn.Module, layers: tuple[Layer, ...]) -> None:
        self.module = copy.deepcopy(module).requires_grad_(False)
        self.layers = layers
        self.parts = [self.module.get_submodule(layer.name) for layer in layers]
        self.local = threading.local()
        for index, part in enumerate(self.parts):
            part.register_forward_hook(lambda _, inputs, output, index=index: self._keep(index, inputs[0], output))

    def _keep(self, index: int, given: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        if not torch.is_grad_enabled():
            return output  # no gradient comes back through such a call
        # An output that hangs on nothing that needs a gradient still needs one itself.
        if not output.requires_grad:
            output = output.detach().requires_grad_()
        self.local.calls.append((index, given.detach(), output))
        return output.clone()  # what follows may work in place

    def called(self, pixels: torch.Tensor) -> set[int]:
        """Numbers of the layers that some images call, where a gradient can come back."""
        return {index for index, _, _ in self._forward(pixels)[1]}

    def _forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, list[Call]]:
        self.local.calls = []
        logits = self.module(pixels)
        calls: list[Call] = self.local.calls
        self.local.calls = []
        return logits, calls

    def gradients(self, pixels: torch.Tensor, mixing: torch.Tensor) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        """Gradients of the logits along each mixed column of L, of every image apart, layer by layer.

        Args:
            pixels: (images, channels, height, width).
            mixing: (images, classes, probes), by which the columns of L are mixed.

        Yields:
            Number of the layer, gradients of its rows (images · probes, groups, weights), and of its groups' biases
            (images · probes, groups), 0 without own biases.
        """
        logits, calls = self._forward(pixels)
        columns = _hessian_columns(logits.detach().softmax(1), mixing)
        probes = columns.shape[2]
        outputs = [output for _, _, output in calls]
        back = [
            torch.autograd.grad(
                logits,
                outputs,
                columns[:, :, probe],
                retain_graph=probe < probes - 1,
                allow_unused=True,
                materialize_grads=True,
            )
            for probe in range(probes)
        ]
        inputs = [given for _, given, _ in calls]
        called = [index for index, _, _ in calls]
        del calls, outputs, logits
        count = len(pixels) * probes
        for index, (layer, part) in enumerate(zip(self.layers, self.parts, strict=True)):
            weights, biases = torch.zeros(0), torch.zeros(count, layer.groups)
            for number, of_layer in enumerate(called):
                if of_layer == index:
                    gradient = (
                        torch.stack([probe[number] for probe in back], 1) if probes > 1 else back[0][number][:, None]
                    )
                    pair = _per_image(part, layer, inputs[number], gradient)
                    weights, biases = weights + pair[0] if len(weights) else pair[0], biases + pair[1]
            yield index, weights if len(weights) else torch.zeros(count, *layer.rows.shape), biases


def called_layers(module: nn.Module, granularity: Granularity, images: Images) -> tuple[Layer, ...]:
    """The Conv2d and Linear layers that a network calls on at least one of some images: those that cells may hold.

    What an error in a weight would cost is measured at its layer's calls. Of a layer without any, such as the
    `out_proj` of `nn.MultiheadAttention`, whose weight serves a function, or a layer called under `torch.no_grad`,
    nothing is known; its parameters are left to `physcomp.networks.layers.other_tensors`, which stay digital.

    Args:
        module: in evaluation mode.
        granularity: what one group is.
        images: calibration images.

    Raises:
        ValueError: there is no such layer, or the granularity is unknown.
    """
    layers = layers_of(module, granularity)
    tape = Tape(module, layers)
    called: set[int] = set()
    for start in range(0, len(images), PROBED):
        called |= tape.called(images.pixels[start : start + PROBED])
        if len(called) == len(layers):
            return layers
    if not called:
        raise ValueError(
            f"network: none of its {len(layers)} Conv2d and Linear layers is called with gradients on, "
            "so there is nothing to store on cells; call them as modules"
        )
    return tuple(layer for index, layer in enumerate(layers) if index in called)


def _positions(part: nn.Module, given: torch.Tensor) -> torch.Tensor:
    """Inputs of a layer, one column for each position its filter is applied at: (images, blocks, fan-in, places)."""
    if isinstance(part, nn.Conv2d):
        if part.padding_mode != "zeros":
            raise ValueError(f"network: Conv2d with padding_mode '{part.padding_mode}' is not supported, use 'zeros'")
        padding = part.padding
        if isinstance(padding, str):
            spans = zip(part.dilation, part.kernel_size, strict=True)
            padding = tuple(d * (k - 1) // 2 if padding == "same" else 0 for d, k in spans)
        columns = functional.unfold(
            given, part.kernel_size, dilation=part.dilation, padding=padding, stride=part.stride
        )
        return columns.reshape(len(given), part.groups, -1, columns.shape[2])
    return given.reshape(len(given), -1, given.shape[-1]).transpose(1, 2).unsqueeze(1)


def _per_image(
    part: nn.Module, layer: Layer, given: torch.Tensor, gradient: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradient of each image and probe with respect to the layer's rows, and to its groups' biases.

    Args:
        part: the layer's module.
        layer: the layer.
        given: its input, (images, ...).
        gradient: with respect to its output, (images, probes, ...).
    """
    positions = _positions(part, given)
    count, blocks, _, places = positions.shape
    probes = gradient.shape[1]
    if isinstance(part, nn.Conv2d):
        outputs = gradient.reshape(count, probes, blocks, -1, places)
    else:
        outputs = gradient.reshape(count, probes, places, -1).transpose(2, 3).unsqueeze(2)
    of_block = outputs.shape[3]
    stacked = outputs.transpose(1, 2).reshape(count, blocks, probes * of_block, places)
    weights = torch.matmul(stacked, positions.transpose(2, 3)).reshape(count, blocks, probes, of_block, -1)
    rows = weights.transpose(1, 2).reshape(count * probes, *layer.rows.shape)
    if layer.bias_of_group:
        return rows, outputs.sum(4).reshape(count * probes, layer.groups)
    return rows, torch.zeros(count * probes, layer.groups)


def _at_once(gathered: int) -> int:
    """Images of one pass: some passes for every gathering, so that there is work for several threads."""
    return max(1, min(PASS, -(-gathered // 2)))


def _slices(first: int, last: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, last)) for start in range(first, last, size)]


def mixing_of(module: nn.Module, images: Images, probes: int, seed: int) -> Callable[[slice], torch.Tensor]:
    """What mixes the columns of L of some images, (images, classes, probes): random signs, or nothing for few classes.

    One probe is for the curvature inside groups; several are used only beyond `EXACT_CLASSES` classes. An image's signs
    do not depend on how many images pass at a time.
    """
    classes = _classes(module, images)
    if probes > 1 and classes <= EXACT_CLASSES:
        eye = torch.eye(classes)
        return lambda part: eye.expand(part.stop - part.start, classes, classes)
    drawn = []
    for number, held in enumerate(_slices(0, len(images), SIGNED)):
        mixed = np.random.SeedSequence([seed, number]).generate_state(1)
        generator = torch.Generator().manual_seed(int(mixed[0]))
        drawn.append(torch.randint(0, 2, (held.stop - held.start, classes, probes), generator=generator) * 2.0 - 1)
    signs = torch.cat(drawn) / probes**0.5
    return lambda part: signs[part]


def _classes(module: nn.Module, images: Images) -> int:
    with torch.no_grad():
        return int(module(images.pixels[:1]).shape[1])
