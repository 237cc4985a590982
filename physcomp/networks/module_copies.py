"""Private copies of modules: what a module holds, in whatever way, is copied, as float32 on the processor.

`copy.deepcopy` alone does not do: it refuses tensors with a history, locks and random generators, shares what functions
hold, and knows nothing of wrappers.
"""

import copy
import functools
import logging
import sys
import threading
import types
import warnings
import weakref
from collections import deque
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import nn
from torch.fx import Graph, GraphModule
from torch.utils.data import DataLoader, Dataset

# Nothing in these is the module's own: they are not looked into. Those of the second list are shared with the copy.
_CLOSED = (
    bool, int, float, complex, str, bytes, type, range, torch.dtype, torch.device, types.BuiltinFunctionType,
    logging.Logger, Enum, Graph, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler, Dataset, DataLoader,
)  # fmt: skip
_SHARED = (types.ModuleType, torch.jit.ScriptFunction, torch.finfo, torch.iinfo, ContextVar, torch.Stream)
_EMPTY = type(None)  # what an empty cell holds
_CACHE = type(functools.lru_cache(len))
_LOCK, _RLOCK = type(threading.Lock()), type(threading.RLock())


@dataclass(frozen=True, eq=False)
class Held:
    """An object that a module holds.

    Args:
        owner: the innermost module that holds it.
        owner_name: the name of `owner` in the whole; empty for the whole itself.
        path: the attribute of `owner`, and the keys and places below it.
        value: the object.
    """

    owner: nn.Module
    owner_name: str
    path: tuple[str, ...]
    value: Any

    @property
    def name(self) -> str:
        """The name in the whole, such as `block.scales.0`; empty for the whole itself."""
        return ".".join(part for part in (self.owner_name, *self.path) if part)

    @property
    def title(self) -> str:
        """The name in quotes, as messages say it."""
        return f"'{self.name}'" if self.name else "the module itself"


def wrapped(module: nn.Module) -> nn.Module | None:
    """The module inside `nn.DataParallel`, `DistributedDataParallel` or a compiled module; None for any other."""
    inner = module._modules.get("_orig_mod")
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        inner = module.module
    return inner if isinstance(inner, nn.Module) else None


def unwrapped(module: nn.Module) -> nn.Module:
    """The module without the wrappers around it; see `wrapped`."""
    while (inner := wrapped(module)) is not None:
        module = inner
    return module


def walk(module: nn.Module) -> Iterator[Held]:
    """Everything a module holds, itself first: modules, tensors, containers, functions and what they close over.

    Each object comes once, the nearest first. Wrappers have no name of their own.
    """
    seen: dict[int, Any] = {}  # the objects stay alive, so that no other takes their id
    queue = deque([Held(module, "", (), module)])
    while queue:
        held = queue.popleft()
        if id(held.value) in seen:
            continue
        seen[id(held.value)] = held.value
        yield held
        for name, value in _inside(held.value):
            if value is None or isinstance(value, _CLOSED):
                continue
            if isinstance(held.value, nn.Module):
                queue.append(Held(held.value, held.name, (name,), value))
            else:
                queue.append(Held(held.owner, held.owner_name, (*held.path, name), value))


def _inside(value: Any) -> Iterator[tuple[str, Any]]:
    """What an object holds, by attribute, key or place."""
    match value:
        case torch.Tensor() | torch.jit.ScriptModule():
            return
        case _ if isinstance(value, _SHARED):
            return
        case nn.Module() if (inner := wrapped(value)) is not None:
            yield "", inner
        case nn.Module():
            registered = ("_parameters", "_buffers", "_modules")
            for kind in registered:
                yield from vars(value).get(kind, {}).items()
            skipped = (*registered, "meta") if isinstance(value, GraphModule) else registered
            for name, entry in vars(value).items():
                if name.endswith("_hooks") and isinstance(entry, dict):
                    entry = tuple(entry.values())  # their keys depend on what else there is in the process
                if name not in skipped:
                    yield name, entry
        case dict():
            yield from ((str(key), entry) for key, entry in value.items())
        case list() | tuple() | set() | frozenset() | deque():
            yield from ((str(place), entry) for place, entry in enumerate(value))
        case functools.partial():
            yield from (("func", value.func), ("args", value.args), ("keywords", value.keywords))
        case types.MethodType():
            yield from (("self", value.__self__), ("func", value.__func__))
        case types.FunctionType():
            yield from zip(value.__code__.co_freevars, map(_content, value.__closure__ or ()), strict=True)
            yield from (("defaults", value.__defaults__), ("kwdefaults", value.__kwdefaults__))
        case _:
            yield from getattr(value, "__dict__", {}).items()
            slots = [slot for kind in type(value).__mro__ for slot in vars(kind).get("__slots__", ())]
            yield from ((slot, getattr(value, slot)) for slot in slots if hasattr(value, slot) and slot[:2] != "__")


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # its variable is not set yet
        return _EMPTY


def private_copy(module: nn.Module) -> nn.Module:
    """A copy that shares no memory with the module: without wrappers, on the processor, floating point as float32.

    What was one object stays one. Two parameters that are one piece of memory with the same shape and strides become
    one; those that overlap otherwise are copied apart. Complex numbers become complex64. Gradients are left out.

    Raises:
        ValueError: something cannot be copied, or stays shared; it is named.
    """
    whole = list(walk(module))
    memo: dict[int, Any] = {}
    _copy_tensors([held.value for held in whole if isinstance(held.value, torch.Tensor)], memo)
    for held in whole:
        if (fresh := _fresh(held.value)) is not None:
            memo[id(held.value)] = fresh
    try:
        with warnings.catch_warnings(action="ignore"):  # of how others' classes copy themselves
            for held in whole:
                if isinstance(held.value, threading.local):
                    vars(memo[id(held.value)]).update(copy.deepcopy(vars(held.value), memo))
            for held in reversed(whole):
                if isinstance(held.value, nn.Module) and wrapped(held.value) is not None:
                    memo[id(held.value)] = copy.deepcopy(unwrapped(held.value), memo)
            copied: nn.Module = copy.deepcopy(module, memo)
            _Rebinding(memo).of(copied)
    except Exception as error:  # anything may be raised by what others' classes do when they are copied
        title, kind = _culprit(whole, memo)
        reason = " ".join(str(error).split())
        raise ValueError(f"network: {title} ({kind}) cannot be copied ({reason}); set it to None first") from error
    _check_apart(whole, copied)
    return copied


def _copy_tensors(tensors: list[torch.Tensor], memo: dict[int, Any]) -> None:
    """Put a copy of each tensor into the memo of `copy.deepcopy`."""
    same: dict[tuple[Any, ...], torch.Tensor] = {}
    for tensor in tensors:
        key: tuple[Any, ...] = (id(tensor),)
        if tensor.layout == torch.strided and tensor.numel():
            memory = tensor.untyped_storage().data_ptr()
            place = (tensor.storage_offset(), tuple(tensor.shape), tensor.stride())
            key = (isinstance(tensor, nn.Parameter), tensor.dtype, tensor.device, memory, place)
        if key not in same:
            same[key] = _copied_tensor(tensor)
        memo[id(tensor)] = same[key]
    for tensor in tensors:
        if vars(tensor):
            vars(memo[id(tensor)]).update(copy.deepcopy(vars(tensor), memo))


def _copied_tensor(tensor: torch.Tensor) -> torch.Tensor:
    data = tensor.detach()
    if data.layout == torch.strided:
        data = data.as_subclass(torch.Tensor).resolve_conj().resolve_neg()
    data = data.to("cpu", plain_dtype(tensor.dtype), copy=True)
    return nn.Parameter(data, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else data


def plain_dtype(dtype: torch.dtype) -> torch.dtype:
    """Float32 for floating point, complex64 for complex numbers, the same for the others."""
    if dtype.is_complex:
        return torch.complex64
    return torch.float32 if dtype.is_floating_point else dtype


def _fresh(value: Any) -> Any:
    """What stands in the copy for an object that `copy.deepcopy` refuses; None for the others."""
    match value:
        case _ if isinstance(value, _SHARED) or any(value is stream for stream in (sys.stdin, sys.stdout, sys.stderr)):
            return value
        case torch.Generator():
            return value.clone_state()
        case _ if isinstance(value, _LOCK):
            return threading.Lock()
        case _ if isinstance(value, _RLOCK):
            return threading.RLock()
        case threading.local():
            return threading.local()
    return None


def _culprit(whole: list[Held], memo: dict[int, Any]) -> tuple[str, str]:
    """The name, as messages say it, and the type of what cannot be copied: the innermost object with which it fails."""
    for held in reversed(whole):
        try:
            copy.deepcopy(held.value, dict(memo))
        except Exception:
            return held.title, type(held.value).__name__
    return whole[0].title, type(whole[0].value).__name__


def _check_apart(whole: list[Held], copied: nn.Module) -> None:
    theirs = {_memory(held.value) for held in whole} - {0}
    for held in walk(copied):
        if _memory(held.value) in theirs:
            kind = type(held.owner).__name__
            raise ValueError(
                f"network: {held.title} stays shared with your module when it is copied; "
                f"let {kind} copy it in its __deepcopy__, or register it as a parameter or buffer"
            )


def _memory(value: Any) -> int:
    """Where a tensor's values lie; 0 for anything else and where there are none."""
    if not isinstance(value, torch.Tensor) or value.layout != torch.strided or value.is_meta:
        return 0
    return value.untyped_storage().data_ptr()


class _Rebinding:
    """Lets the functions that a copied module holds use the copies of what they close over.

    Args:
        memo: the copies of objects by id, as `copy.deepcopy` left it.
    """

    def __init__(self, memo: dict[int, Any]) -> None:
        self.memo = memo
        self.copies = {id(value) for key, value in memo.items() if key != id(value)}  # without what is shared
        self.made: dict[int, Any] = {}
        self.seen: dict[int, Any] = {}

    def of(self, value: Any) -> Any:
        """The value with its functions bound to the copies; modules, objects, lists and dicts are changed in place.

        The value must itself be a copy.
        """
        if id(value) in self.made:
            return self.made[id(value)]
        match value:
            case types.FunctionType():
                return self._function(value)
            case types.MethodType():
                function = self.of(value.__func__)
                return value if function is value.__func__ else types.MethodType(function, value.__self__)
            case functools.partial():
                function, arguments = self.of(value.func), self.of(value.args)
                return functools.partial(function, *arguments, **self.of(value.keywords))
            case _ if isinstance(value, _CACHE):
                return functools.lru_cache(**value.cache_parameters())(self._copied(value.__wrapped__))
            case weakref.ref():
                return weakref.ref(self.memo[id(value())]) if id(value()) in self.memo else value
            case tuple():
                entries = [self.of(entry) for entry in value]
                if any(new is not old for new, old in zip(entries, value, strict=True)):
                    return getattr(value, "_make", tuple)(entries)
            case dict() | list() if id(value) not in self.seen:
                self.seen[id(value)] = value
                for key, entry in list(value.items() if isinstance(value, dict) else enumerate(value)):
                    if (bound := self.of(entry)) is not entry:
                        value[key] = bound
            case _ if id(value) in self.copies or isinstance(value, nn.Module):
                self.of(getattr(value, "__dict__", None))
        return value

    def _function(self, function: types.FunctionType) -> Any:
        compiled = getattr(function, "_torchdynamo_orig_callable", None)
        if compiled is not None:
            return self._copied(compiled)
        cells = function.__closure__ or ()
        if not cells and not function.__defaults__ and not function.__kwdefaults__:
            return function
        unfilled = [cell for cell in cells if id(cell) not in self.made]
        self.made.update({id(cell): types.CellType() for cell in unfilled})
        closure = tuple(self.made[id(cell)] for cell in cells)
        new = types.FunctionType(function.__code__, function.__globals__, function.__name__, None, closure)
        self.made[id(function)] = new
        self.seen[id(function)] = function
        new.__defaults__ = self._copied(function.__defaults__)
        new.__kwdefaults__ = self._copied(function.__kwdefaults__)
        new.__qualname__, new.__module__, new.__doc__ = function.__qualname__, function.__module__, function.__doc__
        new.__annotations__ = function.__annotations__
        vars(new).update(vars(function))
        for cell in unfilled:
            if (content := _content(cell)) is not _EMPTY:
                self.made[id(cell)].cell_contents = self._copied(content)
        return new

    def _copied(self, value: Any) -> Any:
        return self.of(copy.deepcopy(value, self.memo))
