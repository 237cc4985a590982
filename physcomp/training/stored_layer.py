"""A plan in the forward pass: what cells would give back for the weights in training, and the way back for gradients.

Each group's weights go through its own code: digital codes round to their levels, noisy codes add Gaussian noise of
the mean and variance that the code states on the medium at the weight's present value, pruned groups are zero. Weights
that a sparse code is to drop fade out: at first all are alive, those beyond what the code keeps as plain numbers; then
ever more of them are zero for good, the smallest first, on the cubic schedule of Zhu and Gupta ("To prune, or not to
prune", arXiv 1710.01878).
Backwards the rounding and the noise pass the gradient on as they are (Bengio, Léonard and Courville, "Estimating or
propagating gradients through stochastic neurons", arXiv 1308.3432). Every code with a scale s gives s·Q(w/s) with
some Q, so the gradient of the scale is (value - w)/s inside the range and value/s where the weight is clipped (Esser et
al., "Learned step size quantization", ICLR 2020, arXiv 1902.08153). All of it holds for any `Code`.
"""

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import nn

import devices
from physcomp.codes import Code, Medium
from physcomp.codes.base import Rows, to_bfloat16
from physcomp.networks.layers import Layer
from physcomp.networks.network import Network
from physcomp.storage.layer_plan import LayerPlan, by_code, cells_of, kept_rows, rows_to_write
from physcomp.storage.plan import Plan, menu_of


class StoredLayer(nn.Module):
    """The weights of a layer as its cells would give them back, with latent weights, scales and biases to train.

    Latent weights are kept as shares of the scale they start with, so that one learning rate serves all layers, and
    scales by their logarithm.

    Args:
        layer: the trained weights, where latent weights start.
        planned: the plan of the layer.
        menu: the plan's menu.
        medium: the cells at the time of reading.
        pruned: whether latent weights of sparse codes start where the plan has them, pruned; else they start as
            trained, and `prune` drops them by and by.
    """

    def __init__(
        self, layer: Layer, planned: LayerPlan, menu: tuple[Code, ...], medium: Medium, *, pruned: bool = True
    ) -> None:
        super().__init__()
        rows = _start(layer, planned, menu) if pruned else layer.rows
        self.parts = tuple(by_code(planned, menu))
        self.medium = medium
        self.shape = layer.shape
        scales = planned.scales
        self.scaled = scales > 0
        largest = np.abs(rows).max(axis=1)
        start = np.where(self.scaled, scales, np.where(largest > 0, largest, 1)).astype(np.float32)
        share = np.clip(rows / start[:, None], -1, 1)
        alive = np.ones(rows.shape, bool)
        for part in self.parts:
            if not part.code.stores(layer.weights):
                alive[part.groups] = False
            elif part.code.scale_bits:
                alive[part.groups] = self.scaled[part.groups][:, None]
        self.start = torch.from_numpy(start)
        self.alive = torch.from_numpy(alive.astype(np.float32))
        self.share = nn.Parameter(torch.from_numpy(share.astype(np.float32)))
        self.log_scale = nn.Parameter(torch.zeros(len(start)))
        self.bias = nn.Parameter(torch.from_numpy(planned.biases.copy())) if len(planned.biases) else None

    def forward(self, generator: torch.Generator | None = None) -> torch.Tensor:
        """The layer's weight tensor as read back: noisy where a generator is given, else the mean over chips."""
        latent = self.share * self.start[:, None]
        scale = self.start * self.log_scale.exp()
        with torch.no_grad():
            value = torch.from_numpy(self.read_back(generator, fading=True))
        through: torch.Tensor = _Through.apply(  # type: ignore[no-untyped-call]
            latent, scale, value, self.alive, torch.from_numpy(self.scaled)
        )
        return through.reshape(self.shape)

    @torch.no_grad()
    def prune(self, done: float) -> None:
        """Drop for good what sparse codes have too much of at a share of the way, 0 to 1, to what they keep."""
        latent = self.latent()
        for part in self.parts:
            if part.code.drops and done > 0:
                kept = part.code.mask(latent[part.groups], 1 - (1 - min(done, 1)) ** 3)
                self.alive[part.groups] = self.alive[part.groups] * torch.from_numpy(kept)
        self.share.mul_(self.alive)

    def latent(self) -> Rows:
        """The latent weights, float32 (groups, weights)."""
        return np.asarray((self.share * self.start[:, None]).detach().numpy(), np.float32)

    def scales(self) -> Rows:
        """The scale of each group as stored, a bfloat16 number, 0 where its code has none."""
        scales = to_bfloat16((self.start * self.log_scale.exp()).detach().numpy())
        return np.where(self.scaled, scales, np.float32(0))

    def read_back(self, generator: torch.Generator | None = None, *, fading: bool = False) -> Rows:
        """What one chip gives back, or the mean over chips where no generator is given: float32 (groups, weights).

        With `fading`, weights that a sparse code will drop, but that are still alive, are given as they are.
        """
        latent, scales = self.latent(), self.scales()
        value = np.zeros_like(latent)
        for part in self.parts:
            rows = latent[part.groups]
            found, variance = part.read_back(latent, scales, self.medium)
            if generator is not None and part.code.analog_cells(rows.shape[1]):
                found += np.sqrt(variance) * torch.randn(rows.shape, generator=generator).numpy()
            if fading and part.code.drops:
                found = np.where(part.code.mask(rows), found, rows)
            value[part.groups] = found
        return value

    def stored_rows(self) -> Rows:
        """The rows to store: what noiseless codes give back, bit for bit, and the means of the noisy ones."""
        rows, latent, scales = self.read_back(), self.latent(), self.scales()
        for code, groups in ((part.code, part.groups) for part in self.parts):
            if not code.analog_cells(rows.shape[1]):
                encoded = code.encode(latent[groups], scales[groups], self.medium)
                rows[groups] = code.decode(encoded, scales[groups], rows.shape[1], self.medium)
        return rows

    def stored_biases(self) -> Rows:
        """The biases as stored, bfloat16 numbers; empty where the layer has none."""
        return np.zeros(0, np.float32) if self.bias is None else to_bfloat16(self.bias.detach().numpy())


def _start(layer: Layer, planned: LayerPlan, menu: tuple[Code, ...]) -> Rows:
    """The trained rows, and of sparse codes the plan's, whose masks know more than magnitudes."""
    drops = np.array([code.drops for code in menu])[planned.codes]
    return np.where(drops[:, None], rows_to_write(planned, menu, layer.rows), layer.rows)


class _Through(torch.autograd.Function):
    """The value read back, with straight-through gradients for latent weights and scales."""

    @staticmethod
    def forward(
        ctx: Any,
        latent: torch.Tensor,
        scale: torch.Tensor,
        value: torch.Tensor,
        alive: torch.Tensor,
        scaled: torch.Tensor,
    ) -> torch.Tensor:
        ctx.save_for_backward(latent, scale, value, alive, scaled)
        return value

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        latent, scale, value, alive, scaled = ctx.saved_tensors
        gradient = gradients[0] * alive
        inside = (latent.abs() <= scale[:, None]) | ~scaled[:, None]
        # A clipped weight may come back into the range, but goes no further out.
        of_latent = gradient * (inside | (gradient * latent > 0))
        of_scale = (gradient * (value - latent * inside)).sum(dim=1) / scale
        return of_latent, of_scale * scaled, None, None, None


class _RoundBfloat16(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        return values.bfloat16().float()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return gradients[0]


def as_bfloat16(values: torch.Tensor) -> torch.Tensor:
    """Rounded to bfloat16 numbers, as biases and norms are stored; gradients pass as they are."""
    rounded: torch.Tensor = _RoundBfloat16.apply(values)  # type: ignore[no-untyped-call]
    return rounded


def stored_layers(network: Network, plan: Plan, card: devices.Card, *, pruned: bool = True) -> dict[str, StoredLayer]:
    """The layers of a network as a plan stores them, by name; `pruned` as `StoredLayer` has it."""
    medium = Medium(card, plan.read_time_s)
    menu = menu_of(plan)
    return {
        planned.name: StoredLayer(layer, planned, menu, medium, pruned=pruned)
        for layer, planned in zip(plan.layers_in(network), plan.layers, strict=True)
    }


def rewritten(network: Network, plan: Plan, card: devices.Card) -> Plan:
    """A plan made for a network of the same layers, for this one: the same codes, scales and biases, its weights."""
    return plan_as_stored(network, plan, stored_layers(network, plan, card))


def plan_as_stored(network: Network, plan: Plan, stored: dict[str, StoredLayer]) -> Plan:
    """The plan of a trained network, with the scales, biases and rows of its layers as they are stored."""
    menu = menu_of(plan)
    layers = []
    for planned in plan.layers:
        layer = stored[planned.name]
        changed = dataclasses.replace(
            planned,
            scales=layer.scales(),
            biases=layer.stored_biases(),
            rows=layer.stored_rows()[kept_rows(planned, menu)],
        )
        layers.append(changed)
    # What entropy-coded groups take depends on their weights.
    ledger = {**plan.ledger, **cells_of(tuple(layers), menu, plan.bits_per_cell)}
    return dataclasses.replace(plan, network_sha256=network.sha256, layers=tuple(layers), ledger=ledger)
