"""Outputs, loss and metric of a network on samples."""

import copy
import dataclasses
from dataclasses import dataclass

import torch
from torch import nn

from physcomp.networks.forward import _one_line
from physcomp.networks.network import Network
from physcomp.networks.samples import Samples, tensors_of
from physcomp.networks.task import CLASSES, Task

BATCH = 100  # samples per forward pass, and losses per partial sum
LARGEST = 1 << 21  # numbers in the inputs of a forward pass, so that large samples pass in smaller batches; our choice


@dataclass(frozen=True)
class Score:
    """How good outputs are.

    Args:
        loss: the mean loss: cross-entropy in nats, or for regression the mean squared error.
        accuracy: the task's metric, at most 1: the share of labels that are right, or for regression R²; NaN if the
            task has none.
    """

    loss: float
    accuracy: float


@torch.inference_mode()
def outputs_of(network: Network | nn.Module, samples: Samples, batch: int = BATCH) -> torch.Tensor:
    """The outputs of a network on samples: float32 (N, ...), such as logits (N, classes).

    Args:
        network: a network, or a module in evaluation mode that classifies.
        samples: inputs with labels.
        batch: samples per forward pass, at most; fewer if they are large.

    Raises:
        ValueError: the inputs do not fit the network, or the labels do not fit the outputs.
    """
    network = network_of(network)
    parts = []
    numbers = sum(tensor[0].numel() for tensor in tensors_of(samples.inputs))
    batch = max(1, min(batch, LARGEST // max(1, numbers)))
    for start in range(0, len(samples), batch):
        part = samples[start : start + batch]
        parts.append(network.outputs(part.inputs, channels_last=True))
        network.task.check(parts[-1], part.labels)
    return torch.cat(parts)


def network_of(given: Network | nn.Module) -> Network:
    """A network, or a module as one that classifies.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(given, Network):
        return given
    if isinstance(given, nn.Module):
        return Network("network", given, ())
    raise ValueError(f"network: a Network or a torch module, got {type(given).__name__}; wrap your module first")


def score(outputs: torch.Tensor, labels: torch.Tensor, task: Task = CLASSES) -> Score:
    """Loss and metric of outputs (N, ...) against labels (N, ...).

    Losses are summed in float64.

    Raises:
        ValueError: an output is NaN.
    """
    counted = [
        task.counted(outputs[start : start + BATCH], labels[start : start + BATCH])
        for start in range(0, len(labels), BATCH)
    ]
    total = sum(part.loss for part in counted)
    if total != total:
        raise ValueError("network: an output is NaN; check the weights and that pixels are in [0, 1]")
    whole = dataclasses.replace(
        counted[0], loss=total, good=sum(part.good for part in counted), count=sum(part.count for part in counted)
    )
    if not whole.count:
        raise ValueError("labels: none of them counts; give samples with labels that are not ignored")
    return Score(total / whole.count, task.quality(whole, labels))


def evaluate(network: Network | nn.Module, samples: Samples, batch: int = BATCH) -> Score:
    """Loss and metric of a network on samples.

    Args:
        network: a network, or a module in evaluation mode that classifies.
        samples: inputs with labels.
        batch: samples per forward pass.

    Raises:
        ValueError: the samples do not fit the network, or an output is NaN.
    """
    network = network_of(network)
    return score(outputs_of(network, samples, batch), samples.labels, network.task)


def outputs_of_state(network: Network, state: dict[str, torch.Tensor], samples: Samples) -> torch.Tensor:
    """The outputs (N, ...) of a network whose parameters are replaced; the network itself stays unchanged.

    Args:
        network: gives the architecture; buffers that `state` does not name stay.
        state: parameters and buffers by name, such as `physcomp.Chip.read_back` gives.
        samples: the inputs.

    Raises:
        ValueError: the state lacks a parameter or does not fit the network, or the samples do not.
    """
    module = copy.deepcopy(network.module)
    try:
        missing, unexpected = module.load_state_dict(state, strict=False)
    except (RuntimeError, AttributeError, TypeError) as error:
        raise ValueError(f"read-back: does not fit network {network.name} ({_one_line(error)})") from None
    if unexpected:
        raise ValueError(f"read-back: network {network.name} has no {', '.join(unexpected)}; is it another network's?")
    absent = sorted({name for name, _ in module.named_parameters()} & set(missing))
    if absent:
        raise ValueError(
            f"read-back: lacks {', '.join(absent[:3])} of network {network.name}; is it another network's?"
        )
    return outputs_of(dataclasses.replace(network, module=module), samples)


def evaluate_state(network: Network, state: dict[str, torch.Tensor], samples: Samples) -> Score:
    """Loss and metric of a network whose parameters are replaced, such as by those read back from a chip.

    Args:
        network: gives the architecture; buffers that `state` does not name stay.
        state: parameters and buffers by name, such as `physcomp.Chip.read_back` gives.
        samples: inputs with labels.

    Raises:
        ValueError: the state lacks a parameter or does not fit the network, the samples do not, or an output is NaN.
    """
    return score(outputs_of_state(network, state, samples), samples.labels, network.task)
