"""Sequential rounding: rounds a plan layer after layer, each on the inputs it gets from the layers already stored.

The loss model is exact only for small errors. It does not see that rounding and pruning make outputs weaker from layer
to layer, that their errors shift the means of outputs, and that what one layer does wrong the next can make good. Here
each layer is rounded anew in the order in which the network uses them, on the inputs that it gets in the stored
network, towards the outputs that it has in the trained one (`physcomp.compensation.reconstruction`). Then each filter
gets the gain and the shift with the least squared difference between its outputs and the trained network's, after the
ReLU where one follows. The gain goes into the group's scale and the shift into its bias, which are stored anyway.
(Related to estimating the statistics of norms anew: Jordan et al., "REPAIR", ICLR 2023, arXiv 2211.08403. The fit to
rectified outputs is that of Zhang et al., IEEE TPAMI 38:1943, 2016, arXiv 1505.06798; here it lost less than matching
means and standard deviations.)

Groups whose code rounds to evenly spaced levels are rounded anew. Other groups that the plan holds rows of (sparse
codes) keep them and get a gain; all others get a shift alone. It works filter by filter, so only with granularity
`filter`, and on layers that are used once. It needs no labels.
"""

import copy
import dataclasses
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.overrides import TorchFunctionMode

from physcomp.choice.loss_model import LossModel
from physcomp.codes import Code, Medium
from physcomp.codes.base import Rows, to_bfloat16
from physcomp.compensation.reconstruction import Grid, fitted_rows, rounded_rows
from physcomp.networks.calls import Call, Watched
from physcomp.networks.device import CPU, inputs_on, running_on
from physcomp.networks.forward import forward
from physcomp.networks.layers import Layer, tensor_of
from physcomp.networks.network import Network
from physcomp.networks.positions import Positions, inputs_at, outputs_at, positions_of
from physcomp.networks.samples import Samples
from physcomp.storage.layer_plan import LayerPlan, cells_of, kept_rows, mean_read_back, rows_to_write
from physcomp.storage.plan import Plan, menu_of

# All of these are our choice.
IMAGES = 1000  # the most samples used
POSITIONS = (8192, 16384)  # positions of a layer, at least and at most; between them ...
PER_WEIGHT = 16  # ... so many for each weight of a filter
FOR_OUTPUTS, FOR_INPUTS = 4, 8  # the parts of the memory that outputs wanted and a layer's inputs take
PASSED = 3  # bytes that a pass takes for each byte of tensors that are alive at a time
LATE = 0.25  # the share of the samples that only serve for comparisons
GAINS = (0.5, 2.0)  # the smallest and the largest gain
STEPS = 12  # of the Gauss-Newton iteration; without a ReLU one full step is exact
STRIDE = 0.7  # the part of a full step that is taken, since the ReLU is not linear

Hook = Callable[[Layer, Call], torch.Tensor | None]


@dataclass(frozen=True, eq=False)
class Sequence:
    """The outputs of every filter of a trained network, towards which plans are rounded.

    Args:
        network: the trained network.
        medium: the cells that plans are made for.
        images: calibration images, labels unused.
        layers: the layers of the network.
        wanted: for each layer that is called once, some positions and the outputs there, (positions, channels).
        rectified: names of the layers whose output goes into a ReLU.
    """

    network: Network
    medium: Medium
    images: Samples
    layers: tuple[Layer, ...]
    wanted: dict[str, tuple[Positions, torch.Tensor]]
    rectified: frozenset[str]

    @classmethod
    def of(cls, model: LossModel) -> "Sequence":
        """Record the outputs of a loss model's network on some of its images."""
        room = model.memory_bytes
        places: dict[int, str] = {}
        met: list[torch.Tensor] = []  # kept, so that no other tensor gets the address of one
        rectified: set[str] = set()

        def place(layer: Layer, call: Call) -> None:
            places[call.output.data_ptr()] = layer.name
            met.append(call.output)

        def rectify(given: torch.Tensor) -> None:
            rectified.add(places.get(given.data_ptr(), ""))

        _run(model.network, model.layers, model.images[:1], place, rectify)
        met.clear()
        taken = PASSED * _alive(model.network, model.images[:1])
        images = model.images[: max(1, min(IMAGES, room // max(taken, 1)))]
        shared = room // (4 * FOR_OUTPUTS * sum(layer.groups for layer in model.layers))
        calls: dict[str, list[tuple[Positions, torch.Tensor]]] = {layer.name: [] for layer in model.layers}

        def keep(layer: Layer, call: Call) -> None:
            blocks = int(call.settings.get("groups", 1))
            most = min(max(POSITIONS[0], PER_WEIGHT * layer.weights), POSITIONS[1])
            most = max(1, min(most, shared, room // (4 * FOR_INPUTS * layer.weights * blocks)))
            positions = positions_of(call, most, call.index)
            calls[layer.name].append((positions, outputs_at(call, positions)))

        _run(model.network, model.layers, images, keep)
        wanted = {name: found[0] for name, found in calls.items() if len(found) == 1}
        return cls(model.network, model.medium, images, model.layers, wanted, frozenset(rectified - {""}))

    def rounded(self, plan: Plan, *, anew: bool = True) -> Plan:
        """The plan with rows rounded in sequence, and scales and biases corrected.

        Args:
            plan: a plan of this network.
            anew: whether rows are rounded anew; if not, all digits stay, and only scales and biases change.

        Returns:
            A plan whose cells are counted anew, since the bits of entropy-coded rows depend on them. The same plan if
            its groups are not filters.
        """
        if plan.granularity != "filter":
            return plan
        module = copy.deepcopy(self.network.module)
        menu = menu_of(plan)
        planned = {layer.name: layer for layer in plan.layers}
        rows = {layer.name: rows_to_write(planned[layer.name], menu, layer.rows) for layer in self.layers}
        module.load_state_dict(self._expected(plan, rows), strict=False)
        left = dict(self.wanted)

        def correct(layer: Layer, call: Call) -> torch.Tensor | None:
            positions, wanted = left.pop(layer.name, (None, None))
            shape = tuple(size for axis, size in enumerate(call.output.shape) if axis != call.channel)
            if positions is None or wanted is None or positions.shape != shape:
                return None  # behind a gate, what a layer sees and how often it is called may depend on weights
            old = planned[layer.name]
            if anew:
                old, output = self._rounded_layer(layer, call, old, menu, positions, wanted)
                call = dataclasses.replace(call, output=output)
            planned[layer.name], output = self._rescaled_layer(layer, call, old, menu, positions, wanted)
            return output

        _run(dataclasses.replace(self.network, module=module), self.layers, self.images, correct)
        layers = tuple(planned[layer.name] for layer in plan.layers)
        if not anew:
            return dataclasses.replace(plan, layers=layers)
        ledger = {**plan.ledger, **cells_of(layers, menu, plan.bits_per_cell)}
        return dataclasses.replace(plan, layers=layers, ledger=ledger)

    def _rounded_layer(
        self,
        layer: Layer,
        call: Call,
        old: LayerPlan,
        menu: tuple[Code, ...],
        positions: Positions,
        wanted: torch.Tensor,
    ) -> tuple[LayerPlan, torch.Tensor]:
        """The layer rounded anew, and its output for all samples."""
        grid = _grid_of(old, menu)
        inputs = inputs_at(call, positions) if grid.halves.any() else None
        if inputs is None or call.again is None:
            return old, call.output
        blocks = len(inputs)
        trained = torch.from_numpy(layer.rows).double().reshape(blocks, -1, layer.weights)
        biased = call.bias is not None and layer.bias_of_group
        bias = torch.zeros(()) if biased or call.bias is None else call.bias.detach().float().cpu()
        target = (wanted - bias).reshape(len(positions), blocks, -1).transpose(0, 1)
        late = positions.late(layer.axis, LATE)
        fitted, moments = fitted_rows(trained, inputs, target, late, biased=biased)
        if not bool(torch.isfinite(moments.covariance).all() and torch.isfinite(fitted).all()):
            return old, call.output  # inputs too large for float32 to be squared
        found = rounded_rows(fitted, moments, grid).reshape(layer.rows.shape)
        rows = rows_to_write(old, menu, layer.rows)
        anew = grid.halves > 0
        rows[anew] = found[anew]
        new = dataclasses.replace(old, rows=rows[kept_rows(old, menu)])
        read = torch.from_numpy(mean_read_back(new, menu, rows, self.medium))
        call.weight.data.copy_(tensor_of(read, layer.shape, layer.transposed))
        return new, call.again()

    def _rescaled_layer(
        self,
        layer: Layer,
        call: Call,
        old: LayerPlan,
        menu: tuple[Code, ...],
        positions: Positions,
        wanted: torch.Tensor,
    ) -> tuple[LayerPlan, torch.Tensor]:
        """The layer with new scales and biases, and its output for all samples."""
        output, given = call.output, _biases(old)
        kept = kept_rows(old, menu)
        free = outputs_at(call, positions).T - given[:, None]
        able = kept & (old.scales > 0) & (free.abs().amax(1) > 0).numpy()
        fitted = _fit(free, wanted.T, given, torch.from_numpy(able), layer.name in self.rectified)
        new, gains = _rescaled(old, able, *fitted)
        across = tuple(-1 if axis == call.channel else 1 for axis in range(output.dim()))
        before, factors, after = (
            each.reshape(across).to(output.device) for each in (given, torch.from_numpy(gains), _biases(new))
        )
        new = dataclasses.replace(new, rows=old.rows * gains[kept, None])
        return new, (output - before) * factors + after

    def _expected(self, plan: Plan, rows: dict[str, Rows]) -> dict[str, torch.Tensor]:
        """The parameters read back, as means over chips."""
        menu, state = menu_of(plan), {}
        for layer in plan.layers:
            read = mean_read_back(layer, menu, rows[layer.name], self.medium)
            state[layer.weight] = tensor_of(torch.from_numpy(read), layer.shape, layer.transposed)
            if len(layer.biases):
                state[layer.bias] = _biases(layer)
        return state


def _grid_of(layer: LayerPlan, menu: tuple[Code, ...]) -> Grid:
    """The levels of groups whose code rounds every weight to evenly spaced levels."""
    alphabets = [None if code.drops else code.alphabet for code in menu]
    usable = [each if each and each.zero else None for each in alphabets]
    halves = np.array([(each.count - 1) / 2 if each else 0.0 for each in usable])
    largest = np.array([half if each and each.step else 1.0 for each, half in zip(usable, halves, strict=True)])
    return Grid(layer.scales * largest[layer.codes], halves[layer.codes])


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


class _Alive(TorchFunctionMode):
    """While it is entered, the most bytes of tensors that were made and are alive at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.most: int = 0
        self.now: int = 0
        self.users: dict[int, int] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for tensor in found if isinstance(found, (tuple, list)) else (found,):
            if isinstance(tensor, torch.Tensor) and tensor.layout == torch.strided:
                storage = tensor.untyped_storage()
                key, size = storage.data_ptr(), storage.nbytes()
                self.now += 0 if self.users.get(key) else size
                self.users[key] = self.users.get(key, 0) + 1
                self.most = max(self.most, self.now)
                weakref.finalize(tensor, self._gone, key, size)
        return found

    def _gone(self, key: int, size: int) -> None:
        self.users[key] -= 1
        self.now -= 0 if self.users[key] else size


@torch.no_grad()
def _alive(network: Network, samples: Samples) -> int:
    """The most bytes that tensors of a pass take at a time."""
    with running_on(network.device), _Alive() as alive:
        forward(network.running, inputs_on(samples.inputs, network.device), network.output)
    return int(alive.most)


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
