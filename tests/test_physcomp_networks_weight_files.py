"""Files of weights: formats, checkpoints, prefixes, what is harmless, and what is refused by name."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import parametrizations

from physcomp.networks.weight_files import load_weights, read_states

State = dict[str, Any]


class Net(nn.Module):
    """A norm, tied weights, and a buffer that is not saved."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.inner, self.again, self.norm = nn.Linear(4, 4), nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.again.weight = self.inner.weight
        self.head = nn.Linear(4, classes)
        self.register_buffer("places", torch.arange(4), persistent=False)


def net(seed: int = 0, classes: int = 3) -> Net:
    torch.manual_seed(seed)
    return Net(classes)


def state() -> State:
    return dict(net(1).state_dict())


def prefixed(prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in state().items()}


def without(*names: str) -> State:
    return {name: tensor for name, tensor in state().items() if name not in names}


def halved(dtype: torch.dtype) -> State:
    return {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in state().items()}


FORMS: dict[str, Callable[[], Any]] = {
    "plain": state,
    "parameters": lambda: {name: nn.Parameter(t) if t.is_floating_point() else t for name, t in state().items()},
    **{
        f"under {key}": lambda key=key: {"epoch": 3, "optimizer": {"state": {0: {"step": torch.ones(1)}}}, key: state()}
        for key in ("state_dict", "model_state_dict", "model", "net", "weights", "params", "ema", "generator")
    },
    "twice": lambda: {"checkpoint": {"model": state()}, "loss": torch.tensor(1.0)},
    "one of two": lambda: {"discriminator": nn.Linear(2, 2).state_dict(), "generator": state()},
    "before the averaged": lambda: {"ema": net(5).state_dict(), "model": state()},
    **{
        f"with {prefix}": lambda prefix=prefix: prefixed(prefix)
        for prefix in ("module.", "model.", "_orig_mod.", "net.", "module._orig_mod.", "model.module.net.")
    },
    "compiled part": lambda: {name.replace("inner.", "inner._orig_mod."): tensor for name, tensor in state().items()},
    "float16": lambda: halved(torch.float16),
    "bfloat16": lambda: halved(torch.bfloat16),
    "float64": lambda: halved(torch.float64),
    "no counters": lambda: without("norm.num_batches_tracked"),
    "more counters": lambda: {**state(), "n_averaged": torch.tensor(3), "inner.total_ops": torch.zeros(1)},
    "tied once": lambda: without("again.weight"),
    "constants": lambda: {**state(), "places": torch.arange(4)},
}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("form", FORMS)
def test_usual_forms_of_files_are_loaded(tmp_path: Path, form: str, suffix: str) -> None:
    path, content = tmp_path / f"w{suffix}", FORMS[form]()
    if suffix == ".pt":
        torch.save(content, path)
    elif all(isinstance(entry, torch.Tensor) for entry in content.values()):
        save_file({name: tensor.clone() for name, tensor in content.items()}, path)
    else:
        return
    module, wanted = net(), state()
    load_weights(module, path, "net.py:build")
    for name, tensor in module.state_dict().items():
        assert tensor.dtype == wanted[name].dtype
        assert torch.allclose(tensor, wanted[name], atol=0 if "float16" not in form else 4e-3), name
    assert module.again.weight is module.inner.weight


@pytest.mark.parametrize("suffix", [".pth", ".bin", ".ckpt", ".pth.tar"])
def test_other_endings_of_torch_files_are_read(tmp_path: Path, suffix: str) -> None:
    torch.save(state(), tmp_path / f"w{suffix}", _use_new_zipfile_serialization=suffix != ".bin")
    assert set(read_states(tmp_path / f"w{suffix}")[0]) == set(state())


def test_prefixes_are_put_before_names_where_the_module_has_them(tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "w.pt")
    for module in (nn.DataParallel(net()), torch.compile(net(), backend="eager")):
        load_weights(module, tmp_path / "w.pt", "net")
        assert torch.equal(next(iter(module.parameters())), state()["inner.weight"])


def test_old_names_of_weight_norm_and_modules_without_values_are_served(tmp_path: Path) -> None:
    trained = parametrizations.weight_norm(nn.Linear(4, 3))
    g, v = trained.parametrizations.weight.original0, trained.parametrizations.weight.original1
    torch.save({"bias": trained.bias, "weight_g": g, "weight_v": v}, tmp_path / "w.pt")
    module = parametrizations.weight_norm(nn.Linear(4, 3))
    load_weights(module, tmp_path / "w.pt", "net")
    assert torch.equal(module.weight, trained.weight)
    torch.save(nn.Linear(4, 3).state_dict(), tmp_path / "w.pt")
    for lazy in (nn.LazyLinear(3), nn.Linear(4, 3, device="meta")):
        load_weights(lazy, tmp_path / "w.pt", "net")
        assert torch.equal(lazy.weight, torch.load(tmp_path / "w.pt", weights_only=True)["weight"])


def quantised() -> torch.Tensor:
    return torch.fake_quantize_per_tensor_affine(torch.ones(4, 4), 0.1, 0, -128, 127).to(torch.int8)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "missing": (
        lambda: without("head.weight"),
        r"lacks tensor 'head\.weight' of net\.py:build; load the file that this",
    ),
    "many missing": (
        lambda: without("head.weight", "head.bias", "norm.weight", "norm.bias"),
        r"lacks tensors 'norm\.weight', 'norm\.bias', 'head\.weight', … \(4 in all\) of net\.py:build; load",
    ),
    "too many": (
        lambda: {**state(), "extra.weight": torch.ones(1), "extra.bias": torch.ones(1)},
        r"holds tensors 'extra\.weight', 'extra\.bias' that net\.py:build does not have; load the file",
    ),
    "both": (
        lambda: {**without("head.bias"), "tail.bias": torch.ones(9)},
        r"lacks tensor 'head\.bias' of net\.py:build and holds tensor 'tail\.bias' that net\.py:build does not have",
    ),
    "other constants": (lambda: {**state(), "places": torch.ones(4)}, r"holds tensor 'places' that"),
    "classes": (
        lambda: dict(net(1, 10).state_dict()),
        r"'head\.weight' has shape \(10, 4\), in net\.py:build \(3, 4\); if that is the number of classes, "
        r"give --args '\{\"num_classes\": 10\}'",
    ),
    "shape": (
        lambda: {**state(), "inner.weight": torch.ones(4, 5), "again.weight": torch.ones(4, 5)},
        r"'inner\.weight' has shape \(4, 5\), in net\.py:build \(4, 4\); load the file",
    ),
    "tied apart": (
        lambda: {**state(), "again.weight": torch.ones(4, 4)},
        r"'inner\.weight' and 'again\.weight' are one tensor in net\.py:build, but differ in the file",
    ),
    "names": (
        lambda: {f"layer{place}": tensor for place, tensor in enumerate(state().values())},
        r"shapes of net\.py:build's in the same order, but other names \('layer0' for 'inner\.weight'\); rename them",
    ),
    "integers": (
        lambda: {**state(), "inner.weight": quantised(), "again.weight": quantised()},
        r"'inner\.weight' holds whole numbers \(int8\), in net\.py:build real numbers \(float32\); save the plain",
    ),
    "complex": (
        lambda: {**state(), "head.bias": torch.ones(3, dtype=torch.complex64)},
        r"'head\.bias' holds complex numbers \(complex64\), in net\.py:build real numbers",
    ),
    "whole module": (
        net,
        r"holds pickled objects \([\w.]*Net\), such as a whole module, .* save only module\.state_dict",
    ),
    "torch module": (lambda: nn.Linear(1, 1), r"holds pickled objects \(torch\.nn\.modules\.linear\.Linear\)"),
    "module inside": (lambda: {"model": nn.ReLU(), "epoch": 1}, r"holds pickled objects \(torch\.nn\.modules\.act"),
    "function inside": (lambda: {"model": len}, r"holds pickled objects, such as a whole module, which could run any"),
    "tensor": (lambda: torch.ones(2), r"must hold a state dict, holds a Tensor; save module\.state_dict\(\)"),
    "numbers": (lambda: {"epoch": 1, "loss": 0.5}, r"must hold a state dict, holds a dict with 'epoch', 'loss'; save"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_by_name(tmp_path: Path, case: str) -> None:
    content, text = REFUSED[case]
    path = tmp_path / "w.pt"
    torch.save(content(), path)
    with pytest.raises(ValueError, match=text) as caught:
        load_weights(net(), path, "net.py:build")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    def told(name: str) -> str:
        with pytest.raises(ValueError, match=rf"^{re.escape(str(tmp_path / name))}: ") as caught:
            read_states(tmp_path / name)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "no such file of weights; name a .safetensors or .pt file" in told("none.pt")
    for name in ("w.onnx", "w.safetensors", "w.pt", "cut.pt"):
        (tmp_path / name).write_bytes(b"\x00" * 40)
    torch.save(state(), tmp_path / "cut.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "cut.pt").read_bytes()[:300])
    (tmp_path / "empty.pt").write_bytes(b"")
    assert "must be a .safetensors, .pt, .pth" in told("w.onnx")
    assert "not a valid safetensors file" in told("w.safetensors")
    for name in ("w.pt", "cut.pt", "empty.pt"):
        assert "cannot be read" in told(name)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_torchscript_archive_is_named(tmp_path: Path) -> None:
    torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "w.pt")
    with pytest.raises(ValueError, match="is a TorchScript archive; save the state_dict"):
        read_states(tmp_path / "w.pt")
