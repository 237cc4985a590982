"""Sums of columns over images, and what they say of couplings: see `physcomp.curvature.couplings`."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from physcomp.curvature.batches import Part
from physcomp.curvature.blocks import FLAT
from physcomp.curvature.gradients import _slices
from physcomp.networks.layers import Layer
from physcomp.networks.sample_gradients import Outer

# Parts of the images that the expected loss is measured on apart, so that its error can be told: image n is in part
# n modulo FOLDS. Our choice.
FOLDS = 10


@dataclass(frozen=True, eq=False)
class Coupling:
    """How errors of one layer's groups raise the loss: alone and in pairs, in nats, as means over the images.

    There is one error per group and code: the mean error of the weights when the group is stored by that code. Where
    a group has a bias of its own, the bias is set so that it compensates as much of the error as it can.

    Args:
        grams: one float64 array (run, codes, run, codes) for each run of neighbouring groups: products of columns. Half
            a diagonal entry is the expected loss increase by one error; an off-diagonal entry is what two errors
            together add to the sum of both. One run where the memory allows it, none where it allows no couplings.
        alone: float64 (groups, codes): the diagonal entries of `grams`.
        noise: float64 (groups, codes): the expected loss increase by the variance of each code's error.
        importance: float64 (groups, weights): the diagonal of the Gauss-Newton matrix, in nats per squared unit of
            weight; None in loss models, which hold it in `noise`.
        shift: float64 (groups, codes): the change of a group's bias that best compensates the error, in units of the
            bias; None where groups have no bias of their own. `grams` and `alone` assume that it is made.
        folds: float32 (folds, groups, codes): `loss` as the mean over the images of one fold alone, see `FOLDS`.
    """

    grams: tuple[NDArray[np.float64], ...]
    alone: NDArray[np.float64]
    noise: NDArray[np.float64]
    importance: NDArray[np.float64] | None
    shift: NDArray[np.float64] | None
    folds: NDArray[np.float32]

    @property
    def runs(self) -> tuple[slice, ...]:
        """The range of group numbers that each array of `grams` covers."""
        edges = np.cumsum([0] + [len(gram) for gram in self.grams])
        return tuple(slice(int(a), int(b)) for a, b in pairwise(edges))

    @property
    def loss(self) -> NDArray[np.float64]:
        """Expected loss increase of each group with each code, by mean error and variance, in nats: (groups, codes)."""
        return self.alone / 2 + self.noise


class _ColumnSums:
    """Sums over images for some groups: squared gradients, products of columns, and losses by noise.

    Each group has one column per code and, last, the column of a unit change of its bias. Sums of single columns and
    of noise are kept for each fold of the images.

    Args:
        layer: the layer.
        part: which of its groups.
        codes: number of codes.
        size: number of neighbouring groups whose products are summed; below 2 there are no products.
        spread: the variance of each weight's error, (groups, weights), by index of the code.
        images: the number of images that are summed over.
        count: the number of images that these stand for, see `physcomp.curvature.drawn_images`.
    """

    def __init__(
        self,
        layer: Layer,
        part: Part,
        codes: int,
        size: int,
        spread: Mapping[int, NDArray[np.float32]],
        images: int,
        count: int,
    ) -> None:
        self.biased, self.coupled = layer.bias_of_group, size >= 2
        self.runs = _slices(0, part.size, size if self.coupled else max(1, (1 << 16) // (codes + 1)))
        self.importance = np.zeros((part.size, layer.weights))
        self.images, self.count, self.spread = images, count, spread
        self.squares = np.zeros((min(FOLDS, images), part.size, codes + 1))
        self.crossed = np.zeros_like(self.squares)  # with the bias
        self.noise = np.zeros((len(self.squares), part.size, codes))
        shapes = [(run.stop - run.start, codes + 1, run.stop - run.start, codes + 1) for run in self.runs]
        self.full = [np.zeros(shape) for shape in shapes] if self.coupled else []

    def pass_of(self, gradients: torch.Tensor | Outer, columns: torch.Tensor, first: int) -> "_PassSums":
        """Sums over the images of a pass.

        Args:
            gradients: (images · probes, groups, weights).
            columns: (groups, codes + 1, times, images, probes).
            first: the number of the pass's first image.
        """
        folds, (times, images, probes) = len(self.squares), columns.shape[2:]
        numbers = (first + torch.arange(images)) % folds
        of_entry = numbers.repeat_interleave(probes).repeat(times)
        chosen = (of_entry.unsqueeze(1) == torch.arange(folds)).float()
        flat = columns.flatten(2)
        squares, crossed = flat.square() @ chosen, (flat * flat[:, -1:]) @ chosen
        power, noise = self._powers(gradients, numbers, probes, folds)
        products = torch.stack([squares, crossed]).permute(0, 3, 1, 2)
        return _PassSums(products.numpy(), power, noise)

    def _powers(
        self, gradients: torch.Tensor | Outer, numbers: torch.Tensor, probes: int, folds: int
    ) -> tuple[NDArray[np.float32], dict[int, NDArray[np.float32]]]:
        """The sums `power` and `noise` of `_PassSums`; `numbers` are the folds of the images."""
        if isinstance(gradients, Outer):
            of_images = (numbers == torch.arange(folds).unsqueeze(1)).float()
            found = {c: of_images @ gradients.power_along(torch.from_numpy(v)) for c, v in self.spread.items()}
            return gradients.power().numpy(), {code: each.numpy() for code, each in found.items()}
        power = torch.zeros(folds if self.spread else 1, *gradients.shape[1:])
        for row, fold in zip(gradients, numbers.repeat_interleave(probes).tolist(), strict=True):
            power[fold % len(power)].addcmul_(row, row)
        along = {code: np.einsum("fgw,gw->fg", power.numpy(), variance) for code, variance in self.spread.items()}
        return power.sum(0).numpy(), along

    def add_pass(self, found: "_PassSums") -> None:
        """Add what was summed over a pass."""
        self.squares += found.products[0]
        self.crossed += found.products[1]
        self.importance += found.power
        for code, noise in found.noise.items():
            self.noise[:, :, code] += noise

    def tasks(self) -> list[int]:
        """Numbers of the runs whose products are summed, each the work of one thread."""
        return list(range(len(self.full)))

    def add(self, number: int, columns: torch.Tensor) -> None:
        """Add the products of columns inside one run; `columns` is (groups, codes + 1, entries of a column)."""
        flat = columns[self.runs[number]].flatten(0, 1).numpy()
        full = self.full[number]
        full += (flat @ flat.T).reshape(full.shape)  # of A Aᵀ numpy computes only one half

    def mean(self, times: int, importance: bool) -> Coupling:
        """The means over images and times, with each error compensated by the group's bias."""
        for full in self.full:
            full /= self.count * times
        self.importance /= self.count
        return _project(self, times, importance)


@dataclass(frozen=True, eq=False)
class _PassSums:
    """Sums over the images of one pass.

    Args:
        products: (2, folds, groups, codes + 1): of columns with themselves, and with the column of the bias.
        power: (groups, weights): of squared gradients.
        noise: by index of the code (folds, groups): of squared gradients times variances.
    """

    products: NDArray[np.float32]
    power: NDArray[np.float32]
    noise: Mapping[int, NDArray[np.float32]]


def fold_sizes(folds: int, images: int) -> NDArray[np.int64]:
    """The number of images in each fold."""
    return np.array([len(range(fold, images, folds)) for fold in range(folds)])


def _project(sums: _ColumnSums, times: int, importance: bool) -> Coupling:
    """Compensate each error by its group's bias: remove from its column the part parallel to the bias column."""
    count = sums.count * times
    squares, crossed = sums.squares.sum(0) / count, sums.crossed.sum(0) / count
    alone, power, along = squares[:, :-1], squares[:, -1], crossed[:, :-1]
    of_fold, shift = sums.squares[:, :, :-1], None
    if sums.biased:
        able = power > FLAT * sums.importance.mean(axis=1)
        shift = -along / np.where(able, power, 1)[:, None] * able[:, None]
        alone = np.maximum(alone + shift * along, 0)
        of_fold = of_fold + 2 * shift * sums.crossed[:, :, :-1] + shift**2 * sums.squares[:, :, -1:]
    grams = [
        _compensated(full, None if shift is None else shift[run])
        for run, full in zip(sums.runs, sums.full, strict=False)
    ]
    if grams:
        alone = np.concatenate([np.einsum("gkgk->gk", gram) for gram in grams])
    sizes = fold_sizes(len(of_fold), sums.images)[:, None, None] * (sums.count / sums.images)
    folds = np.maximum(of_fold, 0) / (2 * times * sizes) + sums.noise / (2 * sizes)
    noise = sums.noise.sum(0) / (2 * sums.count)
    mean = sums.importance if importance else None
    return Coupling(tuple(grams), alone, noise, mean, shift, folds.astype(np.float32))


def _compensated(full: NDArray[np.float64], shift: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Products of the compensated columns a + shift b, from the products of all columns a and bias columns b (last)."""
    kept = np.ascontiguousarray(full[:, :-1, :, :-1])
    if shift is not None:
        crossed = full[:, :-1, :, -1]  # a_gk · b_h
        kept += crossed[:, :, :, None] * shift[None, None, :, :]
        kept += crossed.transpose(2, 0, 1)[:, None, :, :] * shift[:, :, None, None]
        kept += full[:, -1, :, -1][:, None, :, None] * shift[:, :, None, None] * shift[None, None, :, :]
    return kept
