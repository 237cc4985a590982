"""Plain modules: what stands between a user's module and its weights is taken away, on a copy.

Wrappers are removed, parametrised and masked weights become ordinary parameters, tensors that are held in other ways
become parameters and buffers, and everything floating is float32 on the processor.
"""

from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from physcomp.networks.baked_weights import Baking
from physcomp.networks.module_copies import Held, plain_dtype, private_copy, unwrapped, walk, wrapped
from physcomp.networks.outside_weights import check_no_weights_outside

_QUANTISED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.ao.nn.sparse.quantized")
_FLOAT_AFTER_ALL = ("FloatFunctional", "FXFloatFunctional")  # of the quantised package, but of float networks
_TO_FLOAT = "pass the float network from before quantisation"


Run = Callable[[nn.Module], torch.Tensor]


def plain(module: nn.Module, run: Run | None = None) -> nn.Module:
    """A private copy of a module in evaluation mode: all that it holds is state, in plain float32 tensors.

    - `nn.DataParallel`, `DistributedDataParallel` and compiled modules are replaced by the module inside.
    - Weights that `torch.nn.utils.parametrize`, `weight_norm`, `spectral_norm` (old and new) or `prune` compute become
      parameters with the values that they have in evaluation mode.
    - Floating point becomes float32 and complex numbers complex64, on the processor; integers stay.
    - Tensors and modules held as attributes, in lists, in dicts or by functions become persistent buffers, parameters
      and submodules; a tensor that is no attribute itself gets a name such as `scales_0` and stays in its place too.
    - Tensors and modules that its code reads from outside of it are refused: nothing stores or counts them.
    - What was shared stays shared: tied weights are one parameter. Nothing is shared with the caller's module.

    Args:
        module: the caller's; it is not changed.
        run: gives the outputs of a module on a few samples. With it, tensors that a run replaces, such as attention
            that is kept to be looked at, are told from state and left alone, and the copy is checked against the module
            by its outputs. It only gets copies.

    Raises:
        ValueError: this is no module whose weights can be read, a parameter is NaN or infinite, a buffer is NaN,
            something cannot be copied, or the outputs are not the module's; it is named.
    """
    module = unwrapped(checked_module(module))
    dtypes = {tensor.dtype for tensor in (*module.parameters(), *module.buffers())}
    with torch.inference_mode(False), torch.no_grad(), torch.random.fork_rng(devices=()):
        for held in walk(module):
            _check_part(held)
        check_no_weights_outside(module)
        copied = private_copy(module)
        _set_dtypes(copied, {dtype for dtype in dtypes if dtype != plain_dtype(dtype)})
        wanted = None if run is None else _outputs(_evaluating(private_copy(copied)), run)
        _register_held(copied, nn.Module)
        _evaluating(copied)
        check_finite(copied)
        Baking().bake(copied)
        _own_class_tensors(copied)
        _register_held(copied, torch.Tensor, set() if run is None else _replaced(copied, run))
        if run is not None and wanted is not None:
            _check_outputs(wanted, _outputs(private_copy(copied), run))
    check_finite(copied)
    return copied


def _evaluating(module: nn.Module) -> nn.Module:
    """Set a module to evaluation mode, with the modules in it that are not registered."""
    for held in reversed(list(walk(module))):
        if isinstance(held.value, nn.Module):
            try:
                held.value.eval()
            except Exception as error:  # others' modules may do more than set a flag
                reason = " ".join(str(error).split())
                raise ValueError(f"network: {held.title} fails in eval() ({reason}); correct it") from error
    return module


def _outputs(module: nn.Module, run: Run) -> torch.Tensor:
    """The outputs of a run; random numbers are the same each time."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        return run(module)


def _replaced(module: nn.Module, run: Run) -> set[str]:
    """The names of the tensors in whose place a run puts others."""
    scratch = private_copy(module)
    before = {held.name: held.value for held in walk(scratch) if isinstance(held.value, torch.Tensor)}
    _outputs(scratch, run)
    after = {held.name: held.value for held in walk(scratch)}
    return {name for name, tensor in before.items() if after.get(name) is not tensor}


def _check_outputs(wanted: torch.Tensor, found: torch.Tensor) -> None:
    scale = max(1.0, float(wanted.abs().nan_to_num(0, 0, 0).max())) if wanted.numel() else 1.0
    if wanted.shape == found.shape and torch.allclose(wanted, found, rtol=0, atol=1e-4 * scale, equal_nan=True):
        return
    change = "their shape" if wanted.shape != found.shape else f"by {float((wanted - found).abs().max()):.3g}"
    raise ValueError(
        f"network: its outputs change ({change}) when its weights are made plain; make what it holds in lists, dicts "
        "and hooks its parameters, buffers and submodules, and compute no weights in hooks"
    )


def checked_module(value: Any, subject: str = "network") -> nn.Module:
    """The value itself if it is a module whose weights can be read.

    Raises:
        ValueError: it is anything else; its type is named, and what to pass.
    """
    if isinstance(value, nn.Module) and not isinstance(value, torch.jit.ScriptModule):
        return value
    kind = "class" if isinstance(value, type) else type(value).__name__
    match value:
        case torch.jit.ScriptModule() | torch.jit.ScriptFunction():
            cure = "pass the nn.Module that it was made from"
        case type():
            cure = f"pass an object of it, {value.__name__}(…)"
        case str() | Path():
            cure = "build the module and load its weights, then pass the module"
        case dict():
            cure = "build the module, call its load_state_dict, then pass the module"
        case _ if type(value).__module__.startswith("torch.export"):
            cure = "pass what its .module() returns"
        case _ if isinstance(getattr(value, "module", None), nn.Module):
            cure = "pass its .module"
        case _ if callable(value):
            cure = "pass the module that it returns"
        case _:
            cure = "pass the trained module"
    raise ValueError(f"{subject}: must be a torch.nn.Module, got a {kind}; {cure}")


def _check_part(held: Held) -> None:
    """Refuse what has no weights that can be read."""
    value, title = held.value, held.title
    if isinstance(value, nn.Module):
        if isinstance(value, torch.jit.ScriptModule):
            raise ValueError(f"network: {title} is a TorchScript module; pass the nn.Module that it was made from")
        if _quantised(value):
            raise ValueError(f"network: {title} is quantised ({type(value).__name__}); {_TO_FLOAT}")
        if wrapped(value) is not None and (value._forward_hooks or value._forward_pre_hooks):
            kind = type(value).__name__
            raise ValueError(f"network: {title} ({kind}) has hooks; register them on the module inside it")
    elif isinstance(value, torch.ScriptObject):
        raise ValueError(f"network: {title} holds packed weights; {_TO_FLOAT}")
    elif isinstance(value, UninitializedParameter | UninitializedBuffer):
        raise ValueError(f"network: {title} has no shape yet (a lazy layer); run the module on one batch first")
    elif isinstance(value, torch.Tensor):
        if value.is_quantized:
            raise ValueError(f"network: {title} is a quantised tensor; {_TO_FLOAT}")
        if hasattr(value, "__tensor_flatten__"):
            kind = type(value).__name__
            raise ValueError(f"network: {title} is a {kind}, made of other tensors; pass the network of plain tensors")
        if value.is_nested:
            raise ValueError(f"network: {title} is a nested tensor; hold its parts as tensors of their own")
        if value.is_meta:
            raise ValueError(f"network: {title} is on the meta device and has no values; load the weights first")


def _quantised(module: nn.Module) -> bool:
    kind = type(module)
    home = kind.__module__
    return home.startswith(_QUANTISED) and ".reference" not in home and kind.__name__ not in _FLOAT_AFTER_ALL


def check_finite(module: nn.Module, subject: str = "network") -> None:
    """Refuse parameters that are NaN or infinite, running statistics too, and buffers that are NaN.

    An infinite value of a buffer is legal: it is how masks are written. Tensors without values yet (lazy ones, and
    those on the meta device) pass, as do quantised ones.

    Raises:
        ValueError: names the tensor.
    """
    for name, parameter in module.named_parameters():
        if _has_values(parameter) and not bool(torch.isfinite(_values(parameter)).all()):
            raise ValueError(f"{subject}: '{name}' holds NaN or infinite values; train it again")
    for name, buffer in module.named_buffers():
        if not _has_values(buffer):
            continue
        values = _values(buffer)
        running = name.rpartition(".")[2] in ("running_mean", "running_var")
        if bool(values.isnan().any()) or (running and bool(values.isinf().any())):
            raise ValueError(f"{subject}: '{name}' holds NaN or infinite values; train it again")


def _has_values(tensor: torch.Tensor) -> bool:
    return not (
        isinstance(tensor, UninitializedParameter | UninitializedBuffer) or tensor.is_meta or tensor.is_quantized
    )


def _values(tensor: torch.Tensor) -> torch.Tensor:
    data = tensor.detach()
    if data.layout == torch.sparse_coo:
        data = data.coalesce()
    data = data if data.layout == torch.strided else data.values()
    return data.float() if data.is_floating_point() else data


def _register_held(module: nn.Module, kind: type, without: Container[str] = ()) -> None:
    """Register the modules, or the tensors, that a module holds in other ways, in place.

    Args:
        module: the module.
        kind: `nn.Module` or `torch.Tensor`.
        without: names of what is left alone.
    """
    known = {id(value) for value in (*module.modules(), *module.parameters(), *module.buffers())}
    for held in list(walk(module)):
        value, owner = held.value, held.owner
        if id(value) in known or not isinstance(value, kind) or held.name in without:
            continue
        if isinstance(value, nn.Module):
            inside = list(value.modules())
            if any(part is owner for part in inside):
                continue  # an upward reference
            if isinstance(owner, nn.Sequential | nn.ModuleList | nn.ModuleDict):
                raise ValueError(
                    f"network: the module '{held.name}' is not registered, and '{held.owner_name}' would call it if it "
                    "were; make it an attribute of another module"
                )
            owner.add_module(_free_name(held), value)
            known |= {id(entry) for entry in (*inside, *value.parameters(), *value.buffers())}
        elif isinstance(value, nn.Parameter):
            owner.register_parameter(_free_name(held), value)
        elif isinstance(value, torch.Tensor):
            owner.register_buffer(_free_name(held), value)
        known.add(id(value))


def _free_name(held: Held) -> str:
    """The name under which a held object is registered; an attribute of that name that is it gives way."""
    name = "_".join(held.path).replace(".", "_")
    if vars(held.owner).get(name) is held.value and not hasattr(type(held.owner), name):
        delattr(held.owner, name)
    names = (name + "_" * more for more in range(9))
    if (free := next((name for name in names if not hasattr(held.owner, name)), None)) is None:
        kind = type(held.owner).__name__
        raise ValueError(
            f"network: '{held.name}' cannot be registered, since {kind} has any attribute; register it first"
        )
    return free


def _own_class_tensors(module: nn.Module) -> None:
    """Give each module a copy of its own of the tensors that are attributes of its class."""
    for part in module.modules():
        for kind in type(part).__mro__:
            for name, value in vars(kind).items():
                if isinstance(value, torch.Tensor) and getattr(type(part), name) is value and name not in vars(part):
                    vars(part)[name] = value.detach().to("cpu", plain_dtype(value.dtype), copy=True)


def _set_dtypes(module: nn.Module, converted: set[torch.dtype]) -> None:
    """Let attributes that name a dtype the network had name the one it has now."""
    for part in module.modules():
        for name, value in vars(part).items():
            if isinstance(value, torch.dtype) and value in converted:
                vars(part)[name] = plain_dtype(value)
