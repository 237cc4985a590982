"""Networks that are ready to be stored: batch norms folded, and a fingerprint by which a network is recognised."""

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
        name: the name in reports.
        module: in evaluation mode, with batch norms folded where possible; maps pixels in [0, 1] to logits.
        classes: the names of the classes, in the order of the logits; empty if they are unknown.
    """

    name: str
    module: nn.Module
    classes: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """Fingerprint of the module; see `fingerprint`."""
        return fingerprint(self.module)


def prepare(module: nn.Module) -> nn.Module:
    """Copy a module for storage: in evaluation mode, and with each batch norm folded into the layer before it.

    A folded norm costs nothing to store, since a filter's scale and bias are stored anyway. A module that torch.fx
    cannot trace keeps its norms, and storing their parameters is counted.

    Raises:
        ValueError: a weight is NaN or infinite.
    """
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"network: '{name}' holds NaN or infinite values; train it again")
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
    """Fingerprint of a module: SHA-256 over its operations, and names, shapes and values of parameters and buffers.

    Of a layer's settings only long-standing ones of torch are hashed, so that versions of torch agree on it.
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
    """Make a `Network` of your own PyTorch module: a copy in evaluation mode, with batch norms folded.

    Args:
        module: classifies images: (N, C, H, W) pixels in [0, 1] to (N, classes) logits.
        name: the name in reports.

    Raises:
        ValueError: a weight is NaN or infinite.
    """
    return Network(name, prepare(module), ())
