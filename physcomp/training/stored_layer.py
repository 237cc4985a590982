"""A layer as a plan stores it, for training: its weights as cells would give them back, with gradients.

In the forward pass each group goes through its own code. Digital codes round weights to levels. Analog codes add
Gaussian noise with the mean and variance that the code states for the present weight. Pruned groups are zero. Weights
that a sparse code drops fade out: at first all are in use, those that will be dropped as plain numbers; then more and
more of them are set to zero for good, the smallest first, by the cubic schedule of Zhu and Gupta ("To prune, or not to
prune", arXiv 1710.01878).

In the backward pass gradients go through rounding and noise unchanged (straight-through: Bengio, Léonard and Courville,
"Estimating or propagating gradients through stochastic neurons", arXiv 1308.3432). A code with a scale s reads a weight
w back as s·Q(w/s) with some function Q. The gradient in the scale is therefore (value - w)/s inside the range, and
value/s where the weight is clipped (Esser et al., "Learned step size quantization", ICLR 2020, arXiv 1902.08153). All
this holds for any `Code`; weights are clipped at `Code.span` scales.
"""

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import nn

import devices
from physcomp.codes import Code, Medium
from physcomp.codes.base import Rows, to_bfloat16
from physcomp.networks.layers import Layer, tensor_of
from physcomp.networks.network import Network
from physcomp.storage.layer_plan import LayerPlan, by_code, cells_of, kept_rows, rows_to_write
from physcomp.storage.plan import Plan, menu_of


class StoredLayer(nn.Module):
    """A layer with trainable latent weights, scales and biases, whose forward pass gives the weights as read back.

    Latent weights are divided by their scale at the start, or by the largest of them if the scale is a step, so that
    one learning rate suits all layers. Scales are trained as logarithms.

    Args:
        layer: the trained weights, from which latent weights start.
        planned: the plan of the layer.
        menu: the codes of the plan's menu.
        medium: the cells at the time of reading.
        pruned: True: latent weights of sparse codes start pruned, as in the plan. False: they start as trained, and
            `prune` drops them step by step.
    """

    def __init__(
        self, layer: Layer, planned: LayerPlan, menu: tuple[Code, ...], medium: Medium, *, pruned: bool = True
    ) -> None:
        super().__init__()
        rows = _start(layer, planned, menu) if pruned else layer.rows
        self.parts = tuple(by_code(planned, menu))
        self.medium = medium
        self.weight, self.bias_name = layer.weight, layer.bias_name
        self.shape, self.transposed = layer.shape, layer.transposed
        scales = planned.scales
        self.scaled = scales > 0
        largest = np.abs(rows).max(axis=1)
        start = np.where(self.scaled, scales, np.where(largest > 0, largest, 1)).astype(np.float32)
        alive = np.ones(rows.shape, bool)
        span = np.ones(len(rows), np.float32)
        for part in self.parts:
            span[part.groups] = part.code.span
            if not part.code.stores(layer.weights):
                alive[part.groups] = False
            elif part.code.scale_bits:
                alive[part.groups] = self.scaled[part.groups][:, None]
        unit = np.where((span > 1) & (largest > 0), largest, start).astype(np.float32)
        most = (span * start / unit)[:, None]
        share = np.clip(rows / unit[:, None], -most, most)
        self.start, self.unit, self.span = torch.from_numpy(start), torch.from_numpy(unit), torch.from_numpy(span)
        self.alive = torch.from_numpy(alive.astype(np.float32))
        self.stepped = [part for part in self.parts if part.code.streams and part.code.span > 1]
        self.planned_bits = self._bits(rows_to_write(planned, menu, layer.rows), planned.scales)
        self.share = nn.Parameter(torch.from_numpy(share.astype(np.float32)))
        self.log_scale = nn.Parameter(torch.zeros(len(start)))
        self.bias = nn.Parameter(torch.from_numpy(planned.biases.copy())) if len(planned.biases) else None

    def forward(self, generator: torch.Generator | None = None) -> torch.Tensor:
        """The weight tensor as read back: with noise if a generator is given, else the mean over chips."""
        latent = self.share * self.unit[:, None]
        scale = self.start * self.log_scale.exp()
        # A training that diverges is refused by its loss.
        with torch.no_grad(), np.errstate(over="ignore", invalid="ignore"):
            value = torch.from_numpy(self.read_back(generator, fading=True))
        through: torch.Tensor = _Through.apply(  # type: ignore[no-untyped-call]
            latent, scale, value, self.alive, torch.from_numpy(self.scaled), self.span
        )
        return self.tensor(through)

    def tensor(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows as the weight tensor of the network."""
        return tensor_of(rows, self.shape, self.transposed)

    @torch.no_grad()
    def prune(self, done: float) -> None:
        """Drop for good the weights that sparse codes drop up to this point: none at `done` = 0, all at 1."""
        latent = self.latent()
        for part in self.parts:
            if part.code.drops and done > 0:
                kept = part.code.mask(latent[part.groups], 1 - (1 - min(done, 1)) ** 3)
                self.alive[part.groups] = self.alive[part.groups] * torch.from_numpy(kept)
        self.share.mul_(self.alive)

    def latent(self) -> Rows:
        """The latent weights in units of weights, float32 (groups, weights)."""
        return np.asarray((self.share * self.unit[:, None]).detach().numpy(), np.float32)

    def scales(self) -> Rows:
        """The scale of each group as stored: a bfloat16 number, or 0 if the code has none."""
        scales = to_bfloat16((self.start * self.log_scale.exp()).detach().numpy())
        return np.where(self.scaled, scales, np.float32(0))

    def read_back(self, generator: torch.Generator | None = None, *, fading: bool = False) -> Rows:
        """The rows read back, from one chip or (without a generator) as means over chips: float32 (groups, weights).

        With `fading`, weights that a sparse code will drop but has not dropped yet are returned unchanged.
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

    def bits(self) -> int:
        """Bits that are written now for the groups whose steps `widen` changes."""
        return self._bits(self.latent(), self.scales()) if self.stepped else 0

    def _bits(self, rows: Rows, scales: Rows) -> int:
        return sum(part.code.written_bits(rows[part.groups], scales[part.groups]) for part in self.stepped)

    @torch.no_grad()
    def widen(self, by: float) -> None:
        """Raise the logarithms of steps of entropy-coded groups: larger steps leave smaller digits, of fewer bits."""
        for part in self.stepped:
            self.log_scale[part.groups] += by

    def stored_rows(self) -> Rows:
        """The rows to store: exactly as read back for codes without noise, the means for codes with noise."""
        rows, latent, scales = self.read_back(), self.latent(), self.scales()
        for code, groups in ((part.code, part.groups) for part in self.parts):
            if not code.analog_cells(rows.shape[1]):
                encoded = code.encode(latent[groups], scales[groups], self.medium)
                rows[groups] = code.decode(encoded, scales[groups], rows.shape[1], self.medium)
        return rows

    def stored_biases(self) -> Rows:
        """The biases as stored: bfloat16 numbers; empty if the layer has none."""
        return np.zeros(0, np.float32) if self.bias is None else to_bfloat16(self.bias.detach().numpy())


def _start(layer: Layer, planned: LayerPlan, menu: tuple[Code, ...]) -> Rows:
    """The trained rows; for sparse codes the plan's rows, whose masks go by the curvature."""
    drops = np.array([code.drops for code in menu])[planned.codes]
    return np.where(drops[:, None], rows_to_write(planned, menu, layer.rows), layer.rows)


class _Through(torch.autograd.Function):
    """The weights read back, with straight-through gradients in latent weights and scales."""

    @staticmethod
    def forward(
        ctx: Any,
        latent: torch.Tensor,
        scale: torch.Tensor,
        value: torch.Tensor,
        alive: torch.Tensor,
        scaled: torch.Tensor,
        span: torch.Tensor,
    ) -> torch.Tensor:
        ctx.save_for_backward(latent, scale, value, alive, scaled, span)
        return value

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        latent, scale, value, alive, scaled, span = ctx.saved_tensors
        gradient = gradients[0] * alive
        inside = (latent.abs() <= (scale * span)[:, None]) | ~scaled[:, None]
        # A clipped weight may move back into the range, but not further out.
        of_latent = gradient * (inside | (gradient * latent > 0))
        of_scale = (gradient * (value - latent * inside)).sum(dim=1) / scale
        return of_latent, of_scale * scaled, None, None, None, None


class _RoundBfloat16(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        return values.bfloat16().float()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return gradients[0]


def as_bfloat16(values: torch.Tensor) -> torch.Tensor:
    """Round to bfloat16 numbers, as biases and norms are stored; gradients go through unchanged."""
    rounded: torch.Tensor = _RoundBfloat16.apply(values)  # type: ignore[no-untyped-call]
    return rounded


def stored_layers(network: Network, plan: Plan, card: devices.Card, *, pruned: bool = True) -> dict[str, StoredLayer]:
    """The layers of a network as a plan stores them, by name; `pruned` is that of `StoredLayer`."""
    medium = Medium(card, plan.read_time_s)
    menu = menu_of(plan)
    return {
        planned.name: StoredLayer(layer, planned, menu, medium, pruned=pruned)
        for layer, planned in zip(plan.layers_in(network), plan.layers, strict=True)
    }


def rewritten(network: Network, plan: Plan, card: devices.Card) -> Plan:
    """Move a plan to another network with the same layers: with its weights and the plan's codes, scales and biases."""
    return plan_as_stored(network, plan, stored_layers(network, plan, card))


def plan_as_stored(network: Network, plan: Plan, stored: dict[str, StoredLayer]) -> Plan:
    """The plan of a network after training: with the scales, biases and rows that its layers store."""
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
    # The cells of entropy-coded groups depend on their weights.
    ledger = {**plan.ledger, **cells_of(tuple(layers), menu, plan.bits_per_cell)}
    return dataclasses.replace(plan, network_sha256=network.sha256, layers=tuple(layers), ledger=ledger)
