"""Plain modules: what stands between a user's module and its weights is taken away, on a copy.

Wrappers are removed, parametrised and masked weights become ordinary parameters, tensors that are held in other ways
become parameters and buffers, and everything floating is float32 on the processor.
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm, SpectralNormLoadStateDictPreHook, SpectralNormStateDictHook
from torch.nn.utils.weight_norm import WeightNorm

from physcomp.networks.module_copies import Held, plain_dtype, private_copy, unwrapped, walk, wrapped

_QUANTISED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.ao.nn.sparse.quantized")
_FLOAT_AFTER_ALL = ("FloatFunctional", "FXFloatFunctional")  # of the quantised package, but of float networks
_TO_FLOAT = "pass the float network from before quantisation"


def plain(module: nn.Module) -> nn.Module:
    """A private copy of a module in evaluation mode: all that it holds is state, in plain float32 tensors.

    - `nn.DataParallel`, `DistributedDataParallel` and compiled modules are replaced by the module inside.
    - Weights that `torch.nn.utils.parametrize`, `weight_norm`, `spectral_norm` (old and new) or `prune` compute become
      parameters with the values that they have in evaluation mode.
    - Floating point becomes float32 and complex numbers complex64, on the processor; integers stay.
    - Tensors and modules held as attributes, in lists, in dicts or by functions become persistent buffers, parameters
      and submodules; a tensor that is no attribute itself gets a name such as `scales_0` and stays in its place too.
    - What was shared stays shared: tied weights are one parameter. Nothing is shared with the caller's module.

    Raises:
        ValueError: this is no module whose weights can be read, a parameter is NaN or infinite, a buffer is NaN, or
            something cannot be copied; it is named.
    """
    module = unwrapped(checked_module(module))
    dtypes = {tensor.dtype for tensor in (*module.parameters(), *module.buffers())}
    with torch.inference_mode(False), torch.no_grad(), torch.random.fork_rng(devices=()):
        for held in walk(module):
            _check_part(held)
        copied = private_copy(module)
        _register_held(copied, nn.Module)
        copied.eval()
        check_finite(copied)
        _Baking().bake(copied)
        _own_class_tensors(copied)
        _register_held(copied, torch.Tensor)
        _set_dtypes(copied, {dtype for dtype in dtypes if dtype != plain_dtype(dtype)})
    check_finite(copied)
    return copied


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
    value, name = held.value, held.name
    if isinstance(value, nn.Module):
        if isinstance(value, torch.jit.ScriptModule):
            raise ValueError(f"network: '{name}' is a TorchScript module; pass the nn.Module that it was made from")
        if _quantised(value):
            raise ValueError(f"network: '{name}' is quantised ({type(value).__name__}); {_TO_FLOAT}")
        if wrapped(value) is not None and (value._forward_hooks or value._forward_pre_hooks):
            kind = type(value).__name__
            raise ValueError(f"network: '{name}' ({kind}) has hooks; register them on the module inside it")
    elif isinstance(value, torch.ScriptObject):
        raise ValueError(f"network: '{name}' holds packed weights; {_TO_FLOAT}")
    elif isinstance(value, UninitializedParameter | UninitializedBuffer):
        raise ValueError(f"network: '{name}' has no shape yet (a lazy layer); run the module on one batch first")
    elif isinstance(value, torch.Tensor):
        if value.is_quantized:
            raise ValueError(f"network: '{name}' is a quantised tensor; {_TO_FLOAT}")
        if hasattr(value, "__tensor_flatten__"):
            kind = type(value).__name__
            raise ValueError(f"network: '{name}' is a {kind}, made of other tensors; pass the network of plain tensors")
        if value.is_meta:
            raise ValueError(f"network: '{name}' is on the meta device and has no values; load the weights first")


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
    data = data.coalesce().values() if data.layout == torch.sparse_coo else data
    return data.float() if data.is_floating_point() else data


class _Baking:
    """Replaces weights that are computed from other tensors by parameters with their values."""

    def __init__(self) -> None:
        self.made: list[tuple[list[torch.Tensor], nn.Parameter]] = []  # with the tensors they were computed from

    def bake(self, module: nn.Module) -> None:
        """Bake all parametrised, normalised and pruned weights of a module in evaluation mode, in place.

        Raises:
            ValueError: a weight cannot be computed; it is named.
        """
        for name, part in reversed(list(module.named_modules())):
            try:
                # What was registered last computes what the earlier ones read.
                for key in reversed(list(part._forward_pre_hooks)):
                    self._bake_hook(part, key)
                if parametrize.is_parametrized(part):
                    self._bake_parametrised(part)
            except Exception as error:  # parametrisations are others' code
                reason = " ".join(str(error).split())
                raise ValueError(
                    f"network: the parametrised weights of '{name}' ({type(part).__name__}) cannot be computed "
                    f"({reason}); remove the parametrisation first"
                ) from error

    def _bake_parametrised(self, part: nn.Module) -> None:
        lists = part.get_submodule("parametrizations")
        values = {name: getattr(part, name) for name, _ in lists.named_children()}
        kind = parametrize.type_before_parametrizations(part)
        # `parametrize.remove_parametrizations` would take the property away from the caller's module too.
        del part._modules["parametrizations"]
        part.__class__ = kind
        for name, sources in lists.named_children():
            self._set(part, name, values[name], [*sources.parameters(), *sources.buffers()])

    def _bake_hook(self, part: nn.Module, key: int) -> None:
        hook: Any = part._forward_pre_hooks[key]
        suffixes: tuple[str, ...]
        match hook:
            case WeightNorm():
                name, suffixes = hook.name, ("_g", "_v")
            case SpectralNorm():
                name, suffixes = hook.name, ("_orig", "_u", "_v")
            case BasePruningMethod():
                name, suffixes = hook._tensor_name, ("_orig", "_mask")
            case _:
                return
        hook(part, ())  # sets the attribute to its value of now
        value = getattr(part, name)
        sources = [getattr(part, name + suffix) for suffix in suffixes]
        del part._forward_pre_hooks[key]
        part._forward_pre_hooks_with_kwargs.pop(key, None)
        if isinstance(hook, SpectralNorm):
            _forget_spectral_norm(part, hook)
        for suffix in suffixes:
            delattr(part, name + suffix)
        self._set(part, name, value, sources)

    def _set(self, part: nn.Module, name: str, value: torch.Tensor, sources: list[torch.Tensor]) -> None:
        """Make a value a parameter, the same as an equal one that it was computed from, or with, if there is one."""
        learned = [source for source in sources if isinstance(source, nn.Parameter)]
        if not learned:
            part.register_buffer(name, value.detach().clone())
            return
        known = [made for before, made in self.made if [*map(id, before)] == [*map(id, sources)]]
        for candidate in (*learned, *known):
            if candidate.shape == value.shape and torch.equal(candidate, value):
                setattr(part, name, candidate)
                return
        data = value.detach().clone()
        data = data.to(plain_dtype(data.dtype))
        parameter = nn.Parameter(data, requires_grad=any(source.requires_grad for source in learned))
        self.made.append((sources, parameter))
        setattr(part, name, parameter)


def _forget_spectral_norm(part: nn.Module, hook: SpectralNorm) -> None:
    for hooks in (part._state_dict_hooks, part._load_state_dict_pre_hooks):
        for key, entry in list(hooks.items()):
            entry = getattr(entry, "hook", entry)
            if isinstance(entry, SpectralNormStateDictHook | SpectralNormLoadStateDictPreHook) and entry.fn is hook:
                del hooks[key]


def _register_held(module: nn.Module, kind: type) -> None:
    """Register the modules, or the tensors, that a module holds in other ways, in place."""
    known = {id(value) for value in (*module.modules(), *module.parameters(), *module.buffers())}
    for held in list(walk(module)):
        value, owner = held.value, held.owner
        if id(value) in known or not isinstance(value, kind):
            continue
        if isinstance(value, nn.Module):
            inside = list(value.modules())
            if any(part is owner for part in inside):
                continue  # an upward reference
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
    while hasattr(held.owner, name):
        name += "_"
    return name


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
