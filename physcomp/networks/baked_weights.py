"""Weights that are computed from other tensors, by parametrisations, norms and masks, made plain parameters."""

from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm, SpectralNormLoadStateDictPreHook, SpectralNormStateDictHook
from torch.nn.utils.weight_norm import WeightNorm

from physcomp.networks.module_copies import plain_dtype


class Baking:
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
                    f"network: the parametrised weights of {repr(name) if name else 'the module itself'} "
                    f"({type(part).__name__}) cannot be computed ({reason}); remove the parametrisation first"
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
