"""Devices of torch on which networks run: the processor, or a GPU.

Only passes of networks and their gradients run there. Weights, cells, random numbers and sums over samples stay on the
processor, so that a seed gives the same noise whatever the device, and results are equal up to float errors.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from physcomp.networks.samples import Inputs, changed

CPU = "cpu"


def checked_device(name: str) -> str:
    """The name of a device, if it is here.

    On a CUDA device TF32 is turned off for the process, since it rounds to ten bits.

    Raises:
        ValueError: there is no such device.
    """
    try:
        device = torch.device(name)
        torch.ones(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        reason = " ".join(str(error).split("\n")[0].split())[:100]
        raise ValueError(f"device: '{name}' is not here ({reason}); use one of {', '.join(devices_here())}") from None
    if device.type == "cuda":
        backends: Any = torch.backends
        for operators in (backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul):
            operators.fp32_precision = "ieee"
    return str(device)


def devices_here() -> tuple[str, ...]:
    """The names of the devices that can be used."""
    if not torch.accelerator.is_available():
        return (CPU,)
    kind = torch.accelerator.current_accelerator()
    assert kind is not None
    count = torch.accelerator.device_count()
    return (CPU, kind.type, *(f"{kind.type}:{number}" for number in range(count if count > 1 else 0)))


def copy_on(module: nn.Module, device: str) -> nn.Module:
    """A copy of a module on a device, in whatever place it holds its tensors; what is shared stays shared."""
    if device == CPU:
        return copy.deepcopy(module)
    with torch.inference_mode(False), torch.no_grad():
        memo: dict[int, Any] = {}
        for tensor in (*module.parameters(), *module.buffers()):
            moved = tensor.detach().to(device)
            if isinstance(tensor, nn.Parameter):
                moved = nn.Parameter(moved, requires_grad=tensor.requires_grad)
            memo[id(tensor)] = moved
        copied = copy.deepcopy(module, memo)
    for part in copied.eval().modules():
        if isinstance(part, nn.RNNBase):
            # Gradients of cuDNN's recurrent layers need training mode, which is no different without dropout.
            part.dropout = 0.0
            part.training = True
            part.flatten_parameters()
    return copied


def inputs_on(inputs: Inputs, device: str) -> Inputs:
    """Inputs on a device."""
    return inputs if device == CPU else changed(inputs, lambda tensor: tensor.to(device))


@contextmanager
def running_on(device: str) -> Iterator[None]:
    """While it is entered, new tensors are on a device unless something else is said; nothing changes for the cpu."""
    if device == CPU:
        yield
        return
    with torch.device(device):
        yield
