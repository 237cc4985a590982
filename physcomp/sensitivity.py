"""The loss model: generalised Gauss-Newton columns of a network on calibration images.

With J the logits' Jacobian and G = diag(p) - p pᵀ the softmax Hessian, G = L Lᵀ with L = diag(√p) - p √pᵀ, so the
columns a = Lᵀ J δ̄ satisfy ½‖a‖² = ½ (Jδ̄)ᵀ G (Jδ̄). One backward pass a column of L, with the gradients of every
image kept apart and at once contracted with the perturbations, gives all of them: J is never stored.
(Martens, "New insights and perspectives on the natural gradient method", JMLR 21:146, 2020, for G and L.)
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from physcomp.groups import Layer
from physcomp.images import Images
from physcomp.threads import in_threads

# Up to so many classes every column of L is used; beyond, random signs mix them into PROBES columns. Our choice: with
# ten classes, 2,000 images and two probes the error against 2,000 other images is that of all ten columns (0.16 against
# 0.17 in the median on the diagonal, 1.36 against 1.19 beside it), since which images are taken matters far more.
EXACT_CLASSES = 4
PROBES = 2

CHUNK = 100  # images of one pass, where the memory allows it; more were no faster
MEMORY_BYTES = 1 << 30  # our choice
# Passes in hand at a time, each in its thread or waiting to be summed: on two processors. Fixed, since results must not
# depend on the number of processors; with more of them more memory is taken.
PASSES = 6

Progress = Callable[[float], None]
Rows64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Coupling:
    """What perturbations of one layer's groups do to the loss, as means over the images.

    Args:
        grams: for each run of neighbouring groups float64 (run, codes, run, codes): products of columns, so that ½ of
            a diagonal entry is the expected loss increase of one perturbation and an off-diagonal entry the coupling
            of two. One run where the memory allows it, none where it allows no couplings at all.
        alone: float64 (groups, codes): the diagonal of them.
        importance: float64 (groups, weights): the diagonal h of the Gauss-Newton matrix.
        shift: float64 (groups, codes): the change of each group's bias that makes its column shortest; None where
            groups have no bias of their own. `grams` and `alone` are what is left after it.
    """

    grams: tuple[NDArray[np.float64], ...]
    alone: NDArray[np.float64]
    importance: NDArray[np.float64]
    shift: NDArray[np.float64] | None

    @property
    def runs(self) -> tuple[slice, ...]:
        """The groups that each of `grams` is about, in the layer's numbering."""
        edges = np.cumsum([0] + [len(gram) for gram in self.grams])
        return tuple(slice(int(a), int(b)) for a, b in pairwise(edges))


@dataclass(frozen=True, eq=False)
class Curvature:
    """The Gauss-Newton matrix inside each group of one layer, what the group's bias can mend taken out.

    Args:
        importance: float64 (groups, weights): its diagonal before that, the cost of an error of one weight alone.
        blocks: float32 (groups, blocks, size, size): its diagonal blocks over runs of `size` consecutive weights,
            the last padded with zeros. One block where the memory allows it.
    """

    importance: NDArray[np.float64]
    blocks: NDArray[np.float32]


def curvatures(
    module: nn.Module,
    layers: tuple[Layer, ...],
    images: Images,
    *,
    seed: int = 0,
    memory_bytes: int = MEMORY_BYTES,
    progress: Progress | None = None,
) -> list[Curvature]:
    """Estimate the Gauss-Newton matrix inside each group, with one random probe an image.

    A column L r with random signs r has mean outer product L Lᵀ, so the estimate is unbiased; it serves to pick
    scales and to round, and costs one backward pass where the exact matrix costs one a class.

    Args:
        module: in evaluation mode.
        layers: as `physcomp.groups.layers_of` gives them.
        images: calibration images.
        seed: of the random signs.
        memory_bytes: for the passes, and a quarter of it for each layer's blocks, which are smaller with less.
        progress: called with the share done.

    Returns:
        One `Curvature` a layer.
    """
    sizes = [_block_size(layer, memory_bytes) for layer in layers]

    def work(chunk: Chunk) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        (gradients,) = _gradients(module, layers, chunk, probes=1, seed=seed)
        sums = []
        for (weights, biases), size in zip(gradients, sizes, strict=True):
            rows = _in_blocks(weights.transpose(0, 1), size).contiguous()
            products = rows.transpose(2, 3) @ rows
            sums.append((products, (biases.unsqueeze(2) * weights).sum(0), biases.square().sum(0)))
        return sums

    found = []
    sums = _sum_over(images, work, progress, _images_at_once(layers, 0, memory_bytes))
    for layer, size, (block, cross, power) in zip(layers, sizes, sums, strict=True):
        diagonal = block.diagonal(dim1=2, dim2=3).reshape(layer.groups, -1)[:, : layer.weights]
        bias = _in_blocks(cross.unsqueeze(1), size).transpose(2, 3)
        diagonal = diagonal.clone()
        block -= bias @ bias.transpose(2, 3) / power.clamp(min=1e-30)[:, None, None, None]
        found.append(Curvature(diagonal.double().numpy() / len(images), (block / len(images)).numpy()))
    return found


def _block_size(layer: Layer, memory_bytes: int) -> int:
    return max(1, min(layer.weights, memory_bytes // (4 * 4 * layer.rows.size)))


def _in_blocks(rows: torch.Tensor, size: int) -> torch.Tensor:
    """(groups, n, weights) to (groups, blocks, n, size), the last block padded with zeros."""
    blocks = -(-rows.shape[2] // size)
    padded = functional.pad(rows, (0, blocks * size - rows.shape[2]))
    return padded.reshape(rows.shape[0], rows.shape[1], blocks, size).transpose(1, 2)


def couplings(
    module: nn.Module,
    layers: tuple[Layer, ...],
    images: Images,
    perturbations: list[NDArray[np.float32]],
    *,
    seed: int = 0,
    memory_bytes: int = MEMORY_BYTES,
    progress: Progress | None = None,
) -> list[Coupling]:
    """Measure what given mean perturbations do, alone and in pairs inside a layer.

    Args:
        module: in evaluation mode.
        layers: as `physcomp.groups.layers_of` gives them.
        images: calibration images.
        perturbations: for each layer float32 (groups, weights, codes): the mean error of each code; or
            (groups, weights, codes, times): at each of several times, for the mean over them.
        seed: of the random signs, used only beyond `EXACT_CLASSES` classes.
        memory_bytes: for the couplings and their sums, and once more for the passes; with less, couplings are kept
            only inside runs of fewer neighbouring groups, and fewer images pass at a time.
        progress: called with the share done.

    Returns:
        One `Coupling` a layer.
    """
    deltas = [torch.from_numpy(np.ascontiguousarray(part)) for part in perturbations]
    classes = _classes(module, images)
    probes = None if classes <= EXACT_CLASSES else PROBES
    codes = deltas[0].shape[2]
    times = deltas[0].shape[3] if deltas[0].ndim == 4 else 1
    size = _run_size(layers, codes, memory_bytes)
    kept_numbers = (probes or classes) * times * (codes + 1) * sum(layer.groups for layer in layers)

    def work(chunk: Chunk) -> list[tuple[torch.Tensor, ...]]:
        totals = [torch.zeros(layer.rows.shape) for layer in layers]
        kept: list[list[torch.Tensor]] = [[] for _ in layers]
        for gradients in _gradients(module, layers, chunk, probes=probes, seed=seed):
            for part, total, delta, (weights, biases) in zip(kept, totals, deltas, gradients, strict=True):
                total += weights.square().sum(0)
                columns = torch.bmm(weights.transpose(0, 1), delta.flatten(2))  # (groups, images, codes and times)
                columns = columns.view(*columns.shape[:2], codes, times).transpose(2, 3).flatten(1, 2)
                shifts = biases.T.repeat_interleave(times, dim=1).unsqueeze(2)
                part.append(torch.cat([columns, shifts], dim=2).transpose(1, 2))
        # One product a chunk, not one a column of L: the sums over the large matrix are what takes time.
        whole = [torch.cat(part, dim=2) for part in kept]  # (groups, codes and bias, images of all columns)
        return [(total.double(), *_products(columns, size)) for columns, total in zip(whole, totals, strict=True)]

    sums = _sum_over(images, work, progress, _images_at_once(layers, kept_numbers, memory_bytes))
    return [
        _project([total / len(images), *(part / (len(images) * times) for part in parts)], layer)
        for (total, *parts), layer in zip(sums, layers, strict=True)
    ]


def _run_size(layers: tuple[Layer, ...], codes: int, memory_bytes: int) -> int:
    """So many neighbouring groups are coupled; below 2 couplings would not fit at all."""
    return int(memory_bytes // (8 * PASSES * (codes + 1) ** 2 * sum(layer.groups for layer in layers)))


def _products(columns: torch.Tensor, size: int) -> list[torch.Tensor]:
    """Of (groups, codes and bias, n) columns: each squared, each times its group's last, and all of each run."""
    squares = columns.square().sum(2).double()
    crossed = torch.bmm(columns, columns[:, -1:, :].transpose(1, 2)).squeeze(2).double()
    if size < 2:
        return [squares, crossed]
    flat = [run.reshape(-1, columns.shape[2]) for run in torch.split(columns, size)]
    return [squares, crossed, *((run @ run.T).double() for run in flat)]


def _project(parts: list[torch.Tensor], layer: Layer) -> Coupling:
    """Take out of each group's columns their share along the group's bias column, which is stored last."""
    importance, squares, crossed = (part.numpy() for part in parts[:3])
    alone, power, along = squares[:, :-1], squares[:, -1], crossed[:, :-1]
    shift = None
    if layer.bias_of_group:
        shift = -along / np.where(power > 0, power, 1)[:, None] * (power > 0)[:, None]
        alone = np.maximum(alone + shift * along, 0)
    grams, first = [], 0
    for part in parts[3:]:
        full = part.numpy().reshape(-1, squares.shape[1], len(part) // squares.shape[1], squares.shape[1])
        grams.append(_mended(full, None if shift is None else shift[first : first + len(full)]))
        first += len(full)
    if grams:
        alone = np.concatenate([np.einsum("gkgk->gk", gram) for gram in grams])
    return Coupling(tuple(grams), alone, importance, shift)


def _mended(full: NDArray[np.float64], shift: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Products of the columns a + shift b, with b a group's bias column, from those of all a and b, b last."""
    kept = np.ascontiguousarray(full[:, :-1, :, :-1])
    if shift is not None:
        crossed = full[:, :-1, :, -1]  # a_gk · b_h
        kept += crossed[:, :, :, None] * shift[None, None, :, :]
        kept += crossed.transpose(2, 0, 1)[:, None, :, :] * shift[:, :, None, None]
        kept += full[:, -1, :, -1][:, None, :, None] * shift[:, :, None, None] * shift[None, None, :, :]
    return kept


def _classes(module: nn.Module, images: Images) -> int:
    with torch.no_grad():
        return int(module(images.pixels[:1]).shape[1])


Gradients = list[tuple[torch.Tensor, torch.Tensor]]


Sums = TypeVar("Sums", bound=tuple[torch.Tensor, ...])


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some of the images, and their number among the chunks."""

    number: int
    pixels: torch.Tensor


def _images_at_once(layers: tuple[Layer, ...], kept: int, memory_bytes: int) -> int:
    """Images of one pass: each has its gradient of every weight, twice at times, and so many further numbers."""
    numbers = 2 * sum(layer.rows.size for layer in layers) + kept
    return max(1, min(CHUNK, memory_bytes // (4 * numbers * PASSES)))


def _sum_over(
    images: Images, work: Callable[[Chunk], list[Sums]], progress: Progress | None, at_once: int
) -> list[tuple[torch.Tensor, ...]]:
    """Sum over chunks of images, in their order, the tensors that `work` gives for each layer."""
    chunks = [Chunk(number, pixels) for number, pixels in enumerate(torch.split(images.pixels, at_once))]
    sums: list[tuple[torch.Tensor, ...]] = []
    for done, of_layers in enumerate(in_threads(work, chunks), start=1):
        if not sums:
            sums = list(of_layers)
        else:
            for total, tensors in zip(sums, of_layers, strict=True):
                for held, tensor in zip(total, tensors, strict=True):
                    held += tensor
        if progress:
            progress(done / len(chunks))
    return sums


def _gradients(
    module: nn.Module, layers: tuple[Layer, ...], chunk: Chunk, *, probes: int | None, seed: int
) -> Iterator[Gradients]:
    """For each column of L the gradients of every image of a chunk, as rows, and of the biases.

    Yields:
        For each layer the pair (images, groups, weights) and (images, groups), the latter 0 without own biases.
    """
    with _Recorder(copy.deepcopy(module), layers) as recorder:  # a copy, since hooks of other threads would mix
        logits = recorder.module(chunk.pixels)
    columns = _hessian_columns(logits.detach().softmax(1))  # (images, classes, columns)
    if probes is not None:
        mixed = np.random.SeedSequence([seed, chunk.number]).generate_state(1)
        generator = torch.Generator().manual_seed(int(mixed[0]))
        signs = torch.randint(0, 2, (len(logits), columns.shape[2], probes), generator=generator) * 2.0 - 1
        columns = torch.bmm(columns, signs) / probes**0.5
    for index in range(columns.shape[2]):
        yield recorder.gradients(logits, columns[:, :, index], last=index == columns.shape[2] - 1)


def _hessian_columns(probabilities: torch.Tensor) -> torch.Tensor:
    """L = diag(√p) - p √pᵀ of each image: (images, classes, classes), L Lᵀ = diag(p) - p pᵀ."""
    root = probabilities.sqrt()
    return torch.diag_embed(root) - probabilities.unsqueeze(2) * root.unsqueeze(1)


class _Recorder:
    """Keeps inputs and outputs of the grouped layers during a forward pass; a layer may be called several times."""

    def __init__(self, module: nn.Module, layers: tuple[Layer, ...]) -> None:
        self.module = module
        self.layers = layers
        self.parts = [module.get_submodule(layer.name) for layer in layers]
        self.calls: list[tuple[int, torch.Tensor, torch.Tensor]] = []
        self.unfolded: list[torch.Tensor] = []

    def __enter__(self) -> "_Recorder":
        self.hooks = [
            part.register_forward_hook(lambda _, inputs, output, index=index: self._keep(index, inputs[0], output))
            for index, part in enumerate(self.parts)
        ]
        return self

    def _keep(self, index: int, given: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        # An output that hangs on no parameter that needs a gradient still needs one itself.
        if not output.requires_grad:
            output = output.detach().requires_grad_()
        self.calls.append((index, given.detach(), output))
        return output.clone()  # what follows may work in place

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()
        self.unfolded = [_positions(self.parts[index], given) for index, given, _ in self.calls]

    def gradients(self, logits: torch.Tensor, cotangent: torch.Tensor, *, last: bool) -> Gradients:
        """Per-image gradients of ⟨logits, cotangent⟩ with respect to each layer's rows and biases."""
        outputs = [output for _, _, output in self.calls]
        back = torch.autograd.grad(
            logits, outputs, cotangent, retain_graph=not last, allow_unused=True, materialize_grads=True
        )
        found: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        for (index, _, _), positions, gradient in zip(self.calls, self.unfolded, back, strict=True):
            pair = _per_image(self.parts[index], self.layers[index], positions, gradient)
            if index in found:
                pair = (found[index][0] + pair[0], found[index][1] + pair[1])
            found[index] = pair
        count = len(logits)
        return [
            found.get(i, (torch.zeros(count, *layer.rows.shape), torch.zeros(count, layer.groups)))
            for i, layer in enumerate(self.layers)
        ]


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
    part: nn.Module, layer: Layer, positions: torch.Tensor, gradient: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradient of each image with respect to the layer's rows, and to its groups' biases."""
    count, blocks = positions.shape[:2]
    if isinstance(part, nn.Conv2d):
        outputs = gradient.reshape(count, blocks, -1, positions.shape[3])
    else:
        outputs = gradient.reshape(count, positions.shape[3], -1).transpose(1, 2).unsqueeze(1)
    weights = torch.matmul(outputs, positions.transpose(2, 3)).reshape(count, *layer.rows.shape)
    if layer.bias_of_group:
        return weights, outputs.sum(3).reshape(count, layer.groups)
    return weights, torch.zeros(count, layer.groups)
