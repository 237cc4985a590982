"""Networks: from a description to a module, norms folded, fingerprints, and loss and accuracy on images.

A description is a TOML file beside a safetensors file. Its `layers` are read in order:
`conv OUT KERNEL` (stride 1, same padding), `norm` (batch norm), `relu`, `pool K`, `flatten`, `linear OUT`.
"""

import copy
import hashlib
from dataclasses import dataclass

import torch
from torch import nn
from torch.fx import GraphModule, symbolic_trace
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval


@dataclass(frozen=True, eq=False)
class Network:
    """A trained network, ready to be stored.

    Args:
        name: what reports call it.
        module: in evaluation mode, norms folded where they follow a convolution; takes pixels in [0, 1].
        classes: the names of the classes.
    """

    name: str
    module: nn.Module
    classes: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """Fingerprint of names, shapes and values of everything the module holds."""
        return fingerprint(self.module)


def prepare(module: nn.Module) -> nn.Module:
    """Copy a module for storage: evaluation mode, and each batch norm folded into the layer before it.

    A folded norm costs nothing to store, since scale and bias of the filter are stored anyway. A module that
    torch.fx cannot trace keeps its norms, and their parameters are counted.

    Raises:
        ValueError: a weight is NaN or infinite.
    """
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"network: '{name}' holds NaN or infinite values; store a network that trained soundly")
    copied = copy.deepcopy(module).eval()
    try:
        graph = symbolic_trace(copied)
    except Exception:  # torch.fx raises many kinds, and all mean the same: it cannot be traced
        return copied
    return _fold_norms(graph)


def _fold_norms(graph: GraphModule) -> GraphModule:
    """Fold each batch norm whose input is one convolution or linear layer that feeds nothing else."""
    parts = dict(graph.named_modules())
    calls = [node.target for node in graph.graph.nodes if node.op == "call_module"]
    for node in graph.graph.nodes:
        if node.op != "call_module" or not isinstance(parts[node.target], nn.BatchNorm1d | nn.BatchNorm2d):
            continue
        before = node.args[0]
        if before.op != "call_module" or len(before.users) > 1 or calls.count(before.target) > 1:
            continue
        layer, norm = parts[before.target], parts[node.target]
        if isinstance(layer, nn.Conv2d):
            graph.set_submodule(before.target, fuse_conv_bn_eval(layer, norm))
        elif isinstance(layer, nn.Linear) and isinstance(norm, nn.BatchNorm1d):
            graph.set_submodule(before.target, fuse_linear_bn_eval(layer, norm))
        else:
            continue
        node.replace_all_uses_with(before)
        graph.graph.erase_node(node)
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph.eval()


def fingerprint(module: nn.Module) -> str:
    """SHA-256 over what a module computes, in its parts and between them, and names, shapes and values of all it holds.

    Only settings that torch has kept for years go in, so that another version of torch knows the network again.
    """
    digest = hashlib.sha256()
    for name, part in module.named_modules():
        settings = {setting: getattr(part, setting) for setting in getattr(part, "__constants__", ())}
        kind = "GraphModule" if isinstance(part, GraphModule) else type(part).__qualname__
        digest.update(f"{name} {kind} {settings}\n".encode())
        for node in part.graph.nodes if isinstance(part, GraphModule) else ():
            target = getattr(node.target, "__name__", node.target)
            digest.update(f"{node.op} {target} {node.args} {node.kwargs}\n".encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def wrap(module: nn.Module, name: str = "network") -> Network:
    """A network of one's own: prepared for storage, under a name, its classes unnamed."""
    return Network(name, prepare(module), ())
