"""Networks from files and packages: what is built, what is importable meanwhile, and each mistake in one line."""

import re
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from physcomp.networks.loading import module_of

NET = """import dataclasses
from helper import WIDTH
import torch
from torch import nn

@dataclasses.dataclass
class Settings:
    width: "int" = WIDTH

class Net(nn.Module):
    def __init__(self, width: int = WIDTH):
        super().__init__()
        self.inner = nn.Linear(4, width)

    @classmethod
    def narrow(cls):
        return cls(1)

def build(num_classes=3, *, bias=True):
    return nn.Linear(4, num_classes, bias)

def needs(width, depth):
    return nn.Linear(width, depth)

def late():
    from later import later
    return later()

def fails(text="no luck"):
    raise RuntimeError(text + "\\n" + text)

def leaves():
    raise SystemExit(2)

def pair():
    return nn.Linear(1, 1), Settings()

def nothing():
    pass

def state():
    return nn.Linear(1, 1).state_dict()

def infinite():
    module = nn.Linear(2, 2)
    module.weight.data[0, 0] = float("inf")
    return module

def scripted():
    return torch.export.export(nn.Linear(2, 2), (torch.ones(1, 2),))

def any_of(**options):
    return nn.Linear(1, options.get("width", 1))

def by_place(width, /):
    return nn.Linear(1, width)

made = Net(2)
table = {}
_private = build
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "helper.py").write_text("WIDTH = 6\n")
    (tmp_path / "later.py").write_text("from torch import nn\ndef later():\n    return nn.Linear(1, 9)\n")
    (tmp_path / "wrong.py").write_text("import torch\nx = (\n")
    (tmp_path / "uses_wrong.py").write_text("import wrong\n")
    (tmp_path / "lacks.py").write_text("import no_such_package_of_anyone\n")
    (tmp_path / "divides.py").write_text("a = 1\nb = a / 0\n")
    (tmp_path / "parses.py").write_text("import argparse\nargparse.ArgumentParser().exit(2)\n")
    (tmp_path / "relative.py").write_text("from .helper import WIDTH\n")
    (tmp_path / "empty.py").write_text("from torch import nn\n")
    (tmp_path / "own_package").mkdir()
    (tmp_path / "own_package" / "__init__.py").write_text("")
    (tmp_path / "own_package" / "nets.py").write_text("from .parts import tiny\nfrom helper import WIDTH\n")
    (tmp_path / "own_package" / "parts.py").write_text(
        "from torch import nn\ndef tiny():\n    return nn.Linear(1, 8)\n"
    )
    return tmp_path


BUILT: dict[str, tuple[dict[str, object], int]] = {
    "build": ({}, 3),
    "build ": ({"num_classes": 7, "bias": False}, 7),
    "Net": ({}, 6),
    "Net ": ({"width": 5}, 5),
    "Net.narrow": ({}, 1),
    "made": ({}, 2),
    "late": ({}, 9),
    "any_of": ({"width": 4}, 4),
    "_private": ({}, 3),
}


@pytest.mark.parametrize("name", BUILT)
def test_a_function_class_or_module_of_a_file_gives_a_module(folder: Path, name: str) -> None:
    args, width = BUILT[name]
    path, modules = list(sys.path), dict(sys.modules)
    module = module_of(f"{folder / 'net.py'}:{name.strip()}", args=args)
    assert len(next(iter(module.parameters()))) == width
    assert sys.path == path
    assert {"helper", "later", "net"} & set(sys.modules) == {"helper", "later", "net"} & set(modules)


def test_paths_and_packages_are_relative_to_the_working_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert module_of("net.py:build", args={"num_classes": 2}).out_features == 2
    assert module_of("own_package.nets:tiny").out_features == 8
    assert module_of("torch.nn:Linear", args={"in_features": 1, "out_features": 2}).out_features == 2
    for name in [name for name in sys.modules if name.startswith("own_package") or name == "helper"]:
        del sys.modules[name]


def test_files_of_the_same_name_beside_two_networks_are_kept_apart(tmp_path: Path) -> None:
    for width, name in enumerate("ab", start=1):
        (tmp_path / name).mkdir()
        (tmp_path / name / "parts.py").write_text(f"WIDTH = {width}\n")
        text = "import parts\nfrom torch import nn\ndef build():\n    return nn.Linear(1, parts.WIDTH)\n"
        (tmp_path / name / "net.py").write_text(text)
    assert [module_of(f"{tmp_path / name}/net.py:build").out_features for name in "aba"] == [1, 2, 1]
    (tmp_path / "a" / "statistics.py").write_text("")
    import statistics

    module_of(f"{tmp_path}/a/net.py:build")
    assert sys.modules["statistics"] is statistics
    user = type(sys)("parts")
    user.__file__ = str(tmp_path / "elsewhere" / "parts.py")
    sys.modules["parts"] = user
    try:
        assert module_of(f"{tmp_path}/b/net.py:build").out_features == 2
        assert sys.modules["parts"] is user
    finally:
        del sys.modules["parts"]


MISTAKES: dict[str, tuple[dict[str, object], str]] = {
    "none.py:build": (
        {},
        r"none\.py: no such file; name a Python file and what builds the network in it, net\.py:build",
    ),
    "wrong.py:build": ({}, r"wrong\.py: line 2: '\(' was never closed; correct it"),
    "uses_wrong.py:build": ({}, r"uses_wrong\.py: wrong\.py, line 2: '\(' was never closed; correct it"),
    "lacks.py:build": (
        {},
        r"lacks\.py: ModuleNotFoundError at lacks\.py, line 1 \(No module named 'no_such_.*; install",
    ),
    "divides.py:build": ({}, r"ZeroDivisionError at divides\.py, line 2 \(division by zero\); correct it"),
    "parses.py:build": ({}, r"parses\.py: SystemExit at parses\.py, line 2 \(2\); correct it"),
    "relative.py:build": (
        {},
        r"ImportError at relative\.py, line 1 \(attempted relative import .*package\.module:name",
    ),
    "empty.py:build": ({}, r"has no 'build'; it defines no function or class; name one that returns the network"),
    "net.py": ({}, r"net\.py: does not say what builds the network; write .*net\.py:NAME with one of Settings, Net, "),
    "net.py:biuld": ({}, r"has no 'biuld'; write .*net\.py:NAME with one of build, Settings, Net.* and 5 more"),
    "net.py:Net.narow": ({}, r"has no 'Net\.narow'; write .*net\.py:Net\.narrow$"),
    "net.py:Net.unlike": ({}, r"has no 'Net\.unlike'; write .*net\.py:NAME with one of .*Net"),
    "net.py:table": ({}, r"table: must be a function, a class or a module, got a dict; name what builds the network"),
    "net.py:made": ({"width": 1}, r"made: is a module already and takes no arguments, got width; leave out --args"),
    "net.py:build ": ({"classes": 1, "bias": 1}, r"build: takes no argument 'classes'; it takes num_classes, bias"),
    "net.py:needs": ({"width": 1}, r"needs: needs 'depth'; give --args '\{\"depth\": \"…\"\}'"),
    "net.py:by_place": ({}, r"takes 'width' by place only; name a function that calls it"),
    "net.py:fails": (
        {"text": "x"},
        r"fails: called with \(text='x'\), raised RuntimeError at net\.py, line 30 \(x x\)",
    ),
    "net.py:leaves": ({}, r"leaves: called with \(\), raised SystemExit at net\.py, line 33 \(2\)"),
    "net.py:pair": ({}, r"must return a torch\.nn\.Module, returned a tuple of Linear, Settings; return the module"),
    "net.py:nothing": ({}, r"returned a NoneType; return the module"),
    "net.py:state": ({}, r"returned a OrderedDict; return the module"),
    "net.py:infinite": ({}, r"infinite: 'weight' holds NaN or infinite values; train it again"),
    "net.py:scripted": ({}, r"got a ExportedProgram; pass what its \.module\(\) returns"),
    "net.py:Settings": ({"width": 1}, r"returned a Settings; return the module"),
}


@pytest.mark.parametrize("source", MISTAKES)
def test_mistakes_are_told_in_one_line(folder: Path, source: str) -> None:
    args, text = MISTAKES[source]
    before = set(sys.modules)
    with pytest.raises(ValueError, match=text) as caught:
        module_of(str(folder / source.strip()), args=args)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(folder))
    assert not {"wrong", "helper", "later"} & (set(sys.modules) - before)


PACKAGES = {
    "no_such_package_of_anyone.nets:build": r"no module named 'no_such_package_of_anyone'; install it, or name a file",
    "torch.no_such_module:build": r"torch\.no_such_module: no module named 'torch\.no_such_module'; install it",
    "net:build": r"net: no module named 'net'; write net\.py:name",
    "torch.nn:Linaer": r"torch\.nn: has no 'Linaer'; write torch\.nn:NAME with one of Linear, ",
    "own_package.parts:tyni": r"has no 'tyni'; write own_package\.parts:NAME with one of tiny",
    "resnet": "no module named 'resnet'; install it, or name a file",
}


@pytest.mark.parametrize("source", PACKAGES)
def test_packages_and_names_that_are_not_there_are_told(
    folder: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "net.py").rename(folder / "net.py.txt") if source != "net:build" else None
    monkeypatch.chdir(folder)
    if source == "net:build":
        monkeypatch.setitem(sys.modules, "net", None)  # as if it could not be found
    with pytest.raises(ValueError, match=PACKAGES[source]):
        module_of(source)
    for name in [name for name in sys.modules if name.startswith("own_package")]:
        del sys.modules[name]


def test_weights_are_loaded_and_checked(folder: Path) -> None:
    torch.manual_seed(0)
    trained = nn.Linear(4, 3)
    torch.save(
        {"state_dict": {f"module.{name}": tensor for name, tensor in trained.state_dict().items()}}, folder / "w.pt"
    )
    module = module_of(f"{folder}/net.py:build", weights=folder / "w.pt")
    assert torch.equal(module.weight, trained.weight)
    trained.weight.data[1, 1] = float("nan")
    torch.save(trained.state_dict(), folder / "w.pt")
    with pytest.raises(ValueError, match=rf"^{re.escape(str(folder))}/w\.pt: 'weight' holds NaN"):
        module_of(f"{folder}/net.py:build", weights=folder / "w.pt")
