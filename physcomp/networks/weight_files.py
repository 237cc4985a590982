"""Files of weights as others write them: read without running anything, and fitted to a module by name."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

State = dict[str, torch.Tensor]
_PICKLED = (".pt", ".pth", ".bin", ".ckpt", ".tar")
# Keys under which checkpoints hold the state dict, in the order in which they are looked for.
_NESTS = (
    "state_dict", "model_state_dict", "model", "net", "network", "module", "weights", "params", "state",
    "model_state", "net_state_dict", "ema", "ema_state_dict", "model_ema", "params_ema", "state_dict_ema",
)  # fmt: skip
# What wrappers and training frameworks put before names.
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")
# Counters that no evaluation reads: of norms, of averaged models, of a counter of operations.
_COUNTERS = ("num_batches_tracked", "n_averaged", "total_ops", "total_params")
_CURE = "load the file that this network was saved to, or give --args that build the same network"


def load_weights(module: nn.Module, path: Path, subject: str) -> None:
    """Load a file of weights into a module, every tensor by its name.

    The state dict may lie inside a checkpoint; of several, the one most of whose names are the module's is taken, and
    of equals the first in the order `state_dict`, `model_state_dict`, `model`, …, averaged weights last. Prefixes such
    as `module.` of wrappers are dropped, or put before, where that makes names fit. Floating-point numbers of any width
    are converted. The module must have all tensors of the file and the file all of the module's, but for counters that
    evaluation does not read, tied weights saved once, and constants that the module now builds itself.

    Args:
        module: gets the weights, in place.
        path: a .safetensors file, or a .pt, .pth, .bin, .ckpt or .tar file of torch; see `read_states`.
        subject: what the module is called in messages.

    Raises:
        ValueError: the file cannot be read safely, or is not of this module; one line names the tensors.
    """
    wanted = set(module.state_dict())
    state = max((_fitted(state, wanted) for state in read_states(path)), key=lambda option: len(wanted & option.keys()))
    _check_ties(module, state, path, subject)
    _check_shapes(module, state, path, subject)
    lazy_or_meta = any(tensor.is_meta for tensor in (*module.parameters(), *module.buffers()))
    try:
        missing, unexpected = module.load_state_dict(state, strict=False, assign=lazy_or_meta)
    except Exception as error:  # modules may load in ways of their own
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: cannot be loaded into {subject} ({reason}); {_CURE}") from None
    lacking = [name for name in missing if not _is_there(module, name, state)]
    foreign = [name for name in unexpected if not _is_idle(module, name, state)]
    if not lacking and not foreign:
        return
    if _same_shapes(module, state):
        ours, theirs = next(iter(module.state_dict())), next(iter(state))
        raise ValueError(
            f"{path}: its tensors have the shapes of {subject}'s in the same order, but other names ('{theirs}' for "
            f"'{ours}'); rename them in the file"
        )
    told = []
    if lacking:
        told.append(f"lacks {_listed(lacking)} of {subject}")
    if foreign:
        told.append(f"holds {_listed(foreign)} that {subject} does not have")
    raise ValueError(f"{path}: {' and '.join(told)}; {_CURE}")


def read_states(path: Path) -> list[State]:
    """Read the tensors of a file of weights by name, onto the processor; nothing in it is executed.

    Returns:
        One state dict or more, those under the usual keys of checkpoints first.

    Raises:
        ValueError: there is no such file, it is of another kind, is damaged, holds pickled objects other than tensors,
            or no state dict.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file of weights; name a .safetensors or .pt file")
    if path.suffix == ".safetensors":
        try:
            return [dict(load_file(path))]
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path}: not a valid safetensors file ({_one_line(error)}); save it again") from None
    if path.suffix not in _PICKLED:
        raise ValueError(
            f"{path}: must be a .safetensors, {', '.join(_PICKLED)} file; save the state dict as .safetensors"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise many kinds
        raise ValueError(f"{path}: {_unreadable(error)}") from None
    found = list(_states(content, 0))
    if not found:
        kind = type(content).__name__
        held = f" with {', '.join(map(repr, list(content)[:5]))}" if isinstance(content, Mapping) else ""
        raise ValueError(f"{path}: must hold a state dict, holds a {kind}{held}; save module.state_dict()")
    return found


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _unreadable(error: Exception) -> str:
    text = _one_line(error)
    if "TorchScript" in text:
        return "is a TorchScript archive; save the state_dict() of the nn.Module that it was made from"
    if re.search("[Uu]nsupported (GLOBAL|global|class)", text):
        named = re.search(r"(?:GLOBAL|global|class) ([\w.]+\.\w+)", text)
        kind = f" ({named[1]})" if named else ""
        return (
            f"holds pickled objects{kind}, such as a whole module, which could run any program; "
            "save only module.state_dict(), or a .safetensors file"
        )
    return f"cannot be read ({text[:200] or type(error).__name__}); save module.state_dict() again"


def _states(content: Any, depth: int) -> Iterator[State]:
    """The state dicts of a checkpoint, those under usual keys first."""
    if not isinstance(content, Mapping) or depth > 2:
        return
    for key in _NESTS:
        yield from _states(content.get(key), depth + 1)
    tensors = {str(key): value.detach() for key, value in content.items() if isinstance(value, torch.Tensor)}
    if tensors:
        yield tensors
    for key, value in content.items():
        if key not in _NESTS:
            yield from _states(value, depth + 1)


def _fitted(state: State, wanted: set[str]) -> State:
    """The state with prefixes dropped from its names, or put before them, where more of them are then wanted ones."""
    tried, options = [state], [state]
    for _ in range(3):
        options = [new for option in options for new in _renamed(option, wanted)]
        tried += options
    return max(tried, key=lambda option: len(wanted & option.keys()))  # the first of the best has fewest changes


def _renamed(state: State, wanted: set[str]) -> Iterator[State]:
    def is_new(names: list[str]) -> bool:
        return names != list(state) and len(set(names)) == len(names)

    for prefix in _PREFIXES:
        inner = f".{prefix}" if prefix in ("module.", "_orig_mod.") else None
        options = [[name.removeprefix(prefix) for name in state]]
        if inner is not None:
            options.append([name.replace(inner, ".") for name in state])
        if wanted and all(name.startswith(prefix) for name in wanted):
            options.append([prefix + name for name in state])
        for names in options:
            if is_new(names):
                yield dict(zip(names, state.values(), strict=True))


def _check_ties(module: nn.Module, state: State, path: Path, subject: str) -> None:
    """Refuse different values for what is one tensor of the module under two names."""
    first: dict[int, str] = {}
    for name, ours in module.state_dict(keep_vars=True).items():
        if name in state and first.setdefault(id(ours), name) != name:
            other = first[id(ours)]
            if not torch.equal(state[name], state[other]):
                raise ValueError(
                    f"{path}: '{other}' and '{name}' are one tensor in {subject}, but differ in the file; {_CURE}"
                )


def _check_shapes(module: nn.Module, state: State, path: Path, subject: str) -> None:
    """Refuse tensors whose shape or kind of number is not that of the module's."""
    for name, ours in module.state_dict().items():
        if name not in state or not isinstance(ours, torch.Tensor) or name.endswith(_COUNTERS):
            continue
        theirs = state[name]
        if isinstance(ours, UninitializedParameter | UninitializedBuffer):
            continue
        if theirs.shape != ours.shape and not (ours.ndim == 0 and theirs.shape == (1,)):
            cure = _CURE
            if theirs.shape[1:] == ours.shape[1:] and theirs.ndim:
                cure = f"if that is the number of classes, give --args '{{\"num_classes\": {theirs.shape[0]}}}'"
            raise ValueError(
                f"{path}: '{name}' has shape {tuple(theirs.shape)}, in {subject} {tuple(ours.shape)}; {cure}"
            )
        if _kind(theirs) != _kind(ours):
            raise ValueError(
                f"{path}: '{name}' holds {_kind(theirs)} ({str(theirs.dtype)[6:]}), in {subject} {_kind(ours)} "
                f"({str(ours.dtype)[6:]}); save the plain network, not a quantised or converted one"
            )


def _kind(tensor: torch.Tensor) -> str:
    if tensor.is_quantized:
        return "quantised numbers"
    if tensor.is_complex():
        return "complex numbers"
    return "real numbers" if tensor.is_floating_point() else "whole numbers"


def _is_there(module: nn.Module, name: str, state: State) -> bool:
    """Whether a tensor that the file lacks is a counter, or another name of one that it holds."""
    if name.endswith(_COUNTERS):
        return True
    ours = module.state_dict(keep_vars=True)
    return name in ours and any(ours.get(other) is ours[name] for other in state)


def _is_idle(module: nn.Module, name: str, state: State) -> bool:
    """Whether a tensor that the module does not load is a counter, or equals a constant that the module builds."""
    if name.endswith(_COUNTERS):
        return True
    built = dict(module.named_buffers()).get(name)
    return built is not None and built.shape == state[name].shape and torch.equal(built, state[name].to(built.dtype))


def _same_shapes(module: nn.Module, state: State) -> bool:
    """Whether the shapes are the same one by one, counters left out."""
    ours, theirs = (
        [tuple(tensor.shape) for tensor in some.values() if tensor.ndim] for some in (module.state_dict(), state)
    )
    return ours == theirs


def _listed(names: list[str]) -> str:
    listed = ", ".join(f"'{name}'" for name in names[:3])
    more = f", … ({len(names)} in all)" if len(names) > 3 else ""
    return f"{'tensors' if len(names) > 1 else 'tensor'} {listed}{more}"
