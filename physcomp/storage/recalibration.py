"""Recalibration: sets gains and biases after read-back, so that channels' outputs are as in the clean network.

Others estimate the statistics of batch norms again after drift (Joshi et al., Nat. Commun. 11:2473, 2020, doi
10.1038/s41467-020-16108-9). Here norms are folded, so the same is done on each convolution and linear layer: the mean
and the variance of every output before the activation are matched to those of the clean network on calibration images.
Layers are matched one by one from the input on, each with those before it already recalibrated. Gains and biases are
bfloat16 numbers that must be stored again, and are counted.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from physcomp.codes.base import SCALE_BITS
from physcomp.networks.calls import Call, Watched
from physcomp.networks.device import CPU
from physcomp.networks.layers import Layer, layers_of, rows_of, tensor_of
from physcomp.networks.network import Network
from physcomp.networks.samples import Samples

BATCH = 250


@dataclass(frozen=True, eq=False)
class Recalibrated:
    """The parameters of a network after recalibration, and what that takes.

    Args:
        state: parameters by name, with the gains multiplied into the weights.
        extra_bits: bits of the new gains and biases, stored digitally in addition to the chip.
        extra_cells: the cells that these bits take.
    """

    state: dict[str, torch.Tensor]
    extra_bits: int
    extra_cells: float


def recalibrate(
    network: Network,
    state: Mapping[str, torch.Tensor],
    images: Samples,
    *,
    bits_per_cell: float,
    gains: bool = True,
) -> Recalibrated:
    """Match the mean and (with `gains`) the variance of every channel's outputs to those of the clean network.

    Args:
        network: the clean network; means are not matched in layers without biases.
        state: parameters from `physcomp.Chip.read_back`.
        images: calibration images, labels unused; a few hundred are enough.
        bits_per_cell: bits that a cell holds reliably (`plan.bits_per_cell`).
        gains: whether variances are matched too, for 16 more bits per channel.

    Raises:
        ValueError: the number of bits is not above 0, or a parameter of a layer is missing in the state or of
                another shape.

    Example:
        >>> module = torch.nn.Sequential(torch.nn.Linear(2, 2))
        >>> network = Network("two", module.eval(), ())
        >>> drifted = {name: 0.5 * tensor for name, tensor in module.state_dict().items()}
        >>> images = Samples(torch.rand(8, 2), torch.zeros(8, dtype=torch.int64))
        >>> again = recalibrate(network, drifted, images, bits_per_cell=2.0)
        >>> bool(torch.allclose(again.state["0.weight"], module[0].weight, rtol=0.01)), again.extra_cells
        (True, 32.0)
    """
    if not bits_per_cell > 0:
        raise ValueError(f"recalibration: bits a cell holds must be above 0, got {bits_per_cell:g}; use the plan's")
    network = network.on(CPU)
    back = replace(network, module=copy.deepcopy(network.module))
    layers = layers_of(network.module)
    missing = [layer.weight for layer in layers if layer.weight not in state]
    if missing:
        raise ValueError(f"recalibration: the read-back has no '{missing[0]}'; is it another network's?")
    shapes = {name: tuple(tensor.shape) for name, tensor in back.module.state_dict().items()}
    other = [name for name, tensor in state.items() if name in shapes and tuple(tensor.shape) != shapes[name]]
    if other:
        raise ValueError(
            f"recalibration: {network.name} has {shapes[other[0]]} weights in '{other[0]}', the read-back "
            f"{tuple(state[other[0]].shape)}; is it another network's?"
        )
    back.module.load_state_dict(dict(state), strict=False)
    wanted = _moments(network, layers, images)
    bits = 0
    for layer in layers:
        found = _moments(back, (layer,), images) if layer.name in wanted else {}
        if layer.name not in found:
            continue
        (mean, sd), (mean_wanted, sd_wanted) = found[layer.name], wanted[layer.name]
        weight = back.module.get_parameter(layer.weight)
        with torch.no_grad():
            gain = torch.ones_like(sd)
            if gains:
                gain = torch.where(sd > 0, sd_wanted / sd.clamp_min(1e-30), 1.0).bfloat16().float()
                rows = rows_of(weight, layer.transposed) * gain[:, None]
                weight.copy_(tensor_of(rows, layer.shape, layer.transposed))
                bits += SCALE_BITS * len(gain)
            if layer.bias is not None:
                bias = back.module.get_parameter(layer.bias_name)
                bias.copy_((mean_wanted - gain * (mean - bias)).bfloat16().float())
                bits += SCALE_BITS * len(gain)
    parameters = {name: tensor.detach().clone() for name, tensor in back.module.state_dict().items()}
    return Recalibrated(parameters, bits, bits / bits_per_cell)


@torch.inference_mode()
def _moments(
    network: Network, layers: tuple[Layer, ...], images: Samples
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Mean and standard deviation of each output channel of some layers, over images and pixels, by layer name.

    Sums are in float64. A layer whose weights no convolution or linear map uses has no outputs and is left out, and so
    is one whose outputs get a bias that is not its own, or that is used several times.
    """
    sums: dict[str, list[torch.Tensor]] = {}
    count: dict[str, int] = {}
    uses: dict[str, int] = {}

    def add(call: Call) -> None:
        name = layers[call.index].name
        own = call.bias is None or layers[call.index].bias is not None
        if call.operator == "lookup" or call.output.dim() < 2 or not own:
            return
        values = call.output.transpose(0, call.channel).flatten(1).double()
        zero = torch.zeros(())
        first, second = sums.get(name, [zero, zero])
        sums[name] = [first + values.sum(1), second + values.square().sum(1)]
        count[name] = count.get(name, 0) + values.shape[1]
        uses[name] = uses.get(name, 0) + 1

    numbers = {id(network.module.get_parameter(layer.weight)): index for index, layer in enumerate(layers)}
    passes = range(0, len(images), BATCH)
    with Watched(numbers, add):
        for start in passes:
            network.outputs(images[start : start + BATCH].inputs)
    found = {}
    for name, (first, second) in sums.items():
        if uses[name] == len(passes):
            mean = first / count[name]
            found[name] = (mean.float(), (second / count[name] - mean.square()).clamp_min(0).sqrt().float())
    return found
