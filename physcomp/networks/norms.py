"""Folds batch norms into the layers before them, where the outputs stay the same."""

import copy
from typing import Any

import torch
from torch import nn
from torch.fx import GraphModule, Node, Tracer
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from physcomp.networks.forward import Pick, forward
from physcomp.networks.samples import Inputs

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
CLOSE = 1e-4  # the largest change of an output by folding, over the largest output; rounding alone is about 1e-6
SIZES = (28, 32, 8, 64, 224)  # heights and widths that are tried where no inputs are given


class _Tracer(Tracer):
    """Keeps subclasses of layers whole, which torch.fx would trace through."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, CONVOLUTIONS + TRANSPOSED + (nn.Linear,)) or super().is_leaf_module(
            m, module_qualified_name
        )


def folded(module: nn.Module, inputs: Inputs | None = None, output: Pick = None) -> nn.Module:
    """Fold each batch norm whose input is one convolution or linear layer that feeds nothing else.

    Args:
        module: in evaluation mode; a private copy, which is not used afterwards.
        inputs: some inputs; folds are kept only if the outputs on them stay the same. None: random inputs of a likely
            shape; if the module takes none of these, only norms after convolutions are folded.
        output: which output counts, if there are several.

    Returns:
        The module as a graph without folded norms; the module itself if torch.fx cannot trace it.
    """
    if inputs is None:
        inputs = _guessed(module, output)
    wanted = None if inputs is None else _outputs(module, inputs, output)
    for subclasses in (True, False):  # a subclass of a layer may make another use of its weights or none of its bias
        graph = _traced(module)
        if graph is None:
            return module
        ranks = {} if inputs is None else _ranks(graph, inputs)
        _fold(graph, ranks, subclasses=subclasses)
        if wanted is None or _close(_outputs(graph, inputs, output), wanted):
            return graph
    graph = _traced(module)
    return graph if graph is not None and _close(_outputs(graph, inputs, output), wanted) else module


def _traced(module: nn.Module) -> GraphModule | None:
    try:
        tracer = _Tracer()
        graph = tracer.trace(module)
        traced = _Traced(tracer.root, graph, type(module).__name__).eval()
    except Exception:  # torch.fx raises many kinds, and all mean the same: it cannot be traced
        return None
    _keep_unsaved(module, traced)
    return traced


class _Traced(GraphModule):
    """A traced module, whose copies do not save buffers that it does not save."""

    def __deepcopy__(self, memo: dict[int, Any]) -> GraphModule:
        copied: GraphModule = super().__deepcopy__(memo)
        _keep_unsaved(self, copied)
        return copied


def _keep_unsaved(module: nn.Module, graph: GraphModule) -> None:
    """Do not save buffers that a module does not save; graphs made of it would."""
    unsaved = {name for name, _ in module.named_buffers()} - set(module.state_dict())
    for name, buffer in list(graph.named_buffers()):
        place, _, last = name.rpartition(".")
        if name in unsaved:
            owner = graph.get_submodule(place)
            delattr(owner, last)
            owner.register_buffer(last, buffer, persistent=False)


def _fold(graph: GraphModule, ranks: dict[str, int], *, subclasses: bool) -> None:
    parts = dict(graph.named_modules())
    calls = [node.target for node in graph.graph.nodes if node.op == "call_module"]
    owners: dict[int, int] = {}
    for part in set(parts.values()):
        for parameter in part.parameters(recurse=False):
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    for node in graph.graph.nodes:
        if node.op != "call_module" or not isinstance(parts[str(node.target)], NORMS):
            continue
        before: Any = node.args[0] if node.args else None
        if not isinstance(before, Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        if calls.count(before.target) > 1 or calls.count(node.target) > 1:
            continue
        layer, norm = parts[str(before.target)], parts[str(node.target)]
        plain_layer = type(layer).__module__.startswith("torch.nn.")
        shared = any(owners.get(id(parameter), 1) > 1 for parameter in layer.parameters(recurse=False))
        merged = (
            None if shared or not (subclasses or plain_layer) else _merged(layer, norm, ranks.get(str(node.target)))
        )
        if merged is not None:
            graph.set_submodule(str(before.target), merged)
            parts[str(before.target)] = merged
            node.replace_all_uses_with(before)
            graph.graph.erase_node(node)
    graph.delete_all_unused_submodules()
    graph.recompile()
    graph.eval()


def _merged(layer: nn.Module, norm: nn.Module, rank: int | None) -> nn.Module | None:
    """The layer with the norm folded in, or None if that would change outputs; `rank` is that of the norm's input."""
    if getattr(norm, "running_mean", None) is None:
        return None  # it takes the statistics of the batch
    norm = _scaled(norm)
    batched = len(layer.kernel_size) + 2 if isinstance(layer, CONVOLUTIONS + TRANSPOSED) else 2
    if rank not in (batched, None):
        return None
    if isinstance(layer, CONVOLUTIONS) and len(norm.running_mean) == layer.out_channels:  # type: ignore[arg-type]
        return fuse_conv_bn_eval(layer, norm)  # type: ignore[arg-type]
    if isinstance(layer, TRANSPOSED) and layer.groups == 1:
        return fuse_conv_bn_eval(layer, norm, transpose=True)  # type: ignore[arg-type]
    if isinstance(layer, nn.Linear) and rank == batched:
        return fuse_linear_bn_eval(layer, norm)  # type: ignore[arg-type]
    return None


def _scaled(norm: nn.Module) -> nn.Module:
    """The norm with a scale and a shift, which may be 1 and 0: torch folds only such."""
    if getattr(norm, "weight", None) is not None:
        return norm
    mean = norm.get_buffer("running_mean")
    scaled = copy.copy(norm)
    scaled._parameters = {**norm._parameters}
    scaled.weight, scaled.bias = nn.Parameter(torch.ones_like(mean)), nn.Parameter(torch.zeros_like(mean))
    return scaled


@torch.no_grad()
def _ranks(graph: GraphModule, inputs: Inputs) -> dict[str, int]:
    """The number of axes of each norm's input, by the norm's name."""
    found: dict[str, int] = {}

    def keep(name: str) -> Any:
        return lambda part, given: found.__setitem__(name, given[0].dim())

    handles = [p.register_forward_pre_hook(keep(n)) for n, p in graph.named_modules() if isinstance(p, NORMS)]
    _outputs(graph, inputs, None)
    for handle in handles:
        handle.remove()
    return found


@torch.no_grad()
def _outputs(module: nn.Module, inputs: Inputs | None, output: Pick) -> torch.Tensor | None:
    try:
        return None if inputs is None else forward(module, inputs, output)
    except ValueError:
        return None


def _close(found: torch.Tensor | None, wanted: torch.Tensor | None) -> bool:
    if found is None or wanted is None:
        return found is wanted
    return bool((found - wanted).abs().max() <= CLOSE * wanted.abs().max())


def _guessed(module: nn.Module, output: Pick) -> Inputs | None:
    """Random inputs of a shape that the module takes; None if none was found."""
    generator = torch.Generator().manual_seed(0)
    first = next((p for p in module.modules() if isinstance(p, CONVOLUTIONS + TRANSPOSED + (nn.Linear,))), None)
    if first is None:
        return None
    if isinstance(first, nn.Linear):
        shapes: list[tuple[int, ...]] = [(first.in_features,)]
    else:
        shapes = [(first.in_channels, *[size] * len(first.kernel_size)) for size in SIZES]
    for shape in shapes:
        inputs = torch.rand(2, *shape, generator=generator)
        if _outputs(module, inputs, output) is not None:
            return inputs
    return None
