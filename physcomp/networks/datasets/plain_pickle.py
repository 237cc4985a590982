"""Pickles of plain data (dictionaries, lists, text, bytes, numbers, NumPy arrays) read without unpickling them.

The opcodes are listed by the standard library's `pickletools`, which executes nothing, and interpreted here. Names of
functions are compared with the few by which NumPy writes arrays, and never imported or called.
"""

import pickletools
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MARK = object()
ARRAYS = ("numpy.core.multiarray", "numpy._core.multiarray")
VALUES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple,
}  # fmt: skip
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass(frozen=True)
class _Name:
    """A function or class that a pickle names."""

    text: str


@dataclass
class _Built:
    """An array or type in the making; the pickle tells its content in a second step."""

    value: Any = None


@dataclass
class _Machine:
    """The pickle machine's stack and memory."""

    stack: list[Any] = field(default_factory=list)
    memory: dict[int, Any] = field(default_factory=dict)

    def to_mark(self) -> list[Any]:
        """What stands above the last mark, taken off with it."""
        place = max(i for i, item in enumerate(self.stack) if item is MARK)
        above = self.stack[place + 1 :]
        del self.stack[place:]
        return above


def read_plain_pickle(content: bytes) -> dict[str, Any]:
    """The dictionary that a pickle holds.

    Args:
        content: the pickle, of any protocol, as Python 2 or 3 wrote it.

    Returns:
        The dictionary, its keys as text; Python 2's strings are text of the same bytes in Latin-1.

    Raises:
        ValueError: it is no pickle, holds anything but plain data, or no dictionary with text as keys.
    """
    machine = _Machine()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # odd escapes in Python 2's text
            for code, argument, _ in pickletools.genops(content):
                _step(machine, code.name, argument)
        (found,) = machine.stack
        return {_text(key): _plain(value) for key, value in found.items()}
    except ValueError:
        raise
    except (AttributeError, IndexError, KeyError, TypeError, OverflowError, MemoryError, RecursionError) as error:
        raise ValueError(f"not a pickle of a dictionary of plain data ({type(error).__name__})") from error


def _step(machine: _Machine, code: str, argument: Any) -> None:
    """Interpret one opcode."""
    stack = machine.stack
    if code in VALUES:
        stack.append(argument)
    elif code in CONSTANTS:
        stack.append(CONSTANTS[code]())
    elif code in TUPLES:
        stack[-TUPLES[code] :] = [tuple(stack[-TUPLES[code] :])]
    elif code in ("PUT", "BINPUT", "LONG_BINPUT"):
        machine.memory[argument] = stack[-1]
    elif code == "MEMOIZE":
        machine.memory[len(machine.memory)] = stack[-1]
    elif code in ("GET", "BINGET", "LONG_BINGET"):
        stack.append(machine.memory[argument])
    elif code == "MARK":
        stack.append(MARK)
    elif code == "POP":
        stack.pop()
    elif code in COLLECTIONS:
        COLLECTIONS[code](machine)
    elif code == "GLOBAL":
        stack.append(_Name(argument.replace(" ", ".")))
    elif code == "STACK_GLOBAL":
        stack[-2:] = [_Name(f"{stack[-2]}.{stack[-1]}")]
    elif code == "REDUCE":
        stack[-2:] = [_made(stack[-2], stack[-1])]
    elif code == "BUILD":
        _fill(stack[-2], stack.pop())
    elif code not in ("PROTO", "FRAME", "STOP"):
        raise ValueError(f"holds more than plain data (opcode {code})")


def _append(machine: _Machine) -> None:
    item = machine.stack.pop()
    _as_list(machine.stack[-1]).append(item)


def _extend(machine: _Machine) -> None:
    items = machine.to_mark()
    _as_list(machine.stack[-1]).extend(items)


def _set(machine: _Machine) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    machine.stack[-1][key] = value


def _set_all(machine: _Machine) -> None:
    items = machine.to_mark()
    machine.stack[-1].update(zip(items[::2], items[1::2], strict=True))


def _dictionary(machine: _Machine) -> None:
    items = machine.to_mark()
    machine.stack.append(dict(zip(items[::2], items[1::2], strict=True)))


COLLECTIONS: dict[str, Callable[[_Machine], None]] = {
    "APPEND": _append, "APPENDS": _extend, "SETITEM": _set, "SETITEMS": _set_all, "DICT": _dictionary,
    "LIST": lambda machine: machine.stack.append(machine.to_mark()),
    "TUPLE": lambda machine: machine.stack.append(tuple(machine.to_mark())),
}  # fmt: skip


def _as_list(item: Any) -> list[Any]:
    if not isinstance(item, list):
        raise TypeError
    return item


def _made(name: Any, arguments: tuple[Any, ...]) -> Any:
    """What NumPy's functions make of their arguments; every other name is refused."""
    text = name.text if isinstance(name, _Name) else str(type(name).__name__)
    if text in [f"{module}._reconstruct" for module in ARRAYS]:
        return _Built()
    if text == "numpy.dtype":
        return _Built(_dtype(arguments[0]))
    if text in [f"{module}.scalar" for module in ARRAYS]:
        return np.frombuffer(_bytes(arguments[1]), arguments[0].value)[0]
    if text in ("numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer"):
        content, dtype, shape, order = arguments
        return _array(content, dtype, shape, order == "F")
    if text == "_codecs.encode":
        return arguments[0].encode("latin-1")
    raise ValueError(f"holds more than plain data ({text}), and is not unpickled")


def _fill(built: Any, state: tuple[Any, ...]) -> None:
    """The second step: a type's byte order, or an array's shape, type and bytes."""
    if not isinstance(built, _Built):
        raise ValueError("holds more than plain data (an object with a state), and is not unpickled")
    if isinstance(built.value, np.dtype):
        built.value = built.value.newbyteorder(state[1] if state[1] in ("<", ">") else "=")
    else:
        built.value = _array(state[4], state[2], state[1], state[3])


def _array(content: Any, dtype: _Built, shape: tuple[int, ...], fortran: bool) -> np.ndarray[Any, Any]:
    return np.frombuffer(_bytes(content), dtype.value).reshape(shape, order="F" if fortran else "C")


def _dtype(code: Any) -> np.dtype[Any]:
    text = _text(code)
    if not re.fullmatch(r"[biuf]\d\d?", text):
        raise ValueError(f"holds an array of type {text!r}, not of numbers")
    return np.dtype(text)


def _bytes(content: Any) -> bytes:
    return content.encode("latin-1") if isinstance(content, str) else bytes(content)


def _text(key: Any) -> str:
    text = key.decode("latin-1") if isinstance(key, bytes) else key
    if not isinstance(text, str):
        raise TypeError
    return text


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, _Built) else value
