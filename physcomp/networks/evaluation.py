"""Loss and accuracy of a network on images."""

import copy
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from physcomp.networks.images import Images
from physcomp.networks.network import Network


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


@dataclass(frozen=True)
class Score:
    """Mean cross-entropy in nats and the share of images whose largest logit is the label's."""

    loss: float
    accuracy: float


@torch.inference_mode()
def evaluate(module: nn.Module, images: Images, batch: int = 100) -> Score:
    """Loss and accuracy of a module, in evaluation mode, on images; summed in float64.

    Raises:
        ValueError: a logit is NaN.
    """
    loss, correct = 0.0, 0
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        try:
            # Channels last is what the processor's convolutions are fastest on.
            logits = module(part.pixels.to(memory_format=torch.channels_last))
        except RuntimeError as error:
            shape = tuple(part.pixels.shape[1:])
            raise ValueError(
                f"network: cannot take images of shape {shape} ({_one_line(error)}); use its own"
            ) from None
        if int(part.labels.max()) >= logits.shape[1] or int(part.labels.min()) < 0:
            raise ValueError(
                f"images: label {int(part.labels.max())} is none of the network's {logits.shape[1]} classes; "
                "use its own images"
            )
        loss += float(functional.cross_entropy(logits, part.labels, reduction="none").double().sum())
        correct += int((logits.argmax(1) == part.labels).sum())
    if loss != loss:
        raise ValueError("network: it answers NaN; check the weights and that pixels are in [0, 1]")
    return Score(loss / len(images), correct / len(images))


def evaluate_state(network: Network, state: dict[str, torch.Tensor], images: Images) -> Score:
    """Loss and accuracy of a network with other parameters; the network itself is left alone.

    Args:
        network: the architecture, and whatever `state` does not name.
        state: parameters and buffers by name, such as `physcomp.Chip.read_back` gives.
        images: what to score on.

    Raises:
        ValueError: the state does not fit the network, or a logit is NaN.
    """
    module = copy.deepcopy(network.module)
    try:
        unexpected = module.load_state_dict(state, strict=False).unexpected_keys
    except RuntimeError as error:
        raise ValueError(f"read-back: does not fit network {network.name} ({' '.join(str(error).split())})") from None
    if unexpected:
        raise ValueError(f"read-back: network {network.name} has no {', '.join(unexpected)}; is it another network's?")
    return evaluate(module, images)
