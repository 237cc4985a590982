"""The weights of a network that is ready to be stored, as a file: its module must be built and wrapped as before.

Norms are folded in such a network, so that its tensors are not those of the module that was wrapped. The file says so,
and is loaded into the network after wrapping.
"""

import copy
import dataclasses
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from devices.files import replacing
from physcomp.networks.layers import aliases_of
from physcomp.networks.network import Network
from physcomp.networks.weight_files import load_weights

FORMAT = "physcomp-prepared-network"


def save_prepared(network: Network, path: Path | str) -> None:
    """Write the tensors of a network as a .safetensors file, shared ones once; a crash leaves no half-written file."""
    again = {name for name, _ in aliases_of(network.module)}
    state = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in network.module.state_dict().items()
        if isinstance(tensor, torch.Tensor) and name not in again
    }
    own = {name: tensor.clone() for name, tensor in state.items()}  # buffers may share memory
    with replacing(Path(path)) as temporary:
        save_file(own, temporary, metadata={"format": FORMAT, "network": network.name, "sha256": network.sha256})


def is_prepared(path: Path | str) -> bool:
    """Whether a file was written by `save_prepared`."""
    try:
        with safe_open(path, "pt") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except (OSError, SafetensorError):
        return False


def load_prepared(network: Network, path: Path | str) -> Network:
    """The network with the weights of a file that `save_prepared` wrote.

    Args:
        network: built and wrapped as the one that was saved, whatever weights it has; it is not changed.
        path: the file.

    Raises:
        ValueError: there is no such file, or its tensors are not those of the network.
    """
    path = Path(path)
    if path.is_file() and not is_prepared(path):
        raise ValueError(f"{path}: holds no network that is ready to be stored; load it before wrapping")
    module = copy.deepcopy(network.module)
    load_weights(module, path, f"network {network.name}")
    loaded = dataclasses.replace(network, module=module)
    with safe_open(path, "pt") as file:
        saved = (file.metadata() or {}).get("sha256")
    if saved != loaded.sha256:
        raise ValueError(
            f"{path}: was saved from a network of other code or settings than {network.name}; build and wrap it as then"
        )
    return loaded
