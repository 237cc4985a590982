"""Outputs, loss and accuracy of a network on images."""

import copy
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from physcomp.networks.images import Images
from physcomp.networks.network import Network

BATCH = 100  # images per forward pass, and losses per partial sum


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


@dataclass(frozen=True)
class Score:
    """How well a network classifies: mean cross-entropy in nats, and accuracy as a share of the images (0 to 1)."""

    loss: float
    accuracy: float


@torch.inference_mode()
def outputs_of(module: nn.Module, images: Images, batch: int = BATCH) -> torch.Tensor:
    """The outputs (logits) of a module, in evaluation mode, on images: float32 (N, classes).

    Raises:
        ValueError: the images do not fit the network, or a label is none of its classes.
    """
    parts = []
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        try:
            # Convolutions on a processor are fastest with the channels as the last axis in memory.
            parts.append(module(part.pixels.to(memory_format=torch.channels_last)))
        except RuntimeError as error:
            shape = tuple(part.pixels.shape[1:])
            raise ValueError(
                f"network: cannot take images of shape {shape} ({_one_line(error)}); use the data set it was trained on"
            ) from None
        if int(part.labels.max()) >= parts[-1].shape[1] or int(part.labels.min()) < 0:
            raise ValueError(
                f"images: label {int(part.labels.max())} is none of the network's {parts[-1].shape[1]} classes; "
                "use the data set it was trained on"
            )
    return torch.cat(parts)


def score(outputs: torch.Tensor, labels: torch.Tensor) -> Score:
    """Loss and accuracy of outputs (N, classes) against labels (N,).

    Losses are summed in float64.

    Raises:
        ValueError: an output is NaN.
    """
    loss = 0.0
    for start in range(0, len(labels), BATCH):
        part = slice(start, start + BATCH)
        loss += float(functional.cross_entropy(outputs[part], labels[part], reduction="none").double().sum())
    if loss != loss:
        raise ValueError("network: an output is NaN; check the weights and that pixels are in [0, 1]")
    return Score(loss / len(labels), int((outputs.argmax(1) == labels).sum()) / len(labels))


def evaluate(module: nn.Module, images: Images, batch: int = BATCH) -> Score:
    """Loss and accuracy of a module, in evaluation mode, on images.

    Raises:
        ValueError: the images do not fit the network, a label is none of its classes, or an output is NaN.
    """
    return score(outputs_of(module, images, batch), images.labels)


def outputs_of_state(network: Network, state: dict[str, torch.Tensor], images: Images) -> torch.Tensor:
    """The outputs (N, classes) of a network whose parameters are replaced; the network itself stays unchanged.

    Args:
        network: gives the architecture, and the parameters that `state` does not name.
        state: parameters and buffers by name, such as `physcomp.Chip.read_back` gives.
        images: the inputs.

    Raises:
        ValueError: the state does not fit the network, or the images do not.
    """
    module = copy.deepcopy(network.module)
    try:
        unexpected = module.load_state_dict(state, strict=False).unexpected_keys
    except RuntimeError as error:
        raise ValueError(f"read-back: does not fit network {network.name} ({_one_line(error)})") from None
    if unexpected:
        raise ValueError(f"read-back: network {network.name} has no {', '.join(unexpected)}; is it another network's?")
    return outputs_of(module, images)


def evaluate_state(network: Network, state: dict[str, torch.Tensor], images: Images) -> Score:
    """Loss and accuracy of a network whose parameters are replaced, such as by those read back from a chip.

    Args:
        network: gives the architecture, and the parameters that `state` does not name.
        state: parameters and buffers by name, such as `physcomp.Chip.read_back` gives.
        images: images with labels.

    Raises:
        ValueError: the state does not fit the network, the images do not, or an output is NaN.
    """
    return score(outputs_of_state(network, state, images), images.labels)
