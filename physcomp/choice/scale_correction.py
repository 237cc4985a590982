"""Scale correction: sets the scales and biases of a plan so that filters' outputs are as in the trained network.

Rounding and pruning make outputs weaker from layer to layer, and their errors shift the means of outputs. The loss
model is exact only for small errors and does not see this. Both effects are corrected here layer by layer from the
input on, each layer with those before it already corrected. Each filter gets the gain and the shift with the least
squared difference between its outputs and the trained network's on calibration images, after the ReLU where one
follows. The gain goes into the group's scale and the shift into its bias. Both are stored anyway, so the correction
takes no cells. (Related to estimating the statistics of norms anew: Jordan et al., "REPAIR", ICLR 2023, arXiv
2211.08403. The fit to rectified outputs is that of Zhang et al., IEEE TPAMI 38:1943, 2016, arXiv 1505.06798; here it
lost less than matching means and standard deviations.)

Only groups whose code rounds or prunes them get a gain, since their outputs become weaker. The correction works filter
by filter, so only with granularity `filter`. It needs no labels.
"""

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from physcomp.choice.loss_model import LossModel
from physcomp.codes import Medium
from physcomp.codes.base import Rows, to_bfloat16
from physcomp.networks.calls import Call, Watched
from physcomp.networks.device import CPU, inputs_on, running_on
from physcomp.networks.forward import forward
from physcomp.networks.layers import Layer, tensor_of
from physcomp.networks.network import Network
from physcomp.networks.samples import Samples
from physcomp.storage.layer_plan import LayerPlan, kept_rows, mean_read_back, rows_to_write
from physcomp.storage.plan import Plan, menu_of

# All of these are our choice.
IMAGES = 1000  # the most images used
OUTPUTS = 8192  # the most outputs of one channel that are compared ...
FOR_OUTPUTS = 16  # ... and the part of the memory that those of all channels take
GAINS = (0.5, 2.0)  # the smallest and the largest gain
STEPS = 12  # of the Gauss-Newton iteration; without a ReLU one full step is exact
STRIDE = 0.7  # the part of a full step that is taken, since the ReLU is not linear

Hook = Callable[[Layer, Call], torch.Tensor | None]


@dataclass(frozen=True, eq=False)
class ScaleCorrection:
    """The outputs of every filter of a trained network, to which the outputs of plans are fitted.

    Args:
        network: the trained network.
        medium: the cells that plans are made for.
        images: calibration images, labels unused.
        layers: the layers of the network.
        wanted: for each layer that is called once, a sample of the outputs of each channel, (channels, outputs).
        rectified: names of the layers whose output goes into a ReLU.
        most: the most outputs of a channel that are compared.
    """

    network: Network
    medium: Medium
    images: Samples
    layers: tuple[Layer, ...]
    wanted: dict[str, torch.Tensor]
    rectified: frozenset[str]
    most: int = OUTPUTS

    @classmethod
    def of(cls, model: LossModel) -> "ScaleCorrection":
        """Record the outputs of a loss model's network on some of its images."""
        numbers = 0
        channels = sum(layer.groups for layer in model.layers)
        most = max(1, min(OUTPUTS, model.memory_bytes // (4 * FOR_OUTPUTS * channels)))
        calls: dict[str, list[torch.Tensor]] = {layer.name: [] for layer in model.layers}
        places: dict[int, str] = {}

        def count(layer: Layer, call: Call) -> None:
            nonlocal numbers
            numbers += call.output.numel()
            places[call.output.data_ptr()] = layer.name
            calls[layer.name].append(call.output)  # keeps the tensor, so that no other one gets its address

        def keep(layer: Layer, call: Call) -> None:
            calls[layer.name].append(_some(call, most))

        rectified: set[str] = set()
        _run(
            model.network,
            model.layers,
            model.images[:1],
            count,
            lambda given: rectified.add(places.get(given.data_ptr(), "")),
        )
        for outputs in calls.values():
            outputs.clear()
        images = model.images[: max(1, min(IMAGES, model.memory_bytes // (8 * max(numbers, 1))))]
        _run(model.network, model.layers, images, keep)
        wanted = {name: found[0] for name, found in calls.items() if len(found) == 1}
        return cls(model.network, model.medium, images, model.layers, wanted, frozenset(rectified - {""}), most)

    def corrected(self, plan: Plan) -> Plan:
        """The plan with corrected scales and biases; the same plan if its groups are not filters."""
        if plan.granularity != "filter":
            return plan
        module = copy.deepcopy(self.network.module)
        menu = menu_of(plan)
        planned = {layer.name: layer for layer in plan.layers}
        rows = {layer.name: rows_to_write(planned[layer.name], menu, layer.rows) for layer in self.layers}
        module.load_state_dict(self._expected(plan, rows), strict=False)
        left = dict(self.wanted)

        def correct(layer: Layer, call: Call) -> torch.Tensor | None:
            old, output = planned[layer.name], call.output
            some, wanted = _some(call, self.most), left.pop(layer.name, None)
            if wanted is None or wanted.shape != some.shape:
                return None  # behind a gate, what a layer sees and how often it is called may depend on weights
            kept = kept_rows(old, menu)
            given = _biases(old)
            free = some - given[:, None]
            able = kept & (old.scales > 0) & (free.abs().amax(1) > 0).numpy()
            fitted = _fit(free, wanted, given, torch.from_numpy(able), layer.name in self.rectified)
            new, gains = _rescaled(old, able, *fitted)
            planned[layer.name] = dataclasses.replace(new, rows=old.rows * gains[kept, None])
            across = _across(call)
            before, factors, after = (
                each.reshape(across).to(output.device) for each in (given, torch.from_numpy(gains), _biases(new))
            )
            return (output - before) * factors + after

        _run(dataclasses.replace(self.network, module=module), self.layers, self.images, correct)
        return dataclasses.replace(plan, layers=tuple(planned[layer.name] for layer in plan.layers))

    def _expected(self, plan: Plan, rows: dict[str, Rows]) -> dict[str, torch.Tensor]:
        """The parameters read back, as means over chips."""
        menu, state = menu_of(plan), {}
        for layer in plan.layers:
            read = mean_read_back(layer, menu, rows[layer.name], self.medium)
            state[layer.weight] = tensor_of(torch.from_numpy(read), layer.shape, layer.transposed)
            if len(layer.biases):
                state[layer.bias] = _biases(layer)
        return state


def _biases(layer: LayerPlan) -> torch.Tensor:
    """The bias of each group, or zeros if the layer has no biases."""
    return torch.from_numpy(layer.biases.copy()) if len(layer.biases) else torch.zeros(layer.groups)


def _fit(
    free: torch.Tensor, wanted: torch.Tensor, bias: torch.Tensor, able: torch.Tensor, rectified: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fit a gain and a bias for each channel, with the least squared difference from the outputs wanted.

    Args:
        free: (channels, outputs), outputs without the bias.
        wanted: (channels, outputs), outputs of the trained network with the bias.
        bias: (channels,), the bias at the start.
        able: (channels,), whether the channel can have a gain.
        rectified: whether only the positive part of outputs counts.
    """
    target = wanted.relu() if rectified else wanted
    gain, shift = torch.ones_like(bias), bias.clone()
    best, found = torch.full_like(bias, torch.inf), (gain, shift)
    for _ in range(STEPS + 1):
        output = gain[:, None] * free + shift[:, None]
        seen = (output > 0).float() if rectified else torch.ones_like(output)
        error = output * seen - target
        loss = error.square().mean(1)
        better = loss < best
        best = torch.where(better, loss, best)
        found = (torch.where(better, gain, found[0]), torch.where(better, shift, found[1]))
        error = error * seen
        aa, ab, bb = (seen * free * free).mean(1), (seen * free).mean(1), seen.mean(1).clamp(min=1e-3)
        u, v = (error * free).mean(1), error.mean(1)
        usable = able & (aa * bb - ab * ab > 1e-6 * aa * bb)
        determinant = torch.where(usable, aa * bb - ab * ab, 1.0)
        gain = torch.where(usable, gain - STRIDE * (bb * u - ab * v) / determinant, gain).clamp(*GAINS)
        shift = shift - STRIDE * torch.where(usable, (aa * v - ab * u) / determinant, v / bb)
    return found


def _rescaled(
    layer: LayerPlan, able: NDArray[np.bool_], gain: torch.Tensor, bias: torch.Tensor
) -> tuple[LayerPlan, NDArray[np.float32]]:
    """The layer with new scales and biases, and the gains after rounding scales to bfloat16."""
    new_scales = np.where(able, to_bfloat16(layer.scales * gain.numpy()), layer.scales)
    gains = np.where(able, new_scales / np.where(able, layer.scales, 1), 1).astype(np.float32)
    biases = to_bfloat16(bias.numpy()) if len(layer.biases) else layer.biases
    return dataclasses.replace(layer, scales=new_scales, biases=biases), gains


def _some(call: Call, most: int) -> torch.Tensor:
    """An evenly spaced sample of each channel's outputs over samples and positions: (channels, at most `most`).

    It is on the processor, wherever the network runs.
    """
    channels = call.output.detach().transpose(0, call.channel).flatten(1)
    return channels[:, :: -(-channels.shape[1] // most)].clone().cpu()


def _across(call: Call) -> tuple[int, ...]:
    """The shape in which one number per channel broadcasts over an output."""
    return tuple(-1 if axis == call.channel else 1 for axis in range(call.output.dim()))


@torch.no_grad()
def _run(
    network: Network,
    layers: tuple[Layer, ...],
    samples: Samples,
    hook: Hook,
    rectified: Callable[[torch.Tensor], None] | None = None,
) -> None:
    """Pass all samples through a network, with a hook that sees each layer's output and may replace it.

    The hook does not see lookups, which have no channels, nor layers whose channels are not their groups, nor those
    whose outputs get a bias that is not their own.
    """
    numbers = {id(network.running.get_parameter(layer.weight)): index for index, layer in enumerate(layers)}

    def see(call: Call) -> torch.Tensor | None:
        layer = layers[call.index]
        channels = call.output.shape[call.channel] if call.output.dim() > 1 else 0
        if call.operator == "lookup" or channels != layer.groups or (call.bias is not None and layer.bias is None):
            return None
        with torch.device(CPU):  # what hooks make is on the processor
            return hook(layer, call)

    with running_on(network.device), Watched(numbers, see, rectified):
        forward(network.running, inputs_on(samples.inputs, network.device), network.output)
