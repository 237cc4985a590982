"""Per-image gradients: the gradients of the logits in the weights, for each image separately.

A copy of the network records the inputs and outputs of its layers; an image's gradient is a product of both.
L is the factor of the softmax Hessian that `physcomp.curvature.couplings` explains.
"""

import copy
import threading
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from physcomp.networks.images import Images
from physcomp.networks.layers import Granularity, Layer, layers_of

# With at most EXACT_CLASSES classes every column of L is used; with more, random signs mix them into PROBES columns.
# Our choice: with ten classes and 2,000 images, two probes differ from an estimate on 2,000 other images about as much
# as all ten columns do (median error on the diagonal 0.16 against 0.17, off it 1.36 against 1.19), since the choice of
# images matters far more.
EXACT_CLASSES = 4
PROBES = 2
PASS = 50  # images per pass, where the memory allows it; more were no faster
PROBED = 10  # images per pass that finds out which layers are called; mostly the first pass calls all
SIGNED = 100  # images whose random signs are drawn from one generator
MEMORY_BYTES = 1 << 30  # our choice
Call = tuple[int, torch.Tensor, torch.Tensor]


def _hessian_columns(probabilities: torch.Tensor, mixing: torch.Tensor) -> torch.Tensor:
    """L = diag(√p) - p √pᵀ of each image times `mixing`, both (images, classes, probes)."""
    root = probabilities.sqrt().unsqueeze(2) * mixing
    return root - probabilities.unsqueeze(2) * root.sum(1, keepdim=True)


class Tape:
    """A copy of a network that records the inputs and outputs of its grouped layers, for each thread separately."""

    def __init__(self, module: nn.Module, layers: tuple[Layer, ...]) -> None:
        self.module = copy.deepcopy(module).requires_grad_(False)
        self.layers = layers
        self.parts = [self.module.get_submodule(layer.name) for layer in layers]
        self.local = threading.local()
        for index, part in enumerate(self.parts):
            part.register_forward_hook(lambda _, inputs, output, index=index: self._keep(index, inputs[0], output))

    def _keep(self, index: int, given: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        if not torch.is_grad_enabled():
            return output  # no gradient flows back through such a call
        # The gradient is taken in the output itself, even where nothing before it requires one.
        if not output.requires_grad:
            output = output.detach().requires_grad_()
        self.local.calls.append((index, given.detach(), output))
        return output.clone()  # the next layer may change it in place

    def called(self, pixels: torch.Tensor) -> set[int]:
        """Numbers of the layers that are called on these images and that a gradient can reach."""
        return {index for index, _, _ in self._forward(pixels)[1]}

    def _forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, list[Call]]:
        self.local.calls = []
        logits = self.module(pixels)
        calls: list[Call] = self.local.calls
        self.local.calls = []
        return logits, calls

    def gradients(self, pixels: torch.Tensor, mixing: torch.Tensor) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        """Gradients of the logits along each mixed column of L, for each image separately, layer by layer.

        Args:
            pixels: (images, channels, height, width).
            mixing: (images, classes, probes): each probe is one mixture of the columns of L.

        Yields:
            Number of the layer; gradients in its rows (images · probes, groups, weights); and gradients in the
            biases of its groups (images · probes, groups), zero where groups have no bias of their own.
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
    """The layers that cells may hold: the Conv2d and Linear layers called on at least one of the calibration images.

    The cost of an error in a weight is measured when its layer is called. Some layers never are:
    `nn.MultiheadAttention` passes the weight of its `out_proj` to a function, and under `torch.no_grad` no gradient
    flows. Their parameters stay digital (`physcomp.networks.layers.other_tensors`).

    Args:
        module: in evaluation mode.
        granularity: which weights form a group.
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
    """Inputs of a layer as columns, one per position of its filters: (images, channel groups, fan-in, positions)."""
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
    """Per-image gradients of one call: in the layer's rows and in its groups' biases, as `Tape.gradients` yields them.

    Args:
        part: the layer's module.
        layer: the same layer as rows.
        given: its input, (images, ...).
        gradient: the gradients in its output, (images, probes, ...).
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
    """Images per pass: at least two passes for the images collected, so that several threads have work."""
    return max(1, min(PASS, -(-gathered // 2)))


def _slices(first: int, last: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, last)) for start in range(first, last, size)]


def mixing_of(module: nn.Module, images: Images, probes: int, seed: int) -> Callable[[slice], torch.Tensor]:
    """The mixing of the columns of L: a function from a range of images to (images, classes, probes).

    The mixing is random signs over √probes. With several probes and at most `EXACT_CLASSES` classes it is the identity:
    every column of L is then a probe of its own. An image's signs do not depend on how many images pass at a time.

    Args:
        module: gives the number of classes.
        images: all calibration images.
        probes: mixed columns per image.
        seed: seed of the signs.
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
