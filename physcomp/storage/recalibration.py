"""Recalibration: sets gains and biases after read-back, so that channels' outputs are as in the clean network.

Others estimate the statistics of batch norms again after drift (Joshi et al., Nat. Commun. 11:2473, 2020, doi
10.1038/s41467-020-16108-9). Here norms are folded, so the same is done on each Conv2d and Linear layer: the mean and
the variance of every output before the activation are matched to those of the clean network on calibration images.
Layers are matched one by one from the input on, each with those before it already recalibrated. Gains and biases are
bfloat16 numbers that must be stored again, and are counted.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from physcomp.codes.base import SCALE_BITS
from physcomp.networks.images import Images
from physcomp.networks.network import Network

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
    images: Images,
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
        >>> images = Images(torch.rand(8, 2), torch.zeros(8, dtype=torch.int64))
        >>> again = recalibrate(network, drifted, images, bits_per_cell=2.0)
        >>> bool(torch.allclose(again.state["0.weight"], module[0].weight, rtol=0.01)), again.extra_cells
        (True, 32.0)
    """
    if not bits_per_cell > 0:
        raise ValueError(f"recalibration: bits a cell holds must be above 0, got {bits_per_cell:g}; use the plan's")
    back = copy.deepcopy(network.module)
    layers = [name for name, part in network.module.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    missing = [name for name in layers if f"{name}.weight" not in state]
    if missing:
        raise ValueError(f"recalibration: the read-back has no '{missing[0]}.weight'; is it another network's?")
    shapes = {name: tuple(tensor.shape) for name, tensor in back.state_dict().items()}
    other = [name for name, tensor in state.items() if name in shapes and tuple(tensor.shape) != shapes[name]]
    if other:
        raise ValueError(
            f"recalibration: {network.name} has {shapes[other[0]]} weights in '{other[0]}', the read-back "
            f"{tuple(state[other[0]].shape)}; is it another network's?"
        )
    back.load_state_dict(dict(state), strict=False)
    wanted = _moments(network.module, layers, images)
    bits = 0
    for name in wanted:
        (mean, sd), (mean_wanted, sd_wanted) = _moments(back, [name], images)[name], wanted[name]
        part = back.get_submodule(name)
        assert isinstance(part, nn.Conv2d | nn.Linear)
        with torch.no_grad():
            gain = torch.ones_like(sd)
            if gains:
                gain = torch.where(sd > 0, sd_wanted / sd.clamp_min(1e-30), 1.0).bfloat16().float()
                part.weight.mul_(gain.reshape(-1, *[1] * (part.weight.dim() - 1)))
                bits += SCALE_BITS * len(gain)
            if part.bias is not None:
                part.bias.copy_((mean_wanted - gain * (mean - part.bias)).bfloat16().float())
                bits += SCALE_BITS * len(gain)
    parameters = {name: tensor.detach().clone() for name, tensor in back.state_dict().items()}
    return Recalibrated(parameters, bits, bits / bits_per_cell)


@torch.inference_mode()
def _moments(module: nn.Module, layers: list[str], images: Images) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Mean and standard deviation of each output channel of some layers, over images and pixels.

    Sums are in float64. A layer that is never called has no outputs and is left out.
    """
    sums = {name: [torch.zeros(()), torch.zeros(())] for name in layers}
    count = dict.fromkeys(layers, 0)

    def hook(name: str) -> Callable[..., None]:
        def add(part: nn.Module, arguments: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            channel = 1 if isinstance(part, nn.Conv2d) else output.dim() - 1
            values = output.transpose(0, channel).flatten(1).double()
            sums[name] = [sums[name][0] + values.sum(1), sums[name][1] + values.square().sum(1)]
            count[name] += values.shape[1]

        return add

    handles = [module.get_submodule(name).register_forward_hook(hook(name)) for name in layers]
    try:
        for start in range(0, len(images), BATCH):
            module(images.pixels[start : start + BATCH])
    finally:
        for handle in handles:
            handle.remove()
    found = {}
    for name, (first, second) in sums.items():
        if not count[name]:
            continue
        mean = first / count[name]
        found[name] = (mean.float(), (second / count[name] - mean.square()).clamp_min(0).sqrt().float())
    return found
