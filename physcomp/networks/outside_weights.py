"""Weights that a module's code reads from outside of it: global variables, and those of a function around its class.

They would be neither stored nor counted, and no copy can have its own.
"""

import dis
import types
from typing import Any

import torch
from torch import nn
from torch.fx import GraphModule

from physcomp.networks.module_copies import walk


def check_no_weights_outside(module: nn.Module) -> None:
    """Refuse tensors and modules that a module's `forward`, or what it calls, reads from outside of the module.

    Followed are methods of the module's class, functions by their global name and functions that the module holds, but
    not torch's.

    Raises:
        ValueError: names the variable.
    """
    everything = list(walk(module))
    inside = {id(held.value) for held in everything}
    seen: set[tuple[types.FunctionType, type]] = set()
    for held in everything:
        if isinstance(held.value, types.FunctionType):
            kind, where = type(held.owner), held.title
            found = _read(held.value, kind, closed_over=False)
        elif isinstance(held.value, nn.Module) and not isinstance(held.value, GraphModule):
            kind = type(held.value)
            where = f"the forward of {kind.__name__}"
            found = [("forward", getattr(kind, "forward", None))]
        else:
            continue
        queue = list(found)
        while queue:
            name, value = queue.pop()
            if isinstance(value, torch.Tensor | nn.Module) and id(value) not in inside:
                what = "tensor" if isinstance(value, torch.Tensor) else "module"
                raise ValueError(
                    f"network: {where} reads the {what} '{name}' from outside of the module, where it is neither "
                    "stored nor counted; make it a buffer, a parameter or a submodule"
                )
            if isinstance(value, types.FunctionType) and (value, kind) not in seen and not _is_torchs(value):
                seen.add((value, kind))
                queue += _read(value, kind, closed_over=True)


def _is_torchs(function: types.FunctionType) -> bool:
    return function.__module__ is None or function.__module__.partition(".")[0] == "torch"


def _read(function: types.FunctionType, kind: type, closed_over: bool) -> list[tuple[str, Any]]:
    """What a function reads by name: globals, methods of a class, and the variables around it if asked for."""
    found: list[tuple[str, Any]] = []
    codes = [function.__code__]
    while codes:
        code = codes.pop()
        codes += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
        for step in dis.get_instructions(code):
            if step.opname == "LOAD_GLOBAL" and step.argval in function.__globals__:
                found.append((step.argval, function.__globals__[step.argval]))
            elif step.opname in ("LOAD_ATTR", "LOAD_METHOD") and isinstance(step.argval, str):
                method = getattr(kind, step.argval, None)
                if isinstance(method, types.FunctionType | property):
                    found.append((step.argval, method.fget if isinstance(method, property) else method))
    if closed_over:
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                found.append((name, cell.cell_contents))
            except ValueError:  # not set yet
                continue
    return found
