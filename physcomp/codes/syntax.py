"""How names of codes are written and read: a word, and in parentheses its arguments, separated by commas."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from physcomp.codes.base import Code

Parse = Callable[[str], Code]


@dataclass(frozen=True)
class Syntax:
    """How the names that begin with one word are read. Each file of a code states its own as `SYNTAX`.

    Args:
        word: what stands before the parentheses.
        forms: how names are written, for error messages.
        read: the code of some arguments, `['']` where there are none; None where they do not fit a form. It is given
            `physcomp.codes.parse` for codes among the arguments, and raises ValueError on a wrong argument.
    """

    word: str
    forms: tuple[str, ...]
    read: Callable[[list[str], Parse], Code | None]


def arguments_of(text: str) -> list[str]:
    """Split at the commas that stand outside inner parentheses.

    Example:
        >>> arguments_of("digital(4), analog(1,plain), 25%")
        ['digital(4)', 'analog(1,plain)', '25%']
    """
    parts, depth = [""], 0
    for character in text:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def share(text: str) -> float:
    """A percentage as a number: `25%` is 0.25.

    Raises:
        ValueError: it is none, or not between 0 and 100.
    """
    if not re.fullmatch(r"\d+(\.\d+)?%", text) or not 0 < float(text[:-1]) < 100:
        raise ValueError(f"'{text}' is no percentage between 0 and 100; write for example 25%")
    return float(text[:-1]) / 100
