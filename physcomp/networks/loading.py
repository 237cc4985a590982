"""Networks from what users have: a function, class or module in a file or package, and a file of weights."""

import importlib
import importlib.util
import inspect
import itertools
import json
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from physcomp.networks.plain_modules import check_finite, checked_module
from physcomp.networks.weight_files import load_weights

_NUMBER = itertools.count()
_OF_OTHERS = ("<", __file__, str(Path(inspect.__file__).parent))  # beginnings of files that are not the user's
_KEPT = ("devices", "physcomp", "qubo", "simulations")  # packages of ours, whatever lies beside a user's file


def module_of(source: str, *, args: Mapping[str, Any] | None = None, weights: Path | None = None) -> nn.Module:
    """Build a module from Python source, and load its weights.

    Args:
        source: `file.py:name` (its folder is importable while it is loaded and called) or `package.module:name`, where
            the name is that of a function or class that gives the module, or of a module.
        args: what the function or class is called with.
        weights: a .safetensors file, or a .pt, .pth, .bin, .ckpt or .tar file that holds a state dict; see
            `physcomp.networks.weight_files.load_weights`. None leaves the module as it was built.

    Raises:
        ValueError: the source, its arguments or the weights do not give a module of finite weights; one line says why.
    """
    with loaded(source) as target:
        module = _built(target, source, dict(args or {}))
    if weights is not None:
        load_weights(module, Path(weights), source)
    check_finite(module, source if weights is None else str(weights))
    return module


@contextmanager
def loaded(source: str) -> Iterator[Any]:
    """The object that `file.py:name` or `package.module:name` names; its folder is importable inside the block.

    Raises:
        ValueError: there is no such file, package or name, or its code fails; one line says where.
    """
    place, _, name = source.rpartition(":")
    if not place:
        place, name = source, ""
    is_file = place.endswith(".py")
    with _importable(Path(place).parent if is_file else Path(), forget=is_file):
        home = _from_file(Path(place)) if is_file else _from_package(place)
        yield _named(home, name, place)


@contextmanager
def _importable(folder: Path, *, forget: bool) -> Iterator[None]:
    """Let a folder's modules be imported, before those of other folders; they are forgotten afterwards if asked for.

    Modules of that name which were imported from yet another folder are set aside meanwhile, so that `utils` is the
    one beside the file. Those of installed packages, of Python's and of ours stay.
    """
    folder = folder.resolve()
    beside = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    aside = {name: module for name, module in sys.modules.items() if _is_aside(name, module, folder, beside)}
    for name in aside:
        del sys.modules[name]
    before = {name.partition(".")[0] for name in sys.modules}
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if str(folder) in sys.path:
            sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] in beside - before]:
            if forget or name in aside:
                del sys.modules[name]
        sys.modules.update(aside)


def _is_aside(name: str, module: ModuleType, folder: Path, beside: set[str]) -> bool:
    top = name.partition(".")[0]
    file = getattr(sys.modules.get(top), "__file__", None)
    if top not in beside or file is None or top in (*_KEPT, "__main__") or top in sys.stdlib_module_names:
        return False
    path = Path(file).resolve()
    return not path.is_relative_to(folder) and not {"site-packages", "dist-packages"} & set(path.parts)


def _from_file(path: Path) -> ModuleType:
    """Run a Python file as a module of a name that no other has."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file; name a Python file and what builds the network in it, net.py:build")
    name = f"_physcomp_source_{next(_NUMBER)}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path}: cannot be imported; name a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and others look their module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _failed(f"{path}: ", error) from error
    return module


def _from_package(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _failed(f"{name}: ", error) from error
        file = Path(name.replace(".", "/") + ".py")
        cure = f"write {file}:name" if file.is_file() else "install it, or name a file, net.py:build"
        raise ValueError(f"{name}: no module named '{error.name}'; {cure}") from None
    except (Exception, SystemExit) as error:
        raise _failed(f"{name}: ", error) from error


def _failed(subject: str, error: BaseException) -> ValueError:
    """What a user's code raised, in one line, with the place."""
    text = " ".join(str(error).split())
    if isinstance(error, SyntaxError):
        name = Path(error.filename or "").name
        file = "" if name in ("", Path(subject.partition(":")[0]).name) else f"{name}, "
        return ValueError(f"{subject}{file}line {error.lineno}: {error.msg}; correct it")
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        frame for frame in frames if not frame.filename.startswith(_OF_OTHERS) and "site-packages" not in frame.filename
    ]
    place = f" at {Path(own[-1].filename).name}, line {own[-1].lineno}" if own else ""
    cure = "correct it"
    if isinstance(error, ModuleNotFoundError):
        cure = "install it, or put it beside the file"
    elif isinstance(error, ImportError) and "relative import" in text:
        cure = "name it as package.module:name"
    return ValueError(f"{subject}{type(error).__name__}{place} ({text}); {cure}")


def _named(home: ModuleType, name: str, place: str) -> Any:
    """The object of a name, dotted or not, in a module."""
    value: Any = home
    for part in name.split(".") if name else ():
        try:
            value = getattr(value, part)
        except AttributeError:
            near = [] if value is home else get_close_matches(part, dir(value), 1)
            cure = f"write {place}:{name.replace(part, near[0])}" if near else _offer(home, name, place)
            raise ValueError(f"{place}: has no '{name}'; {cure}") from None
    if not name:
        raise ValueError(f"{place}: does not say what builds the network; {_offer(home, name, place)}")
    return value


def _offer(home: ModuleType, name: str, place: str) -> str:
    """Which names of a module can be given."""
    found = [
        key
        for key, value in vars(home).items()
        if not key.startswith("_") and (isinstance(value, nn.Module) or (callable(value) and _is_of(value, home)))
    ]
    if not found:
        return "it defines no function or class; name one that returns the network"
    near = get_close_matches(name, found, n=5)
    listed = [*near, *(key for key in found if key not in near)]
    more = f" and {len(listed) - 10} more" if len(listed) > 10 else ""
    return f"write {place}:NAME with one of {', '.join(listed[:10])}{more}"


def _is_of(value: Any, home: ModuleType) -> bool:
    """Whether a function or class is defined in a file, or anywhere in the package of a module."""
    return str(getattr(value, "__module__", "")).partition(".")[0] == home.__name__.partition(".")[0]


def _built(target: Any, source: str, args: dict[str, Any]) -> nn.Module:
    """Call what was named, unless it is a module itself, and refuse what is no module."""
    if isinstance(target, nn.Module):
        if args:
            raise ValueError(
                f"{source}: is a module already and takes no arguments, got {', '.join(args)}; leave out --args"
            )
        return checked_module(target, source)
    if not callable(target):
        kind = type(target).__name__
        raise ValueError(
            f"{source}: must be a function, a class or a module, got a {kind}; name what builds the network"
        )
    module = called(target, source, args)
    if not isinstance(module, nn.Module) and not hasattr(type(module), "module"):
        kind = type(module).__name__
        if isinstance(module, tuple | list):
            kind += f" of {', '.join(type(entry).__name__ for entry in module)}"
        raise ValueError(f"{source}: must return a torch.nn.Module, returned a {kind}; return the module")
    return checked_module(module, source)


def called(target: Callable[..., Any], source: str, args: Mapping[str, Any]) -> Any:
    """What a user's function or class returns for arguments by name.

    Raises:
        ValueError: the arguments do not fit, or it raised something; one line says what.
    """
    _check_arguments(target, source, args)
    try:
        return target(**args)
    except (Exception, SystemExit) as error:
        raise _failed(f"{source}: called with ({_shown(args)}), raised ", error) from error


def _check_arguments(target: Callable[..., Any], source: str, args: Mapping[str, Any]) -> None:
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):  # not all that is written in C has one
        return
    takes = [p for p in signature.parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    names = [p.name for p in takes]
    needs = [p.name for p in takes if p.default is p.empty and p.name not in args]
    unknown = [] if any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()) else set(args) - set(names)
    if unknown:
        listed = ", ".join(f"'{name}'" for name in args if name in unknown)
        raise ValueError(f"{source}: takes no argument {listed}; it takes {', '.join(names) or 'none'}")
    if needs:
        example = json.dumps({name: "…" for name in needs}, ensure_ascii=False)
        listed = ", ".join(f"'{name}'" for name in needs)
        raise ValueError(f"{source}: needs {listed}; give --args '{example}'")
    only = [p.name for p in signature.parameters.values() if p.kind is p.POSITIONAL_ONLY and p.default is p.empty]
    if only:
        raise ValueError(f"{source}: takes '{only[0]}' by place only; name a function that calls it")


def _shown(args: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in args.items())
